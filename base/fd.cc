#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace vdvs::base {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<UniqueFd> open_file(const std::string& path, int flags, unsigned mode) {
  int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno(errno, "open '{}'", path);
  return UniqueFd(fd);
}

Result<UniqueFd> open_file_at(const UniqueFd& folder, const std::string& name, int flags, unsigned mode) {
  int fd = ::openat(folder.get(), name.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno(errno, "open '{}'", name);
  return UniqueFd(fd);
}

Result<std::string> read_all(const UniqueFd& fd, std::size_t max_bytes, std::string_view what) {
  std::string content;
  char buffer[16384];
  for (;;) {
    ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read '{}'", what);
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
    if (content.size() > max_bytes) {
      return fail(ErrorCode::kLimit, "read '{}': more than {} bytes", what, max_bytes);
    }
  }
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  ASSIGN_OR_RETURN(auto fd, open_file(path, O_RDONLY));
  return read_all(fd, max_bytes, path);
}

Result<std::string> read_line_file(const std::string& path) {
  constexpr std::size_t kMaxLineFileBytes = 65536;
  ASSIGN_OR_RETURN(auto content, read_file(path, kMaxLineFileBytes));
  while (!content.empty() && content.back() == '\n') content.pop_back();
  return content;
}

Result<void> write_all(const UniqueFd& fd, std::string_view bytes, std::string_view what) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(errno, "write '{}'", what);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> write_all_at(const UniqueFd& fd, std::string_view bytes, std::uint64_t offset, std::string_view what) {
  while (!bytes.empty()) {
    ssize_t put = ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(errno, "write '{}' at byte {}", what, offset);
    bytes.remove_prefix(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

Result<void> write_file(const std::string& path, std::string_view bytes) {
  ASSIGN_OR_RETURN(auto fd, open_file(path, O_WRONLY | O_CREAT | O_TRUNC));
  return write_all(fd, bytes, path);
}

Result<void> sync_data(const UniqueFd& fd, std::string_view what) {
  if (::fdatasync(fd.get()) != 0) return fail_errno(errno, "fdatasync '{}'", what);
  return {};
}

Result<void> sync_all(const UniqueFd& fd, std::string_view what) {
  if (::fsync(fd.get()) != 0) return fail_errno(errno, "fsync '{}'", what);
  return {};
}

Result<void> replace_file_durably(const std::string& path, std::string_view bytes, unsigned mode) {
  const std::string temporary = path + ".new";
  {
    ASSIGN_OR_RETURN(auto fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode));
    RETURN_IF_ERROR(write_all(fd, bytes, temporary));
    RETURN_IF_ERROR(sync_all(fd, temporary));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno(errno, "rename '{}' to '{}'", temporary, path);
  std::string folder = std::filesystem::path(path).parent_path().string();
  ASSIGN_OR_RETURN(auto folder_fd, open_file(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY));
  return sync_all(folder_fd, folder);
}

Result<void> make_folders(const std::string& path, unsigned mode) {
  std::filesystem::path parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!parent.empty() && !std::filesystem::is_directory(parent, error)) RETURN_IF_ERROR(make_folders(parent.string()));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir '{}'", path);
  if (!std::filesystem::is_directory(path, error)) {
    return fail(ErrorCode::kInvalid, "mkdir '{}': something that is not a folder has this name", path);
  }
  return {};
}

}  // namespace vdvs::base
