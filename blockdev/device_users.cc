#include "blockdev/device_users.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <ranges>
#include <set>

#include "base/fd.h"
#include "blockdev/sysfs_disk.h"

namespace vdvs::blockdev {

using base::Result;

namespace {

constexpr std::size_t kMaxMountinfoBytes = 64 * 1024 * 1024;
constexpr std::size_t kMaxSwapsBytes = 1024 * 1024;

/// A disk and its partitions: a mount of a partition keeps the whole disk busy.
struct Target {
  std::set<dev_t> numbers;
  std::set<std::string> nodes;
};

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<dev_t> parse_device_number(std::string_view text) {
  unsigned major_number = 0, minor_number = 0;
  const char* const end = text.data() + text.size();
  auto [colon, major_error] = std::from_chars(text.data(), end, major_number);
  if (major_error != std::errc() || colon == end || *colon != ':') return std::nullopt;
  auto [last, minor_error] = std::from_chars(colon + 1, end, minor_number);
  if (minor_error != std::errc() || last != end) return std::nullopt;
  return makedev(major_number, minor_number);
}

/// The kernel writes space, tab, newline and backslash as \ooo (fs/seq_file.c, mangle_path).
std::string undo_escapes(std::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(separator);
    if (at != 0) parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string read_link(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), buffer, sizeof buffer);
  return length < 0 ? std::string() : std::string(buffer, static_cast<std::size_t>(length));
}

/// Only below dev_root: a stat elsewhere may hang on a dead network file system.
bool is_node_of(const WatcherOptions& options, const Target& target, const std::string& path) {
  if (target.nodes.contains(path)) return true;
  if (!path.starts_with(options.dev_root + "/")) return false;
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
         target.numbers.contains(status.st_rdev);
}

Result<Target> read_target(const WatcherOptions& options, const Device& device) {
  Target target{.numbers = {device.number}, .nodes = {device.node}};
  const std::string folder = sysfs_folder(options, device.number);
  ASSIGN_OR_RETURN(const auto names, list_folder(folder));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const auto partition, find_attribute(fmt::format("{}/{}/partition", folder, name)));
    if (!partition) continue;
    ASSIGN_OR_RETURN(const auto number, find_attribute(fmt::format("{}/{}/dev", folder, name)));
    if (const auto parsed = parse_device_number(number.value_or(""))) target.numbers.insert(*parsed);
    target.nodes.insert(options.dev_root + "/" + name);
  }
  return target;
}

/// "pid 42 (sleep)".
std::string describe_process(const std::string& folder, const std::string& pid) {
  return fmt::format("pid {} ({})", pid, base::read_line_file(folder + "/comm").value_or("ended"));
}

/// The places of one process's mount table at which the target stands. File systems over several devices
/// (btrfs) have a device number of their own there, so the source counts as well.
std::vector<std::string> mount_points_in(const WatcherOptions& options, const Target& target,
                                         const std::string& mountinfo) {
  std::vector<std::string> points;
  for (std::string_view line : split(mountinfo, '\n')) {
    const auto entry = decode_mountinfo_line(line);
    if (!entry) continue;
    const bool is_by_source = major(entry->number) == 0 && is_node_of(options, target, entry->source);
    if (is_by_source || target.numbers.contains(entry->number)) points.push_back(entry->mount_point);
  }
  return points;
}

/// Each mount table once: by its namespace and the root folder below which the process sees it.
void add_mounts(const WatcherOptions& options, const Target& target, const std::vector<std::string>& pids,
                std::vector<std::string>& users) {
  const std::string own_namespace = read_link(options.proc_root + "/thread-self/ns/mnt");
  std::set<std::pair<std::string, std::string>> read_already;
  const auto add_table_of = [&](const std::string& pid) {
    const std::string folder = options.proc_root + "/" + pid;
    const std::string mount_namespace = read_link(folder + "/ns/mnt");
    const bool is_known = !mount_namespace.empty();
    if (is_known && !read_already.emplace(mount_namespace, read_link(folder + "/root")).second) return;
    const auto mountinfo = base::read_file(folder + "/mountinfo", kMaxMountinfoBytes);
    if (!mountinfo) return;  // The process has ended, or is a zombie.
    for (const std::string& point : mount_points_in(options, target, *mountinfo)) {
      const bool is_own = is_known && mount_namespace == own_namespace;
      users.push_back(is_own ? fmt::format("mounted on '{}'", point)
                             : fmt::format("mounted on '{}' in the mount namespace of {}", point,
                                           describe_process(folder, pid)));
    }
  };
  add_table_of("thread-self");  // First, so that our own table is not told as some other process's.
  std::ranges::for_each(pids, add_table_of);
}

void add_open_files(const WatcherOptions& options, const Target& target, const std::vector<std::string>& pids,
                    std::vector<std::string>& users) {
  const std::string self = read_link(options.proc_root + "/self");
  for (const std::string& pid : pids) {
    const std::string folder = options.proc_root + "/" + pid;
    const auto files = list_folder(folder + "/fd");
    if (!files) continue;
    const bool has_it_open = std::ranges::any_of(*files, [&](const std::string& file) {
      return target.nodes.contains(read_link(folder + "/fd/" + file));
    });
    if (has_it_open)
      users.push_back(pid == self ? "open in this process" : "open in " + describe_process(folder, pid));
  }
}

Result<void> add_swaps(const WatcherOptions& options, const Target& target, std::vector<std::string>& users) {
  ASSIGN_OR_RETURN(const auto swaps,
                   optional_if_missing(base::read_file(options.proc_root + "/swaps", kMaxSwapsBytes)));
  if (!swaps) return {};
  for (std::string_view line : split(*swaps, '\n')) {
    if (is_node_of(options, target, undo_escapes(line.substr(0, line.find(' ')))))
      users.emplace_back("used as swap");
  }
  return {};
}

Result<void> add_holders(const WatcherOptions& options, const Target& target,
                         std::vector<std::string>& users) {
  for (dev_t number : target.numbers) {
    ASSIGN_OR_RETURN(const auto holders, list_folder(sysfs_folder(options, number) + "/holders"));
    for (const std::string& holder : holders) users.push_back("under " + holder);
  }
  return {};
}

}  // namespace

std::optional<MountinfoEntry> decode_mountinfo_line(std::string_view line) {
  // 36 35 98:0 /root /mount/point rw,noatime shared:1 master:2 - ext3 /dev/source rw,errors=continue
  const auto fields = split(line, ' ');
  const auto dash = std::ranges::find(fields, std::string_view("-"));
  if (dash - fields.begin() < 6 || fields.end() - dash < 3) return std::nullopt;
  const auto number = parse_device_number(fields[2]);
  if (!number) return std::nullopt;
  return MountinfoEntry{.number = *number,
                        .mount_point = undo_escapes(fields[4]),
                        .fs_type = undo_escapes(*(dash + 1)),
                        .source = undo_escapes(*(dash + 2))};
}

Result<std::vector<std::string>> find_device_users(const WatcherOptions& options, const Device& device) {
  ASSIGN_OR_RETURN(const auto target, read_target(options, device));
  ASSIGN_OR_RETURN(auto pids, list_folder(options.proc_root));
  std::erase_if(pids, [](const std::string& name) { return !is_number(name); });
  std::ranges::sort(pids, {}, [](const std::string& pid) { return std::pair(pid.size(), pid); });
  std::vector<std::string> users;
  add_mounts(options, target, pids, users);
  RETURN_IF_ERROR(add_swaps(options, target, users));
  RETURN_IF_ERROR(add_holders(options, target, users));
  // An open file is only a suspect: whether it is exclusive cannot be seen, and udevd and others only look.
  // So it is named where nothing else explains that the device is busy.
  if (users.empty()) add_open_files(options, target, pids, users);
  return users;
}

}  // namespace vdvs::blockdev
