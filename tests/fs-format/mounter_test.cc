// The mounter against the kernel: real file systems on loop devices, in a mount namespace of the test's own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "tests/fs-format/disk_fixture.h"

namespace vdvs::fsformat {
namespace {

using base::ErrorCode;
using testing::AllOf;
using testing::HasSubstr;

class MounterOnDisk : public DiskTest {
 protected:
  LoopDisk make_ext4(const std::string& name = "disk.img") {
    LoopDisk disk = make_disk(64 * kMiB, name);
    run({"mkfs.ext4", "-q", disk.node()});
    return disk;
  }

  std::optional<Mount> find_mount(const std::string& target) {
    const auto mounts = mounter_->list();
    if (!mounts) throw std::runtime_error(mounts.error().text());
    const auto found = std::ranges::find(*mounts, target, &Mount::target);
    return found == mounts->end() ? std::nullopt : std::optional(*found);
  }

  base::Error open_error(const MountRequest& request) {
    const auto opened = mounter_->open(request);
    if (opened) throw std::runtime_error("no error");
    return opened.error();
  }

  bool exists(const std::string& name) { return ::access(name.c_str(), F_OK) == 0; }
};

/// O_EXCL: whether nothing in the kernel has claimed the device, a mount above all.
bool is_claimed(const std::string& node) {
  const base::UniqueFd fd(::open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  return !fd.is_open() && errno == EBUSY;
}

TEST_F(MounterOnDisk, MountsAndUnmounts) {
  const LoopDisk disk = make_ext4();
  const std::string target = path("a/b/target");
  mount(disk, "ext4", target, "noatime,nodev,data=writeback");
  const auto mounted = find_mount(target);
  ASSERT_TRUE(mounted);
  EXPECT_EQ(mounted->source, disk.node());
  EXPECT_EQ(mounted->fstype, "ext4");
  EXPECT_EQ(mounted->root, "/");
  EXPECT_FALSE(mounted->is_read_only);
  EXPECT_THAT(base::read_file("/proc/self/mountinfo", kMiB).value_or(""),
              AllOf(HasSubstr("nodev,noatime"), HasSubstr("data=writeback")));
  const auto unmounted = mounter_->unmount(target);
  ASSERT_TRUE(unmounted) << unmounted.error().text();
  EXPECT_FALSE(find_mount(target));
  EXPECT_FALSE(exists(target));
  EXPECT_TRUE(exists(path("a/b")));
}

TEST_F(MounterOnDisk, UnmountsWhenADetachedMountIsDropped) {
  const LoopDisk disk = make_ext4();
  {
    const DetachedMount detached = open_mount({.node = disk.node(), .fstype = "ext4", .options = {}});
    EXPECT_TRUE(is_claimed(disk.node()));
  }
  EXPECT_FALSE(is_claimed(disk.node()));
}

TEST_F(MounterOnDisk, PreparesAnEmptyRootWithOwnerAndMode) {
  const LoopDisk disk = make_ext4();
  DetachedMount detached = open_mount({.node = disk.node(), .fstype = "ext4", .options = {}});
  const auto prepared = mounter_->prepare_root(detached, {.uid = 999, .gid = 998, .mode = 01770});
  ASSERT_TRUE(prepared) << prepared.error().text();
  ASSERT_TRUE(mounter_->attach(std::move(detached), path("target")));
  struct stat status = {};
  ASSERT_EQ(::stat(path("target").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 999u);
  EXPECT_EQ(status.st_gid, 998u);
  EXPECT_EQ(status.st_mode & 07777u, 01770u);
  EXPECT_FALSE(exists(path("target") + "/lost+found"));
}

TEST_F(MounterOnDisk, KeepsALostAndFoundThatHoldsSomething) {
  const LoopDisk disk = make_ext4();
  DetachedMount detached = open_mount({.node = disk.node(), .fstype = "ext4", .options = {}});
  ASSERT_EQ(::mkdirat(detached.fd().get(), "lost+found/found", 0755), 0);
  EXPECT_TRUE(mounter_->prepare_root(detached, {}));
  EXPECT_EQ(::faccessat(detached.fd().get(), "lost+found/found", F_OK, 0), 0);
}

TEST_F(MounterOnDisk, HonoursReadOnly) {
  const LoopDisk disk = make_ext4();
  ASSERT_TRUE(mounter_->attach(
      open_mount({.node = disk.node(), .fstype = "ext4", .is_read_only = true, .options = {}}),
      path("target")));
  EXPECT_TRUE(find_mount(path("target"))->is_read_only);
  const auto written = base::write_file(path("target") + "/file", "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().system_errno(), EROFS);
}

TEST_F(MounterOnDisk, MountsADeviceThatCannotBeWrittenReadOnlyAlone) {
  const LoopDisk disk = make_ext4();
  const LoopDisk read_only(disk.image(), LoopDisk::Access::kReadOnly);
  const base::Error error = open_error({.node = read_only.node(), .fstype = "ext4", .options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kReadOnly);
  EXPECT_EQ(error.remedy(), "the device is read-only: mount it read-only");
  EXPECT_TRUE(
      mounter_->open({.node = read_only.node(), .fstype = "ext4", .is_read_only = true, .options = {}}));
}

TEST_F(MounterOnDisk, SaysWhatToDoWithAJournalThatCannotBeReplayed) {
  const LoopDisk disk = make_ext4();
  mount(disk, "ext4", path("before"));
  ASSERT_TRUE(base::write_file(path("before") + "/file", "x"));
  run({"sync", "-f", path("before")});
  run({"cp", "--sparse=always", disk.image(), path("crashed.img")});
  const LoopDisk crashed(path("crashed.img"), LoopDisk::Access::kReadOnly);
  const base::Error error =
      open_error({.node = crashed.node(), .fstype = "ext4", .is_read_only = true, .options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kReadOnly);
  EXPECT_THAT(error.message(), HasSubstr("recovery required on readonly filesystem"));
  EXPECT_THAT(error.remedy(), HasSubstr("'noload'"));
  EXPECT_TRUE(
      mounter_->open({.node = crashed.node(), .fstype = "ext4", .is_read_only = true, .options = "noload"}));
}

TEST_F(MounterOnDisk, RepeatsTheKernelsWordsForAnUnknownOption) {
  const LoopDisk disk = make_ext4();
  const base::Error error =
      open_error({.node = disk.node(), .fstype = "ext4", .options = "noatime,nosuchoption"});
  EXPECT_EQ(error.code(), ErrorCode::kInvalid);
  EXPECT_THAT(error.message(),
              AllOf(HasSubstr("option 'nosuchoption'"), HasSubstr("Unknown parameter 'nosuchoption'")));
}

TEST_F(MounterOnDisk, RepeatsTheKernelsWordsForABadValue) {
  const LoopDisk disk = make_ext4();
  const base::Error error = open_error({.node = disk.node(), .fstype = "ext4", .options = "commit=often"});
  EXPECT_EQ(error.code(), ErrorCode::kInvalid);
  EXPECT_THAT(error.message(), HasSubstr("Bad value for 'commit'"));
}

TEST_F(MounterOnDisk, RepeatsTheKernelsWordsForOptionsThatDoNotGoTogether) {
  const LoopDisk disk = make_ext4();
  const base::Error error =
      open_error({.node = disk.node(), .fstype = "ext4", .options = "data=journal,delalloc"});
  EXPECT_EQ(error.code(), ErrorCode::kInvalid);
  EXPECT_THAT(error.message(), HasSubstr("can't mount with both data=journal and delalloc"));
}

TEST_F(MounterOnDisk, CallsADiskWithoutAFileSystemCorrupt) {
  const LoopDisk disk = make_disk();
  const base::Error error = open_error({.node = disk.node(), .fstype = "ext4", .options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(error.message(), HasSubstr("VFS: Can't find ext4 filesystem"));
}

TEST_F(MounterOnDisk, SaysThatTheKernelLacksAFileSystem) {
  const base::Error error = open_error({.node = "/dev/loop0", .fstype = "nosuch", .options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
}

TEST_F(MounterOnDisk, MountsTwoClonesOfOneXfsAtOnce) {
  const LoopDisk disk = make_disk(320 * kMiB);
  run({"mkfs.xfs", "-q", disk.node()});
  run({"cp", "--sparse=always", disk.image(), path("clone.img")});
  const LoopDisk clone(path("clone.img"));
  mount(disk, "xfs", path("one"));
  mount(clone, "xfs", path("two"));
  ASSERT_TRUE(base::write_file(path("one") + "/file", "one"));
  EXPECT_FALSE(exists(path("two") + "/file"));
  EXPECT_EQ(find_mount(path("two"))->source, clone.node());
}

TEST_F(MounterOnDisk, CallsADamagedXfsCorrupt) {
  const LoopDisk disk = make_disk(320 * kMiB);
  run({"mkfs.xfs", "-q", disk.node()});
  disk.write(108, "damaged");
  const base::Error error = open_error({.node = disk.node(), .fstype = "xfs", .options = {}});
  EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(error.message(), HasSubstr("XFS"));
}

TEST_F(MounterOnDisk, LeavesAFolderUnderTheMountThatRootCannotWrite) {
  const LoopDisk disk = make_ext4();
  const std::string target = path("target");
  mount(disk, "ext4", target);
  ASSERT_EQ(::chdir("/"), 0);
  run({"umount", target});
  const auto written = base::write_file(target + "/file", "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().system_errno(), EPERM);
  struct stat status = {};
  ASSERT_EQ(::stat(target.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777u, 0u);
  mount(disk, "ext4", target);  // The folder is used again.
  ASSERT_TRUE(mounter_->unmount(target));
  EXPECT_FALSE(exists(target));
}

TEST_F(MounterOnDisk, ClosesTheFolderByItsModeWhereThereAreNoAttributes) {
  const LoopDisk disk = make_ext4();
  ASSERT_EQ(::mkdir(path("host").c_str(), 0755), 0);
  ASSERT_EQ(::mount("host", path("host").c_str(), "ramfs", 0, nullptr), 0);
  const std::string target = path("host") + "/target";
  mount(disk, "ext4", target);
  run({"umount", target});
  struct stat status = {};
  ASSERT_EQ(::stat(target.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777u, 0u);
  ASSERT_TRUE(mounter_->unmount(target));
  EXPECT_FALSE(exists(target));
}

TEST_F(MounterOnDisk, NeverHidesWhatIsInTheFolder) {
  const LoopDisk disk = make_ext4();
  run_shell(fmt::format("mkdir '{0}' && touch '{0}/file'", path("target")));
  const auto attached =
      mounter_->attach(open_mount({.node = disk.node(), .fstype = "ext4", .options = {}}), path("target"));
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code(), ErrorCode::kExists);
  EXPECT_THAT(attached.error().message(), HasSubstr("the folder is not empty"));
  ASSERT_TRUE(mounter_->unmount(path("target")));
  EXPECT_TRUE(exists(path("target") + "/file"));
}

TEST_F(MounterOnDisk, NeverMountsOverAnotherMount) {
  const LoopDisk one = make_ext4("one.img");
  const LoopDisk two = make_ext4("two.img");
  mount(one, "ext4", path("target"));
  const auto attached =
      mounter_->attach(open_mount({.node = two.node(), .fstype = "ext4", .options = {}}), path("target"));
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code(), ErrorCode::kExists);
  EXPECT_EQ(find_mount(path("target"))->source, one.node());
  EXPECT_FALSE(is_claimed(two.node()));
}

TEST_F(MounterOnDisk, NeverFollowsALinkThatStandsInTheFoldersPlace) {
  const LoopDisk disk = make_ext4();
  ASSERT_EQ(::mkdir(path("elsewhere").c_str(), 0755), 0);
  ASSERT_EQ(::symlink("elsewhere", path("target").c_str()), 0);
  const auto attached =
      mounter_->attach(open_mount({.node = disk.node(), .fstype = "ext4", .options = {}}), path("target"));
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code(), ErrorCode::kExists);
}

TEST_F(MounterOnDisk, UnmountsTwice) {
  const LoopDisk disk = make_ext4();
  mount(disk, "ext4", path("target"));
  EXPECT_TRUE(mounter_->unmount(path("target")));
  EXPECT_TRUE(mounter_->unmount(path("target")));
}

TEST_F(MounterOnDisk, RemovesAFolderThatIsNotMounted) {
  ASSERT_EQ(::mkdir(path("target").c_str(), 0), 0);
  EXPECT_TRUE(mounter_->unmount(path("target")));
  EXPECT_FALSE(exists(path("target")));
}

TEST_F(MounterOnDisk, NamesTheProcessThatHoldsAFileOpen) {
  const LoopDisk disk = make_ext4();
  const std::string target = path("target");
  mount(disk, "ext4", target);
  std::array<int, 2> ready;
  std::array<int, 2> done;
  ASSERT_EQ(::pipe(ready.data()) | ::pipe(done.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    const int fd = ::open((target + "/file").c_str(), O_RDWR | O_CREAT, 0600);
    ::close(done[1]);
    if (fd >= 0 && ::write(ready[1], "x", 1) == 1) (void)!::read(done[0], &byte, 1);
    ::_exit(0);
  }
  ::close(done[0]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto unmounted = mounter_->unmount(target);
  ::close(done[1]);
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(unmounted);
  EXPECT_EQ(unmounted.error().code(), ErrorCode::kInUse);
  EXPECT_THAT(unmounted.error().message(), HasSubstr(fmt::format("(pid {})", child)));
  EXPECT_TRUE(mounter_->unmount(target));
}

TEST_F(MounterOnDisk, NamesTheMountThatLiesBelow) {
  const LoopDisk disk = make_ext4();
  const std::string target = path("target");
  mount(disk, "ext4", target);
  ASSERT_EQ(::mkdir((target + "/below").c_str(), 0755), 0);
  ASSERT_EQ(::mount("none", (target + "/below").c_str(), "tmpfs", 0, nullptr), 0);
  const auto unmounted = mounter_->unmount(target);
  ASSERT_FALSE(unmounted);
  EXPECT_THAT(unmounted.error().message(), HasSubstr("in use by a mount at '" + target + "/below'"));
  run({"umount", target + "/below"});
  EXPECT_TRUE(mounter_->unmount(target));
}

TEST_F(MounterOnDisk, MakesAFolderASharedMountOnce) {
  const std::string root = path("volumes");
  ASSERT_TRUE(mounter_->share(root));
  ASSERT_TRUE(find_mount(root));
  EXPECT_TRUE(find_mount(root)->is_shared);
  ASSERT_TRUE(mounter_->share(root));
  ASSERT_TRUE(mounter_->share(root + "/inner"));
  const auto mounts = mounter_->list();
  ASSERT_TRUE(mounts);
  EXPECT_EQ(std::ranges::count(*mounts, root, &Mount::target), 1);
  EXPECT_FALSE(find_mount(root + "/inner"));
}

TEST_F(MounterOnDisk, LetsMountsUnderASharedFolderReachOtherNamespaces) {
  const LoopDisk disk = make_ext4();
  const std::string root = path("volumes");
  ASSERT_TRUE(mounter_->share(root));
  std::array<int, 2> ready;
  std::array<int, 2> done;
  ASSERT_EQ(::pipe(ready.data()) | ::pipe(done.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    ::close(done[1]);
    const bool is_apart = ::unshare(CLONE_NEWNS) == 0;
    if (!is_apart || ::write(ready[1], "x", 1) != 1) ::_exit(2);
    if (::read(done[0], &byte, 1) != 1) ::_exit(3);
    ::_exit(::access((root + "/db/lost+found").c_str(), F_OK) == 0 ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  mount(disk, "ext4", root + "/db");
  ASSERT_EQ(::write(done[1], "x", 1), 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace vdvs::fsformat
