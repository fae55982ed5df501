#include <gmock/gmock.h>
#include <sys/sysmacros.h>

#include "fs-format/mounter.h"

namespace vdvs::fsformat {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

TEST(ParseMountinfo, ReadsALine) {
  const auto mounts = parse_mountinfo(
      "36 35 98:7 /sub /mnt/db rw,noatime shared:1 master:2 - ext4 /dev/loop3 rw,errors=continue\n");
  ASSERT_THAT(mounts, SizeIs(1));
  EXPECT_EQ(mounts[0].id, 36u);
  EXPECT_EQ(mounts[0].device, ::makedev(98, 7));
  EXPECT_EQ(mounts[0].root, "/sub");
  EXPECT_EQ(mounts[0].target, "/mnt/db");
  EXPECT_EQ(mounts[0].fstype, "ext4");
  EXPECT_EQ(mounts[0].source, "/dev/loop3");
  EXPECT_TRUE(mounts[0].is_shared);
  EXPECT_FALSE(mounts[0].is_read_only);
}

TEST(ParseMountinfo, ReadsALineWithoutTags) {
  const auto mounts = parse_mountinfo("1 1 0:2 / / rw - rootfs rootfs rw");
  ASSERT_THAT(mounts, SizeIs(1));
  EXPECT_FALSE(mounts[0].is_shared);
}

TEST(ParseMountinfo, DecodesOctalEscapes) {
  const auto mounts =
      parse_mountinfo("1 1 0:2 / /a\\040b\\011c\\012d\\134e\\303\\251\\9\\04 rw - ext4 /dev/x\\043 rw\n");
  ASSERT_THAT(mounts, SizeIs(1));
  EXPECT_EQ(mounts[0].target, "/a b\tc\nd\\eé\\9\\04");
  EXPECT_EQ(mounts[0].source, "/dev/x#");
}

TEST(ParseMountinfo, IsReadOnlyByTheMountOrByTheFileSystem) {
  EXPECT_TRUE(parse_mountinfo("1 1 0:2 / /a ro,noatime - ext4 x rw")[0].is_read_only);
  EXPECT_TRUE(parse_mountinfo("1 1 0:2 / /a rw - ext4 x ro,x=ro")[0].is_read_only);
  EXPECT_FALSE(parse_mountinfo("1 1 0:2 / /a rw,ro=x - ext4 x rw,errors=remount-ro")[0].is_read_only);
}

TEST(ParseMountinfo, LeavesOutWhatItCannotRead) {
  EXPECT_THAT(parse_mountinfo(""), IsEmpty());
  EXPECT_THAT(parse_mountinfo("nonsense\n\n1 2 3\n1 1 0:2 / /a rw shared:1\n1 1 0:x / /a rw - ext4 x rw\n"),
              IsEmpty());
  EXPECT_THAT(parse_mountinfo("nonsense\n1 1 0:2 / /a rw - ext4 x rw\n"), SizeIs(1));
}

}  // namespace
}  // namespace vdvs::fsformat
