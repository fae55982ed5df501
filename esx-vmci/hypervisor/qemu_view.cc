#include "esx-vmci/hypervisor/qemu_view.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "base/json.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::size_t kUuidDigits = 32;
constexpr std::size_t kKeyDigits = 26;
constexpr std::size_t kWwnDigits = 15;

/// FNV-1a: the same in every process.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

bool is_uuid(std::string_view text) {
  return text.size() == kUuidDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

/// The objects of an array; everything else is left out.
template <typename Visit>
void for_each_object(const boost::json::value& list, const Visit& visit) {
  const auto* entries = list.if_array();
  if (entries == nullptr) return;
  for (const auto& entry : *entries) {
    if (const auto* object = entry.if_object()) visit(*object);
  }
}

bool is_same_file(const std::string& one, const std::string& other) {
  struct stat a, b;
  return ::stat(one.c_str(), &a) == 0 && ::stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

std::optional<unsigned> lowest_free(const std::vector<unsigned>& taken) {
  for (unsigned unit = 0; unit < kUnitsPerController; ++unit) {
    if (unit != kReservedUnit && std::ranges::find(taken, unit) == taken.end()) return unit;
  }
  return std::nullopt;
}

}  // namespace

std::string key_of(const Disk& disk) {
  if (is_uuid(disk.uuid)) return disk.uuid.substr(kUuidDigits - kKeyDigits);
  return fmt::format("p{:016x}", hash_of(disk.extent_path));
}

std::uint64_t wwn_of(std::string_view uuid) {
  if (!is_uuid(uuid)) return 0;
  std::uint64_t low = 0;
  const std::string_view digits = uuid.substr(kUuidDigits - kWwnDigits);
  std::from_chars(digits.data(), digits.data() + digits.size(), low, 16);
  return std::uint64_t{3} << 60 | low;
}

std::vector<QemuDisk> decode_disks(const boost::json::value& nodes, const boost::json::value& blocks) {
  std::set<std::string> with_device;
  for_each_object(blocks, [&](const boost::json::object& block) {
    const auto* inserted = block.if_contains("inserted");
    const auto* medium = inserted == nullptr ? nullptr : inserted->if_object();
    const auto node = medium == nullptr ? std::nullopt : base::find_string(*medium, "node-name");
    if (node && !base::find_string(block, "qdev").value_or("").empty()) with_device.insert(*node);
  });
  std::set<std::string> names;
  for_each_object(nodes, [&](const boost::json::object& node) {
    if (auto name = base::find_string(node, "node-name")) names.insert(std::move(*name));
  });
  std::vector<QemuDisk> disks;
  for_each_object(nodes, [&](const boost::json::object& node) {
    if (base::find_string(node, "drv") != "file") return;
    QemuDisk disk{.path = base::find_string(node, "file").value_or("")};
    const std::string name = base::find_string(node, "node-name").value_or("");
    if (name.starts_with(kFileNodePrefix)) {
      disk.key = name.substr(kFileNodePrefix.size());
      const std::string format_node = std::string(kDiskPrefix) + disk.key;
      disk.has_format_node = names.contains(format_node);
      disk.has_device = with_device.contains(format_node);
    }
    disks.push_back(std::move(disk));
  });
  return disks;
}

std::optional<QemuDisk> find_disk(const std::vector<QemuDisk>& disks, const std::string& extent_path) {
  auto found = std::ranges::find(disks, extent_path, &QemuDisk::path);
  if (found == disks.end()) {
    found = std::ranges::find_if(disks, [&](const QemuDisk& disk) {
      return base_name(disk.path) == base_name(extent_path) && is_same_file(disk.path, extent_path);
    });
  }
  if (found == disks.end()) return std::nullopt;
  return *found;
}

Result<Spot> choose_spot(const QemuBuses& buses) {
  std::vector<const QemuController*> controllers;
  for (const QemuController& controller : buses.controllers) controllers.push_back(&controller);
  const auto place_of = [&](const QemuController* controller) {
    const auto port = std::ranges::find(buses.ports, owner_of_bus(controller->parent_bus), &QemuPort::id);
    return std::pair(port == buses.ports.end() ? controller->devfn : port->devfn, controller->id);
  };
  std::ranges::sort(controllers, {}, place_of);
  for (const QemuController* controller : controllers) {
    if (const auto unit = lowest_free(controller->units)) return Spot{controller->id, {}, *unit};
  }
  if (controllers.size() >= kMaxControllers) {
    return std::unexpected(base::Error(ErrorCode::kLimit,
                                       fmt::format("its {} PVSCSI controllers have {} disks each",
                                                   controllers.size(), kUnitsPerController - 1),
                                       "detach a volume from this VM first"));
  }
  std::vector<const QemuPort*> ports;
  for (const QemuPort& port : buses.ports) {
    if (port.is_free && port.can_hotplug && is_root_bus(port.parent_bus)) ports.push_back(&port);
  }
  if (ports.empty()) {
    return std::unexpected(base::Error(
        ErrorCode::kLimit,
        fmt::format("its {} PVSCSI controllers are full, and no PCIe root port is free for another",
                    controllers.size()),
        "give the VM more free root ports ('-device pcie-root-port,id=...') at its next start"));
  }
  const auto first = std::ranges::min_element(ports, {}, [](const QemuPort* port) { return port->devfn; });
  return Spot{{}, (*first)->id, 0};
}

std::string new_controller_id(const QemuBuses& buses) {
  for (std::size_t number = 0;; ++number) {
    std::string id = fmt::format("{}{}", kControllerPrefix, number);
    if (std::ranges::find(buses.controllers, id, &QemuController::id) == buses.controllers.end()) return id;
  }
}

std::string owner_of_bus(std::string_view bus_path) {
  if (!bus_path.starts_with(kPeripherals) || bus_path.substr(kPeripherals.size(), 1) != "/") return {};
  const std::string_view rest = bus_path.substr(kPeripherals.size() + 1);
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return {};
  return std::string(rest.substr(0, slash));
}

std::string pci_bus_text(unsigned devfn) { return fmt::format("{:x}.{:x}", devfn >> 3, devfn & 7); }

bool is_root_bus(std::string_view bus_path) {
  return bus_path.ends_with("/pcie.0") || bus_path.ends_with("/pci.0");
}

}  // namespace vdvs::esx
