// The virtual hardware of a vSphere VM as far as disks need it: read from its properties, decided on, and
// printed as a change, all without I/O. The rules are the reference's, section 3.7: PVSCSI controllers in the
// order of the devices, units 0 to 6 and 8 to 15, four SCSI controllers in all, controller and disk in one
// change.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk_address.h"
#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

inline constexpr std::uint32_t kScsiUnits = 16;
inline constexpr std::uint32_t kScsiOwnUnit = 7;  ///< The controller's.
inline constexpr std::size_t kMaxScsiControllers = 4;
inline constexpr std::int64_t kFirstScsiKey = 1000;

/// "[ds1] dockvols/group/db.vmdk".
struct DatastorePath {
  std::string datastore;
  std::string path;
  bool operator==(const DatastorePath&) const = default;
  std::string text() const { return "[" + datastore + "] " + path; }
  /// The part before the last '/', as a DatastorePath's text: "[ds1] dockvols/group".
  std::string folder() const;
  std::string file() const;
};
/// Errors: kInvalid.
base::Result<DatastorePath> parse_datastore_path(std::string_view text);

struct VsphereScsiController {
  std::int64_t key = 0;
  std::int64_t bus = 0;
  bool is_pvscsi = false;
  std::optional<std::uint32_t> slot;
};

struct VsphereDisk {
  std::int64_t key = 0;
  std::int64_t controller_key = 0;
  std::uint32_t unit = 0;
  std::vector<std::string> files;  ///< Its descriptor; before it, those of the snapshots above it.
  std::string mode;
  std::string uuid;  ///< 32 hex digits, lower case; or empty.
  std::uint64_t size_bytes = 0;
};

struct VsphereHardware {
  soap::MoRef vm;
  Vm identity;
  std::string change_version;  ///< A change of an older configuration is refused by the server.
  std::vector<VsphereScsiController> controllers;
  std::vector<VsphereDisk> disks;
  /// Units in use, by controller: whatever kind of device.
  std::map<std::int64_t, std::vector<std::uint32_t>> units;
  std::map<std::string, std::string> slots;  ///< extraConfig's "*.pcislotnumber", keys in lower case.
};

/// What `decode_hardware` wants to have been read.
std::vector<std::string> hardware_properties();
VsphereHardware decode_hardware(const VsphereObject& vm);

/// By path, or where the server spells paths in another way (vSAN's folders by uuid), by uuid and file name.
const VsphereDisk* find_disk(const VsphereHardware& hardware, const Disk& disk);

/// Where a new disk goes.
struct VspherePlace {
  std::int64_t controller_key = 0;
  std::uint32_t unit = 0;
  std::optional<std::int64_t> new_bus;  ///< Its controller is new, on this bus.
};
/// Errors: kLimit, with the predecessor's text.
base::Result<VspherePlace> choose_place(const VsphereHardware& hardware);

/// The `spec` arguments of ReconfigVM_Task.
std::string print_attach(const VsphereHardware& hardware, const VspherePlace& place, const Disk& disk);
std::string print_detach(const VsphereHardware& hardware, const VsphereDisk& disk);

/// "15.0": where on the root bus the bridge is behind which the controller of this slot sits (function after
/// the dot); nullopt where the configuration does not say. `slots` as in VsphereHardware.
std::optional<std::string> pci_bus_of(std::uint32_t slot, const std::map<std::string, std::string>& slots);

/// The slot of the disk's controller, from the device or from extraConfig.
std::optional<std::uint32_t> slot_of(const VsphereHardware& hardware, const VsphereDisk& disk);
/// `known_uuid`: of the disk's descriptor, where the server does not say.
base::ScsiAddress address_of(const VsphereHardware& hardware, const VsphereDisk& disk,
                             const std::string& known_uuid);
/// "SCSI disk 1:3 of vm 'web-1'".
std::string describe(const VsphereHardware& hardware, const VsphereDisk& disk);

/// Hex digits alone, in lower case: "6000C29e-1234-..." -> "6000c29e1234...".
std::string plain_uuid(std::string_view text);

}  // namespace vdvs::esx
