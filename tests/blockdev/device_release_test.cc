// Release: what keeps a device here, and that nothing is lost when it goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/wait.h>

#include <filesystem>

#include "base/command.h"
#include "blockdev/device_watcher.h"
#include "tests/blockdev/loop_node.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::blockdev {
namespace {

using base::deadline_in;
using base::ErrorCode;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr seconds kGenerous{60};

void run(const std::vector<std::string>& argv) {
  const auto outcome = base::run_command(argv, {.deadline = deadline_in(kGenerous), .on_output = {}});
  ASSERT_TRUE(outcome) << outcome.error().text();
  ASSERT_EQ(outcome->exit_status, 0) << argv[0] << ": " << outcome->output;
}

class DeviceReleaseTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "this test needs root: " << ::strerror(errno);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    file_ = folder_.path() + "/disk";
    mount_point_ = folder_.path() + "/mounted";
    std::filesystem::create_directory(mount_point_);
    make_disk_file(file_, 64 * 1024 * 1024);
    attach();
  }

  void TearDown() override { (void)::umount2(mount_point_.c_str(), MNT_DETACH); }

  void attach(unsigned flags = 0) {
    auto device = watcher_->find(node_.attach(file_, flags));
    ASSERT_TRUE(device && *device);
    device_ = **device;
  }

  void make_file_system(const std::string& type) { run({"mkfs." + type, "-q", device_.node}); }

  base::Result<void> release() { return watcher_->release(device_, deadline_in(kGenerous)); }

  void expect_refused(const testing::Matcher<std::string>& message) {
    const auto status = release();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), ErrorCode::kInUse);
    EXPECT_THAT(status.error().message(),
                AllOf(HasSubstr("release '" + device_.node + "': the device is in use ("), message));
  }

  void expect_released() {
    const auto status = release();
    EXPECT_TRUE(status) << status.error().text();
  }

  tests::TemporaryFolder folder_;
  LoopNode node_;
  std::unique_ptr<DeviceWatcher> watcher_ = make_udev_watcher();
  std::string file_;
  std::string mount_point_;
  Device device_;
};

TEST_F(DeviceReleaseTest, WritesBackWhatTheKernelStillHolds) {
  const auto node = base::open_file(device_.node, O_RDWR);
  ASSERT_TRUE(node);
  ASSERT_TRUE(base::write_all_at(*node, "precious", 4096, device_.node));
  expect_released();
  const auto content = base::read_file(file_, 64 * 1024 * 1024);
  ASSERT_TRUE(content);
  EXPECT_EQ(content->substr(4096, 8), "precious");
}

TEST_F(DeviceReleaseTest, RefusesAMountedDevice) {
  make_file_system("ext4");
  ASSERT_EQ(::mount(device_.node.c_str(), mount_point_.c_str(), "ext4", 0, nullptr), 0);
  expect_refused(HasSubstr("(mounted on '" + mount_point_ + "')"));
  ASSERT_EQ(::umount2(mount_point_.c_str(), 0), 0);
  expect_released();
}

TEST_F(DeviceReleaseTest, RefusesAMountedFileSystemWithADeviceNumberOfItsOwn) {
  node_.detach();
  std::filesystem::resize_file(file_, 256 * 1024 * 1024);
  attach();
  make_file_system("btrfs");
  ASSERT_EQ(::mount(device_.node.c_str(), mount_point_.c_str(), "btrfs", 0, nullptr), 0);
  expect_refused(HasSubstr("(mounted on '" + mount_point_ + "')"));
}

/// Like a container that was started while the volume was mounted, and that still has it.
TEST_F(DeviceReleaseTest, RefusesADeviceMountedInAnotherMountNamespaceOnlyAndNamesTheProcess) {
  make_file_system("ext4");
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool is_mounted = ::unshare(CLONE_NEWNS) == 0 &&
                            ::mount(device_.node.c_str(), mount_point_.c_str(), "ext4", 0, nullptr) == 0;
    (void)!::write(ready[1], is_mounted ? "y" : "n", 1);
    for (;;) ::pause();
  }
  ASSERT_GT(child, 0);
  char answer = 0;
  EXPECT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  expect_refused(HasSubstr(
      fmt::format("mounted on '{}' in the mount namespace of pid {} (device_release", mount_point_, child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  // The dead process's mounts go a moment after it.
  wait_until("the mount namespace is gone", [&] { return release().has_value(); });
}

TEST_F(DeviceReleaseTest, RefusesADiskWithAMountedPartition) {
  node_.detach();
  attach(LO_FLAGS_PARTSCAN);
  run({"addpart", device_.node, "1", "2048", "65536"});  // By hand: a kernel may know no partition table.
  const std::string partition = device_.node + "p1";
  run({"mkfs.ext4", "-q", partition});
  ASSERT_EQ(::mount(partition.c_str(), mount_point_.c_str(), "ext4", 0, nullptr), 0);
  expect_refused(HasSubstr("mounted on '" + mount_point_ + "'"));
}

TEST_F(DeviceReleaseTest, RefusesADeviceThatIsSwap) {
  run({"mkswap", "-q", device_.node});
  if (::swapon(device_.node.c_str(), 0) != 0 && (errno == EPERM || errno == ENOSYS)) {
    GTEST_SKIP() << "limit of the machine: swapon: " << ::strerror(errno);
  }
  expect_refused(HasSubstr("used as swap"));
  ASSERT_EQ(::swapoff(device_.node.c_str()), 0);
  expect_released();
}

TEST_F(DeviceReleaseTest, RefusesADeviceThatAProcessHoldsForItself) {
  const auto held = base::open_file(device_.node, O_RDWR | O_EXCL);
  ASSERT_TRUE(held);
  expect_refused(HasSubstr("open in this process"));
}

TEST_F(DeviceReleaseTest, LetsADeviceGoThatIsOnlyLookedAt) {
  const auto looked_at = base::open_file(device_.node, O_RDONLY);
  ASSERT_TRUE(looked_at);
  expect_released();
}

TEST_F(DeviceReleaseTest, HasNothingToDoForADeviceThatIsGone) {
  node_.detach();
  expect_released();
  node_.remove();
  expect_released();
}

TEST_F(DeviceReleaseTest, LeavesTheNextUserOfANodeAlone) {
  node_.detach();
  const Device first = device_;
  attach();
  make_file_system("ext4");
  ASSERT_EQ(::mount(device_.node.c_str(), mount_point_.c_str(), "ext4", 0, nullptr), 0);
  EXPECT_TRUE(watcher_->release(first, deadline_in(kGenerous)))
      << "the first use of the node is over, so it is released";
  expect_refused(HasSubstr("mounted on '" + mount_point_ + "'"));
}

}  // namespace
}  // namespace vdvs::blockdev
