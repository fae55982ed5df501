// The watcher on libudev's netlink sockets.
//
// Two groups of events exist. The kernel's own come first and reach every network namespace; udevd's come
// some milliseconds later, when its rules have run, and only in udevd's network namespace. A watch always
// hears the kernel, and udevd as well where its control socket is: so a udevd that dies, that is only a
// leftover file, or that is in another namespace, cannot make anyone wait. What an event says is never
// trusted further than "look now": the look itself goes to sysfs and to the device. An event that could not
// be delivered (ENOBUFS) or read therefore loses nothing.
//
// The subsystem filter runs in the kernel for udevd's events, which carry a hash of it. The kernel's own
// carry only text, which a classic socket filter cannot search: libudev drops the others right after the
// read.
#include <fcntl.h>
#include <libudev.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <ranges>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "blockdev/block_event.h"
#include "blockdev/device_users.h"
#include "blockdev/device_watcher.h"
#include "blockdev/loop_device.h"
#include "blockdev/scsi_disk.h"
#include "blockdev/sysfs_disk.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
/// libudev draws the hash key of its tables into one static buffer and copies it from there, without a lock
/// (get_hash_key in systemd's hashmap.c). Each table keeps its copy, so two threads at once do no harm.
extern "C" const char* __tsan_default_suppressions() { return "race:libudev.so\n"; }
#endif
#endif

namespace vdvs::blockdev {

using base::Deadline;
using base::DiskAddress;
using base::Error;
using base::ErrorCode;
using base::LoopAddress;
using base::Result;
using base::ScsiAddress;

namespace {

/// Events taken off a socket before the next look, so that a storm cannot keep a watch from looking.
constexpr int kMaxEventsPerLook = 4096;
/// How many users of a device an error names.
constexpr std::size_t kMaxNamedUsers = 6;

struct UdevDelete {
  void operator()(udev* context) const { ::udev_unref(context); }
  void operator()(udev_monitor* monitor) const { ::udev_monitor_unref(monitor); }
  void operator()(udev_device* device) const { ::udev_device_unref(device); }
};
template <typename T>
using UdevPtr = std::unique_ptr<T, UdevDelete>;

/// True for an event after which a look is worth it.
using IsRelevant = std::function<bool(const BlockEvent&)>;

std::optional<BlockEvent> decode(udev_device* device) {
  std::vector<EventProperty> properties;
  for (auto* entry = ::udev_device_get_properties_list_entry(device); entry;
       entry = ::udev_list_entry_get_next(entry)) {
    const char* value = ::udev_list_entry_get_value(entry);
    properties.push_back({::udev_list_entry_get_name(entry), value ? value : ""});
  }
  return decode_block_event(properties);
}

/// Owns: one netlink socket, which receives events of whole disks from when it was opened.
class EventSocket {
 public:
  /// `group`: "kernel" or "udev".
  static Result<EventSocket> open(const char* group, int receive_buffer_bytes) {
    EventSocket socket;
    errno = ENOMEM;
    socket.context_.reset(::udev_new());
    if (!socket.context_) return base::fail_errno(errno, "watch block devices: udev");
    socket.monitor_.reset(::udev_monitor_new_from_netlink(socket.context_.get(), group));
    if (!socket.monitor_)
      return base::fail_errno(errno, "watch block devices: open the events of '{}'", group);
    udev_monitor* monitor = socket.monitor_.get();
    int status = ::udev_monitor_filter_add_match_subsystem_devtype(monitor, "block", "disk");
    if (status < 0) return base::fail_errno(-status, "watch block devices: filter the events of '{}'", group);
    // Without CAP_NET_ADMIN the kernel's limit stays: an overflow is then likelier, and still harmless.
    (void)::udev_monitor_set_receive_buffer_size(monitor, receive_buffer_bytes);
    status = ::udev_monitor_enable_receiving(monitor);
    if (status < 0)
      return base::fail_errno(-status, "watch block devices: receive the events of '{}'", group);
    return socket;
  }

  int fd() const { return ::udev_monitor_get_fd(monitor_.get()); }

  /// Takes what has come. True where a look is due.
  bool drain(const IsRelevant& is_relevant) {
    bool is_look_due = false;
    for (int i = 0; i < kMaxEventsPerLook; ++i) {
      errno = 0;
      UdevPtr<udev_device> device(::udev_monitor_receive_device(monitor_.get()));
      if (device) {
        const auto event = decode(device.get());
        is_look_due |= !event || is_relevant(*event);
      } else if (errno == EAGAIN || errno == 0) {
        return is_look_due;
      } else {
        is_look_due = true;  // ENOBUFS: events were lost. Anything else: one could not be read.
      }
    }
    return true;
  }

 private:
  EventSocket() = default;

  UdevPtr<udev> context_;
  UdevPtr<udev_monitor> monitor_;
};

std::string describe_address(const DiskAddress& address) {
  return std::visit([](const auto& kind) { return describe(kind); }, address);
}

/// One look. A device without its node is not there yet.
Result<Sighting> look_for(const WatcherOptions& options, const DiskAddress& address) {
  if (const auto* loop = std::get_if<LoopAddress>(&address)) return look_for_loop(options, *loop);
  ASSIGN_OR_RETURN(auto sighting, look_for_scsi(options, std::get<ScsiAddress>(address)));
  if (sighting.device && !has_node(*sighting.device)) {
    return Sighting{.seen =
                        fmt::format("the kernel has it, but '{}' is not its node", sighting.device->node)};
  }
  return sighting;
}

bool concerns(const BlockEvent& event, const DiskAddress& address) {
  const bool is_loop_event = event.name.starts_with("loop");
  return !event.is_partition && is_loop_event == std::holds_alternative<LoopAddress>(address);
}

class UdevWatch final : public DeviceWatch {
 public:
  UdevWatch(WatcherOptions options, std::vector<EventSocket> sockets)
      : options_(std::move(options)), sockets_(std::move(sockets)) {}

  Result<Device> wait_for(const DiskAddress& address, Deadline deadline) override {
    const auto is_relevant = [&](const BlockEvent& event) { return concerns(event, address); };
    for (;;) {
      const bool is_last_look = base::has_passed(deadline);
      ASSIGN_OR_RETURN(auto sighting, look_for(options_, address));
      if (sighting.device) return std::move(*sighting.device);
      if (is_last_look) {
        return base::fail(sighting.is_conflict ? ErrorCode::kBusyElsewhere : ErrorCode::kTimeout,
                          "wait for '{}': it did not appear ({})", describe_address(address), sighting.seen);
      }
      RETURN_IF_ERROR(wait_for_event(is_relevant, deadline));
    }
  }

  Result<void> wait_gone(const Device& device, Deadline deadline) override {
    const auto is_relevant = [&](const BlockEvent& event) { return event.number == device.number; };
    for (;;) {
      const bool is_last_look = base::has_passed(deadline);
      ASSIGN_OR_RETURN(auto remains, find_remains(options_, device));
      if (!remains) return {};
      if (is_last_look) {
        return base::fail(ErrorCode::kTimeout, "wait until '{}' is gone: it still carries {} (diskseq {})",
                          device.node, *remains, device.diskseq);
      }
      RETURN_IF_ERROR(wait_for_event(is_relevant, deadline));
    }
  }

 private:
  /// Returns when a look is due: at a relevant event, at a loss of events, and at the deadline.
  Result<void> wait_for_event(const IsRelevant& is_relevant, Deadline deadline) {
    std::vector<pollfd> polled;
    for (const EventSocket& socket : sockets_)
      polled.push_back({.fd = socket.fd(), .events = POLLIN, .revents = 0});
    while (!base::has_passed(deadline)) {
      const int ready = ::poll(polled.data(), polled.size(), base::poll_timeout_ms(deadline));
      if (ready < 0 && errno != EINTR) return base::fail_errno(errno, "wait for block device events");
      if (ready <= 0) continue;
      bool is_look_due = false;
      for (std::size_t i = 0; i < polled.size(); ++i) {
        if (polled[i].revents != 0) is_look_due |= sockets_[i].drain(is_relevant);
      }
      if (is_look_due) return {};
    }
    return {};
  }

  const WatcherOptions options_;
  std::vector<EventSocket> sockets_;
};

/// True where the open node is still the device that is meant.
Result<bool> is_same(const base::UniqueFd& fd, const Device& device) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "stat '{}'", device.node);
  if (!S_ISBLK(status.st_mode) || status.st_rdev != device.number) {
    return base::fail(ErrorCode::kNotFound, "release '{}': the node is not device {}:{}", device.node,
                      major(device.number), minor(device.number));
  }
  std::uint64_t diskseq = 0;
  if (device.diskseq == 0 || ::ioctl(fd.get(), BLKGETDISKSEQ, &diskseq) != 0) return true;
  return diskseq == device.diskseq;
}

/// Who keeps `device` busy, as an error.
Error busy(const WatcherOptions& options, const Device& device) {
  std::string text;
  std::size_t count = 0;
  if (auto users = find_device_users(options, device)) {
    count = users->size();
    for (const std::string& user : *users | std::views::take(kMaxNamedUsers))
      text += (text.empty() ? "" : "; ") + user;
  } else {
    text = std::move(users).error().message();
  }
  if (text.empty()) text = "held inside the kernel, by no process that can be seen";
  if (count > kMaxNamedUsers) text += fmt::format("; and {} more", count - kMaxNamedUsers);
  return Error(ErrorCode::kInUse, fmt::format("release '{}': the device is in use ({})", device.node, text),
               "unmount it there, or stop the processes that hold it");
}

/// Writes everything back and drops the kernel's cache of the device.
Result<void> flush(const base::UniqueFd& fd, const Device& device) {
  RETURN_IF_ERROR(base::sync_all(fd, device.node));
  if (::ioctl(fd.get(), BLKFLSBUF, 0) != 0) return base::fail_errno(errno, "flush '{}'", device.node);
  return {};
}

Result<void> write_attribute(const std::string& path, std::string_view value) {
  ASSIGN_OR_RETURN(const auto fd, base::open_file(path, O_WRONLY));
  return base::write_all(fd, value, path);
}

class UdevWatcher final : public DeviceWatcher {
 public:
  explicit UdevWatcher(WatcherOptions options) : options_(std::move(options)) {}

  Result<std::unique_ptr<DeviceWatch>> arm() override {
    std::vector<EventSocket> sockets;
    ASSIGN_OR_RETURN(auto kernel, EventSocket::open("kernel", options_.receive_buffer_bytes));
    sockets.push_back(std::move(kernel));
    if (::access(options_.udev_control.c_str(), F_OK) == 0) {
      ASSIGN_OR_RETURN(auto processed, EventSocket::open("udev", options_.receive_buffer_bytes));
      sockets.push_back(std::move(processed));
    }
    return std::make_unique<UdevWatch>(options_, std::move(sockets));
  }

  Result<std::optional<Device>> find(const DiskAddress& address) override {
    ASSIGN_OR_RETURN(auto sighting, look_for(options_, address));
    if (sighting.is_conflict) {
      return base::fail(ErrorCode::kBusyElsewhere, "find '{}': {}", describe_address(address), sighting.seen);
    }
    return std::move(sighting.device);
  }

  Result<std::vector<Device>> coldplug() override {
    std::vector<Device> devices;
    ASSIGN_OR_RETURN(const auto names, list_disks(options_, ""));
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(auto device, read_disk(options_, name));
      if (!device || device->size_bytes == 0) continue;
      ASSIGN_OR_RETURN(const auto remains,
                       find_remains(options_, *device));  // Not for a loop device without a file.
      if (remains) devices.push_back(std::move(*device));
    }
    return devices;
  }

  Result<void> release(const Device& device, Deadline deadline) override {
    ASSIGN_OR_RETURN(const auto remains, find_remains(options_, device));
    if (!remains) return {};
    const auto fd = base::open_file(device.node, O_RDONLY | O_EXCL | O_NONBLOCK);
    if (!fd && fd.error().system_errno() == EBUSY) return std::unexpected(busy(options_, device));
    if (!fd) return std::unexpected(Error(fd.error()).within("release"));
    ASSIGN_OR_RETURN(const bool is_ours, is_same(*fd, device));
    if (!is_ours) return {};
    RETURN_IF_ERROR(flush(*fd, device));
    return delete_if_scsi(device, deadline);  // Still holding it, so that nothing mounts it in between.
  }

 private:
  Result<void> delete_if_scsi(const Device& device, Deadline deadline) {
    const std::string control = sysfs_folder(options_, device.number) + "/device/delete";
    if (::access(control.c_str(), F_OK) != 0) return {};
    ASSIGN_OR_RETURN(auto watch, arm());
    base::log::debug("delete SCSI device", {{"device", device.node}, {"diskseq", device.diskseq}});
    RETURN_IF_ERROR(write_attribute(control, "1"));
    return watch->wait_gone(device, deadline);
  }

  const WatcherOptions options_;
};

}  // namespace

std::unique_ptr<DeviceWatcher> make_udev_watcher(WatcherOptions options) {
  return std::make_unique<UdevWatcher>(std::move(options));
}

}  // namespace vdvs::blockdev
