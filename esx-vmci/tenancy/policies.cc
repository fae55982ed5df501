// The folder of policies. Files are reached by plain name below the folder's descriptor, and nothing there is
// followed: names come from guests, and the folder is shared.
#include "esx-vmci/tenancy/policies.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <optional>

#include "base/fd.h"

namespace vdvs::esx {
namespace {

using base::Error;
using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr const char* kLockFile = ".vdvs.lock";

Result<UniqueFd> open_beneath(const UniqueFd& folder, const std::string& name, int flags,
                              std::string_view what) {
  struct open_how how = {};
  // O_NONBLOCK: a fifo in a file's place must not stop us.
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  how.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  do {
    fd = ::syscall(SYS_openat2, folder.get(), name.c_str(), &how, sizeof how);
  } while (fd < 0 && (errno == EINTR || errno == EAGAIN));  // EAGAIN: a rename raced with the look-up
  if (fd < 0 && errno == ELOOP)
    return fail(ErrorCode::kUnsupported, "open '{}/{}': it is a symbolic link, which is never followed", what,
                name);
  if (fd < 0) return fail_errno(errno, "open '{}/{}'", what, name);
  return UniqueFd(static_cast<int>(fd));
}

/// The content of a policy's file; nullopt where none can be there: no such file, or no regular one, or one
/// that is too large.
Result<std::optional<std::string>> read_policy(const UniqueFd& folder, const std::string& name,
                                               const std::string& path) {
  auto file = open_beneath(folder, name, O_RDONLY, path);
  if (!file) {
    const ErrorCode code = file.error().code();
    if (code == ErrorCode::kNotFound || code == ErrorCode::kUnsupported) return std::nullopt;
    return std::unexpected(file.error());
  }
  struct stat info;
  if (::fstat(file->get(), &info) != 0) return fail_errno(errno, "stat '{}/{}'", path, name);
  if (!S_ISREG(info.st_mode) || info.st_size > static_cast<off_t>(kMaxPolicyBytes + 1)) return std::nullopt;
  ASSIGN_OR_RETURN(std::string text, base::read_all(*file, kMaxPolicyBytes + 1, path));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Result<void> write_beside(const UniqueFd& folder, const std::string& name, std::string_view content,
                          const std::string& path) {
  ::unlinkat(folder.get(), name.c_str(), 0);  // of an update that was interrupted
  ASSIGN_OR_RETURN(const UniqueFd file, open_beneath(folder, name, O_WRONLY | O_CREAT | O_EXCL, path));
  RETURN_IF_ERROR(base::write_all(file, fmt::format("{}\n", content), name));
  return base::sync_all(file, name);
}

/// One change at a time among all processes and hosts, by an OFD lock (open(2) on NFS too) on a file of its
/// own.
Result<UniqueFd> lock_folder(const UniqueFd& folder, const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd file, open_beneath(folder, kLockFile, O_RDWR | O_CREAT, path));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  while (::fcntl(file.get(), F_OFD_SETLKW, &lock) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock '{}/{}'", path, kLockFile);
  }
  return file;
}

Result<UniqueFd> open_folder(const std::string& path) {
  return base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Error unknown(std::string_view name) {
  return Error(ErrorCode::kNotFound, fmt::format("Error: Policy {} does not exist", name));
}

Result<std::vector<std::string>> names_in(const std::string& path) {
  auto opened = open_folder(path);
  if (!opened && opened.error().code() == ErrorCode::kNotFound) return std::vector<std::string>();
  ASSIGN_OR_RETURN(UniqueFd fd, std::move(opened));
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::fdopendir(fd.get()), &::closedir);
  if (!folder) return fail_errno(errno, "list '{}'", path);
  fd.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr && errno != 0) return fail_errno(errno, "list '{}'", path);
    if (entry == nullptr) break;
    if (validate_policy_name(entry->d_name)) names.emplace_back(entry->d_name);
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

Result<void> PolicyStore::create(std::string_view name, std::string_view content) {
  RETURN_IF_ERROR(validate_policy_name(name));
  RETURN_IF_ERROR(validate_policy_content(content));
  RETURN_IF_ERROR(base::make_folders(folder_));
  ASSIGN_OR_RETURN(const UniqueFd folder, open_folder(folder_));
  ASSIGN_OR_RETURN(const UniqueFd lock, lock_folder(folder, folder_));
  const std::string file(name);
  struct stat info;
  if (::fstatat(folder.get(), file.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0)
    return fail(ErrorCode::kExists, "Error: Policy already exists");
  RETURN_IF_ERROR(write_beside(folder, file + ".tmp", content, folder_));
  if (::renameat(folder.get(), (file + ".tmp").c_str(), folder.get(), file.c_str()) != 0)
    return fail_errno(errno, "rename '{}/{}.tmp'", folder_, name);
  return base::sync_all(folder, folder_);
}

Result<void> PolicyStore::update(std::string_view name, std::string_view content) {
  RETURN_IF_ERROR(validate_policy_name(name));
  RETURN_IF_ERROR(validate_policy_content(content));
  auto folder = open_folder(folder_);
  if (!folder && folder.error().code() == ErrorCode::kNotFound) return std::unexpected(unknown(name));
  if (!folder) return std::unexpected(folder.error());
  ASSIGN_OR_RETURN(const UniqueFd lock, lock_folder(*folder, folder_));
  const std::string file(name);
  ASSIGN_OR_RETURN(const auto old, read_policy(*folder, file, folder_));
  if (!old) return std::unexpected(unknown(name));
  if (*old == content)
    return fail(ErrorCode::kInvalid, "Error: New policy is identical to old policy. Ignoring.");
  RETURN_IF_ERROR(write_beside(*folder, file + ".tmp", content, folder_));
  if (::renameat(folder->get(), (file + ".tmp").c_str(), folder->get(), file.c_str()) != 0)
    return fail_errno(errno, "rename '{}/{}.tmp'", folder_, name);
  return base::sync_all(*folder, folder_);
}

Result<void> PolicyStore::remove(std::string_view name) {
  RETURN_IF_ERROR(validate_policy_name(name));
  const auto missing = [&] { return fail(ErrorCode::kNotFound, "Policy {} does not exist", name); };
  auto folder = open_folder(folder_);
  if (!folder && folder.error().code() == ErrorCode::kNotFound) return missing();
  if (!folder) return std::unexpected(folder.error());
  ASSIGN_OR_RETURN(const UniqueFd lock, lock_folder(*folder, folder_));
  ASSIGN_OR_RETURN(const auto old, read_policy(*folder, std::string(name), folder_));
  if (!old) return missing();
  if (::unlinkat(folder->get(), std::string(name).c_str(), 0) != 0)
    return fail_errno(errno, "remove '{}/{}'", folder_, name);
  return base::sync_all(*folder, folder_);
}

Result<Policy> PolicyStore::find(std::string_view name) const {
  RETURN_IF_ERROR(validate_policy_name(name));
  auto folder = open_folder(folder_);
  if (!folder && folder.error().code() == ErrorCode::kNotFound) return std::unexpected(unknown(name));
  if (!folder) return std::unexpected(folder.error());
  ASSIGN_OR_RETURN(auto content, read_policy(*folder, std::string(name), folder_));
  if (!content) return std::unexpected(unknown(name));
  return Policy{.name = std::string(name), .content = std::move(*content)};
}

Result<std::vector<Policy>> PolicyStore::list() const {
  ASSIGN_OR_RETURN(const auto names, names_in(folder_));
  std::vector<Policy> policies;
  if (names.empty()) return policies;
  ASSIGN_OR_RETURN(const UniqueFd folder, open_folder(folder_));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(auto content, read_policy(folder, name, folder_));
    if (content) policies.push_back(Policy{.name = name, .content = std::move(*content)});
  }
  return policies;
}

}  // namespace vdvs::esx
