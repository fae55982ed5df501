// Who is in the way: the processes that use a mount, or hold a disk's lock, in words for an error.
#pragma once

#include <string>

#include "base/fd.h"

namespace vdvs::fsformat {

/// "postgres (pid 812), sh (pid 90) and 3 more": those with an open file, a working or a root folder in the
/// mount that stands at `target`; where there are none, those in another mount of the same file system. Empty
/// where none is found. Limits: looks at kMaxProcesses processes and kMaxFiles of each.
std::string describe_mount_users(const std::string& target);

/// The process that holds a flock on the same node as `fd`, from /proc/locks. Empty where it is not known.
std::string describe_lock_holder(const base::UniqueFd& fd);

}  // namespace vdvs::fsformat
