#include "esx-vmci/admin/audit_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <boost/json/serialize.hpp>
#include <cerrno>
#include <ctime>
#include <filesystem>

namespace vdvs::esx {
namespace {

using base::fail_errno;
using base::Result;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::string text(32, '\0');
  text.resize(std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts));
  return text;
}

boost::json::object line_of(const AdminCommand& command, std::string_view result) {
  boost::json::object flags;
  for (const auto& [name, value] : command.flags) flags.emplace(name, value);
  return {{"time", utc_now()},
          {"who", command.asked_by},
          {"verb", command.verb},
          {"flags", std::move(flags)},
          {"result", result}};
}

}  // namespace

Result<base::UniqueFd> AuditLog::open_locked() const {
  // Whoever waits for the lock may find that the file was rotated away meanwhile: then the new one is opened.
  while (true) {
    ASSIGN_OR_RETURN(base::UniqueFd file,
                     base::open_file(path_, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0600));
    while (::flock(file.get(), LOCK_EX) != 0)
      if (errno != EINTR) return fail_errno(errno, "lock '{}'", path_);
    struct stat opened{};
    struct stat named{};
    if (::fstat(file.get(), &opened) != 0) return fail_errno(errno, "look at '{}'", path_);
    if (::lstat(path_.c_str(), &named) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev)
      return file;
  }
}

Result<void> AuditLog::rotate() const {
  for (int number = kOldAuditFiles; number >= 1; --number) {
    const std::string from = number == 1 ? path_ : fmt::format("{}.{}", path_, number - 1);
    const std::string to = fmt::format("{}.{}", path_, number);
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT)
      return fail_errno(errno, "rotate '{}' to '{}'", from, to);
  }
  return {};
}

Result<void> AuditLog::append(const AdminCommand& command, const Result<AdminOutput>& result) const {
  boost::json::object line = line_of(command, result ? "ok" : "failed");
  if (!result) {
    line.emplace("code", base::code_name(result.error().code()));
    line.emplace("error", result.error().message());
  } else if (!result->lines.empty()) {
    std::string said;
    for (const std::string& text : result->lines) said.append(said.empty() ? "" : "; ").append(text);
    line.emplace("output", said);
  }
  return write(boost::json::serialize(line) + "\n");
}

Result<void> AuditLog::begin(const AdminCommand& command) const {
  return write(boost::json::serialize(line_of(command, "begun")) + "\n");
}

Result<void> AuditLog::write(const std::string& line) const {
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  if (!folder.empty()) RETURN_IF_ERROR(base::make_folders(folder.string(), 0755));
  ASSIGN_OR_RETURN(base::UniqueFd file, open_locked());
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "look at '{}'", path_);
  auto size = static_cast<std::size_t>(status.st_size);
  if (size > 0 && size + line.size() > max_bytes_) {
    RETURN_IF_ERROR(rotate());
    ASSIGN_OR_RETURN(file, open_locked());  // the old one's lock is kept until the new one is there
    size = 0;
  }
  // A line that a crash or a full disk cut off is closed, so that it spoils only itself.
  char last = '\n';
  if (size > 0 && ::pread(file.get(), &last, 1, static_cast<off_t>(size - 1)) != 1)
    return fail_errno(errno, "read '{}'", path_);
  RETURN_IF_ERROR(base::write_all(file, last == '\n' ? line : "\n" + line, path_));
  return base::sync_all(file, path_);
}

}  // namespace vdvs::esx
