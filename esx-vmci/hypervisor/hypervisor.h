// Hot-plug: puts a disk into one virtual machine and takes it out again. Implementations: loop (this machine is the VM, a loop device is
// the disk), and later QEMU and vSphere.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "esx-vmci/control_plane.h"

namespace vdvs::esx {

/// The virtual machine that asks. For the loop hypervisor: this host.
struct Vm {
  std::string uuid;
  std::string name;
};

/// A disk as the datastore knows it.
struct Disk {
  std::string descriptor_path;
  std::string extent_path;     ///< The flat extent: size_bytes long, data from byte 0.
  std::string uuid;            ///< 32 hex digits.
  std::uint64_t size_bytes = 0;
  bool is_read_only = false;   ///< access=read-only: attached without write permission.
};

class Hypervisor {
 public:
  virtual ~Hypervisor() = default;

  /// Idempotent for the same VM. Errors: kBusyElsewhere where it is in another VM or locked by another process.
  virtual base::Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) = 0;

  /// Not attached: success. Errors: kInUse where the guest does not let go.
  virtual base::Result<void> detach(const Vm& vm, const Disk& disk) = 0;

  /// Where the disk is in `vm`, or nullopt.
  virtual base::Result<std::optional<base::DiskAddress>> find(const Vm& vm, const Disk& disk) = 0;

  /// The extent files of all the disks attached below `folder`, whoever attached them: absolute paths.
  virtual base::Result<std::vector<std::string>> attached_below(const std::string& folder) = 0;
};

std::unique_ptr<Hypervisor> make_loop_hypervisor();

}  // namespace vdvs::esx
