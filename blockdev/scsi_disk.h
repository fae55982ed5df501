// SCSI disks by what they say they are (the disk's uuid) and by where they sit (controller and target), from
// sysfs alone: minimal guests have no udev links, and links do not say whether they belong to the new disk.
//
// Both, where both are known, must agree: a disk that says it is another one is never the answer, wherever it
// sits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "blockdev/device_watcher.h"
#include "blockdev/sysfs_disk.h"

namespace vdvs::blockdev {

/// Host, channel, target and logical unit, the name of a SCSI device's folder: "2:0:1:0".
struct ScsiPlace {
  unsigned host = 0;
  unsigned channel = 0;
  unsigned target = 0;
  std::uint64_t lun = 0;
  bool operator==(const ScsiPlace&) const = default;
};

std::optional<ScsiPlace> parse_scsi_place(std::string_view text);

struct ScsiDisk {
  std::string name;    ///< "sdb".
  std::string folder;  ///< Of the SCSI device, without links: ".../0000:03:00.0/host2/target2:0:1/2:0:1:0".
  ScsiPlace place;
  std::vector<std::string> ids;  ///< What it says it is, as `normal_id`; empty: it does not say.
};

/// Every SCSI disk of this machine.
base::Result<std::vector<ScsiDisk>> list_scsi_disks(const WatcherOptions& options);

/// "0000:00:05.0" of the predecessor's "5.0" (hexadecimal device, function; on bus 0); nullopt: not of this
/// shape.
std::optional<std::string> bridge_of(std::string_view pci_bus);

/// The controller's folder without links, through the bridge, or else the slot, that the address names;
/// nullopt where neither leads to a device that is there. Errors: kInvalid for a `pci_bus` that is not
/// "<hex>.<function>".
base::Result<std::optional<std::string>> find_controller(const WatcherOptions& options,
                                                         const base::ScsiAddress& address);

/// Errors: kInvalid where the address has neither a uuid nor a controller.
base::Result<Sighting> look_for_scsi(const WatcherOptions& options, const base::ScsiAddress& address);

/// "SCSI disk 6000c29e... at unit 1 behind bridge 15.0", for messages.
std::string describe(const base::ScsiAddress& address);

}  // namespace vdvs::blockdev
