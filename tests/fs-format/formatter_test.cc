// The formatter with the real tools on real disks: what it makes can be mounted, what is broken is mended or
// refused.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/fs-format/disk_fixture.h"

namespace vdvs::fsformat {
namespace {

using base::ErrorCode;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

constexpr std::uint64_t kDiskBytes = 320 * kMiB;  // xfs wants 300 MiB.

class EveryType : public DiskTest, public testing::WithParamInterface<std::string> {};

TEST_P(EveryType, IsMadeOnABlankDiskWithLabelAndUuid) {
  const LoopDisk disk = make_disk(kDiskBytes);
  const FileSystem made = format(disk, {.fstype = GetParam(), .label = "MyVolume", .mkfs_options = {}});
  EXPECT_EQ(made.type, GetParam());
  EXPECT_EQ(made.label, GetParam() == "vfat" ? "MYVOLUME" : "MyVolume");
  EXPECT_FALSE(made.uuid.empty());
  EXPECT_FALSE(made.needs_check);
  EXPECT_EQ(expect_file_system(disk), made);
}

INSTANTIATE_TEST_SUITE_P(Formatter, EveryType,
                         testing::Values("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat"),
                         [](const auto& test) { return test.param; });

bool can_exceed_resource_limits() {
  constexpr unsigned kCapSysResource = 24;
  const auto status = base::read_file("/proc/self/status", 65536);
  const std::size_t at = status ? status->find("CapEff:") : std::string::npos;
  return at != std::string::npos &&
         (std::stoull(status->substr(at + 7), nullptr, 16) >> kCapSysResource & 1) != 0;
}

std::uint64_t blocks_of(const std::string& target) {
  struct statvfs status = {};
  return ::statvfs(target.c_str(), &status) == 0 ? status.f_blocks : 0;
}

void grow_device(const LoopDisk& disk) {
  ASSERT_EQ(::truncate(disk.image().c_str(), 2 * kDiskBytes), 0);
  disk.refresh_size();
}

class EveryMountableType : public DiskTest, public testing::WithParamInterface<std::string> {};

TEST_P(EveryMountableType, KeepsWhatIsWritten) {
  const LoopDisk disk = make_disk(kDiskBytes);
  format(disk, {.fstype = GetParam(), .label = "MyVolume", .mkfs_options = {}});
  const std::string target = path("target");
  mount(disk, GetParam(), target);
  ASSERT_TRUE(base::write_file(target + "/file", "content"));
  ASSERT_TRUE(mounter_->unmount(target));
  EXPECT_FALSE(expect_file_system(disk).needs_check);
  mount(disk, GetParam(), target);
  EXPECT_EQ(base::read_file(target + "/file", 100).value_or("?"), "content");
}

TEST_P(EveryMountableType, GrowsWhileItIsMounted) {
  if (GetParam().starts_with("ext") && !can_exceed_resource_limits()) {
    GTEST_SKIP() << "limit of the machine: root has no CAP_SYS_RESOURCE, which the kernel wants for growing "
                    "a mounted ext";
  }
  const LoopDisk disk = make_disk(kDiskBytes);
  format(disk, {.fstype = GetParam(), .label = {}, .mkfs_options = {}});
  const std::string target = path("target");
  mount(disk, GetParam(), target);
  const std::uint64_t before = blocks_of(target);
  grow_device(disk);
  const auto grown = formatter_->grow(disk.node(), target, GetParam(), deadline());
  ASSERT_TRUE(grown) << grown.error().text();
  EXPECT_GT(blocks_of(target), before * 3 / 2);
}

INSTANTIATE_TEST_SUITE_P(Formatter, EveryMountableType,
                         testing::Values("ext2", "ext3", "ext4", "xfs", "btrfs"),
                         [](const auto& test) { return test.param; });

class FormatterOnDisk : public DiskTest {
 protected:
  base::Error format_error(const LoopDisk& disk, const FormatRequest& request) {
    Content content = probe(disk);
    auto made = formatter_->format(std::get<Blank>(std::move(content)), request, deadline());
    if (made) throw std::runtime_error("no error");
    return made.error();
  }

  /// An ext4 with a file, copied while it was mounted: as after a crash.
  LoopDisk make_crashed_ext4() {
    const LoopDisk disk = make_disk();
    format(disk, {});
    mount(disk, "ext4", path("before"));
    EXPECT_TRUE(base::write_file(path("before") + "/file", "content"));
    run({"sync", "-f", path("before")});
    run({"cp", "--sparse=always", disk.image(), path("crashed.img")});
    EXPECT_TRUE(mounter_->unmount(path("before")));
    return LoopDisk(path("crashed.img"));
  }
};

TEST_F(FormatterOnDisk, CutsALabelAtACharacter) {
  EXPECT_EQ(format(make_disk(), {.fstype = "ext4", .label = "012345678901234é", .mkfs_options = {}}).label,
            "012345678901234");
  EXPECT_EQ(
      format(make_disk(kDiskBytes, "xfs"), {.fstype = "xfs", .label = "0123456789漢字", .mkfs_options = {}})
          .label,
      "0123456789");
}

TEST_F(FormatterOnDisk, ObeysTheUsersOptions) {
  const LoopDisk disk = make_disk();
  format(disk,
         {.fstype = "ext4", .label = {}, .mkfs_options = {"-b", "1024", "-E", "stride=4,stripe-width=8"}});
  const auto outcome = base::run_command({"dumpe2fs", "-h", disk.node()});
  ASSERT_TRUE(outcome);
  EXPECT_THAT(outcome->output,
              AllOf(HasSubstr("Block size:               1024"), HasSubstr("RAID stride:              4")));
}

TEST_F(FormatterOnDisk, LeavesAFreshDiskSparse) {
  const LoopDisk disk = make_disk(10ull * 1024 * kMiB);
  format(disk, {});
  const auto outcome = base::run_command({"du", "-m", disk.image()});
  ASSERT_TRUE(outcome);
  EXPECT_LT(std::stoi(outcome->output), 40);
}

TEST_F(FormatterOnDisk, RepeatsMkfssWordsForABadOption) {
  const base::Error error =
      format_error(make_disk(), {.fstype = "ext4", .label = {}, .mkfs_options = {"-b", "7"}});
  EXPECT_EQ(error.code(), ErrorCode::kInvalid);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("format '/dev/loop"), HasSubstr("with mkfs.ext4:"),
                                     HasSubstr("invalid block size - 7")));
}

TEST_F(FormatterOnDisk, RepeatsMkfssWordsForADiskThatIsTooSmall) {
  const base::Error error =
      format_error(make_disk(2 * kMiB), {.fstype = "xfs", .label = {}, .mkfs_options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kInvalid);
  EXPECT_THAT(error.message(), HasSubstr("mkfs.xfs"));
}

TEST_F(FormatterOnDisk, SaysWhichTypesThereAreWhereMkfsIsMissing) {
  const base::Error error = format_error(make_disk(), {.fstype = "nosuch", .label = {}, .mkfs_options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.message(),
              AllOf(testing::StartsWith("Not found mkfs for nosuch\nSupported filesystems found: "),
                    HasSubstr("ext2, ext3, ext4"), HasSubstr("xfs")));
}

TEST_F(FormatterOnDisk, DoesNotTakeAnMkfsThatMadeNothingForSuccess) {
  const base::Error error =
      format_error(make_disk(), {.fstype = "ext4", .label = {}, .mkfs_options = {"-n"}});
  EXPECT_THAT(error.message(), HasSubstr("it ended well, but the disk now has no file system"));
}

TEST_F(FormatterOnDisk, KillsMkfsAtTheDeadline) {
  Content content = probe(make_disk());
  const auto made = formatter_->format(std::get<Blank>(std::move(content)), {}, base::Clock::now());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), ErrorCode::kTimeout);
}

TEST_F(FormatterOnDisk, ListsTheTypesThatCanBeMadeSorted) {
  const auto types = formatter_->supported();
  EXPECT_THAT(types, AllOf(Contains("ext4"), Contains("xfs"), Contains("btrfs")));
  EXPECT_TRUE(std::ranges::is_sorted(types));
}

TEST_F(FormatterOnDisk, SaysOfEachTypeWhetherItCanBeMade) {
  for (const std::string& type : formatter_->supported()) EXPECT_TRUE(formatter_->supports(type)) << type;
  for (const char* type : {"", "vfs", "ext4/", "./../../bin/true", "*"})
    EXPECT_FALSE(formatter_->supports(type)) << type;
}

TEST_F(FormatterOnDisk, MendsAnExt4ThatWasNotUnmounted) {
  const LoopDisk disk = make_crashed_ext4();
  const FileSystem before = expect_file_system(disk);
  ASSERT_TRUE(before.needs_check);
  const auto checked = formatter_->check(disk.node(), before, deadline());
  ASSERT_TRUE(checked) << checked.error().text();
  EXPECT_FALSE(expect_file_system(disk).needs_check);
  mount(disk, "ext4", path("target"));
  EXPECT_EQ(base::read_file(path("target") + "/file", 100).value_or("?"), "content");
}

TEST_F(FormatterOnDisk, RefusesABadlyDamagedExt4WithTheCheckersWords) {
  const LoopDisk disk = make_disk();
  format(disk, {.fstype = "ext4", .label = {}, .mkfs_options = {"-b", "4096"}});
  disk.write(4096, std::string(128 * 1024, '\xEE'));  // Group descriptors, bitmaps, and the first inodes.
  run({"debugfs", "-w", "-R", "dirty", "-f", "/dev/null", disk.node()});
  FileSystem fs = expect_file_system(disk);
  const auto checked = formatter_->check(disk.node(), fs, deadline());
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(checked.error().message(),
              AllOf(HasSubstr("with e2fsck:"), HasSubstr("UNEXPECTED INCONSISTENCY")));
  EXPECT_THAT(checked.error().remedy(), HasSubstr("e2fsck " + disk.node()));
}

TEST_F(FormatterOnDisk, DoesNotCheckWhatIsMounted) {
  const LoopDisk disk = make_disk();
  const FileSystem fs = format(disk, {});
  mount(disk, "ext4", path("target"));
  const auto checked = formatter_->check(disk.node(), fs, deadline());
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::kInUse);
}

TEST_F(FormatterOnDisk, ClearsTheDirtyBitOfAVfat) {
  const LoopDisk disk = make_disk();
  format(disk, {.fstype = "vfat", .label = "x", .mkfs_options = {"-F", "32"}});
  disk.write(0x41, "\x01");
  const FileSystem dirty = expect_file_system(disk);
  ASSERT_TRUE(dirty.needs_check);
  const auto checked = formatter_->check(disk.node(), dirty, deadline());
  ASSERT_TRUE(checked) << checked.error().text();
  EXPECT_FALSE(expect_file_system(disk).needs_check);
}

TEST_F(FormatterOnDisk, LeavesADiskAloneThatCannotBeWritten) {
  const LoopDisk disk = make_crashed_ext4();
  const LoopDisk read_only(disk.image(), LoopDisk::Access::kReadOnly);
  EXPECT_TRUE(formatter_->check(read_only.node(), expect_file_system(read_only), deadline()));
}

TEST_F(FormatterOnDisk, GrowsAnExtThatIsNotMounted) {
  for (const char* fstype : {"ext2", "ext3", "ext4"}) {
    const LoopDisk disk = make_disk(kDiskBytes, fstype);
    format(disk, {.fstype = fstype, .label = {}, .mkfs_options = {}});
    mount(disk, fstype, path("target"));
    const std::uint64_t before = blocks_of(path("target"));
    ASSERT_TRUE(base::write_file(path("target") + "/file", "content"));
    ASSERT_TRUE(mounter_->unmount(path("target")));
    grow_device(disk);
    const auto grown = formatter_->grow(disk.node(), {}, fstype, deadline());
    ASSERT_TRUE(grown) << grown.error().text();
    mount(disk, fstype, path("target"));
    EXPECT_GT(blocks_of(path("target")), before * 3 / 2);
    EXPECT_EQ(base::read_file(path("target") + "/file", 100).value_or("?"), "content");
    ASSERT_TRUE(mounter_->unmount(path("target")));
  }
}

TEST_F(FormatterOnDisk, SaysThatATypeCannotGrow) {
  const auto grown = formatter_->grow("/dev/loop0", "/mnt", "vfat", deadline());
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace vdvs::fsformat
