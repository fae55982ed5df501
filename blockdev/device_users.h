// Who keeps a device busy. The kernel only says EBUSY; the reasons are spread over the mount tables of every
// mount namespace, the swaps, sysfs and the open files of processes. Read only when a release was refused,
// since it looks at every process.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "blockdev/device_watcher.h"

namespace vdvs::blockdev {

/// One line of /proc/<pid>/mountinfo (proc(5)), with its octal escapes undone.
struct MountinfoEntry {
  dev_t number = 0;
  std::string mount_point;
  std::string fs_type;
  std::string source;
  bool operator==(const MountinfoEntry&) const = default;
};

std::optional<MountinfoEntry> decode_mountinfo_line(std::string_view line);

/// In words, one for each user: "mounted on '/mnt/a' in the mount namespace of pid 42 (sleep)", "used as
/// swap", "under dm-0"; only where there is none of these, "open in pid 7 (mkfs.ext4)". A partition's user is
/// a user of its disk. Empty: nobody that can be seen.
base::Result<std::vector<std::string>> find_device_users(const WatcherOptions& options, const Device& device);

}  // namespace vdvs::blockdev
