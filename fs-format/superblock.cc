#include "fs-format/superblock.h"

#include <boost/crc.hpp>

namespace vdvs::fsformat {
namespace {

std::uint32_t little_endian(std::span<const std::byte> bytes, std::size_t offset, std::size_t count) {
  std::uint32_t value = 0;
  for (std::size_t i = count; i-- > 0;)
    value = value << 8 | std::to_integer<std::uint32_t>(bytes[offset + i]);
  return value;
}

// Kernel: Documentation/filesystems/ext4/super.rst.
constexpr std::size_t kExtSuperblock = 1024;

// libblkid compares the checksum of ext only since 2.39; Debian 12 has 2.38. crc32c without the final
// inversion, over all that stands before it.
bool has_bad_ext_checksum(std::span<const std::byte> head) {
  constexpr std::uint32_t kMetadataChecksums = 0x400;
  constexpr std::size_t kChecksum = 0x3FC;
  if ((little_endian(head, kExtSuperblock + 0x64, 4) & kMetadataChecksums) == 0) return false;
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0, true, true> crc;
  crc.process_bytes(head.data() + kExtSuperblock, kChecksum);
  return crc.checksum() != little_endian(head, kExtSuperblock + kChecksum, 4);
}

bool ext_needs_check(std::span<const std::byte> head) {
  constexpr std::uint32_t kCleanState = 0x1;
  constexpr std::uint32_t kErrorState = 0x2;
  constexpr std::uint32_t kNeedsRecovery = 0x4;
  const std::uint32_t state = little_endian(head, kExtSuperblock + 0x3A, 2);
  const std::uint32_t incompatible = little_endian(head, kExtSuperblock + 0x60, 4);
  return (state & kCleanState) == 0 || (state & kErrorState) != 0 || (incompatible & kNeedsRecovery) != 0 ||
         has_bad_ext_checksum(head);
}

// Microsoft's FAT specification, and the kernel's include/uapi/linux/msdos_fs.h (struct fat_boot_sector,
// FAT_STATE_DIRTY).
bool fat_needs_check(std::span<const std::byte> head) {
  constexpr std::uint32_t kDirty = 0x1;
  const bool is_fat32 =
      little_endian(head, 0x16, 2) == 0;  // The 16-bit number of sectors per FAT is unused there.
  return (little_endian(head, is_fat32 ? 0x41 : 0x25, 1) & kDirty) != 0;
}

}  // namespace

bool superblock_needs_check(std::string_view type, std::span<const std::byte> head) {
  const bool is_ext = type == "ext2" || type == "ext3" || type == "ext4";
  if (!is_ext && type != "vfat") return false;
  if (head.size() < kSuperblockHeadBytes) return true;
  return is_ext ? ext_needs_check(head) : fat_needs_check(head);
}

}  // namespace vdvs::fsformat
