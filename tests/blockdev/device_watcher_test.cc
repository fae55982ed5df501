// The watcher on real loop devices and real events, and on a made sysfs tree for SCSI disks, of which this
// kernel has none.
#include "blockdev/device_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>

#include "tests/blockdev/loop_node.h"
#include "tests/blockdev/sysfs_tree.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::blockdev {
namespace {

using base::deadline_in;
using base::DiskAddress;
using base::ErrorCode;
using base::LoopAddress;
using base::Result;
using base::ScsiAddress;
using std::chrono::seconds;
using testing::HasSubstr;

/// Long enough that only a lost event reaches it.
constexpr seconds kGenerous{60};

/// A thread that waits for a device, caught in the middle of waiting.
class Waiter {
 public:
  Waiter(DeviceWatch& watch, const DiskAddress& address, base::Deadline deadline) {
    std::promise<pid_t> started;
    auto tid = started.get_future();
    result_ =
        std::async(std::launch::async, [&watch, address, deadline, started = std::move(started)]() mutable {
          started.set_value(::gettid());
          return watch.wait_for(address, deadline);
        });
    wait_until_polling(tid.get());
  }
  Result<Device> get() { return result_.get(); }

 private:
  std::future<Result<Device>> result_;
};

enum class Udevd { kHeard, kAbsent, kLeftover };

/// With udevd's events (where it runs here), without them, and with the control file of a udevd that is no
/// more.
class DeviceWatcherTest : public testing::TestWithParam<Udevd> {
 protected:
  DeviceWatcherTest() : watcher_(make_udev_watcher(options())) {}

  WatcherOptions options() const {
    switch (GetParam()) {
      case Udevd::kHeard:
        return {};
      case Udevd::kAbsent:
        return {.udev_control = folder_.path() + "/missing"};
      case Udevd::kLeftover:
        break;
    }
    EXPECT_TRUE(base::write_file(folder_.path() + "/control", ""));
    return {.udev_control = folder_.path() + "/control"};
  }

  std::string disk_file(const std::string& name) {
    const std::string path = folder_.path() + "/" + name;
    make_disk_file(path);
    return path;
  }

  std::unique_ptr<DeviceWatch> arm() {
    auto watch = watcher_->arm();
    EXPECT_TRUE(watch) << watch.error().text();
    return std::move(*watch);
  }

  tests::TemporaryFolder folder_;
  std::unique_ptr<DeviceWatcher> watcher_;
};

std::string name_of(const testing::TestParamInfo<Udevd>& info) {
  switch (info.param) {
    case Udevd::kHeard:
      return "WithUdevd";
    case Udevd::kAbsent:
      return "WithoutUdevd";
    case Udevd::kLeftover:
      return "WithLeftoverOfUdevd";
  }
  return "Unknown";
}

INSTANTIATE_TEST_SUITE_P(Events, DeviceWatcherTest,
                         testing::Values(Udevd::kHeard, Udevd::kAbsent, Udevd::kLeftover), name_of);

TEST_P(DeviceWatcherTest, FindsADeviceThatIsThereAlready) {
  LoopNode node;
  const auto watch = arm();
  const LoopAddress address = node.attach(disk_file("disk"));
  const auto device = watch->wait_for(address, deadline_in(kGenerous));
  ASSERT_TRUE(device) << device.error().text();
  EXPECT_EQ(device->node, node.path());
  EXPECT_EQ(device->diskseq, address.diskseq);
  EXPECT_EQ(device->size_bytes, 16u * 1024 * 1024);
  EXPECT_FALSE(device->is_read_only);
}

TEST_P(DeviceWatcherTest, WaitsForADeviceThatAppearsLater) {
  LoopNode node;
  const std::string file = disk_file("disk");
  const auto watch = arm();
  Waiter waiter(*watch, address_of_file(file), deadline_in(kGenerous));
  node.attach(file);
  const auto device = waiter.get();
  ASSERT_TRUE(device) << device.error().text();
  EXPECT_EQ(device->node, node.path());
}

TEST_P(DeviceWatcherTest, TellsTwoDevicesThatAppearTogetherApart) {
  LoopNode node_one, node_two;
  const std::string file_one = disk_file("one"), file_two = disk_file("two");
  const auto watch_one = arm(), watch_two = arm();
  Waiter waiter_one(*watch_one, address_of_file(file_one), deadline_in(kGenerous));
  Waiter waiter_two(*watch_two, address_of_file(file_two), deadline_in(kGenerous));
  node_two.attach(file_two);
  node_one.attach(file_one);
  const auto device_one = waiter_one.get(), device_two = waiter_two.get();
  ASSERT_TRUE(device_one && device_two);
  EXPECT_EQ(device_one->node, node_one.path());
  EXPECT_EQ(device_two->node, node_two.path());
}

TEST_P(DeviceWatcherTest, FindsADeviceWhoseHintIsWrong) {
  LoopNode node, other;
  other.attach(disk_file("other"));
  LoopAddress address = node.attach(disk_file("disk"));
  for (const std::string& hint :
       {other.path(), std::string("/dev/loop99999999"), std::string("/dev/null"), std::string()}) {
    address.node = hint;
    const auto device = watcher_->find(address);
    ASSERT_TRUE(device && *device) << hint;
    EXPECT_EQ((*device)->node, node.path());
  }
}

TEST_P(DeviceWatcherTest, DoesNotTakeAnotherFileInTheSameNodeForTheFirst) {
  LoopNode node;
  const LoopAddress first = node.attach(disk_file("first"));
  node.detach();
  const LoopAddress second = node.attach(disk_file("second"));
  ASSERT_NE(first.diskseq, second.diskseq);
  const auto found = watcher_->find(first);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(*found, std::nullopt);
}

TEST_P(DeviceWatcherTest, DoesNotTakeALaterUseOfTheNodeForTheFirst) {
  LoopNode node;
  const std::string file = disk_file("disk");
  const LoopAddress first = node.attach(file);
  node.detach();
  node.attach(file);
  const auto found = watcher_->find(first);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(*found, std::nullopt);
}

TEST_P(DeviceWatcherTest, RefusesToGuessBetweenTwoDevicesOfOneFile) {
  LoopNode one, two;
  const std::string file = disk_file("disk");
  one.attach(file);
  two.attach(file);
  const auto found = watcher_->find(address_of_file(file));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::kBusyElsewhere);
  EXPECT_THAT(found.error().message(), HasSubstr("both carry this file"));
}

TEST_P(DeviceWatcherTest, NamesAtTheDeadlineWhatWasSoughtAndWhatIsThere) {
  LoopNode node;
  LoopAddress address = node.attach(disk_file("other"));
  const std::uint64_t other_inode = address.file_inode;
  address.file_inode = 1;
  const auto device = arm()->wait_for(address, deadline_in(std::chrono::milliseconds(20)));
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code(), ErrorCode::kTimeout);
  const std::string file_system =
      fmt::format("{}:{}", major(address.file_device), minor(address.file_device));
  EXPECT_EQ(device.error().message(), fmt::format("wait for 'loop device of file {} inode 1, diskseq {}': it "
                                                  "did not appear ({} carries file {} inode {}, diskseq {})",
                                                  file_system, address.diskseq, node.path(), file_system,
                                                  other_inode, address.diskseq));
}

TEST_P(DeviceWatcherTest, RefusesAnAddressWithoutAFileAtOnce) {
  const auto device = arm()->wait_for(LoopAddress{.node = "/dev/loop0"}, base::Deadline::max());
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code(), ErrorCode::kInvalid);
}

TEST_P(DeviceWatcherTest, SeesThatADeviceLosesItsFile) {
  LoopNode node;
  const auto device = arm()->wait_for(node.attach(disk_file("disk")), deadline_in(kGenerous));
  ASSERT_TRUE(device);
  const auto watch = arm();
  std::promise<pid_t> started;
  auto gone = std::async(std::launch::async, [&] {
    started.set_value(::gettid());
    return watch->wait_gone(*device, deadline_in(kGenerous));
  });
  wait_until_polling(started.get_future().get());
  node.detach();
  const auto status = gone.get();
  EXPECT_TRUE(status) << status.error().text();
}

TEST_P(DeviceWatcherTest, SeesThatANodeGoes) {
  for (int i = 0; i < 20; ++i) {
    LoopNode node;
    const auto device = arm()->wait_for(node.attach(disk_file("disk")), deadline_in(kGenerous));
    ASSERT_TRUE(device);
    const auto watch = arm();
    auto gone =
        std::async(std::launch::async, [&] { return watch->wait_gone(*device, deadline_in(kGenerous)); });
    node.remove();
    const auto status = gone.get();
    ASSERT_TRUE(status) << status.error().text();
  }
}

TEST_P(DeviceWatcherTest, TakesAReusedNodeForGone) {
  LoopNode node;
  const auto watch = arm();
  const auto device = watch->wait_for(node.attach(disk_file("first")), deadline_in(kGenerous));
  ASSERT_TRUE(device);
  node.detach();
  node.attach(disk_file("second"));
  const auto gone = watch->wait_gone(*device, deadline_in(kGenerous));
  EXPECT_TRUE(gone) << gone.error().text();
}

TEST_P(DeviceWatcherTest, NamesAtTheDeadlineWhatStaysInADevice) {
  LoopNode node;
  const std::string file = disk_file("disk");
  const auto watch = arm();
  const auto device = watch->wait_for(node.attach(file), deadline_in(kGenerous));
  ASSERT_TRUE(device);
  const auto gone = watch->wait_gone(*device, deadline_in(std::chrono::milliseconds(20)));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(gone.error().message(),
            fmt::format("wait until '{}' is gone: it still carries the file '{}' (diskseq {})", node.path(),
                        file, device->diskseq));
}

TEST_P(DeviceWatcherTest, ListsWhatCarriesSomething) {
  LoopNode full, empty;
  const LoopAddress address = full.attach(disk_file("disk"));
  const auto devices = watcher_->coldplug();
  ASSERT_TRUE(devices) << devices.error().text();
  const auto has_node_of = [&](const LoopNode& node) {
    return std::ranges::any_of(*devices, [&](const Device& device) { return device.node == node.path(); });
  };
  EXPECT_TRUE(has_node_of(full));
  EXPECT_FALSE(has_node_of(empty));
  EXPECT_EQ(std::ranges::find(*devices, full.path(), &Device::node)->diskseq, address.diskseq);
}

/// The socket holds a single event, and others pour in while the one that counts is sent: it is mostly lost.
/// A wait that trusted events would run into its deadline.
TEST_P(DeviceWatcherTest, LooksWhereEventsWereLost) {
  auto tiny = options();
  tiny.receive_buffer_bytes = 1;  // The kernel's minimum.
  const auto watcher = make_udev_watcher(tiny);
  LoopNode noise, node;
  const std::string file = disk_file("disk");
  std::atomic<bool> is_done = false;
  auto storm = std::async(std::launch::async, [&] {
    while (!is_done) noise.poke();
  });
  for (int i = 0; i < 10; ++i) {
    const auto watch = watcher->arm();
    ASSERT_TRUE(watch);
    auto found = std::async(std::launch::async, [&] {
      return (*watch)->wait_for(address_of_file(file), deadline_in(kGenerous));
    });
    node.attach(file);
    const auto device = found.get();
    EXPECT_TRUE(device) << device.error().text();
    node.detach();
    EXPECT_TRUE(device && (*watch)->wait_gone(*device, deadline_in(kGenerous)));
  }
  is_done = true;
  storm.get();
}

TEST_P(DeviceWatcherTest, FindsADeviceWhoseEventsOverflowedBeforeTheWait) {
  auto tiny = options();
  tiny.receive_buffer_bytes = 1;
  const auto watch = make_udev_watcher(tiny)->arm();
  ASSERT_TRUE(watch);
  LoopNode node, other;
  for (int i = 0; i < 200; ++i) node.poke();
  const std::string file = disk_file("disk"), late = disk_file("late");
  const auto device = (*watch)->wait_for(node.attach(file), deadline_in(kGenerous));
  ASSERT_TRUE(device) << device.error().text();
  // And the overflow, still unread, does not end the next wait early or for ever.
  Waiter waiter(**watch, address_of_file(late), deadline_in(kGenerous));
  other.attach(late);
  EXPECT_TRUE(waiter.get());
}

/// A made sysfs tree, and block nodes that lead nowhere.
class ScsiWatcherTest : public testing::Test {
 protected:
  ScsiWatcherTest()
      : controller_(tree_.add_controller_behind("0000:00:15.0", "0000:03")),
        watcher_(make_udev_watcher(tree_.options())) {}

  FakeScsiDisk disk(const std::string& serial) const {
    return {.controller = controller_, .target = 1, .name = "sdz", .minor = 400, .serial = serial};
  }

  void make_node(const FakeScsiDisk& disk) {
    ASSERT_EQ(
        ::mknod((tree_.options().dev_root + "/" + disk.name).c_str(), S_IFBLK | 0600, makedev(8, disk.minor)),
        0)
        << ::strerror(errno);
  }

  SysfsTree tree_;
  std::string controller_;
  std::unique_ptr<DeviceWatcher> watcher_;
};

TEST_F(ScsiWatcherTest, DoesNotGiveADeviceThatHasNoNodeYet) {
  tree_.add_disk(disk("abc"));
  const ScsiAddress address{.disk_uuid = {}, .pci_slot = {}, .pci_bus = "15.0", .unit = 1};
  auto watch = watcher_->arm();
  ASSERT_TRUE(watch);
  const auto early = (*watch)->wait_for(address, deadline_in(std::chrono::milliseconds(10)));
  ASSERT_FALSE(early);
  EXPECT_THAT(early.error().message(), HasSubstr("is not its node"));
  make_node(disk("abc"));
  const auto device = (*watch)->wait_for(address, deadline_in(kGenerous));
  ASSERT_TRUE(device) << device.error().text();
  EXPECT_EQ(device->number, makedev(8, 400));
}

TEST_F(ScsiWatcherTest, NeverGivesTheWrongDiskInTheRightPlace) {
  tree_.add_disk(disk("6000c2900000000000000000000000ff"));
  make_node(disk(""));
  const ScsiAddress address{
      .disk_uuid = "6000c29e3f2a4b5c6d7e8f9001122334", .pci_slot = {}, .pci_bus = "15.0", .unit = 1};
  const auto found = watcher_->find(address);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::kBusyElsewhere);
  auto watch = watcher_->arm();
  ASSERT_TRUE(watch);
  const auto waited = (*watch)->wait_for(address, deadline_in(std::chrono::milliseconds(10)));
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().code(), ErrorCode::kBusyElsewhere);
  EXPECT_EQ(
      waited.error().message(),
      "wait for 'SCSI disk 6000c29e3f2a4b5c6d7e8f9001122334 at unit 1 behind bridge 15.0': it did not appear "
      "(another disk is in its place: sdz at 2:0:1:0 is 6000c2900000000000000000000000ff)");
}

TEST_F(ScsiWatcherTest, TakesADiskOutOfTheKernelBeforeItIsReleased) {
  // The node is a real device, so that it can be opened and flushed; its sysfs folder is the test's.
  LoopNode node;
  const std::string file = tree_.root() + "/disk";
  make_disk_file(file);
  const LoopAddress address = node.attach(file);
  struct stat status{};
  ASSERT_EQ(::stat(node.path().c_str(), &status), 0);
  const std::string folder = fmt::format("dev/block/{}:{}", major(status.st_rdev), minor(status.st_rdev));
  tree_.make_folder(folder + "/device");
  tree_.make_folder(folder + "/loop");
  tree_.write(folder + "/size", "32768\n");
  tree_.write(folder + "/diskseq", fmt::format("{}\n", address.diskseq));
  tree_.write(folder + "/loop/backing_file", "disk\n");
  ASSERT_EQ(::mkfifo((tree_.root() + "/sys/" + folder + "/device/delete").c_str(), 0600), 0);

  const Device device{.node = node.path(), .number = status.st_rdev, .diskseq = address.diskseq};
  auto released =
      std::async(std::launch::async, [&] { return watcher_->release(device, deadline_in(kGenerous)); });
  const auto written =
      base::read_file(tree_.root() + "/sys/" + folder + "/device/delete", 16);  // What a kernel would get.
  EXPECT_EQ(written.value_or("nothing"), "1");
  EXPECT_NE(released.wait_for(seconds(0)), std::future_status::ready) << "it waits until the disk is gone";
  std::filesystem::remove_all(tree_.root() + "/sys/" + folder);
  node.poke();  // Stands for the remove event.
  const auto outcome = released.get();
  EXPECT_TRUE(outcome) << outcome.error().text();
}

}  // namespace
}  // namespace vdvs::blockdev
