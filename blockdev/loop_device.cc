#include "blockdev/loop_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/fd.h"

namespace vdvs::blockdev {

using base::ErrorCode;
using base::LoopAddress;
using base::Result;

namespace {

/// 0 on kernels before 5.15.
Result<std::uint64_t> read_diskseq(const base::UniqueFd& fd, const std::string& node) {
  std::uint64_t diskseq = 0;
  if (::ioctl(fd.get(), BLKGETDISKSEQ, &diskseq) == 0) return diskseq;
  if (errno == ENOTTY || errno == EINVAL) return std::uint64_t{0};
  return base::fail_errno(errno, "read diskseq of '{}'", node);
}

Result<LoopDevice> read_bound_device(const base::UniqueFd& fd, const std::string& node) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "stat '{}'", node);
  if (!S_ISBLK(status.st_mode) || major(status.st_rdev) != LOOP_MAJOR) {
    return base::fail(ErrorCode::kNotFound, "read loop device '{}': it is none", node);
  }
  ASSIGN_OR_RETURN(const auto diskseq, read_diskseq(fd, node));
  loop_info64 info{};
  if (::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0)
    return base::fail_errno(errno, "read loop device '{}'", node);
  std::uint64_t size_bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &size_bytes) != 0)
    return base::fail_errno(errno, "read size of '{}'", node);
  int read_only = 0;
  if (::ioctl(fd.get(), BLKROGET, &read_only) != 0) return base::fail_errno(errno, "read mode of '{}'", node);
  ASSIGN_OR_RETURN(const auto diskseq_after, read_diskseq(fd, node));
  if (diskseq_after != diskseq)
    return base::fail(ErrorCode::kNotFound, "read loop device '{}': it was reused", node);
  return LoopDevice{.device = {.node = node,
                               .number = status.st_rdev,
                               .diskseq = diskseq,
                               .size_bytes = size_bytes,
                               .is_read_only = read_only != 0},
                    .file_device = info.lo_device,
                    .file_inode = info.lo_inode};
}

bool is_meant(const LoopAddress& address, const LoopDevice& loop) {
  return loop.file_device == address.file_device && loop.file_inode == address.file_inode &&
         (address.diskseq == 0 || loop.device.diskseq == address.diskseq);
}

/// "loop3" of "/dev/loop3"; empty where the hint is no loop device's name.
std::string hinted_name(const LoopAddress& address) {
  const std::string name = address.node.substr(address.node.find_last_of('/') + 1);
  constexpr std::string_view kPrefix = "loop";
  const bool is_loop =
      name.size() > kPrefix.size() && name.starts_with(kPrefix) &&
      std::all_of(name.begin() + kPrefix.size(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_loop ? name : std::string();
}

std::string describe_file(std::uint64_t device, std::uint64_t inode) {
  return fmt::format("file {}:{} inode {}", major(device), minor(device), inode);
}

std::string describe_hint(const std::string& node, const std::optional<LoopDevice>& loop) {
  if (node.empty()) return "no node was named";
  if (!loop) return fmt::format("{} carries nothing", node);
  return fmt::format("{} carries {}, diskseq {}", node, describe_file(loop->file_device, loop->file_inode),
                     loop->device.diskseq);
}

/// Every loop device, but the hinted one, that carries what is sought.
Result<std::vector<Device>> search(const WatcherOptions& options, const LoopAddress& address,
                                   const std::string& hint) {
  std::vector<Device> found;
  ASSIGN_OR_RETURN(const auto names, list_disks(options, "loop"));
  for (const std::string& name : names) {
    if (name == hint) continue;
    // Only those with a file are opened: an open of an unbound device is a side effect (it may load
    // partitions).
    ASSIGN_OR_RETURN(const auto file,
                     find_attribute(fmt::format("{}/block/{}/loop/backing_file", options.sysfs_root, name)));
    if (!file) continue;
    ASSIGN_OR_RETURN(const auto loop, read_loop_device(options.dev_root + "/" + name));
    if (loop && is_meant(address, *loop)) found.push_back(loop->device);
  }
  return found;
}

}  // namespace

Result<std::optional<LoopDevice>> read_loop_device(const std::string& node) {
  ASSIGN_OR_RETURN(auto fd, optional_if_missing(base::open_file(node, O_RDONLY | O_NONBLOCK)));
  if (!fd) return std::optional<LoopDevice>();
  return optional_if_missing(read_bound_device(*fd, node));
}

Result<Sighting> look_for_loop(const WatcherOptions& options, const LoopAddress& address) {
  if (address.file_inode == 0) {
    return base::fail(ErrorCode::kInvalid, "find '{}': the address names no file", describe(address));
  }
  const std::string hint = hinted_name(address);
  const std::string node = hint.empty() ? std::string() : options.dev_root + "/" + hint;
  std::optional<LoopDevice> hinted;
  if (!hint.empty()) {
    ASSIGN_OR_RETURN(hinted, read_loop_device(node));
    if (hinted && is_meant(address, *hinted)) return Sighting{.device = hinted->device};
  }
  ASSIGN_OR_RETURN(auto found, search(options, address, hint));
  if (found.size() > 1) {
    return Sighting{.seen = fmt::format("{} and {} both carry this file", found[0].node, found[1].node),
                    .is_conflict = true};
  }
  if (found.size() == 1) return Sighting{.device = std::move(found.front())};
  return Sighting{.seen = describe_hint(node, hinted)};
}

std::string describe(const LoopAddress& address) {
  std::string text = "loop device of " + describe_file(address.file_device, address.file_inode);
  if (address.diskseq != 0) text += fmt::format(", diskseq {}", address.diskseq);
  return text;
}

}  // namespace vdvs::blockdev
