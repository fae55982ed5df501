// Where a disk that was attached is to be found in this machine: what the control plane answers and blockdev resolves to a
// device. A device name is never an identity, so none stands here alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace vdvs::base {

/// A loop device over the disk's extent file.
struct LoopAddress {
  std::string node;               ///< "/dev/loop3": where it was when the address was made.
  std::uint64_t diskseq = 0;      ///< Unique per boot and per use of the node (BLKGETDISKSEQ, kernel 5.15); 0: not known.
  std::uint64_t file_device = 0;  ///< st_dev of the extent file, in the kernel's encoding (LOOP_GET_STATUS64 lo_device).
  std::uint64_t file_inode = 0;   ///< st_ino of the extent file.
  bool operator==(const LoopAddress&) const = default;
};

/// A SCSI disk on a (virtual) controller. At least one of `disk_uuid` and `pci_bus`/`pci_slot` is there.
struct ScsiAddress {
  std::string disk_uuid;                  ///< 32 hex digits, the VMDK's uuid: the disk's serial and NAA WWN. May be empty.
  std::optional<std::uint32_t> pci_slot;  ///< The controller's slot: /sys/bus/pci/slots/<slot>.
  std::string pci_bus;                    ///< "15.0": device and function of the bridge on bus 0. May be empty.
  std::uint32_t unit = 0;                 ///< Target number behind the controller.
  bool operator==(const ScsiAddress&) const = default;
};

using DiskAddress = std::variant<LoopAddress, ScsiAddress>;

}  // namespace vdvs::base
