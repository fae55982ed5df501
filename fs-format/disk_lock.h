// The advisory lock of a whole disk: flock(2) on its node, as systemd's BLOCK_DEVICE_LOCKING describes. Who
// changes a disk's content as a whole (mkfs, fsck) holds it exclusively; udevd takes it shared for some
// milliseconds each time it looks at the disk.
#pragma once

#include <string>

#include "base/deadline.h"
#include "base/fd.h"

namespace vdvs::fsformat {

enum class LockKind { kShared, kExclusive };

/// Locks the open node `fd` (or changes the kind of lock that it has: not atomically, another may come in
/// between). Waits until `deadline` for others to let go. Errors: kInUse, naming the holder where /proc/locks
/// knows it.
base::Result<void> lock_disk(const base::UniqueFd& fd, const std::string& node, LockKind kind,
                             base::Deadline deadline);

}  // namespace vdvs::fsformat
