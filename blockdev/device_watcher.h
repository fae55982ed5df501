// From a DiskAddress to a block device of this machine, through udev's events and the kernel's own tables.
//
// The order is what makes it free of races: `arm` first, then ask for the attach, then `wait_for`. A watch
// looks before it waits, and looks again at each event, so a lost event costs nothing and a found device was
// found by its identity.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/disk_address.h"
#include "base/error.h"

namespace vdvs::blockdev {

struct Device {
  std::string node;  ///< "/dev/sdb"; a name, not an identity.
  dev_t number = 0;
  std::uint64_t diskseq = 0;  ///< 0 on kernels before 5.15.
  std::uint64_t size_bytes = 0;
  bool is_read_only = false;
  bool operator==(const Device&) const = default;
};

/// A subscription to block device events, from the moment it was made. Owned by one thread at a time.
class DeviceWatch {
 public:
  virtual ~DeviceWatch() = default;

  /// The device that `address` means, as soon as it is there and has its node.
  /// Errors: kTimeout at the deadline, naming what was looked for and what was seen instead; kBusyElsewhere
  /// at the deadline where another disk stands in its place; kInvalid at once for an address without an
  /// identity.
  virtual base::Result<Device> wait_for(const base::DiskAddress& address, base::Deadline deadline) = 0;

  /// Returns when the device of this identity (node and diskseq) is gone or carries nothing any more.
  /// Errors: kTimeout.
  virtual base::Result<void> wait_gone(const Device& device, base::Deadline deadline) = 0;
};

class DeviceWatcher {
 public:
  virtual ~DeviceWatcher() = default;

  /// Thread: any; each watch has a socket of its own.
  virtual base::Result<std::unique_ptr<DeviceWatch>> arm() = 0;

  /// Looks once, without waiting. nullopt: not there, or not usable yet. Errors: kBusyElsewhere where another
  /// disk stands in its place.
  virtual base::Result<std::optional<Device>> find(const base::DiskAddress& address) = 0;

  /// Every disk that is here now (whole disks with a size, no partitions).
  virtual base::Result<std::vector<Device>> coldplug() = 0;

  /// Makes `device` ready to be taken away: refuses while anything has it open exclusively (a mount in any
  /// namespace, a swap, another device on top), writes back its cache, and, for a SCSI disk, deletes it from
  /// the kernel. A device of this identity that is no longer there is success. Errors: kInUse, naming the
  /// processes in whose mount tables the device stands; kIo where the cache cannot be written back (the
  /// device stays); kTimeout.
  virtual base::Result<void> release(const Device& device, base::Deadline deadline) = 0;
};

/// Room for a few thousand events while a watch is not waiting; taken only as events come.
inline constexpr int kDefaultReceiveBufferBytes = 8 * 1024 * 1024;

struct WatcherOptions {
  std::string sysfs_root = "/sys";
  std::string dev_root = "/dev";
  std::string proc_root = "/proc";
  std::string udev_control =
      "/run/udev/control";  ///< Where it exists, udevd's processed events are heard as well.
  int receive_buffer_bytes = kDefaultReceiveBufferBytes;  ///< Of each socket. An overflow leads to a look.
};

std::unique_ptr<DeviceWatcher> make_udev_watcher(WatcherOptions options = {});

}  // namespace vdvs::blockdev
