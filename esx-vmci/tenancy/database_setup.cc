// `config init` and `config rm`: a database appears whole or not at all, and one that is taken away is never
// in use at that moment.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>

#include "base/fd.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/tenancy/connections.h"
#include "esx-vmci/tenancy/schema.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;

constexpr std::string_view kSharedDatabaseName = "vmdkops_config.db";

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

Result<void> sync_folder_of(const std::string& path) {
  ASSIGN_OR_RETURN(const auto folder, base::open_file(folder_of(path), O_RDONLY | O_DIRECTORY));
  return base::sync_all(folder, folder_of(path));
}

/// Gives `from` the name `to` where that is free. Errors: kExists.
Result<void> publish(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) return fail_errno(errno, "rename '{}' to '{}'", from, to);
    // NFS has no such rename, but links that fail where the name is taken.
    if (::link(from.c_str(), to.c_str()) != 0) return fail_errno(errno, "link '{}' to '{}'", from, to);
    ::unlink(from.c_str());
  }
  return sync_folder_of(to);
}

/// A new database at `path`, complete when it gets that name. Errors: kExists.
Result<void> make_database(const std::string& path) {
  RETURN_IF_ERROR(base::make_folders(folder_of(path)));
  const std::string draft = fmt::format("{}.new-{}", path, ::getpid());
  ::unlink(draft.c_str());  // of a process that had this id before
  auto make = [&]() -> Result<void> {
    ASSIGN_OR_RETURN(const auto file, SqliteFile::open(draft, SqliteFile::How::kNew));
    return file->transaction([&] { return make_schema(*file); });
  };
  Result<void> done = make();
  if (done) done = publish(draft, path);
  if (!done) ::unlink(draft.c_str());
  return done;
}

bool is_there(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

bool is_link(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

/// "Sat_Nov_21_14:21:14_2026", as asctime(3) in local time.
std::string asctime_with_underscores() {
  const std::time_t now = std::time(nullptr);
  struct tm parts = {};
  ::localtime_r(&now, &parts);
  char text[64] = {};
  ::asctime_r(&parts, text);
  std::string result(text);
  while (!result.empty() && result.back() == '\n') result.pop_back();
  for (char& c : result) {
    if (c == ' ') c = '_';
  }
  return result;
}

/// Runs `take_away` while nobody else is in the database: what was being written is done, and an interrupted
/// writer's journal is rolled back first, since it would not find a file with a new name. What is no database
/// is taken away as it is.
Result<void> while_unused(const std::string& path, const std::function<Result<void>()>& take_away) {
  auto file = SqliteFile::open(path, SqliteFile::How::kExisting);
  if (!file) {
    if (file.error().code() == ErrorCode::kUnavailable) return std::unexpected(file.error());
    return take_away();
  }
  bool was_called = false;
  const Result<void> done = (*file)->alone([&] {
    was_called = true;
    return take_away();
  });
  if (done || was_called || done.error().code() == ErrorCode::kUnavailable) return done;
  return take_away();
}

Result<std::string> move_to_backup(const std::string& path) {
  const std::string backup = fmt::format("{}.bak_{}", path, asctime_with_underscores());
  RETURN_IF_ERROR(while_unused(path, [&] { return publish(path, backup); }));
  return fmt::format("Moved {} to backup file {}", path, backup);
}

/// Makes `path` free for a new database or link.
Result<void> clear_place(const std::string& path, bool force) {
  if (!is_there(path)) return {};
  if (!force) {
    return std::unexpected(base::Error(
        ErrorCode::kExists,
        fmt::format("config init '{}': already initialized: {}", path, db_mode_text(look_at_database(path))),
        "use 'config rm' first, or '--force', which keeps a local database as a backup"));
  }
  if (is_link(path)) return unlink_shared_database(path);
  RETURN_IF_ERROR(move_to_backup(path));
  return {};
}

}  // namespace

Result<void> init_local_database(const std::string& path, bool force) {
  RETURN_IF_ERROR(clear_place(path, force));
  return make_database(path);
}

Result<void> init_shared_database(const std::string& path, const std::string& datastore_path, bool force) {
  if (is_there(path) && !force) return clear_place(path, false);
  struct stat info;
  if (::stat(datastore_path.c_str(), &info) != 0)  // made here, it would hide that nothing is mounted
    return fail_errno(errno, "look at datastore '{}'", datastore_path);
  const std::string database = fmt::format("{}/{}/{}", datastore_path, kDockvols, kSharedDatabaseName);
  if (const Result<void> made = make_database(database); !made && made.error().code() != ErrorCode::kExists)
    return made;
  {
    // Another host's, perhaps: it counts only if it is one.
    ASSIGN_OR_RETURN(const auto file, SqliteFile::open(database, SqliteFile::How::kExisting));
    RETURN_IF_ERROR(check_schema(*file, database));
  }
  RETURN_IF_ERROR(clear_place(path, force));
  RETURN_IF_ERROR(base::make_folders(folder_of(path)));
  if (::symlink(database.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "link '{}' to '{}'", path, database);
  return sync_folder_of(path);
}

Result<std::string> remove_local_database(const std::string& path, bool no_backup) {
  const DbMode mode = look_at_database(path);
  if (mode == DbMode::kNotConfigured) return std::unexpected(tenancy_error(TenancyError::kInitNeeded));
  if (is_link(path)) {
    if (mode != DbMode::kBrokenLink) {
      return std::unexpected(base::Error(
          ErrorCode::kInvalid,
          fmt::format("config rm '{}': it is a link to a shared database: {}", path, db_mode_text(mode)),
          "use '--unlink'"));
    }
    RETURN_IF_ERROR(unlink_shared_database(path));
    return fmt::format("Removed link {}", path);
  }
  if (!no_backup) return move_to_backup(path);
  const Result<void> erased = while_unused(path, [&]() -> Result<void> {
    if (::unlink(path.c_str()) != 0) return fail_errno(errno, "remove '{}'", path);
    return sync_folder_of(path);
  });
  RETURN_IF_ERROR(erased);
  return fmt::format("Removed {}", path);
}

Result<void> unlink_shared_database(const std::string& path) {
  const DbMode mode = look_at_database(path);
  if (mode == DbMode::kNotConfigured) return std::unexpected(tenancy_error(TenancyError::kInitNeeded));
  if (!is_link(path)) {
    return std::unexpected(base::Error(
        ErrorCode::kInvalid,
        fmt::format("config rm '{}': it is a local database, not a link: {}", path, db_mode_text(mode)),
        "use '--local'"));
  }
  if (::unlink(path.c_str()) != 0) return fail_errno(errno, "remove '{}'", path);
  return sync_folder_of(path);
}

}  // namespace vdvs::esx
