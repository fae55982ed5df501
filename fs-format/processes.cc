#include "fs-format/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <memory>
#include <vector>

namespace vdvs::fsformat {
namespace {

constexpr std::size_t kMaxProcesses = 20'000;
constexpr std::size_t kMaxFiles = 4'096;
constexpr std::size_t kMaxNamed = 5;
constexpr std::size_t kMaxLocksBytes = 1024 * 1024;

/// Where a file lies: the device of its file system and the id of the mount through which it was reached.
struct Place {
  unsigned major = 0;
  unsigned minor = 0;
  std::uint64_t mount_id = 0;
  bool is_known = false;

  bool is_same_file_system(const Place& other) const {
    return is_known && other.is_known && major == other.major && minor == other.minor;
  }
};

// Never asks a server that may not answer: a process may have files open on a dead NFS.
Place place_of(int folder, const char* name, int flags) {
  struct statx status = {};
  if (::statx(folder, name, flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_MNT_ID, &status) != 0)
    return {};
  return {.major = status.stx_dev_major,
          .minor = status.stx_dev_minor,
          .mount_id = status.stx_mnt_id,
          .is_known = true};
}

using Folder = std::unique_ptr<DIR, decltype([](DIR* folder) { ::closedir(folder); })>;

Folder open_folder_at(int parent, const char* name) {
  int fd = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  Folder folder(::fdopendir(fd));
  if (folder == nullptr) ::close(fd);
  return folder;
}

/// Calls `see` with the names in `folder` that begin with a digit, until it returns false.
void each_number(DIR* folder, std::size_t limit, const std::function<bool(const char*)>& see) {
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    if (limit-- == 0 || !see(entry->d_name)) return;
  }
}

enum class Use { kNone, kSameFileSystem, kSameMount };

Use use_of(const Place& seen, const Place& wanted) {
  if (!seen.is_same_file_system(wanted)) return Use::kNone;
  return seen.mount_id == wanted.mount_id ? Use::kSameMount : Use::kSameFileSystem;
}

Use use_by_process(int process, const Place& wanted) {
  Use most = Use::kNone;
  for (const char* link : {"cwd", "root", "exe"})
    most = std::max(most, use_of(place_of(process, link, 0), wanted));
  Folder files = open_folder_at(process, "fd");
  if (files == nullptr || most == Use::kSameMount) return most;
  each_number(files.get(), kMaxFiles, [&](const char* name) {
    most = std::max(most, use_of(place_of(::dirfd(files.get()), name, 0), wanted));
    return most != Use::kSameMount;
  });
  return most;
}

std::string describe_process(std::string_view pid) {
  auto name = base::read_line_file(fmt::format("/proc/{}/comm", pid));
  return name ? fmt::format("{} (pid {})", *name, pid) : fmt::format("pid {}", pid);
}

std::string name_some(const std::vector<std::string>& pids) {
  std::string text;
  for (std::size_t i = 0; i < std::min(pids.size(), kMaxNamed); ++i) {
    if (i > 0) text += ", ";
    text += describe_process(pids[i]);
  }
  if (pids.size() > kMaxNamed) text += fmt::format(" and {} more", pids.size() - kMaxNamed);
  return text;
}

}  // namespace

std::string describe_mount_users(const std::string& target) {
  const Place wanted = place_of(AT_FDCWD, target.c_str(), AT_SYMLINK_NOFOLLOW);
  Folder processes = open_folder_at(AT_FDCWD, "/proc");
  if (!wanted.is_known || processes == nullptr) return {};
  std::vector<std::string> in_mount;
  std::vector<std::string> in_file_system;
  each_number(processes.get(), kMaxProcesses, [&](const char* pid) {
    base::UniqueFd process(::openat(::dirfd(processes.get()), pid, O_PATH | O_DIRECTORY | O_CLOEXEC));
    switch (use_by_process(process.get(), wanted)) {
      case Use::kNone:
        break;
      case Use::kSameFileSystem:
        in_file_system.emplace_back(pid);
        break;
      case Use::kSameMount:
        in_mount.emplace_back(pid);
        break;
    }
    return true;
  });
  return name_some(in_mount.empty() ? in_file_system : in_mount);
}

// A line of /proc/locks (proc(5)): "1: FLOCK  ADVISORY  WRITE 1234 00:05:312 0 EOF"; the numbers are pid and
// major:minor:inode.
std::string describe_lock_holder(const base::UniqueFd& fd) {
  struct stat status = {};
  auto locks = base::read_file("/proc/locks", kMaxLocksBytes);
  if (!locks || ::fstat(fd.get(), &status) != 0) return {};
  const std::string file =
      fmt::format(" {:02x}:{:02x}:{} ", ::major(status.st_dev), ::minor(status.st_dev), status.st_ino);
  std::string_view rest = *locks;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t end = line.find(file);
    if (line.find(" FLOCK ") == std::string_view::npos || end == std::string_view::npos) continue;
    const std::size_t begin = line.rfind(' ', end - 1) + 1;
    long pid = 0;
    std::from_chars(line.data() + begin, line.data() + end, pid);
    if (pid > 0 && pid != ::getpid()) return describe_process(std::to_string(pid));
  }
  return {};
}

}  // namespace vdvs::fsformat
