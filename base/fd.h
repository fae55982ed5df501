// File descriptors and whole-file reads and writes, with the system call and the path in every error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace vdvs::base {

/// Owns: one file descriptor, closed at the end of its life.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

/// open(2) with O_CLOEXEC. The error names the path.
Result<UniqueFd> open_file(const std::string& path, int flags, unsigned mode = 0644);
/// openat(2) with O_CLOEXEC below an open folder.
Result<UniqueFd> open_file_at(const UniqueFd& folder, const std::string& name, int flags, unsigned mode = 0644);

/// The whole file, or kLimit where it holds more than `max_bytes`. `what` names it in errors.
Result<std::string> read_all(const UniqueFd& fd, std::size_t max_bytes, std::string_view what);
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);
/// A short sysfs or procfs file, without its trailing newline.
Result<std::string> read_line_file(const std::string& path);

/// Loops over short writes.
Result<void> write_all(const UniqueFd& fd, std::string_view bytes, std::string_view what);
/// Loops over short writes, at an offset.
Result<void> write_all_at(const UniqueFd& fd, std::string_view bytes, std::uint64_t offset, std::string_view what);
Result<void> write_file(const std::string& path, std::string_view bytes);

Result<void> sync_data(const UniqueFd& fd, std::string_view what);  ///< fdatasync(2)
Result<void> sync_all(const UniqueFd& fd, std::string_view what);   ///< fsync(2)

/// Replaces `path` as a whole: a temporary file beside it, fsync, rename, fsync of the folder. A reader, or a crash at
/// any point, sees the old content or the new one.
Result<void> replace_file_durably(const std::string& path, std::string_view bytes, unsigned mode = 0600);

/// mkdir -p with mode 0755 (or `mode` for the last folder); existing folders are left as they are.
Result<void> make_folders(const std::string& path, unsigned mode = 0755);

}  // namespace vdvs::base
