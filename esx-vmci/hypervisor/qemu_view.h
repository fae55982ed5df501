// What QMP says about a VM's disks and buses, as values; and where in it a new disk goes. Pure functions:
// answers that are not as QEMU gives them lose what cannot be read, and nothing else.
//
// A disk of ours is two nodes and a device. Their names carry one key, so that each can be told from the
// others: file node "vdvf-KEY" (the extent), format node "vdvs-KEY", device "vdvs-KEY".
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "esx-vmci/hypervisor/hypervisor.h"

namespace vdvs::esx {

inline constexpr std::string_view kFileNodePrefix = "vdvf-";
inline constexpr std::string_view kDiskPrefix = "vdvs-";  ///< Of format nodes and of devices.
inline constexpr std::string_view kControllerPrefix = "vdvs-scsi";
inline constexpr std::string_view kPeripherals = "/machine/peripheral";  ///< Devices that have an id.
inline constexpr unsigned kReservedUnit = 7;
inline constexpr unsigned kUnitsPerController = 16;
inline constexpr std::size_t kMaxControllers = 4;

/// What the names of a disk's parts end in: the uuid's last 26 digits (node names have 31 bytes at most; the
/// first digits are VMware's and always the same). A disk without a uuid has a key made of its path.
std::string key_of(const Disk& disk);
/// NAA 3, "locally assigned" (SPC-4, 7.8.6.6): 60 bits of the uuid. 0 without a uuid.
std::uint64_t wwn_of(std::string_view uuid);

/// A file that a VM has open as (part of) a disk.
struct QemuDisk {
  std::string path;
  std::string key;  ///< Empty: not ours.
  bool has_format_node = false;
  bool has_device = false;
};

/// From the answers to query-named-block-nodes and query-block.
std::vector<QemuDisk> decode_disks(const boost::json::value& nodes, const boost::json::value& blocks);
/// The one over this extent (or a hard link of it).
std::optional<QemuDisk> find_disk(const std::vector<QemuDisk>& disks, const std::string& extent_path);

struct QemuController {
  std::string id;
  std::string parent_bus;  ///< As a QOM path: "/machine/peripheral/port1/port1", "/machine/q35/pcie.0".
  unsigned devfn = 0;
  std::vector<unsigned> units;  ///< Taken.
  std::string bus() const { return id + ".0"; }
};

struct QemuPort {
  std::string id;
  std::string parent_bus;
  unsigned devfn = 0;
  unsigned slot = 0;  ///< Physical slot number; 0 where none was given.
  bool can_hotplug = false;
  bool is_free = false;
};

struct QemuBuses {
  std::vector<QemuController> controllers;
  std::vector<QemuPort> ports;
};

/// Where a disk can go.
struct Spot {
  std::string controller;  ///< Empty: a new one, behind `port`.
  std::string port;
  unsigned unit = 0;
};
/// The lowest free unit of the first controller (by its place on the bus) that has one; otherwise a new
/// controller. Errors: kLimit.
base::Result<Spot> choose_spot(const QemuBuses& buses);
/// "vdvs-scsi0", or the first number that is not taken.
std::string new_controller_id(const QemuBuses& buses);

/// The last component but one: the id of the device that has the bus at this QOM path; empty where that is
/// not a device with an id.
std::string owner_of_bus(std::string_view bus_path);
/// "15.0" as the predecessor's client wants it: device (hexadecimal) and function of the bridge on bus 0.
std::string pci_bus_text(unsigned devfn);
/// The bus at this path is the machine's first one.
bool is_root_bus(std::string_view bus_path);

}  // namespace vdvs::esx
