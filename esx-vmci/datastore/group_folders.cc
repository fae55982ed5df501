#include "esx-vmci/datastore/group_folders.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <climits>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr std::size_t kMaxGroupNameChars = 100;
constexpr std::size_t kMaxMarkBytes = 256;
constexpr mode_t kFolderMode = 0755;

/// Opens a folder in `parent`; makes it, durably, where it is missing.
Result<UniqueFd> open_folder(const UniqueFd& parent, const std::string& name, bool make,
                             const std::string& path) {
  auto folder = open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, path);
  if (folder || !make || folder.error().code() != ErrorCode::kNotFound) return folder;
  if (::mkdirat(parent.get(), name.c_str(), kFolderMode) != 0 && errno != EEXIST)
    return fail_errno(errno, "make '{}'", path);
  RETURN_IF_ERROR(base::sync_all(parent, path));
  return open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, path);
}

}  // namespace

bool is_group_uuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) return false;
  }
  return true;
}

bool is_group_name(std::string_view text) {
  auto is_plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  return !text.empty() && text.size() <= kMaxGroupNameChars && is_plain(text.front()) &&
         std::ranges::all_of(text, [&](char c) { return is_plain(c) || c == '.' || c == '-'; });
}

Result<GroupFolders> GroupFolders::open(const std::string& path, bool make) {
  ASSIGN_OR_RETURN(const UniqueFd root, base::open_file(path, O_RDONLY | O_DIRECTORY));
  std::string dockvols_path = path + "/" + std::string(kDockvols);
  ASSIGN_OR_RETURN(UniqueFd dockvols, open_folder(root, std::string(kDockvols), make, dockvols_path));
  return GroupFolders(std::move(dockvols), std::move(dockvols_path));
}

Result<std::string> GroupFolders::mark(bool make) const {
  const std::string path = path_ + "/" + std::string(kMarkFile);
  auto file = open_beneath(fd_, std::string(kMarkFile), O_RDONLY | O_NONBLOCK, 0, path);
  if (file) {
    ASSIGN_OR_RETURN(std::string text, base::read_all(*file, kMaxMarkBytes, path));
    return text.substr(0, text.find('\n'));
  }
  if (file.error().code() != ErrorCode::kNotFound) return std::unexpected(std::move(file).error());
  if (!make) return std::string();
  ASSIGN_OR_RETURN(const std::string id, base::read_line_file("/proc/sys/kernel/random/uuid"));
  const std::string temporary = std::string(kMarkFile) + "." + id;
  ASSIGN_OR_RETURN(const UniqueFd made,
                   open_beneath(fd_, temporary, O_WRONLY | O_CREAT | O_EXCL, 0644, path + "." + id));
  auto written = base::write_all(made, id + "\n", path);
  if (written) written = base::sync_all(made, path);
  // Of two who do so at once, one link is made, and both read it.
  const bool is_linked =
      written && ::linkat(fd_.get(), temporary.c_str(), fd_.get(), std::string(kMarkFile).c_str(), 0) == 0;
  const int error = errno;
  ::unlinkat(fd_.get(), temporary.c_str(), 0);
  if (!written) return std::unexpected(std::move(written).error());
  if (!is_linked && error != EEXIST) return fail_errno(error, "link '{}'", path);
  RETURN_IF_ERROR(base::sync_all(fd_, path_));
  return mark(false);
}

bool GroupFolders::is_there() const {
  struct stat info;
  return ::fstat(fd_.get(), &info) == 0 && info.st_nlink > 0;
}

Result<VolumeFolder> GroupFolders::folder_of(const Group& group, bool make) const {
  if (!is_group_uuid(group.uuid))
    return fail(ErrorCode::kInvalid, "open the folder of group '{}': '{}' is no uuid", group.name,
                group.uuid);
  if (make && !is_group_name(group.name))
    return fail(ErrorCode::kInvalid, "make the folder of group '{}': that cannot be a group's name",
                group.name);
  const std::string path = path_ + "/" + group.uuid;
  ASSIGN_OR_RETURN(UniqueFd folder, open_folder(fd_, group.uuid, make, path));
  if (make) RETURN_IF_ERROR(make_link(group));
  return VolumeFolder(std::move(folder), path);
}

std::string GroupFolders::target_of(std::string_view name) const {
  char target[PATH_MAX];
  const ssize_t length = ::readlinkat(fd_.get(), std::string(name).c_str(), target, sizeof target);
  return length > 0 ? std::string(target, static_cast<std::size_t>(length)) : std::string();
}

bool GroupFolders::is_link_of(std::string_view name, std::string_view uuid) const {
  const std::string target = target_of(name);
  return !target.empty() && std::string_view(target).substr(target.rfind('/') + 1) == uuid;
}

Result<void> GroupFolders::make_link(const Group& group) const {
  const std::string target = path_ + "/" + group.uuid;
  if (is_link_of(group.name, group.uuid)) {
    struct stat info;
    if (::fstatat(fd_.get(), group.name.c_str(), &info, 0) == 0) return {};
    ::unlinkat(fd_.get(), group.name.c_str(), 0);  // it dangles since the datastore has another name or place
  }
  if (::symlinkat(target.c_str(), fd_.get(), group.name.c_str()) == 0) return {};
  if (errno == EEXIST || errno == EPERM || errno == EOPNOTSUPP || errno == EROFS)
    return {};  // the folder counts, and the link is for people
  return fail_errno(errno, "link '{}/{}'", path_, group.name);
}

ino_t GroupFolders::inode_of(const std::string& uuid) const {
  struct stat info;
  return ::fstatat(fd_.get(), uuid.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 ? info.st_ino : 0;
}

Result<std::vector<std::string>> GroupFolders::groups() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, names_in(fd_, path_));
  std::vector<std::string> uuids;
  for (const std::string& name : names) {
    struct stat info;
    if (is_group_uuid(name) && ::fstatat(fd_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(info.st_mode)) {
      uuids.push_back(name);
    }
  }
  std::ranges::sort(uuids);
  return uuids;
}

Result<void> GroupFolders::rename(const Group& group, const std::string& new_name) const {
  if (!is_group_name(new_name))
    return fail(ErrorCode::kInvalid, "rename group '{}': '{}' cannot be a group's name", group.name,
                new_name);
  struct stat info;
  const bool is_taken = ::fstatat(fd_.get(), new_name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                        !is_link_of(new_name, group.uuid);
  if (is_taken) {
    return fail(ErrorCode::kExists, "rename group '{}': '{}/{}' is there, and is not its link", group.name,
                path_, new_name);
  }
  if (is_group_name(group.name) && is_link_of(group.name, group.uuid) && group.name != new_name)
    ::unlinkat(fd_.get(), group.name.c_str(), 0);
  auto folder = open_beneath(fd_, group.uuid, O_RDONLY | O_DIRECTORY, 0, path_ + "/" + group.uuid);
  if (!folder && folder.error().code() == ErrorCode::kNotFound) return {};
  if (!folder) return std::unexpected(std::move(folder).error());
  return make_link({group.uuid, new_name});
}

Result<void> GroupFolders::remove(const Group& group) const {
  auto folder = folder_of(group, false);
  if (!folder && folder.error().code() != ErrorCode::kNotFound)
    return std::unexpected(std::move(folder).error());
  if (folder) {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, folder->names());
    for (const std::string& name : names) {
      if (name == kLockFile) continue;
      return fail(ErrorCode::kInUse, "remove the folder of group '{}': '{}' is still in it", group.name,
                  folder->path_of(name));
    }
    RETURN_IF_ERROR(folder->unlink(kLockFile));
    if (::unlinkat(fd_.get(), group.uuid.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return fail_errno(errno, "remove '{}'", folder->path());
  }
  if (is_group_name(group.name) && is_link_of(group.name, group.uuid))
    ::unlinkat(fd_.get(), group.name.c_str(), 0);
  return base::sync_all(fd_, path_);
}

}  // namespace vdvs::esx
