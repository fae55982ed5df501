#include "fs-format/superblock.h"

#include <gtest/gtest.h>

#include <vector>

namespace vdvs::fsformat {
namespace {

std::vector<std::byte> ext_head(unsigned state, unsigned incompatible) {
  std::vector<std::byte> head(kSuperblockHeadBytes);
  head[1024 + 0x3A] = static_cast<std::byte>(state);
  head[1024 + 0x60] = static_cast<std::byte>(incompatible);
  return head;
}

TEST(SuperblockNeedsCheck, IsFalseForACleanExt) {
  EXPECT_FALSE(superblock_needs_check("ext4", ext_head(1, 0x40)));
}

TEST(SuperblockNeedsCheck, IsTrueForAnExtThatIsDirtyHasErrorsOrAJournalToReplay) {
  EXPECT_TRUE(superblock_needs_check("ext2", ext_head(0, 0)));
  EXPECT_TRUE(superblock_needs_check("ext3", ext_head(1 | 2, 0)));
  EXPECT_TRUE(superblock_needs_check("ext4", ext_head(1, 0x4)));
}

TEST(SuperblockNeedsCheck, IsTrueForAnExtWithABadChecksum) {
  auto head = ext_head(1, 0);
  head[1024 + 0x65] = std::byte{0x04};  // metadata_csum
  EXPECT_TRUE(superblock_needs_check("ext4", head));
}

TEST(SuperblockNeedsCheck, ReadsTheDirtyBitOfFat32AndOfSmallerFat) {
  std::vector<std::byte> head(kSuperblockHeadBytes);
  EXPECT_FALSE(superblock_needs_check("vfat", head));
  head[0x41] = std::byte{1};
  EXPECT_TRUE(superblock_needs_check("vfat", head));
  head[0x16] = std::byte{9};
  EXPECT_FALSE(superblock_needs_check("vfat", head));
  head[0x25] = std::byte{1};
  EXPECT_TRUE(superblock_needs_check("vfat", head));
}

TEST(SuperblockNeedsCheck, IsFalseForTypesThatRecoverWhenTheyAreMounted) {
  EXPECT_FALSE(superblock_needs_check("xfs", {}));
  EXPECT_FALSE(superblock_needs_check("btrfs", {}));
}

TEST(SuperblockNeedsCheck, IsTrueForAHeadThatIsCutShort) { EXPECT_TRUE(superblock_needs_check("ext4", {})); }

}  // namespace
}  // namespace vdvs::fsformat
