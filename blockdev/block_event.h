// A uevent about a block device, decoded. The kernel and udevd both send a list of KEY=VALUE properties; what
// matters here is which device it was about and what happened to it (Documentation/ABI/stable/sysfs-block,
// kobject_uevent.c).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vdvs::blockdev {

struct EventProperty {
  std::string_view key;
  std::string_view value;
};

enum class EventAction {
  kAdd,
  kChange,
  kRemove,
  kOther,  ///< bind, unbind, move, online, offline: another word than these three.
};

struct BlockEvent {
  EventAction action = EventAction::kOther;
  std::string name{};  ///< "loop3", "sdb": DEVNAME without "/dev/".
  dev_t number = 0;
  std::uint64_t diskseq = 0;  ///< 0: not said (kernels before 5.15).
  bool is_partition = false;
  bool operator==(const BlockEvent&) const = default;
};

/// More properties than udev rules ever make; the rest of a longer list is not read.
inline constexpr std::size_t kMaxEventProperties = 1024;

/// nullopt where ACTION, DEVNAME, MAJOR or MINOR is missing or unreadable: then nothing is known but that
/// something happened, and the right answer to that is a look. Of a repeated key the last one counts, as in
/// udev.
std::optional<BlockEvent> decode_block_event(std::span<const EventProperty> properties);

}  // namespace vdvs::blockdev
