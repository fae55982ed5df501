#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;

constexpr std::uint64_t kKib = 1024;
/// A chain of snapshots, or of bridges, that is longer is a loop.
constexpr int kMaxChain = 64;
constexpr std::string_view kLabel = "dockerDataVolume";
constexpr std::string_view kPvscsi = "ParaVirtualSCSIController";
constexpr std::string_view kSlotEnding = ".pcislotnumber";

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool is_scsi_controller(std::string_view type) {
  return type == kPvscsi || type == "VirtualLsiLogicController" || type == "VirtualLsiLogicSASController" ||
         type == "VirtualBusLogicController" || type == "VirtualSCSIController";
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint32_t> find_slot(const std::map<std::string, std::string>& slots,
                                       const std::string& device) {
  auto found = slots.find(fmt::format("{}{}", device, kSlotEnding));
  return found == slots.end() ? std::nullopt : parse_number(found->second);
}

VsphereScsiController decode_controller(const Element& device) {
  VsphereScsiController controller{.key = device.number_at("key").value_or(0),
                                   .bus = device.number_at("busNumber").value_or(0),
                                   .is_pvscsi = device.xsi_type == kPvscsi,
                                   .slot = std::nullopt};
  const auto slot = device.number_at("slotInfo.pciSlotNumber");
  if (slot && *slot > 0) controller.slot = static_cast<std::uint32_t>(*slot);
  return controller;
}

VsphereDisk decode_disk(const Element& device) {
  VsphereDisk disk{.key = device.number_at("key").value_or(0),
                   .controller_key = device.number_at("controllerKey").value_or(0),
                   .unit = static_cast<std::uint32_t>(device.number_at("unitNumber").value_or(0)),
                   .files = {},
                   .mode = device.text_at("backing.diskMode"),
                   .uuid = plain_uuid(device.text_at("backing.uuid")),
                   .size_bytes = 0};
  disk.size_bytes = static_cast<std::uint64_t>(device.number_at("capacityInKB").value_or(0)) * kKib;
  const Element* backing = device.find("backing");
  for (int i = 0; backing != nullptr && i < kMaxChain; ++i) {
    disk.files.push_back(backing->text_at("fileName"));
    backing = backing->find("parent");
  }
  return disk;
}

/// The two spellings of one file.
bool is_same_file(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const auto first = parse_datastore_path(a);
  const auto second = parse_datastore_path(b);
  return first && second && *first == *second;
}

bool has_same_name(const std::string& a, const std::string& b) {
  const auto first = parse_datastore_path(a);
  const auto second = parse_datastore_path(b);
  return first && second && first->datastore == second->datastore && first->file() == second->file();
}

std::string print_spec(const VsphereHardware& hardware, const std::string& changes) {
  std::string version;
  if (!hardware.change_version.empty()) version = soap::tag("changeVersion", hardware.change_version);
  return soap::wrap("spec", "", version + changes);
}

std::string print_change(std::string_view operation, std::string_view type, const std::string& device) {
  return soap::wrap("deviceChange", "VirtualDeviceConfigSpec",
                    soap::tag("operation", operation) + soap::wrap("device", type, device));
}

std::string print_controller(std::int64_t key, std::int64_t bus) {
  return print_change("add", kPvscsi,
                      soap::tag_number("key", key) + soap::tag_number("busNumber", bus) +
                          soap::tag("sharedBus", "noSharing"));
}

}  // namespace

std::string plain_uuid(std::string_view text) {
  std::string digits;
  for (const char c : lower(text)) {
    if (std::isxdigit(static_cast<unsigned char>(c))) digits += c;
  }
  constexpr std::size_t kDigits = 32;
  return digits.size() == kDigits ? digits : std::string();
}

std::string DatastorePath::folder() const {
  const std::size_t slash = path.rfind('/');
  return "[" + datastore + "] " + (slash == std::string::npos ? std::string() : path.substr(0, slash));
}

std::string DatastorePath::file() const {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

Result<DatastorePath> parse_datastore_path(std::string_view text) {
  const std::size_t end = text.find(']');
  if (!text.starts_with('[') || end == std::string_view::npos)
    return fail(ErrorCode::kInvalid, "'{}' is no path of a datastore: it has the form '[datastore] path'",
                text);
  std::string_view path = text.substr(end + 1);
  while (path.starts_with(' ')) path.remove_prefix(1);
  return DatastorePath{std::string(text.substr(1, end - 1)), std::string(path)};
}

std::vector<std::string> hardware_properties() {
  return {"name",
          "config.uuid",
          "config.instanceUuid",
          "config.changeVersion",
          "config.files.vmPathName",
          "config.extraConfig",
          "config.hardware.device"};
}

VsphereHardware decode_hardware(const VsphereObject& vm) {
  VsphereHardware hardware;
  hardware.vm = vm.ref;
  hardware.identity = {.uuid = vm.text("config.uuid"),
                       .name = vm.text("name"),
                       .instance_uuid = vm.text("config.instanceUuid")};
  if (auto home = parse_datastore_path(vm.text("config.files.vmPathName")))
    hardware.identity.datastore = home->datastore;
  hardware.change_version = vm.text("config.changeVersion");
  if (const Element* devices = vm.find("config.hardware.device")) {
    for (const Element& device : devices->children) {
      if (is_scsi_controller(device.xsi_type)) hardware.controllers.push_back(decode_controller(device));
      if (device.xsi_type == "VirtualDisk") hardware.disks.push_back(decode_disk(device));
      const auto controller = device.number_at("controllerKey");
      const auto unit = device.number_at("unitNumber");
      if (controller && unit && *unit >= 0)
        hardware.units[*controller].push_back(static_cast<std::uint32_t>(*unit));
    }
  }
  if (const Element* options = vm.find("config.extraConfig")) {
    for (const Element& option : options->children) {
      std::string key = lower(option.text_at("key"));
      if (key.ends_with(kSlotEnding)) hardware.slots[std::move(key)] = option.text_at("value");
    }
  }
  return hardware;
}

const VsphereDisk* find_disk(const VsphereHardware& hardware, const Disk& disk) {
  const std::string uuid = plain_uuid(disk.uuid);
  for (const VsphereDisk& candidate : hardware.disks) {
    for (const std::string& file : candidate.files) {
      if (is_same_file(file, disk.descriptor_path)) return &candidate;
      if (!uuid.empty() && uuid == candidate.uuid && has_same_name(file, disk.descriptor_path))
        return &candidate;
    }
  }
  return nullptr;
}

Result<VspherePlace> choose_place(const VsphereHardware& hardware) {
  for (const VsphereScsiController& controller : hardware.controllers) {
    if (!controller.is_pvscsi) continue;
    const auto used = hardware.units.find(controller.key);
    for (std::uint32_t unit = 0; unit < kScsiUnits; ++unit) {
      if (unit == kScsiOwnUnit) continue;
      if (used != hardware.units.end() && std::ranges::find(used->second, unit) != used->second.end())
        continue;
      return VspherePlace{.controller_key = controller.key, .unit = unit, .new_bus = std::nullopt};
    }
  }
  for (std::int64_t bus = 0; bus < static_cast<std::int64_t>(kMaxScsiControllers); ++bus) {
    if (hardware.controllers.size() >= kMaxScsiControllers) break;
    if (std::ranges::find(hardware.controllers, bus, &VsphereScsiController::bus) ==
        hardware.controllers.end())
      return VspherePlace{.controller_key = kFirstScsiKey + bus, .unit = 0, .new_bus = bus};
  }
  return fail(ErrorCode::kLimit,
              "Failed to place new disk - The maximum number of supported volumes has been reached.");
}

std::string print_attach(const VsphereHardware& hardware, const VspherePlace& place, const Disk& disk) {
  std::string changes;
  if (place.new_bus) changes += print_controller(place.controller_key, *place.new_bus);
  const std::string backing =
      soap::wrap("backing", "VirtualDiskFlatVer2BackingInfo",
                 soap::tag("fileName", disk.descriptor_path) + soap::tag("diskMode", disk.mode));
  const std::string info =
      soap::wrap("deviceInfo", "Description", soap::tag("label", kLabel) + soap::tag("summary", kLabel));
  constexpr std::int64_t kAnyKey = -1;  // the server chooses
  changes +=
      print_change("add", "VirtualDisk",
                   soap::tag_number("key", kAnyKey) + info + backing +
                       soap::tag_number("controllerKey", place.controller_key) +
                       soap::tag_number("unitNumber", place.unit) +
                       soap::tag_number("capacityInKB", static_cast<std::int64_t>(disk.size_bytes / kKib)));
  return print_spec(hardware, changes);
}

std::string print_detach(const VsphereHardware& hardware, const VsphereDisk& disk) {
  const std::string backing =
      soap::wrap("backing", "VirtualDiskFlatVer2BackingInfo",
                 soap::tag("fileName", disk.files.front()) + soap::tag("diskMode", disk.mode));
  // Without a fileOperation the file stays.
  return print_spec(
      hardware,
      print_change("remove", "VirtualDisk",
                   soap::tag_number("key", disk.key) + backing +
                       soap::tag_number("controllerKey", disk.controller_key) +
                       soap::tag_number("unitNumber", disk.unit) +
                       soap::tag_number("capacityInKB", static_cast<std::int64_t>(disk.size_bytes / kKib))));
}

std::optional<std::string> pci_bus_of(std::uint32_t slot, const std::map<std::string, std::string>& slots) {
  const auto bus_of = [](std::uint32_t number) { return (number >> 5) & 31u; };
  const std::uint32_t function = (slot >> 10) & 7u;
  std::uint32_t here = slot;
  for (int i = 0; bus_of(here) > 0; ++i) {
    const auto bridge = find_slot(slots, fmt::format("pcibridge{}", bus_of(here) - 1));
    if (!bridge || i == kMaxChain) return std::nullopt;
    here = *bridge;
  }
  return fmt::format("{:x}.{}", here, function);
}

std::optional<std::uint32_t> slot_of(const VsphereHardware& hardware, const VsphereDisk& disk) {
  for (const VsphereScsiController& controller : hardware.controllers) {
    if (controller.key != disk.controller_key) continue;
    if (controller.slot) return controller.slot;
    return find_slot(hardware.slots, fmt::format("scsi{}", controller.key - kFirstScsiKey));
  }
  return std::nullopt;
}

base::ScsiAddress address_of(const VsphereHardware& hardware, const VsphereDisk& disk,
                             const std::string& known_uuid) {
  base::ScsiAddress address{.disk_uuid = disk.uuid.empty() ? plain_uuid(known_uuid) : disk.uuid,
                            .pci_slot = slot_of(hardware, disk),
                            .pci_bus = {},
                            .unit = disk.unit};
  if (address.pci_slot) address.pci_bus = pci_bus_of(*address.pci_slot, hardware.slots).value_or("");
  return address;
}

std::string describe(const VsphereHardware& hardware, const VsphereDisk& disk) {
  std::int64_t bus = disk.controller_key - kFirstScsiKey;
  for (const VsphereScsiController& controller : hardware.controllers) {
    if (controller.key == disk.controller_key) bus = controller.bus;
  }
  return fmt::format("SCSI disk {}:{} of vm '{}'", bus, disk.unit, hardware.identity.name);
}

}  // namespace vdvs::esx
