#include "blockdev/sysfs_disk.h"

#include <dirent.h>
#include <linux/major.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

#include "base/fd.h"

namespace vdvs::blockdev {

using base::ErrorCode;
using base::Result;

namespace {

/// sysfs counts every disk's size in these, whatever its logical block size (block/genhd.c).
constexpr std::uint64_t kSysfsSectorBytes = 512;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

Result<std::uint64_t> parse_attribute(const std::string& path, std::string_view text) {
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return base::fail(ErrorCode::kCorrupt, "read '{}': '{}' is no number", path, text);
  }
  return number;
}

Result<std::uint64_t> read_number(const std::string& path) {
  ASSIGN_OR_RETURN(auto text, base::read_line_file(path));
  return parse_attribute(path, text);
}

/// 0 on kernels that do not count.
Result<std::uint64_t> read_diskseq(const std::string& folder) {
  const std::string path = folder + "/diskseq";
  ASSIGN_OR_RETURN(auto text, find_attribute(path));
  if (!text) return std::uint64_t{0};
  return parse_attribute(path, *text);
}

/// "8:16" as sysfs writes it.
Result<dev_t> read_device_number(const std::string& path) {
  ASSIGN_OR_RETURN(auto text, base::read_line_file(path));
  const auto colon = text.find(':');
  if (colon == std::string::npos)
    return base::fail(ErrorCode::kCorrupt, "read '{}': '{}' is no device number", path, text);
  ASSIGN_OR_RETURN(auto major_number, parse_attribute(path, std::string_view(text).substr(0, colon)));
  ASSIGN_OR_RETURN(auto minor_number, parse_attribute(path, std::string_view(text).substr(colon + 1)));
  return makedev(static_cast<unsigned>(major_number), static_cast<unsigned>(minor_number));
}

/// A kernel name has '!' where the node has '/': "cciss!c0d0".
std::string node_of(const WatcherOptions& options, std::string name) {
  std::ranges::replace(name, '!', '/');
  return options.dev_root + "/" + name;
}

Result<Device> read_disk_once(const WatcherOptions& options, const std::string& name) {
  const std::string folder = options.sysfs_root + "/block/" + name;
  Device device;
  device.node = node_of(options, name);
  ASSIGN_OR_RETURN(device.diskseq, read_diskseq(folder));
  ASSIGN_OR_RETURN(device.number, read_device_number(folder + "/dev"));
  ASSIGN_OR_RETURN(auto sectors, read_number(folder + "/size"));
  ASSIGN_OR_RETURN(auto read_only, read_number(folder + "/ro"));
  ASSIGN_OR_RETURN(auto diskseq_after, read_diskseq(folder));
  if (diskseq_after != device.diskseq)
    return base::fail(ErrorCode::kNotFound, "read disk '{}': it was replaced", name);
  device.size_bytes = sectors * kSysfsSectorBytes;
  device.is_read_only = read_only != 0;
  return device;
}

}  // namespace

Result<std::optional<std::string>> find_attribute(const std::string& path) {
  return optional_if_missing(base::read_line_file(path));
}

Result<std::vector<std::string>> list_folder(const std::string& path) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  if (!folder && (errno == ENOENT || errno == ENOTDIR)) return names;
  if (!folder) return base::fail_errno(errno, "list '{}'", path);
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return base::fail_errno(errno, "list '{}'", path);
  std::ranges::sort(names);
  return names;
}

Result<std::vector<std::string>> list_disks(const WatcherOptions& options, std::string_view prefix) {
  ASSIGN_OR_RETURN(auto names, list_folder(options.sysfs_root + "/block"));
  std::erase_if(names, [prefix](const std::string& name) { return !name.starts_with(prefix); });
  return names;
}

Result<std::optional<Device>> read_disk(const WatcherOptions& options, const std::string& name) {
  return optional_if_missing(read_disk_once(options, name));
}

bool has_node(const Device& device) {
  struct stat status{};
  return ::stat(device.node.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
         status.st_rdev == device.number;
}

std::string sysfs_folder(const WatcherOptions& options, dev_t number) {
  return fmt::format("{}/dev/block/{}:{}", options.sysfs_root, major(number), minor(number));
}

Result<std::optional<std::string>> find_remains(const WatcherOptions& options, const Device& device) {
  const std::string folder = sysfs_folder(options, device.number);
  ASSIGN_OR_RETURN(auto size, find_attribute(folder + "/size"));
  if (!size) return std::optional<std::string>();
  ASSIGN_OR_RETURN(auto diskseq, read_diskseq(folder));
  if (device.diskseq != 0 && diskseq != device.diskseq) return std::optional<std::string>();
  if (major(device.number) != LOOP_MAJOR) return std::optional<std::string>("the disk");
  ASSIGN_OR_RETURN(auto file, find_attribute(folder + "/loop/backing_file"));
  if (!file) return std::optional<std::string>();
  return std::optional<std::string>(fmt::format("the file '{}'", *file));
}

}  // namespace vdvs::blockdev
