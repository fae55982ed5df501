// The text part of a VMDK: what kind of disk it is, how large, and which file holds its data.
//
// A descriptor is a small text file of three parts: a header of key=value lines (version, CID, parentCID,
// createType), the extents, one line each (`RW 20480 VMFS "db-flat.vmdk"`), and the disk data base, `ddb.`
// keys with quoted values. ESXi writes createType "vmfs" with VMFS extents, desktop products and QEMU write
// "monolithicFlat" with FLAT extents; both mean the same: one raw file. Everything else (sparse, split,
// streamOptimized, snapshot deltas) keeps data where we could not find it, and is refused with its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx {

/// A larger ".vmdk" is not a descriptor alone (the predecessor's rule: such files are not volumes).
inline constexpr std::size_t kMaxDescriptorBytes = 5000;
inline constexpr std::uint64_t kSectorBytes = 512;

struct VmdkDescriptor {
  std::string create_type = "vmfs";       ///< "vmfs" or "monolithicFlat".
  std::uint64_t size_bytes = 0;           ///< A multiple of kSectorBytes.
  std::string extent;                     ///< The name of a file beside the descriptor.
  std::uint32_t content_id = 0xfffffffe;  ///< CID
  std::string uuid;  ///< ddb.uuid as 32 hex digits, lower case; empty where there is none (QEMU writes none).
  std::string adapter_type = "busLogic";  ///< ddb.adapterType
  bool is_thin = false;                   ///< ddb.thinProvisioned
  std::string sidecars;                   ///< ddb.sidecars as it stands: "key_n,file.vmfd;"; may be empty.
  bool operator==(const VmdkDescriptor&) const = default;
};

/// Errors: kUnsupported for a valid descriptor of a kind that is not ours, naming the kind; kCorrupt for
/// anything else.
base::Result<VmdkDescriptor> parse_descriptor(std::string_view text);

/// The text of a descriptor. `extent` and `sidecars` hold no quote (a VolumeName never does).
std::string print_descriptor(const VmdkDescriptor& descriptor);

/// A new disk uuid in VMware's range (NAA 6, OUI 00:0C:29), so that a guest sees it as the disk's WWN.
std::string random_disk_uuid();
std::uint32_t random_content_id();

}  // namespace vdvs::esx
