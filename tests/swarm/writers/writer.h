// One writer: records into a file of its own, and into a log that all writers share.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::writers {

enum class Appending {
  kLocked,  ///< flock(2), then pwrite(2) at what fstat(2) says is the end.
  kAtEnd,   ///< O_APPEND, without a lock.
};

struct WriterOptions {
  std::uint32_t writer = 1;  ///< 0: one is drawn, so that each life is a writer of its own.
  std::string file;          ///< Its own; empty: none.
  std::string
      folder;  ///< Or where (made where it is missing) its own file is, with the writer's number for a name.
  std::string log;  ///< The common one; empty: none.
  Appending appending = Appending::kLocked;
  std::uint64_t records = 0;          ///< Of each; 0: until it is ended.
  std::uint64_t sync_every = 1;       ///< fsync(2) after so many records; 0: never.
  std::chrono::milliseconds pace{0};  ///< Between two records, at least.
};

/// Gets each report, one or several lines, when it is true. Errors end the writer.
using Tell = std::function<base::Result<void>(std::string_view lines)>;

/// Goes on behind the last whole record of its own that it finds, as a new session; bytes behind it that are
/// no record (what a crash has left) are cut off. Errors: each of a system call, by what was done.
base::Result<void> write_records(const WriterOptions& options, const Tell& tell);

/// Where reports go: "-" is the standard output, "unix:PATH" a stream socket.
base::Result<Tell> open_reports(const std::string& target);

}  // namespace vdvs::writers
