#include "esx-vmci/datastore/volume_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

struct flock whole_byte(short type, std::uint64_t offset) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = 1;
  return lock;
}

}  // namespace

Result<UniqueFd> open_beneath(const UniqueFd& folder, const std::string& name, int flags, mode_t mode,
                              std::string_view path) {
  struct open_how how = {};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW;
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  do {
    fd = ::syscall(SYS_openat2, folder.get(), name.c_str(), &how, sizeof how);
  } while (fd < 0 && (errno == EINTR || errno == EAGAIN));  // EAGAIN: a rename raced with the look-up
  if (fd >= 0) return UniqueFd(static_cast<int>(fd));
  if (errno == ELOOP)
    return fail(ErrorCode::kUnsupported, "open '{}': it is a symbolic link, which is never followed", path);
  return fail_errno(errno, "open '{}'", path);
}

Result<void> for_each_in(const UniqueFd& folder, std::string_view path, const EntryVisitor& visit) {
  // A descriptor of its own: the position in a folder belongs to the open file description.
  ASSIGN_OR_RETURN(UniqueFd fd, open_beneath(folder, ".", O_RDONLY | O_DIRECTORY, 0, path));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), &::closedir);
  if (!stream) return fail_errno(errno, "list '{}'", path);
  fd.release();
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) return fail_errno(errno, "list '{}'", path);
      return {};
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") visit(name, entry->d_ino, entry->d_type);
  }
}

Result<std::vector<std::string>> names_in(const UniqueFd& folder, std::string_view path) {
  std::vector<std::string> names;
  RETURN_IF_ERROR(for_each_in(
      folder, path, [&](std::string_view name, ino_t, unsigned char) { names.emplace_back(name); }));
  return names;
}

VolumeLock::~VolumeLock() {
  if (!file_.is_open()) return;
  // Said aloud: a child that was just forked may still have a copy of the descriptor.
  struct flock lock = {};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  ::fcntl(file_.get(), F_OFD_SETLK, &lock);
}

Result<UniqueFd> VolumeFolder::open_file(std::string_view name, int flags) const {
  // O_NONBLOCK: a fifo in a file's place must not stop us.
  ASSIGN_OR_RETURN(UniqueFd fd, open_beneath(fd_, std::string(name), flags | O_NONBLOCK, 0, path_of(name)));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "stat '{}'", path_of(name));
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kUnsupported, "open '{}': it is not a regular file", path_of(name));
  return fd;
}

Result<UniqueFd> VolumeFolder::create_file(std::string_view name) const {
  return open_beneath(fd_, std::string(name), O_RDWR | O_CREAT | O_EXCL, 0600, path_of(name));
}

Result<std::optional<struct stat>> VolumeFolder::look(std::string_view name) const {
  struct stat info;
  if (::fstatat(fd_.get(), std::string(name).c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return info;
  if (errno == ENOENT) return std::nullopt;
  return fail_errno(errno, "stat '{}'", path_of(name));
}

Result<bool> VolumeFolder::has(std::string_view name) const {
  ASSIGN_OR_RETURN(const auto info, look(name));
  return info.has_value();
}

Result<void> VolumeFolder::publish(std::string_view from, std::string_view to) const {
  const std::string old_name(from);
  const std::string new_name(to);
  if (::renameat2(fd_.get(), old_name.c_str(), fd_.get(), new_name.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno != EINVAL && errno != ENOSYS) return fail_errno(errno, "rename '{}' to '{}'", path_of(from), to);
  // NFS has no such rename, but links that fail where the name is taken.
  if (::linkat(fd_.get(), old_name.c_str(), fd_.get(), new_name.c_str(), 0) != 0) {
    return fail_errno(errno, "link '{}' to '{}'", path_of(from), to);
  }
  return unlink(from);
}

Result<void> VolumeFolder::rename(std::string_view from, std::string_view to) const {
  if (::renameat(fd_.get(), std::string(from).c_str(), fd_.get(), std::string(to).c_str()) == 0) return {};
  return fail_errno(errno, "rename '{}' to '{}'", path_of(from), to);
}

Result<void> VolumeFolder::unlink(std::string_view name) const {
  if (::unlinkat(fd_.get(), std::string(name).c_str(), 0) == 0 || errno == ENOENT) return {};
  return fail_errno(errno, "remove '{}'", path_of(name));
}

Result<void> VolumeFolder::sync() const { return base::sync_all(fd_, path_); }

Result<struct stat> VolumeFolder::status() const {
  struct stat info;
  if (::fstat(fd_.get(), &info) != 0) return fail_errno(errno, "stat '{}'", path_);
  if (info.st_nlink == 0)
    return fail(ErrorCode::kUnavailable, "the datastore's folder '{}' was deleted", path_);
  return info;
}

std::uint64_t VolumeFolder::lock_offset(std::string_view volume) {
  // FNV-1a, in all versions and on all hosts alike: they exclude each other by it.
  std::uint64_t hash = 14695981039346656037ull;
  for (char c : volume) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash & 0x3fffffffffffffffull;  // an off_t, with room for the length
}

Result<UniqueFd> VolumeFolder::open_lock_file() const {
  return open_beneath(fd_, std::string(kLockFile), O_RDWR | O_CREAT, 0600, path_of(kLockFile));
}

Result<VolumeLock> VolumeFolder::lock(std::string_view volume) const {
  ASSIGN_OR_RETURN(UniqueFd file, open_lock_file());
  struct flock lock = whole_byte(F_WRLCK, lock_offset(volume));
  while (::fcntl(file.get(), F_OFD_SETLKW, &lock) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock '{}' in '{}'", volume, path_of(kLockFile));
  }
  return VolumeLock(std::move(file));
}

Result<std::optional<VolumeLock>> VolumeFolder::try_lock(std::string_view volume) const {
  ASSIGN_OR_RETURN(UniqueFd file, open_lock_file());
  struct flock lock = whole_byte(F_WRLCK, lock_offset(volume));
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) == 0) return VolumeLock(std::move(file));
  if (errno == EAGAIN || errno == EACCES) return std::nullopt;
  return fail_errno(errno, "lock '{}' in '{}'", volume, path_of(kLockFile));
}

}  // namespace vdvs::esx
