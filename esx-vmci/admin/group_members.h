// VMs by the names that administrators write, and whether they may change their group.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx::admin {

/// "vm1, vm2": names, uuids or instance uuids; among `members` also VMs that are gone. Errors: 106
/// (kVmListEmpty), 107 (kVmDuplicate), 101 (kVmNotFound) with all that were not found.
base::Result<std::vector<Tenancy::Member>> resolve_vms(VmDirectory& directory, std::string_view list,
                                                       const std::vector<Tenancy::Member>& members = {});

/// A VM keeps its disks only while it stays in its group. Errors: 108 (kVmWithMountedVolumes) within
/// `attempt`: "Cannot add VM to vmgroup".
base::Result<void> refuse_with_disks(const ServiceParts& parts, const std::vector<Tenancy::Member>& vms,
                                     std::string_view attempt);

bool is_member(const std::vector<Tenancy::Member>& members, const Tenancy::Member& vm);

/// What the VM is called now, or was when it was added, or "N/A".
std::string member_name(const std::vector<VmState>& vms, const Tenancy::Member& member);
/// The VMs that the hypervisor knows; none where it does not say.
std::vector<VmState> known_vms(VmDirectory& directory);

}  // namespace vdvs::esx::admin
