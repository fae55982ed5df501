// Runs another program: by argv, never through a shell, with a deadline and a bound on what it may print.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace vdvs::base {

struct CommandOptions {
  Deadline deadline = Deadline::max();
  /// Kept of what the program prints; the rest is read and dropped.
  std::size_t max_output_bytes = 64 * 1024;
  /// Called from the waiting thread with each piece of output, for progress. May be empty.
  std::function<void(std::string_view)> on_output;
  /// Stays open in the child under the same number (for example a descriptor that holds a lock). -1: none.
  int inherited_fd = -1;
};

struct CommandOutcome {
  int exit_status = 0;  ///< What wait(2) calls it; 128 + N where signal N ended the program.
  std::string output;   ///< Standard output and standard error, as they came.
};

/// argv[0] is looked up in /usr/sbin, /usr/bin, /sbin and /bin (not in PATH) unless it is a path. The program's standard input is
/// /dev/null, its locale is C, and it dies with the calling thread.
/// Errors: kNotFound where there is no such program, kTimeout at the deadline (the program is killed first).
Result<CommandOutcome> run_command(const std::vector<std::string>& argv, const CommandOptions& options = {});

/// The full path of a program in the folders that run_command searches, or kNotFound.
Result<std::string> find_program(std::string_view name);

}  // namespace vdvs::base
