// Finding VMs in vCenter's inventory: by uuid, where two with the same are never one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "esx-vmci/hypervisor/vm_directory.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

struct VsphereVm {
  soap::MoRef ref;
  VmState state;
};

/// The properties that `decode_vm` wants.
std::vector<std::string> vm_properties();
/// A VM whose host is not connected is kUnknown, whatever was last known of its power.
VsphereVm decode_vm(const VsphereObject& object);

/// All that the user may see, but for templates.
base::Result<std::vector<VsphereVm>> read_vms(VsphereSession& session, base::Deadline deadline);

/// By instance uuid where there is one, which vCenter keeps unique, else by BIOS uuid. Errors: kNotFound;
/// kInvalid where several have the BIOS uuid (copies by hand): their names, and what to do.
base::Result<soap::MoRef> find_vm_ref(VsphereSession& session, const Vm& vm, base::Deadline deadline);

/// By uuid, instance uuid or name among `vms`. Errors: as VmDirectory::find_vm.
base::Result<VsphereVm> choose_vm(const std::vector<VsphereVm>& vms, std::string_view name_or_uuid);

}  // namespace vdvs::esx
