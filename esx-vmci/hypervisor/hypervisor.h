// Hot-plug: puts a disk into one virtual machine and takes it out again. Implementations: loop (this machine
// is the VM, a loop device is the disk), QEMU, and vSphere.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "esx-vmci/control_plane.h"

namespace vdvs::esx {

/// What a hypervisor can keep with a disk to know whose it is.
inline constexpr std::size_t kMaxVmUuidBytes = 58;

/// The virtual machine that asks. For the embedded control plane: this host.
struct Vm {
  std::string uuid;             ///< The BIOS uuid, 8-4-4-4-12: what groups are made of.
  std::string name;             ///< Its display name.
  std::string instance_uuid{};  ///< What records hold, where there is one (vCenter's).
  std::string datastore{};      ///< Where the VM itself lives; empty where that is not known.
};

/// A disk as the datastore knows it. To find it and to detach it, its paths are enough.
struct Disk {
  std::string descriptor_path;  ///< Of this machine, or "[ds1] dockvols/<group>/<volume>.vmdk".
  std::string extent_path;  ///< The flat extent: size_bytes long, data from byte 0; empty where it is remote.
  std::string uuid;         ///< 32 hex digits.
  std::uint64_t size_bytes = 0;
  bool is_read_only = false;                    ///< access=read-only: attached without write permission.
  std::string mode = "independent_persistent";  ///< attach-as: vSphere's diskMode.
};

/// A disk that is attached, seen from the hypervisor's side.
struct Attachment {
  std::string extent_path;    ///< Or the descriptor's: what DiskStore::volume_of_file takes.
  std::string vm_uuid;        ///< Either uuid of the VM that has it; empty where it was not attached by us.
  std::string what;           ///< "loop device /dev/loop3"
  base::DiskAddress address;  ///< Where it is, in that VM.
};

class Hypervisor {
 public:
  virtual ~Hypervisor() = default;

  /// Idempotent for the same VM. Errors: kBusyElsewhere where it is in another VM or locked by another
  /// process.
  virtual base::Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) = 0;

  /// Not attached to `vm`: success. Errors: kInUse where the guest does not let go.
  virtual base::Result<void> detach(const Vm& vm, const Disk& disk) = 0;

  /// As `detach`, even where the guest still uses the disk: as far as the hypervisor can.
  virtual base::Result<void> force_detach(const Vm& vm, const Disk& disk) { return detach(vm, disk); }

  /// In whichever VM the disk is, or nullopt.
  virtual base::Result<std::optional<Attachment>> find(const Disk& disk) = 0;

  /// All the disks attached that lie in `place` itself (DiskStore::place), whoever attached them.
  virtual base::Result<std::vector<Attachment>> attached_in(const std::string& place) = 0;
};

std::unique_ptr<Hypervisor> make_loop_hypervisor();

}  // namespace vdvs::esx
