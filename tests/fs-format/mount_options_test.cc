#include "fs-format/mount_options.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

namespace vdvs::fsformat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

MountOptions parse(std::string_view text, bool must_be_read_only = false) {
  auto options = parse_mount_options(text, must_be_read_only);
  EXPECT_TRUE(options) << options.error().text();
  return options ? *options : MountOptions{};
}

std::string error_of(std::string_view text, bool must_be_read_only = false) {
  auto options = parse_mount_options(text, must_be_read_only);
  return options ? "no error" : options.error().text();
}

TEST(MountOptions, AreNoneInAnEmptyText) {
  EXPECT_EQ(parse("").attributes, 0u);
  EXPECT_THAT(parse("").parameters, IsEmpty());
  EXPECT_THAT(parse("defaults,,").parameters, IsEmpty());
}

TEST(MountOptions, SplitFlagsOfTheMountFromParametersOfTheFileSystem) {
  const MountOptions options = parse("noatime,nodev,data=writeback,sync,nosuid");
  EXPECT_EQ(options.attributes, MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
  EXPECT_THAT(options.parameters, ElementsAre(SuperblockParameter{"data", "writeback"},
                                              SuperblockParameter{"sync", std::nullopt}));
  EXPECT_TRUE(options.has("sync"));
  EXPECT_FALSE(options.has("nodev"));
}

TEST(MountOptions, LetTheLastOfContradictingFlagsWin) {
  EXPECT_EQ(parse("noatime,strictatime").attributes, MOUNT_ATTR_STRICTATIME);
  EXPECT_EQ(parse("nodev,dev").attributes, 0u);
  EXPECT_EQ(parse("strictatime,relatime").attributes, MOUNT_ATTR_RELATIME);
}

TEST(MountOptions, KeepCommasThatAreQuoted) {
  EXPECT_THAT(parse("context=\"a,b\",quota").parameters,
              ElementsAre(SuperblockParameter{"context", "a,b"}, SuperblockParameter{"quota", std::nullopt}));
  EXPECT_THAT(error_of("context=\"a,b"), HasSubstr("a quote is not closed"));
}

TEST(MountOptions, MakeTheMountReadOnly) {
  EXPECT_TRUE(parse("ro").is_read_only);
  EXPECT_EQ(parse("ro").attributes, MOUNT_ATTR_RDONLY);
  EXPECT_TRUE(parse("", true).is_read_only);
  EXPECT_FALSE(parse("rw").is_read_only);
}

TEST(MountOptions, RefuseContradictionsAboutWriting) {
  EXPECT_THAT(error_of("ro,rw"), HasSubstr("'rw': contradicts 'ro' [E_INVALID]"));
  EXPECT_THAT(error_of("rw", true), HasSubstr("'rw': the volume's access is read-only [E_INVALID]"));
}

TEST(MountOptions, RefuseWhatIsNoNewMountOfThisDevice) {
  for (const char* option :
       {"remount", "bind", "rbind", "move", "shared", "rprivate", "user", "noauto", "_netdev", "loop",
        "loop=/dev/loop1", "offset=512", "source=/dev/sda", "device=/dev/sda", "logdev=/dev/sda",
        "journal_path=/dev/sda", "x-systemd.automount", "errors=panic", "=x"}) {
    EXPECT_THAT(error_of(option), HasSubstr("[E_INVALID]")) << option;
  }
}

TEST(MountOptions, LeaveToTheKernelWhatOnlyTheFileSystemKnows) {
  EXPECT_THAT(parse("uid=1000,errors=remount-ro,subvol=").parameters,
              ElementsAre(SuperblockParameter{"uid", "1000"}, SuperblockParameter{"errors", "remount-ro"},
                          SuperblockParameter{"subvol", ""}));
}

TEST(MountOptions, NameTheLimitThatWasHit) {
  EXPECT_THAT(error_of(std::string(5000, 'x')), HasSubstr("more than 4096 bytes"));
  EXPECT_THAT(error_of("a=" + std::string(256, 'x')), HasSubstr("more than 255 bytes"));
  EXPECT_THAT(error_of(std::string("a\0b", 3)), HasSubstr("a control character"));
}

}  // namespace
}  // namespace vdvs::fsformat
