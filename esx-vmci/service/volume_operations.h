// What can be done to a volume, whoever asks: the one implementation behind the embedded control plane, the
// service's requests and the administrator's commands. Names are resolved and rights are checked before; here
// are the disk, its lock, and the VM.
//
// Every operation takes the disk's lock (DiskStore::lock) itself, looks at what is, and trusts the hypervisor
// before the record. Who has a disk, in this order:
//   the hypervisor sees it in a VM            that VM, whatever the record says
//   the record names the VM that asks         nobody: it would be seen
//   the store is this hypervisor's alone      nobody: it would be seen
//   the record names a VM that is known here  nobody: it would be seen, unless the VM cannot be asked now
//   the record names another VM               that one: it may be on another host
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

/// Thread: any, side by side; may block.
class VolumeOperations {
 public:
  /// `vms`: says which holders are powered off; nullptr where this host is the only one.
  VolumeOperations(Hypervisor& hypervisor, VmDirectory* vms) : hypervisor_(hypervisor), vms_(vms) {}

  /// `options`: as given, to be kept with the disk; `parsed`: the same, checked.
  base::Result<void> create(const Vm& vm, const Place& place, const OptionMap& options,
                            const VolumeOptions& parsed, const Progress& progress);
  /// `options` has clone-from; `source` is that volume. Errors: kNotFound: "Could not find volume for cloning
  /// <clone-from>"; kBusyElsewhere where somebody has the source.
  base::Result<void> clone(const Vm& vm, const Place& place, const Place& source, const OptionMap& options,
                           const VolumeOptions& parsed, const Progress& progress);
  /// Not there: success. One that a VM which is off has is taken out of it. Errors: kInUse (`vm` has it),
  /// kBusyElsewhere: who has it.
  base::Result<void> remove(const Vm& vm, const Place& place);
  /// A disk whose holder is off, gone, or does not have it any more is taken over. Errors: kBusyElsewhere:
  /// who, since when, what to do.
  base::Result<base::DiskAddress> attach(const Vm& vm, const Place& place);
  base::Result<void> detach(const Vm& vm, const Place& place);
  /// From whichever VM has it, even where the guest does not let go; also a record that nothing stands
  /// behind. The caller writes the audit log. Says who had it. Errors: kInUse where even that did not help;
  /// kBusyElsewhere where it was not attached by a service like this.
  base::Result<std::optional<DiskHolder>> force_detach(const Place& place);
  /// A VM that is off is no holder: its disk is there for whoever attaches it.
  base::Result<VolumeInfo> get(const Vm& vm, const Place& place);
  /// `get` of everything that the store lists, with one look at the hypervisor for all of it. Sorted; what
  /// was removed meanwhile is left out. Errors: of the listing and of the hypervisor; a volume has its own.
  struct Listed {
    std::string volume;
    base::Result<VolumeInfo> info;
  };
  base::Result<std::vector<Listed>> get_all(const Vm& vm, DiskStore& store);
  /// The names of the store's volumes that `vm` has attached, sorted.
  base::Result<std::vector<std::string>> attached(const Vm& vm, DiskStore& store);
  base::Result<void> set_init(const Place& place, InitState state, const std::string& fs_uuid);
  /// `vm`: who asks; its own record does not hinder it.
  base::Result<void> reset(const Place& place, const Vm* vm = nullptr);
  /// Stores changed options ("access", "attach-as"): for the administrator. They count at the next attach.
  /// Errors: kInvalid: another option, or a value that is none of its.
  base::Result<void> set_options(const Place& place, const OptionMap& changes);
  /// A VM went off or is gone: takes its disks in this store out of it, and sets their records right where
  /// they still name it. Goes on after an error; the first one is the answer.
  base::Result<void> release_all(const Vm& vm, DiskStore& store);

 private:
  /// Who has a disk, and what is known of it.
  struct Holding {
    std::optional<DiskHolder> holder;
    std::optional<Attachment> attachment;  ///< The hypervisor sees it.
    bool is_here = false;                  ///< In the VM that asks.
    bool is_off = false;                   ///< The holder's VM is off: whoever wants the disk takes it over.
  };
  base::Result<Holding> look(const Vm* vm, const Place& place, const StoredDisk& stored);
  /// The same where the hypervisor has said already where the disk is.
  Holding judge(const Vm* vm, const Place& place, const StoredDisk& stored,
                std::optional<Attachment> attachment);
  static void add_holding(VolumeInfo& info, Holding holding);
  std::optional<VmState> find_vm(const std::string& uuid);
  /// Takes the disk out of a VM that is off. False where that VM is not.
  base::Result<bool> take_over(const Place& place, const StoredDisk& stored, const Holding& holding);
  base::Result<void> release(const Vm& vm, const Place& place);

  Hypervisor& hypervisor_;
  VmDirectory* const vms_;
};

}  // namespace vdvs::esx
