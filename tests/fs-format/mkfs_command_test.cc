#include "fs-format/mkfs_command.h"

#include <gmock/gmock.h>

namespace vdvs::fsformat {
namespace {

using testing::HasSubstr;

std::string command(const FormatRequest& request) {
  auto argv = make_mkfs_command(request, "/dev/loop7");
  return argv ? fmt::format("{}", fmt::join(*argv, " ")) : argv.error().text();
}

std::string command(std::string fstype, std::vector<std::string> options) {
  return command({.fstype = std::move(fstype), .label = {}, .mkfs_options = std::move(options)});
}

TEST(MkfsCommand, IsQuickAndLabelled) {
  constexpr auto of = [](const char* fstype) {
    return command({.fstype = fstype, .label = "MyVolume", .mkfs_options = {}});
  };
  EXPECT_EQ(of("ext4"),
            "mkfs.ext4 -F -q -L MyVolume -E lazy_itable_init=1,lazy_journal_init=1,nodiscard /dev/loop7");
  EXPECT_EQ(of("xfs"), "mkfs.xfs -K -q -L MyVolume /dev/loop7");
  EXPECT_EQ(of("btrfs"), "mkfs.btrfs -K -q -L MyVolume /dev/loop7");
  EXPECT_EQ(of("vfat"), "mkfs.vfat -I --mbr=n -n MYVOLUME /dev/loop7");
  EXPECT_EQ(of("minix"), "mkfs.minix /dev/loop7");
}

TEST(MkfsCommand, NeverForcesXfsOrBtrfs) {
  EXPECT_THAT(command("xfs", {}), testing::Not(HasSubstr(" -f")));
  EXPECT_THAT(command("btrfs", {}), testing::Not(HasSubstr(" -f")));
}

TEST(MkfsCommand, PutsTheUsersOptionsLast) {
  EXPECT_EQ(command("ext4", {"-b", "1024", "-m0"}),
            "mkfs.ext4 -F -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -b 1024 -m0 /dev/loop7");
}

TEST(MkfsCommand, PutsTheUsersExtendedOptionsAfterOurs) {
  const std::string merged = "-E lazy_itable_init=1,lazy_journal_init=1,nodiscard,stride=16,discard";
  EXPECT_THAT(command("ext4", {"-E", "stride=16,discard"}), HasSubstr(merged + " /dev"));
  EXPECT_THAT(command("ext4", {"-Estride=16,discard"}), HasSubstr(merged + " /dev"));
  EXPECT_THAT(command("ext4", {"-vE", "stride=16,discard"}), HasSubstr(merged + " -v /dev"));
  EXPECT_THAT(command("ext4", {"-E", "stride=16", "-E", "discard"}), HasSubstr(merged + " /dev"));
}

TEST(MkfsCommand, RefusesWhatNamesAFileOrAnotherDevice) {
  for (std::vector<std::string> options : std::vector<std::vector<std::string>>{{"-d", "etc"},
                                                                                {"-l", "bad"},
                                                                                {"-z", "undo"},
                                                                                {"-qz", "undo"},
                                                                                {"-J", "device=sdb"},
                                                                                {"-O", "journal_dev"},
                                                                                {"-M", "/var"},
                                                                                {"-b", "/dev/sda"}}) {
    EXPECT_THAT(command("ext4", options), HasSubstr("names a file or another device [E_INVALID]"))
        << options[0];
  }
  EXPECT_THAT(command("xfs", {"-l", "logdev=sdb"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("xfs", {"-d", "name=sdb"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("xfs", {"-p", "proto"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("btrfs", {"--rootdir", "etc"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("btrfs", {"--root=etc"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("btrfs", {"-r", "etc"}), HasSubstr("E_INVALID"));
  EXPECT_THAT(command("vfat", {"-C"}), HasSubstr("E_INVALID"));
}

TEST(MkfsCommand, RefusesAnArgumentThatIsNoOptionsValue) {
  EXPECT_THAT(command("ext4", {"sdb"}), HasSubstr("'sdb' is not an option"));
  EXPECT_THAT(command("ext4", {"-F", "sdb"}), HasSubstr("'sdb' is not an option"));
  EXPECT_THAT(command("ext4", {"-b1024", "sdb"}), HasSubstr("'sdb' is not an option"));
  EXPECT_THAT(command("ext4", {"--", "sdb"}), HasSubstr("'--' is not an option"));
  EXPECT_THAT(command("ext4", {"-c", "10M"}), HasSubstr("'10M' is not an option"));
  EXPECT_THAT(command("btrfs", {"-d", "single", "sdb"}), HasSubstr("'sdb' is not an option"));
  EXPECT_THAT(command("minix", {"-i", "100"}), HasSubstr("'100' is not an option"));
  EXPECT_THAT(command("ext4", {""}), HasSubstr("'' is not an option"));
  EXPECT_THAT(command("ext4", {"-"}), HasSubstr("'-' is not an option"));
}

TEST(MkfsCommand, RefusesAnOptionWithoutItsValue) {
  EXPECT_THAT(command("ext4", {"-b"}), HasSubstr("'-b' has no value"));
}

TEST(MkfsCommand, TakesTheValuesOfLongOptions) {
  EXPECT_EQ(command("btrfs", {"--nodesize", "16k", "--csum=xxhash"}),
            "mkfs.btrfs -K -q --nodesize 16k --csum=xxhash /dev/loop7");
}

TEST(MkfsCommand, RefusesTypesThatAreNoPlainNames) {
  for (const char* fstype : {"", "../sh", "ext4 -n", "-ext4", "Ext4", "a.b"}) {
    EXPECT_THAT(command(fstype, {}), HasSubstr("not the name of a file system [E_INVALID]"));
  }
}

TEST(MkfsCommand, BoundsWhatAUserMayAdd) {
  EXPECT_THAT(command("ext4", std::vector<std::string>(65, "-v")), HasSubstr("more than 64 arguments"));
  EXPECT_THAT(command("ext4", {"-O" + std::string(2000, 'x')}), HasSubstr("more than 1024 bytes"));
  EXPECT_THAT(command("ext4", {"-b\n7"}), HasSubstr("a control character"));
}

}  // namespace
}  // namespace vdvs::fsformat
