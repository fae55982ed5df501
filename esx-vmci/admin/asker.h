// Who runs a command, as the kernel knows it: for the audit log, where what a process says of itself counts
// for nothing.
#pragma once

#include <sys/types.h>

#include <string>

namespace vdvs::esx {

/// "uid 0 (root), pid 812 (vdvs), login alice": the last is whoever logged in, also behind sudo or su
/// (/proc/PID/loginuid), where the kernel keeps it. What cannot be told is left out: the process may have
/// ended, or live in another namespace (`pid` 0).
std::string describe_asker(uid_t uid, pid_t pid);

}  // namespace vdvs::esx
