// `vdvs volume detach`: takes a volume's disk out of the VM that has it, which is what the error of a disk
// that is attached elsewhere proposes. Needs --force, unless the volume is free already; it is the same
// command as `vmdkops_admin volume detach`, and in the same audit log.
#pragma once

#include <cstdio>
#include <span>
#include <string>

#include "cli/admin_run.h"
#include "cli/output.h"

namespace vdvs::cli {

struct VolumeArguments {
  esx::AdminCommand command;
  AdminTarget target;
  OutputFormat format = OutputFormat::kPlain;
  /// Set: print `message` and leave with this (help, a mistake).
  std::optional<int> exit_status;
  std::string message;
};
/// `words`: what stands behind `vdvs volume`.
VolumeArguments parse_volume_arguments(std::span<const std::string> words);

/// The exit status: 0 done; 1 not done; 2 the command line is wrong. The answer goes to `out`, errors to
/// `complaints`.
int run_volume_command(std::span<const std::string> words, std::FILE* out, std::FILE* complaints);

}  // namespace vdvs::cli
