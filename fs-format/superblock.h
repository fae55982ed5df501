// The few fields of a superblock that libblkid does not tell. Pure functions over the first bytes of a disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace vdvs::fsformat {

/// Enough of a disk's beginning for ext and vfat.
inline constexpr std::size_t kSuperblockHeadBytes = 4096;

/// True where the file system was not unmounted cleanly, has a journal to be replayed, recorded
/// errors or a bad checksum, and its kind relies on a
/// checker to mend that: the ext family and vfat. Others (xfs, btrfs) recover when they are mounted: false.
/// Too few bytes: true.
bool superblock_needs_check(std::string_view type, std::span<const std::byte> head);

/// Byte offset of the number of devices in a btrfs superblock (fs/btrfs: struct btrfs_super_block, at 64
/// KiB).
inline constexpr std::uint64_t kBtrfsDeviceCountOffset = 65536 + 0x88;

}  // namespace vdvs::fsformat
