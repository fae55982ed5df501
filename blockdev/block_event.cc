#include "blockdev/block_event.h"

#include <sys/sysmacros.h>

#include <charconv>
#include <concepts>

namespace vdvs::blockdev {
namespace {

template <std::unsigned_integral Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

EventAction action_of(std::string_view word) {
  if (word == "add") return EventAction::kAdd;
  if (word == "change") return EventAction::kChange;
  if (word == "remove") return EventAction::kRemove;
  return EventAction::kOther;
}

/// udevd says "/dev/loop3", the kernel "loop3".
std::string_view without_folder(std::string_view device_name) {
  constexpr std::string_view kFolder = "/dev/";
  if (device_name.starts_with(kFolder)) device_name.remove_prefix(kFolder.size());
  return device_name;
}

}  // namespace

std::optional<BlockEvent> decode_block_event(std::span<const EventProperty> properties) {
  std::optional<std::string_view> action, name;
  std::optional<unsigned> major_number, minor_number;
  BlockEvent event;
  for (const auto& [key, value] : properties.first(std::min(properties.size(), kMaxEventProperties))) {
    if (key == "ACTION") action = value;
    if (key == "DEVNAME") name = without_folder(value);
    if (key == "MAJOR") major_number = parse_number<unsigned>(value);
    if (key == "MINOR") minor_number = parse_number<unsigned>(value);
    if (key == "DISKSEQ") event.diskseq = parse_number<std::uint64_t>(value).value_or(0);
    if (key == "DEVTYPE") event.is_partition = value == "partition";
  }
  if (!action || !name || name->empty() || !major_number || !minor_number) return std::nullopt;
  event.action = action_of(*action);
  event.name = *name;
  event.number = makedev(*major_number, *minor_number);
  return event;
}

}  // namespace vdvs::blockdev
