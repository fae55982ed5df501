// The datastores of vCenter or of an ESXi host, and the disks on them, without a file system of ours: VMDKs
// are made, copied and deleted by the VirtualDiskManager, listed by the datastore's browser, and their
// sidecars go through the server's /folder, in the same bytes as everywhere.
//
// A create is proven by "<vol>.vmdk.creating", which holds the sidecar to be: whoever finds it beside a disk
// without a sidecar gives it that one, or, where the disk was to be a copy and nobody knows whether it is
// whole, deletes the disk; whoever finds it alone deletes it. A remove deletes the disk first and the sidecar
// after it.
#pragma once

#include <memory>
#include <string>

#include "esx-vmci/datastore/datastores.h"
#include "esx-vmci/datastore/vsphere_folder.h"
#include "esx-vmci/hypervisor/vsphere_locks.h"
#include "esx-vmci/hypervisor/vsphere_policies.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

/// Asks the server. `session` must outlive it. Groups have no links of their names here: the API has none.
/// Errors: kUnavailable, kDenied; kInvalid where a configured datastore or datacenter is not there.
base::Result<std::unique_ptr<Datastores>> make_vsphere_datastores(VsphereSession& session);

/// The disks in one folder. What it refers to must outlive it. `is_shared`: VMs that `session` does not show
/// may use the datastore.
std::unique_ptr<DiskStore> make_vsphere_disk_store(VsphereSession& session, VspherePolicies& policies,
                                                   KeyedLocks& locks, VsphereFolder folder, bool is_shared);

}  // namespace vdvs::esx
