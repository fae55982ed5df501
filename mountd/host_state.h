// What is this host's own: its id, the boot it is in, and the lock that keeps a second mountd off the same state.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::mountd {

/// Takes flock(LOCK_EX) on <state_dir>/lock and writes our pid there. The lock lives as long as the descriptor.
/// Errors: kInUse, naming the pid that holds it.
base::Result<base::UniqueFd> lock_state(const std::string& state_dir);

/// The id under which this host stands in the datastore's records: made once, kept in <state_dir>/host-id, and made anew where the folder was
/// copied to another machine (another /etc/machine-id): two hosts with one id could both hold one disk.
base::Result<std::string> load_host_id(const std::string& state_dir, const std::string& machine_id_path = "/etc/machine-id");

/// /proc/sys/kernel/random/boot_id.
base::Result<std::string> read_boot_id();

/// The system's host name.
std::string system_host_name();

}  // namespace vdvs::mountd
