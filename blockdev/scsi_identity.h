// Which disk a SCSI disk says it is. VMware and QEMU give a virtual disk its uuid as serial number (vital
// product data page 0x80) and as a 16-byte NAA name (page 0x83); SPC-4 sections 7.8.15 and 7.8.6. A virtual
// machine without disk.EnableUUID says nothing.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vdvs::blockdev {

using Bytes = std::span<const unsigned char>;

/// Lower case, letters and digits only: "6000C29-e" and "6000c29e" name the same disk.
std::string normal_id(std::string_view text);

/// The serial number of page 0x80, as `normal_id`; nullopt: another page, cut short, or blank.
std::optional<std::string> decode_vpd_serial(Bytes page);

/// The 32 hex digits of the logical unit's NAA name in page 0x83; nullopt: none of 16 bytes.
std::optional<std::string> decode_vpd_naa(Bytes page);

/// The 32 hex digits of sysfs' `wwid` ("naa.6000c29..."); nullopt: another kind of name.
std::optional<std::string> decode_wwid(std::string_view text);

}  // namespace vdvs::blockdev
