#include "fs-format/immutable_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>

namespace vdvs::fsformat {
namespace {

using base::ErrorCode;
using base::Result;
using base::UniqueFd;

Result<bool> is_mount_root(const UniqueFd& folder, const std::string& path) {
  struct statx status = {};
  if (::statx(folder.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0) {
    return base::fail_errno(errno, "stat '{}'", path);
  }
  return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/// Takes over the descriptor.
bool is_empty(UniqueFd folder) {
  std::unique_ptr<DIR, decltype([](DIR* open) { ::closedir(open); })> entries(::fdopendir(folder.get()));
  if (entries == nullptr) return false;
  folder.release();
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return false;
  }
  return true;
}

/// Errors of the attribute's ioctls that mean "this file system has none".
bool is_unsupported(int errnum) {
  return errnum == ENOTTY || errnum == EOPNOTSUPP || errnum == EINVAL || errnum == ENOSYS;
}

Result<void> set_immutable(const UniqueFd& folder, const std::string& path, bool wanted) {
  int flags = 0;
  if (::ioctl(folder.get(), FS_IOC_GETFLAGS, &flags) != 0) {
    if (is_unsupported(errno)) return {};
    return base::fail_errno(errno, "read attributes of '{}'", path);
  }
  const int changed = wanted ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
  if (changed == flags || ::ioctl(folder.get(), FS_IOC_SETFLAGS, &changed) == 0 || is_unsupported(errno))
    return {};
  // EPERM: without CAP_LINUX_IMMUTABLE (a container) the mode has to do.
  if (wanted && errno == EPERM) return {};
  return base::fail_errno(errno, "{} immutable attribute of '{}'", wanted ? "set" : "clear", path);
}

}  // namespace

Result<UniqueFd> make_immutable_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0) != 0) {
    if (errno == ENOENT) {
      RETURN_IF_ERROR(base::make_folders(std::filesystem::path(path).parent_path().string()));
      if (::mkdir(path.c_str(), 0) != 0) return base::fail_errno(errno, "mkdir '{}'", path);
    } else if (errno != EEXIST) {
      return base::fail_errno(errno, "mkdir '{}'", path);
    }
  }
  auto opened = base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!opened) {
    const int cause = opened.error().system_errno();
    if (cause != ENOTDIR && cause != ELOOP) return opened;
    return base::fail(ErrorCode::kExists,
                      "make mount point '{}': something that is not a folder has this name", path);
  }
  ASSIGN_OR_RETURN(const bool is_mounted, is_mount_root(*opened, path));
  if (is_mounted)
    return base::fail(ErrorCode::kExists, "make mount point '{}': something is mounted there", path);
  ASSIGN_OR_RETURN(UniqueFd entries, base::open_file_at(*opened, ".", O_RDONLY | O_DIRECTORY));
  if (!is_empty(std::move(entries))) {
    return std::unexpected(base::Error(ErrorCode::kExists,
                                       fmt::format("make mount point '{}': the folder is not empty", path),
                                       "move its content away: a mount would hide it"));
  }
  RETURN_IF_ERROR(set_immutable(*opened, path, true));
  return opened;
}

Result<void> remove_immutable_folder(const std::string& path) {
  auto folder = base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) {
    if (folder.error().system_errno() == ENOENT) return {};
    return std::unexpected(std::move(folder).error());
  }
  RETURN_IF_ERROR(set_immutable(*folder, path, false));
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return {};
  return base::fail_errno(errno, "rmdir '{}'", path);
}

}  // namespace vdvs::fsformat
