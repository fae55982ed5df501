#include "blockdev/scsi_disk.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <ranges>

#include "base/fd.h"
#include "blockdev/scsi_identity.h"

namespace vdvs::blockdev {

using base::ErrorCode;
using base::Result;
using base::ScsiAddress;

namespace {

constexpr std::size_t kMaxVpdPageBytes = 65536 + 4;
/// How many disks an error lists.
constexpr std::size_t kMaxNamedDisks = 8;

/// The path without links, or nullopt where it leads nowhere.
Result<std::optional<std::string>> find_real_path(const std::string& path) {
  std::error_code error;
  auto real = std::filesystem::canonical(path, error);
  if (!error) return std::optional<std::string>(real.string());
  return optional_if_missing<std::string>(base::fail_errno(error.value(), "resolve '{}'", path));
}

/// A page or name that the disk does not have reads as EINVAL or ENXIO (drivers/scsi/scsi_sysfs.c).
Result<std::string> read_or_empty(const std::string& path) {
  auto content = base::read_file(path, kMaxVpdPageBytes);
  if (content) return content;
  const auto code = content.error().code();
  if (code == ErrorCode::kNotFound || code == ErrorCode::kInvalid) return std::string();
  return content;
}

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

Result<std::vector<std::string>> read_ids(const std::string& folder) {
  ASSIGN_OR_RETURN(const auto serial_page, read_or_empty(folder + "/vpd_pg80"));
  ASSIGN_OR_RETURN(const auto name_page, read_or_empty(folder + "/vpd_pg83"));
  ASSIGN_OR_RETURN(const auto wwid, read_or_empty(folder + "/wwid"));
  std::vector<std::string> ids;
  for (auto id :
       {decode_vpd_serial(bytes_of(serial_page)), decode_vpd_naa(bytes_of(name_page)), decode_wwid(wwid)}) {
    if (id && std::ranges::find(ids, *id) == ids.end()) ids.push_back(std::move(*id));
  }
  return ids;
}

/// True where the disk hangs on this very controller, not on another one further down.
bool is_behind(const ScsiDisk& disk, const std::string& controller) {
  const std::string_view folder = disk.folder;
  if (!folder.starts_with(controller) || folder.substr(controller.size(), 1) != "/") return false;
  const std::string_view rest = folder.substr(controller.size() + 1);
  return rest.substr(0, rest.find('/')).find(':') == std::string_view::npos;
}

bool sits_at(const ScsiDisk& disk, const std::string& controller, unsigned unit) {
  return is_behind(disk, controller) && disk.place.channel == 0 && disk.place.target == unit &&
         disk.place.lun == 0;
}

bool says_it_is(const ScsiDisk& disk, const std::string& uuid) {
  return std::ranges::find(disk.ids, uuid) != disk.ids.end();
}

std::string describe_disk(const ScsiDisk& disk) {
  const auto& place = disk.place;
  return fmt::format("{} at {}:{}:{}:{} {}", disk.name, place.host, place.channel, place.target, place.lun,
                     disk.ids.empty() ? std::string("without a serial") : "is " + disk.ids.front());
}

std::string describe_disks(const std::vector<ScsiDisk>& disks) {
  if (disks.empty()) return "no SCSI disk is there";
  std::string text;
  for (const ScsiDisk& disk : disks | std::views::take(kMaxNamedDisks))
    text += (text.empty() ? "" : ", ") + describe_disk(disk);
  if (disks.size() > kMaxNamedDisks) text += fmt::format(" and {} more", disks.size() - kMaxNamedDisks);
  return text;
}

Sighting conflict(std::string seen) { return Sighting{.seen = std::move(seen), .is_conflict = true}; }

/// The disk as a device, once it is ready for use.
Result<Sighting> sight(const WatcherOptions& options, const ScsiDisk& disk) {
  ASSIGN_OR_RETURN(auto device, read_disk(options, disk.name));
  if (!device) return Sighting{.seen = fmt::format("{} has gone", disk.name)};
  if (device->size_bytes == 0)
    return Sighting{.seen = fmt::format("{} is not ready (it has no size)", disk.name)};
  return Sighting{.device = std::move(device)};
}

std::vector<ScsiDisk> filter(const std::vector<ScsiDisk>& disks, const auto& predicate) {
  std::vector<ScsiDisk> found;
  std::ranges::copy_if(disks, std::back_inserter(found), predicate);
  return found;
}

/// By its uuid alone, where the address has no place or the place cannot be told on this machine.
Result<Sighting> look_by_uuid(const WatcherOptions& options, const std::vector<ScsiDisk>& disks,
                              const std::string& uuid) {
  const auto named = filter(disks, [&](const ScsiDisk& disk) { return says_it_is(disk, uuid); });
  if (named.empty()) return Sighting{.seen = describe_disks(disks)};
  if (named.size() > 1) return conflict("several disks say they are this one: " + describe_disks(named));
  return sight(options, named.front());
}

/// By its place; with a uuid, the disk there must not be another, nor may the uuid be anywhere else.
Result<Sighting> look_by_place(const WatcherOptions& options, const std::vector<ScsiDisk>& disks,
                               const std::string& uuid, const std::string& controller, unsigned unit) {
  const auto placed = filter(disks, [&](const ScsiDisk& disk) { return sits_at(disk, controller, unit); });
  if (placed.size() > 1) return conflict("several disks are in its place: " + describe_disks(placed));
  if (!uuid.empty()) {
    const auto strays = filter(disks, [&](const ScsiDisk& disk) {
      return says_it_is(disk, uuid) && !sits_at(disk, controller, unit);
    });
    if (!strays.empty())
      return conflict("a disk of this uuid is in another place: " + describe_disks(strays));
  }
  if (placed.empty()) return Sighting{.seen = describe_disks(disks)};
  const ScsiDisk& disk = placed.front();
  if (!uuid.empty() && !disk.ids.empty() && !says_it_is(disk, uuid)) {
    return conflict("another disk is in its place: " + describe_disk(disk));
  }
  return sight(options, disk);
}

/// A controller behind a bridge is function 0 of the bus that the bridge opens; without such a bus, the
/// device on bus 0 is itself the controller.
Result<std::optional<std::string>> find_by_bridge(const WatcherOptions& options, const std::string& bridge) {
  const std::string devices = options.sysfs_root + "/bus/pci/devices/";
  ASSIGN_OR_RETURN(const auto buses, list_folder(devices + bridge + "/pci_bus"));
  if (buses.empty()) return find_real_path(devices + bridge);
  return find_real_path(fmt::format("{}{}:00.0", devices, buses.front()));
}

Result<std::optional<std::string>> find_by_slot(const WatcherOptions& options, std::uint32_t slot) {
  ASSIGN_OR_RETURN(const auto address,
                   find_attribute(fmt::format("{}/bus/pci/slots/{}/address", options.sysfs_root, slot)));
  if (!address) return std::optional<std::string>();
  return find_real_path(fmt::format("{}/bus/pci/devices/{}.0", options.sysfs_root, *address));
}

}  // namespace

std::optional<ScsiPlace> parse_scsi_place(std::string_view text) {
  std::uint64_t parts[4] = {};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0 && (at == end || *at++ != ':')) return std::nullopt;
    auto [next, error] = std::from_chars(at, end, parts[i]);
    if (error != std::errc() || (i < 3 && parts[i] > 0xffff'ffff)) return std::nullopt;
    at = next;
  }
  if (at != end) return std::nullopt;
  return ScsiPlace{.host = static_cast<unsigned>(parts[0]),
                   .channel = static_cast<unsigned>(parts[1]),
                   .target = static_cast<unsigned>(parts[2]),
                   .lun = parts[3]};
}

Result<std::vector<ScsiDisk>> list_scsi_disks(const WatcherOptions& options) {
  std::vector<ScsiDisk> disks;
  ASSIGN_OR_RETURN(const auto names, list_disks(options, "sd"));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const auto folder,
                     find_real_path(fmt::format("{}/block/{}/device", options.sysfs_root, name)));
    if (!folder) continue;
    const auto place = parse_scsi_place(std::string_view(*folder).substr(folder->find_last_of('/') + 1));
    if (!place) continue;
    ASSIGN_OR_RETURN(auto ids, read_ids(*folder));
    disks.push_back({.name = name, .folder = *folder, .place = *place, .ids = std::move(ids)});
  }
  return disks;
}

std::optional<std::string> bridge_of(std::string_view pci_bus) {
  constexpr unsigned kMaxDevice = 0x1f, kMaxFunction = 7;
  const auto dot = pci_bus.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto parse = [](std::string_view text, unsigned largest) -> std::optional<unsigned> {
    unsigned number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
    if (error != std::errc() || end != text.data() + text.size() || number > largest) return std::nullopt;
    return number;
  };
  const auto device = parse(pci_bus.substr(0, dot), kMaxDevice);
  const auto function = parse(pci_bus.substr(dot + 1), kMaxFunction);
  if (!device || !function) return std::nullopt;
  return fmt::format("0000:00:{:02x}.{}", *device, *function);
}

Result<std::optional<std::string>> find_controller(const WatcherOptions& options,
                                                   const ScsiAddress& address) {
  if (!address.pci_bus.empty()) {
    const auto bridge = bridge_of(address.pci_bus);
    if (!bridge) {
      return base::fail(ErrorCode::kInvalid,
                        "find '{}': '{}' is no bus address (wanted: hexadecimal device, '.', function)",
                        describe(address), address.pci_bus);
    }
    ASSIGN_OR_RETURN(auto controller, find_by_bridge(options, *bridge));
    if (controller) return controller;
  }
  if (address.pci_slot) return find_by_slot(options, *address.pci_slot);
  return std::optional<std::string>();
}

Result<Sighting> look_for_scsi(const WatcherOptions& options, const ScsiAddress& address) {
  const std::string uuid = normal_id(address.disk_uuid);
  const bool has_place = !address.pci_bus.empty() || address.pci_slot;
  if (uuid.empty() && !has_place) {
    return base::fail(ErrorCode::kInvalid, "find '{}': the address has neither a uuid nor a controller",
                      describe(address));
  }
  ASSIGN_OR_RETURN(const auto controller, find_controller(options, address));
  ASSIGN_OR_RETURN(const auto disks, list_scsi_disks(options));
  if (controller) return look_by_place(options, disks, uuid, *controller, address.unit);
  if (!uuid.empty()) return look_by_uuid(options, disks, uuid);
  return Sighting{.seen = "no such controller; " + describe_disks(disks)};
}

std::string describe(const ScsiAddress& address) {
  std::string text = "SCSI disk";
  if (!address.disk_uuid.empty()) text += " " + address.disk_uuid;
  if (address.pci_bus.empty() && !address.pci_slot) return text;
  text += fmt::format(" at unit {}", address.unit);
  if (!address.pci_bus.empty()) text += fmt::format(" behind bridge {}", address.pci_bus);
  if (address.pci_slot) text += fmt::format(" in slot {}", *address.pci_slot);
  return text;
}

}  // namespace vdvs::blockdev
