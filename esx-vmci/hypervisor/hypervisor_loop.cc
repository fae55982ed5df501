// Hot-plug where this machine is its own virtual machine: a disk is a loop device over the extent, with
// direct I/O.
//
// What makes it exclusive: the extent is opened once, locked with flock(LOCK_EX), and that open file
// description is handed to LOOP_CONFIGURE. The loop driver keeps the very same one until the device is
// cleared. So the lock lives exactly as long as the device does: it outlives us, it ends with the machine,
// and no other process (nor host, over NFS) can hold it meanwhile.
//
// Who it belongs to: lo_file_name, a text of 63 bytes that the kernel keeps for the owner of a loop device,
// says "vdvs:<vm uuid>". The kernel itself shows the backing file elsewhere, so nothing is lost, and the
// ownership cannot get out of step with the device.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "base/deadline.h"
#include "base/fd.h"
#include "esx-vmci/hypervisor/hypervisor.h"

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::LoopAddress;
using base::Result;
using base::UniqueFd;

constexpr std::string_view kOwnerTag = "vdvs:";
constexpr std::string_view kDeletedNote = " (deleted)";
constexpr int kMaxAttachTries = 64;  ///< Others take loop devices too, between our asking and our taking.
constexpr std::chrono::seconds kReleaseWait{
    3};  ///< For openers that come and go by themselves, such as udev's probing.
constexpr std::chrono::milliseconds kLockReleaseWait{200};

/// A loop device that has a file.
struct BoundLoop {
  int number;
  std::string backing_file;
  std::string node() const { return fmt::format("/dev/loop{}", number); }
};

std::string_view base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// The file of a loop device, without a line's end; empty where it is not bound.
std::string read_backing_file(int block_folder, const char* device) {
  char path[sizeof(dirent::d_name) + sizeof "/loop/backing_file"];
  std::snprintf(path, sizeof path, "%s/loop/backing_file", device);
  const UniqueFd file(::openat(block_folder, path, O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return {};
  char text[4096];  // a sysfs attribute has a page at most
  const ssize_t got = ::read(file.get(), text, sizeof text);
  if (got <= 0) return {};
  std::string_view backing(text, static_cast<std::size_t>(got));
  if (backing.ends_with('\n')) backing.remove_suffix(1);
  if (backing.ends_with(kDeletedNote)) backing.remove_suffix(kDeletedNote.size());
  return std::string(backing);
}

/// From sysfs: no device is opened, and no file of a dead server is touched. Every look at a disk comes here,
/// on hosts that may have hundreds of loop devices; so not by /sys/block, whose entries are links to this
/// folder's.
Result<std::vector<BoundLoop>> bound_loops() {
  constexpr const char* kBlockFolder = "/sys/devices/virtual/block";
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(kBlockFolder), &::closedir);
  if (!folder) return fail(ErrorCode::kUnsupported, "list '{}': no sysfs is to be seen here", kBlockFolder);
  std::vector<BoundLoop> loops;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    int number = 0;
    if (!name.starts_with("loop")) continue;
    auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), number);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    std::string backing = read_backing_file(::dirfd(folder.get()), entry->d_name);
    if (!backing.empty()) loops.push_back({number, std::move(backing)});
  }
  return loops;
}

Result<std::optional<loop_info64>> status_of(const UniqueFd& device, std::string_view node) {
  loop_info64 info = {};
  if (::ioctl(device.get(), LOOP_GET_STATUS64, &info) == 0) return info;
  if (errno == ENXIO) return std::nullopt;
  return fail_errno(errno, "ask for the status of '{}'", node);
}

static_assert(kOwnerTag.size() + kMaxVmUuidBytes < LO_NAME_SIZE);
std::string owner_tag(const Vm& vm) { return std::string(kOwnerTag) + vm.uuid; }

/// The uuid that `owner_tag` put in, or empty for a device that is not ours.
std::string owner_of(const loop_info64& info) {
  const char* text = reinterpret_cast<const char*>(info.lo_file_name);
  const std::string_view name(text, ::strnlen(text, LO_NAME_SIZE));
  return name.starts_with(kOwnerTag) ? std::string(name.substr(kOwnerTag.size())) : std::string();
}

bool is_owned_by(const Attachment& attachment, const Vm& vm) {
  return !attachment.vm_uuid.empty() && attachment.vm_uuid == vm.uuid;
}

Result<LoopAddress> address_of(const UniqueFd& device, const std::string& node, const loop_info64& info) {
  LoopAddress address{.node = node, .file_device = info.lo_device, .file_inode = info.lo_inode};
  __u64 diskseq = 0;
  if (::ioctl(device.get(), BLKGETDISKSEQ, &diskseq) == 0) {
    address.diskseq = diskseq;
  } else if (errno != ENOTTY && errno != EINVAL) {  // kernels before 5.15 have none
    return fail_errno(errno, "ask for the sequence number of '{}'", node);
  }
  return address;
}

/// The extent as its path says, or nullopt where it was deleted (a device over it lives on, and must be found
/// to be taken away).
Result<std::optional<struct stat>> look_at(const std::string& path) {
  struct stat file;
  if (::lstat(path.c_str(), &file) == 0) return file;
  if (errno == ENOENT) return std::nullopt;
  return fail_errno(errno, "stat '{}'", path);
}

/// What `loop` is, if its file is the one at `path`, which `file` describes.
Result<std::optional<Attachment>> match(const BoundLoop& loop, const std::optional<struct stat>& file,
                                        const std::string& path) {
  if (!file && loop.backing_file != path) return std::nullopt;
  auto device = base::open_file(loop.node(), O_RDONLY);
  if (!device && device.error().code() == ErrorCode::kNotFound) return std::nullopt;  // gone meanwhile
  if (!device) return std::unexpected(std::move(device).error());
  ASSIGN_OR_RETURN(const auto info, status_of(*device, loop.node()));
  if (!info || (file && (info->lo_device != file->st_dev || info->lo_inode != file->st_ino)))
    return std::nullopt;
  ASSIGN_OR_RETURN(LoopAddress address, address_of(*device, loop.node(), *info));
  return Attachment{path, owner_of(*info), "loop device " + loop.node(), std::move(address)};
}

/// Tells when somebody closes the file: a loop device that goes away does. Made only where there is something
/// to wait for: closing an inotify descriptor takes the kernel some 20 ms (fsnotify waits for a grace
/// period).
class CloseWatch {
 public:
  explicit CloseWatch(const std::string& path) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    if (fd_.is_open()) ::inotify_add_watch(fd_.get(), path.c_str(), IN_CLOSE);
  }
  /// False at the deadline.
  bool wait(Deadline deadline) const {
    pollfd ready{fd_.get(), POLLIN, 0};
    if (::poll(&ready, 1, base::poll_timeout_ms(deadline)) <= 0) return false;
    char events[4096];
    while (::read(fd_.get(), events, sizeof events) > 0) {
    }
    return true;
  }

 private:
  UniqueFd fd_;
};

class LoopHypervisor final : public Hypervisor {
 public:
  Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) override;
  Result<void> detach(const Vm& vm, const Disk& disk) override;
  Result<std::optional<Attachment>> find(const Disk& disk) override;
  Result<std::vector<Attachment>> attached_in(const std::string& folder) override;
};

/// Told from the path that the kernel shows, without opening the device: an opener, however short, delays
/// whoever clears it. A path that cannot be seen from here may be any file.
bool may_be(const BoundLoop& loop, const struct stat& file) {
  struct stat backing;
  if (::stat(loop.backing_file.c_str(), &backing) != 0) return true;
  return backing.st_dev == file.st_dev && backing.st_ino == file.st_ino;
}

/// `looks_everywhere`: also at devices whose file has another name (a hard link, or renamed).
Result<std::optional<Attachment>> find_loop(const Disk& disk, bool looks_everywhere) {
  ASSIGN_OR_RETURN(const auto file, look_at(disk.extent_path));
  ASSIGN_OR_RETURN(const auto loops, bound_loops());
  for (const BoundLoop& loop : loops) {
    const bool has_its_name = base_name(loop.backing_file) == base_name(disk.extent_path);
    if (!has_its_name && !(looks_everywhere && file && may_be(loop, *file))) continue;
    ASSIGN_OR_RETURN(auto found, match(loop, file, disk.extent_path));
    if (found) return found;
  }
  return std::nullopt;
}

/// flock(LOCK_EX), waiting a moment for a device that is just being cleared: it gives its lock up a little
/// later than it is gone from sight, where its last opener was another process. False where somebody keeps
/// it.
Result<bool> lock_soon(const UniqueFd& extent, const std::string& path) {
  std::optional<CloseWatch> watch;
  const Deadline deadline = base::deadline_in(kLockReleaseWait);
  for (bool is_last_try = false;;) {
    if (::flock(extent.get(), LOCK_EX | LOCK_NB) == 0) return true;
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return fail_errno(errno, "lock '{}'", path);
    if (is_last_try) return false;
    if (!watch) {
      watch.emplace(path);  // and look again: it may have gone before the watch was there
    } else {
      is_last_try = !watch->wait(deadline);  // the close is told just before the lock goes
    }
  }
}

Result<UniqueFd> open_locked(const Disk& disk) {
  const int flags = O_NOFOLLOW | O_NONBLOCK;
  ASSIGN_OR_RETURN(UniqueFd extent,
                   base::open_file(disk.extent_path, flags | (disk.is_read_only ? O_RDONLY : O_RDWR)));
  struct stat info;
  if (::fstat(extent.get(), &info) != 0) return fail_errno(errno, "stat '{}'", disk.extent_path);
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kUnsupported, "'{}' is not a regular file", disk.extent_path);
  if (static_cast<std::uint64_t>(info.st_size) < disk.size_bytes) {
    return fail(ErrorCode::kCorrupt, "'{}' is short ({} bytes of {})", disk.extent_path, info.st_size,
                disk.size_bytes);
  }
  auto locked = lock_soon(extent, disk.extent_path);
  if (!locked && locked.error().system_errno() == EBADF &&
      disk.is_read_only) {  // NFS grants exclusive locks to writers only
    ASSIGN_OR_RETURN(extent, base::open_file(disk.extent_path, flags | O_RDWR));
    locked = lock_soon(extent, disk.extent_path);
  }
  if (!locked) return std::unexpected(std::move(locked).error());
  if (*locked) return extent;
  return std::unexpected(base::Error(
      ErrorCode::kBusyElsewhere, fmt::format("'{}' is locked by another host or process", disk.extent_path),
      "'lslocks' shows which process, if it is on this host"));
}

/// Returns when the lock of a device that is gone is gone too (or somebody else has taken it since), so that
/// what follows a detach finds it free.
void await_unlocked(const std::string& path) {
  auto extent = base::open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  if (extent) (void)lock_soon(*extent, path);
}

/// Opens a device node. One that is missing does not mean that a disk is: it says so.
Result<UniqueFd> open_node(const std::string& node, int flags) {
  auto device = base::open_file(node, flags);
  if (device || device.error().code() != ErrorCode::kNotFound) return device;
  return fail(ErrorCode::kUnsupported,
              "open '{}': there are no loop devices here (a container without /dev?)", node);
}

/// One LOOP_CONFIGURE on one free device. nullopt: somebody else took that device first.
Result<std::optional<LoopAddress>> configure(const UniqueFd& control, const UniqueFd& extent, const Vm& vm,
                                             const Disk& disk) {
  const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
  if (number < 0) return fail_errno(errno, "find a free loop device");
  const std::string node = fmt::format("/dev/loop{}", number);
  ASSIGN_OR_RETURN(const UniqueFd device, open_node(node, disk.is_read_only ? O_RDONLY : O_RDWR));
  struct stat file;
  if (::fstat(extent.get(), &file) != 0) return fail_errno(errno, "stat '{}'", disk.extent_path);
  loop_config config = {};
  config.fd = static_cast<__u32>(extent.get());
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | (disk.is_read_only ? LO_FLAGS_READ_ONLY : 0);
  if (static_cast<std::uint64_t>(file.st_size) > disk.size_bytes) config.info.lo_sizelimit = disk.size_bytes;
  const std::string tag = owner_tag(vm);
  std::memcpy(config.info.lo_file_name, tag.data(), tag.size());
  if (::ioctl(device.get(), LOOP_CONFIGURE, &config) != 0) {
    if (errno == EBUSY) return std::nullopt;
    return fail_errno(errno, "set '{}' up over '{}'", node, disk.extent_path);
  }
  ASSIGN_OR_RETURN(const auto info, status_of(device, node));
  if (!info)
    return fail(ErrorCode::kIo, "set '{}' up over '{}': it was cleared again by somebody", node,
                disk.extent_path);
  return address_of(device, node, *info);
}

/// Takes back a clearing that waits for the last opener (see `detach`), so that a device in use stays. False
/// where it is cleared already.
Result<bool> keep(const Attachment& attachment) {
  const std::string& node = std::get<LoopAddress>(attachment.address).node;
  ASSIGN_OR_RETURN(const UniqueFd device, open_node(node, O_RDONLY));
  ASSIGN_OR_RETURN(auto info, status_of(device, node));
  if (!info) return false;
  if ((info->lo_flags & LO_FLAGS_AUTOCLEAR) == 0) return true;
  info->lo_flags &= ~static_cast<__u32>(LO_FLAGS_AUTOCLEAR);
  if (::ioctl(device.get(), LOOP_SET_STATUS64, &*info) == 0) return true;
  if (errno == ENXIO) return false;
  return fail_errno(errno, "keep '{}'", node);
}

Result<base::DiskAddress> LoopHypervisor::attach(const Vm& vm, const Disk& disk) {
  VDVS_CHECK(!vm.uuid.empty() && vm.uuid.size() <= kMaxVmUuidBytes);
  ASSIGN_OR_RETURN(const auto found, find_loop(disk, true));
  bool is_there = found.has_value();
  if (found && is_owned_by(*found, vm)) {
    ASSIGN_OR_RETURN(is_there, keep(*found));
    if (is_there) return found->address;
  }
  if (is_there) {
    return fail(ErrorCode::kBusyElsewhere, "'{}' is attached as {}{}", disk.extent_path, found->what,
                found->vm_uuid.empty() ? ", which was not made by this service" : " of vm " + found->vm_uuid);
  }
  ASSIGN_OR_RETURN(const UniqueFd extent, open_locked(disk));
  ASSIGN_OR_RETURN(const UniqueFd control, open_node("/dev/loop-control", O_RDWR));
  for (int i = 0; i < kMaxAttachTries; ++i) {
    ASSIGN_OR_RETURN(const auto address, configure(control, extent, vm, disk));
    if (address) return *address;
  }
  return fail(ErrorCode::kUnavailable, "no loop device was to be had in {} tries", kMaxAttachTries);
}

/// The kernel clears a device when its last opener closes it. Mostly that was `detach`, just now.
Result<void> await_cleared(const Disk& disk, const Attachment& attachment) {
  std::optional<CloseWatch> watch;
  const Deadline deadline = base::deadline_in(kReleaseWait);
  for (;;) {
    ASSIGN_OR_RETURN(const auto rest, find_loop(disk, false));
    if (!rest || rest->address != attachment.address) break;
    if (!watch) {
      watch.emplace(disk.extent_path);
      continue;
    }
    if (watch->wait(deadline)) continue;
    ASSIGN_OR_RETURN(const bool is_there, keep(*rest));
    if (!is_there) break;
    return fail(ErrorCode::kInUse, "'{}' is open in some process",
                std::get<LoopAddress>(attachment.address).node);
  }
  await_unlocked(disk.extent_path);
  return {};
}

Result<void> LoopHypervisor::detach(const Vm& vm, const Disk& disk) {
  ASSIGN_OR_RETURN(const auto found, find_loop(disk, false));
  if (!found || !is_owned_by(*found, vm)) return {};
  const LoopAddress& address = std::get<LoopAddress>(found->address);
  {
    // Exclusive: refused while it is mounted, in whatever mount namespace.
    auto device = base::open_file(address.node, O_RDONLY | O_EXCL);
    if (!device && device.error().system_errno() == EBUSY) {
      return fail(ErrorCode::kInUse, "'{}' is still mounted or open exclusively", address.node);
    }
    if (!device) return std::unexpected(std::move(device).error());
    ASSIGN_OR_RETURN(const auto info, status_of(*device, address.node));
    if (!info || info->lo_device != address.file_device || info->lo_inode != address.file_inode)
      return {};  // gone, or another's now
    RETURN_IF_ERROR(base::sync_all(*device, address.node));
    if (::ioctl(device->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO)
      return fail_errno(errno, "clear '{}'", address.node);
  }
  return await_cleared(disk, *found);
}

Result<std::optional<Attachment>> LoopHypervisor::find(const Disk& disk) { return find_loop(disk, false); }

Result<std::vector<Attachment>> LoopHypervisor::attached_in(const std::string& folder) {
  // By name and inode in this folder, not by the path that the kernel shows: that one depends on the mount it
  // was opened through.
  ASSIGN_OR_RETURN(const auto loops, bound_loops());
  std::vector<Attachment> attachments;
  for (const BoundLoop& loop : loops) {
    const std::string path = fmt::format("{}/{}", folder, base_name(loop.backing_file));
    ASSIGN_OR_RETURN(const auto file, look_at(path));
    ASSIGN_OR_RETURN(auto found, match(loop, file, path));
    if (found) attachments.push_back(std::move(*found));
  }
  return attachments;
}

}  // namespace

std::unique_ptr<Hypervisor> make_loop_hypervisor() { return std::make_unique<LoopHypervisor>(); }

}  // namespace vdvs::esx
