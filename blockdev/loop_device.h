// Loop devices by the file they carry. A loop node is reused for file after file, so its name says nothing;
// LOOP_GET_STATUS64 names the file by its file system and inode, and BLKGETDISKSEQ counts the uses of the
// node (loop(4), include/uapi/linux/fs.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/disk_address.h"
#include "base/error.h"
#include "blockdev/device_watcher.h"
#include "blockdev/sysfs_disk.h"

namespace vdvs::blockdev {

struct LoopDevice {
  Device device;
  std::uint64_t file_device = 0;  ///< In the kernel's encoding, as in base::LoopAddress.
  std::uint64_t file_inode = 0;
};

/// What the loop device at `node` carries, all of it from one open of the node and of one use of it; nullopt:
/// no such loop device, or one without a file.
base::Result<std::optional<LoopDevice>> read_loop_device(const std::string& node);

/// Looks at the node that the address hints at, then at every loop device that has a file.
/// Errors: kInvalid where the address names no file.
base::Result<Sighting> look_for_loop(const WatcherOptions& options, const base::LoopAddress& address);

/// "loop device of file 259:2 inode 131, diskseq 77", for messages.
std::string describe(const base::LoopAddress& address);

}  // namespace vdvs::blockdev
