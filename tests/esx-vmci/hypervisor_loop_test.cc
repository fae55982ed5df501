// The loop hypervisor on the kernel's real loop devices: the contract, and what it promises beyond.
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include <cstring>

#include "tests/esx-vmci/hypervisor_contract.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;

class LoopWorld : public HypervisorWorld {
 public:
  LoopWorld() : hypervisor_(make_loop_hypervisor()) {}
  ~LoopWorld() override { clear_loops_below(folder()); }
  Hypervisor& hypervisor() override { return *hypervisor_; }
  Disk make_disk(const std::string& name, std::string_view beginning) override {
    Disk disk{.descriptor_path = folder() + "/" + name + ".vmdk",
              .extent_path = folder() + "/" + name + "-flat.vmdk",
              .uuid = {}};
    disk.size_bytes = 8 << 20;
    write_text(disk.extent_path, beginning);
    EXPECT_EQ(::truncate(disk.extent_path.c_str(), static_cast<off_t>(disk.size_bytes)), 0);
    return disk;
  }
  std::string folder() const override { return folder_.path(); }
  std::string read_beginning(const base::DiskAddress& address, std::size_t bytes) override {
    std::string text(bytes, '\0');
    auto device = base::open_file(std::get<base::LoopAddress>(address).node, O_RDONLY);
    EXPECT_OK(device);
    EXPECT_EQ(::pread(device->get(), text.data(), bytes, 0), static_cast<ssize_t>(bytes));
    return text;
  }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<Hypervisor> hypervisor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Loop, HypervisorContract, LoopWorld);

class LoopHypervisor : public ::testing::Test {
 protected:
  LoopWorld world_;
  Disk disk_ = world_.make_disk("db", "");
  Hypervisor& hypervisor() { return world_.hypervisor(); }
  base::LoopAddress attach(const Disk& disk) {
    auto address = hypervisor().attach(world_.one, disk);
    EXPECT_OK(address);
    return address ? std::get<base::LoopAddress>(*address) : base::LoopAddress();
  }
  loop_info64 status(const std::string& node) {
    loop_info64 info = {};
    auto device = base::open_file(node, O_RDONLY);
    EXPECT_OK(device);
    EXPECT_EQ(::ioctl(device->get(), LOOP_GET_STATUS64, &info), 0);
    return info;
  }
  /// Whether another process gets the lock on the extent now.
  bool can_lock_elsewhere() {
    return in_child([&] {
             const int fd = ::open(disk_.extent_path.c_str(), O_RDWR);
             return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : 1;
           }) == 0;
  }
};

TEST_F(LoopHypervisor, TellsWhereTheDiskIs) {
  const base::LoopAddress address = attach(disk_);
  struct stat file;
  ASSERT_EQ(::stat(disk_.extent_path.c_str(), &file), 0);
  EXPECT_EQ(address.file_device, file.st_dev);
  EXPECT_EQ(address.file_inode, file.st_ino);
  EXPECT_GT(address.diskseq, 0u);
  EXPECT_EQ(base::read_line_file("/sys/block/" + address.node.substr(5) + "/diskseq").value(),
            std::to_string(address.diskseq));
}

TEST_F(LoopHypervisor, UsesDirectInputAndOutputAndNoAutoclear) {
  const loop_info64 info = status(attach(disk_).node);
  EXPECT_EQ(
      info.lo_flags & (LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_READ_ONLY),
      LO_FLAGS_DIRECT_IO);
}

TEST_F(LoopHypervisor, TheDeviceHoldsTheLockAsLongAsItLives) {
  ASSERT_TRUE(can_lock_elsewhere());
  attach(disk_);
  EXPECT_FALSE(can_lock_elsewhere());
  ASSERT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_TRUE(can_lock_elsewhere());
}

TEST_F(LoopHypervisor, TheLockOutlivesTheProcessThatAttached) {
  ASSERT_EQ(in_child([&] { return make_loop_hypervisor()->attach(world_.one, disk_) ? 0 : 1; }), 0);
  EXPECT_FALSE(can_lock_elsewhere());
  EXPECT_EQ(code_of(hypervisor().attach(world_.two, disk_)), "E_BUSY_ELSEWHERE");
  EXPECT_OK(hypervisor().attach(world_.one, disk_));
  ASSERT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_TRUE(can_lock_elsewhere());
}

TEST_F(LoopHypervisor, IsBusyWhileAnotherProcessHasTheLock) {
  auto holder = base::open_file(disk_.extent_path, O_RDWR);
  ASSERT_OK(holder);
  ASSERT_EQ(::flock(holder->get(), LOCK_EX), 0);
  EXPECT_EQ(code_of(hypervisor().attach(world_.one, disk_)), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(loops_below(world_.folder()), ::testing::IsEmpty());
}

TEST_F(LoopHypervisor, IsBusyWhereALoopDeviceWasMadeByHand) {
  const std::string node = run({"losetup", "--find", "--show", disk_.extent_path});
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused),
              HasSubstr(node.substr(0, node.size() - 1) + ", which was not made by this service"));
}

TEST_F(LoopHypervisor, SeesThroughAnotherNameOfTheSameFile) {
  const std::string alias = world_.folder() + "/alias";
  std::filesystem::create_hard_link(disk_.extent_path, alias);
  run({"losetup", "--find", alias});
  EXPECT_EQ(code_of(hypervisor().attach(world_.one, disk_)), "E_BUSY_ELSEWHERE");
}

TEST_F(LoopHypervisor, AReadOnlyDiskCannotBeWritten) {
  disk_.is_read_only = true;
  const base::LoopAddress address = attach(disk_);
  EXPECT_EQ(base::read_line_file("/sys/block/" + address.node.substr(5) + "/ro").value(), "1");
  EXPECT_FALSE(can_lock_elsewhere());
}

TEST_F(LoopHypervisor, ADiskIsAsLongAsItsDescriptorSays) {
  ASSERT_EQ(::truncate(disk_.extent_path.c_str(), static_cast<off_t>(disk_.size_bytes + 4096)), 0);
  const base::LoopAddress address = attach(disk_);
  EXPECT_EQ(base::read_line_file("/sys/block/" + address.node.substr(5) + "/size").value(),
            std::to_string(disk_.size_bytes / 512));
}

TEST_F(LoopHypervisor, NeverFollowsASymbolicLink) {
  const std::string link = world_.folder() + "/link-flat.vmdk";
  std::filesystem::create_symlink(disk_.extent_path, link);
  disk_.extent_path = link;
  EXPECT_FALSE(hypervisor().attach(world_.one, disk_));
  EXPECT_THAT(loops_below(world_.folder()), ::testing::IsEmpty());
}

TEST_F(LoopHypervisor, DoesNotDetachAMountedDisk) {
  enter_private_mount_namespace();
  const base::LoopAddress address = attach(disk_);
  run({"mkfs.ext4", "-q", address.node});
  const std::string point = world_.folder() + "/mnt";
  std::filesystem::create_directory(point);
  ASSERT_EQ(::mount(address.node.c_str(), point.c_str(), "ext4", 0, ""), 0);
  EXPECT_EQ(code_of(hypervisor().detach(world_.one, disk_)), "E_IN_USE");
  EXPECT_TRUE(hypervisor().find(disk_)->has_value());
  unmount(point);
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_FALSE(hypervisor().find(disk_)->has_value());
}

TEST_F(LoopHypervisor, AnOpenDeviceStaysAttachedAndStaysWhenItIsClosed) {
  const base::LoopAddress address = attach(disk_);
  {
    auto user = base::open_file(address.node, O_RDONLY);
    ASSERT_OK(user);
    EXPECT_EQ(code_of(hypervisor().detach(world_.one, disk_)), "E_IN_USE");
  }
  EXPECT_TRUE(hypervisor().find(disk_)->has_value());
  EXPECT_EQ(status(address.node).lo_flags & LO_FLAGS_AUTOCLEAR, 0u);
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
}

TEST_F(LoopHypervisor, DetachWaitsForAnOpenerThatIsAboutToLeave) {
  const base::LoopAddress address = attach(disk_);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {  // as udev's probing does: opens for a moment
    const int fd = ::open(address.node.c_str(), O_RDONLY);
    (void)!::write(ready[1], "x", 1);
    pollfd nothing{-1, 0, 0};
    ::poll(&nothing, 1, 100);
    ::close(fd);
    ::_exit(0);
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_FALSE(hypervisor().find(disk_)->has_value());
  EXPECT_OK(hypervisor().attach(world_.one, disk_));
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(LoopHypervisor, ExactlyOneOfManyProcessesGetsTheDisk) {
  const std::vector<int> statuses = side_by_side(8, [&](int i) {
    const Vm vm{fmt::format("racer-{}", i), ""};
    auto address = make_loop_hypervisor()->attach(vm, disk_);
    return address ? 0 : address.error().code() == base::ErrorCode::kBusyElsewhere ? 1 : 2;
  });
  EXPECT_EQ(std::ranges::count(statuses, 0), 1);
  EXPECT_EQ(std::ranges::count(statuses, 1), 7);
  EXPECT_EQ(loops_below(world_.folder()).size(), 1u);
}

TEST_F(LoopHypervisor, ManyDisksAtOnceEachGetADeviceOfTheirOwn) {
  std::vector<Disk> disks;
  for (int i = 0; i < 12; ++i)
    disks.push_back(world_.make_disk(fmt::format("d{}", i), fmt::format("disk {:02}", i)));
  const std::vector<int> statuses = side_by_side(12, [&](int i) {
    return make_loop_hypervisor()->attach(world_.one, disks[static_cast<std::size_t>(i)]) ? 0 : 1;
  });
  EXPECT_EQ(std::ranges::count(statuses, 0), 12);
  for (int i = 0; i < 12; ++i) {
    auto found = hypervisor().find(disks[static_cast<std::size_t>(i)]);
    ASSERT_OK(found);
    ASSERT_TRUE(found->has_value());
    EXPECT_EQ(world_.read_beginning((*found)->address, 7), fmt::format("disk {:02}", i));
  }
}

}  // namespace
}  // namespace vdvs::esx::testing
