// What can be done to a volume, whoever asks: the one implementation behind the embedded control plane, the
// service's requests and the administrator's commands. Names are resolved and rights are checked before; here
// are the disk, its lock, and the VM.
//
// Every operation takes the disk's lock (DiskStore::lock) itself, looks at what is, and trusts the hypervisor
// before the record. Thread: any, side by side; may block.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/datastore/disk_store.h"
#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/vm_directory.h"

namespace vdvs::esx {

/// A volume's place, resolved: which disk in which store.
struct Place {
  DiskStore* store = nullptr;
  std::string volume;
};

class VolumeOperations {
 public:
  /// `vms`: says which holders are powered off; nullptr where this host is the only one.
  VolumeOperations(Hypervisor& hypervisor, VmDirectory* vms) : hypervisor_(hypervisor), vms_(vms) {}

  base::Result<void> create(const Vm& vm, const Place& place, const OptionMap& options,
                            const VolumeOptions& parsed, const Progress& progress);
  /// `options` has clone-from; `source` is that volume.
  base::Result<void> clone(const Vm& vm, const Place& place, const Place& source, const OptionMap& options,
                           const VolumeOptions& parsed, const Progress& progress);
  base::Result<void> remove(const Vm& vm, const Place& place);
  /// A disk whose holder is off, gone, or does not have it any more is taken over. Errors: kBusyElsewhere:
  /// who, since when, what to do.
  base::Result<base::DiskAddress> attach(const Vm& vm, const Place& place);
  base::Result<void> detach(const Vm& vm, const Place& place);
  /// From whichever VM has it, even where the guest does not let go. The caller writes the audit log. Says
  /// who had it.
  base::Result<std::optional<DiskHolder>> force_detach(const Place& place);
  base::Result<VolumeInfo> get(const Vm& vm, const Place& place);
  /// The names of the store's volumes that `vm` has attached, sorted.
  base::Result<std::vector<std::string>> attached(const Vm& vm, DiskStore& store);
  base::Result<void> set_init(const Place& place, InitState state, const std::string& fs_uuid);
  base::Result<void> reset(const Place& place);
  /// Stores changed options ("access", "attach-as"): for the administrator.
  base::Result<void> set_options(const Place& place, const OptionMap& changes);
  /// A VM went off or is gone: takes its disks in this store out of it, and sets their records right where
  /// they still name it.
  base::Result<void> release_all(const Vm& vm, DiskStore& store);

 private:
  Hypervisor& hypervisor_;
  VmDirectory* const vms_;
};

}  // namespace vdvs::esx
