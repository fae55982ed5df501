#include "blockdev/device_users.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <filesystem>

#include "base/fd.h"
#include "tests/blockdev/sysfs_tree.h"

namespace vdvs::blockdev {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Mountinfo, ReadsALineOfTheManualPage) {
  EXPECT_EQ(
      decode_mountinfo_line("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"),
      (MountinfoEntry{
          .number = makedev(98, 0), .mount_point = "/mnt2", .fs_type = "ext3", .source = "/dev/root"}));
}

TEST(Mountinfo, ReadsAnyNumberOfOptionalFields) {
  EXPECT_EQ(decode_mountinfo_line("36 35 8:1 / /a rw - xfs /dev/sda1 rw")->mount_point, "/a");
  EXPECT_EQ(decode_mountinfo_line("36 35 8:1 / /a rw shared:1 master:2 propagate_from:3 - xfs /dev/sda1 rw")
                ->source,
            "/dev/sda1");
}

TEST(Mountinfo, UndoesTheKernelsEscapes) {
  const auto entry = decode_mountinfo_line(R"(36 35 7:0 / /mnt/a\040b\134c\011d rw - ext4 /dev/loop0 rw)");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->mount_point, "/mnt/a b\\c\td");
}

TEST(Mountinfo, RefusesWhatIsNoEntry) {
  for (const char* line :
       {"", "36", "36 35 7:0 / /a rw", "36 35 7:0 / /a rw - ext4", "36 35 7 / /a rw - ext4 /dev/loop0 rw",
        "36 35 x:0 / /a rw - ext4 /dev/loop0 rw", "36 35 - ext4 /dev/loop0 rw", "- - - - - - - - -"}) {
    EXPECT_EQ(decode_mountinfo_line(line), std::nullopt) << "'" << line << "'";
  }
}

/// A machine with a disk sda and its partition sda1 (the nodes are names only), and processes that the tests
/// make.
class DeviceUsersTest : public testing::Test {
 protected:
  DeviceUsersTest() : controller_(tree_.add_controller_behind("0000:00:15.0", "0000:03")) {
    folder_ = tree_.add_disk({.controller = controller_}) + "/block/sda";
    tree_.make_folder(folder_ + "/holders");
    tree_.make_folder(folder_ + "/sda1/holders");
    tree_.write(folder_ + "/sda1/partition", "1\n");
    tree_.write(folder_ + "/sda1/dev", "8:1\n");
    tree_.link("dev/block/8:1", "../../" + folder_ + "/sda1");
    device_ = {.node = tree_.options().dev_root + "/sda", .number = makedev(8, 0), .diskseq = 9};
  }

  void add_process(const std::string& pid, const std::string& name, const std::string& mount_namespace,
                   const std::string& mountinfo) {
    const std::string folder = tree_.options().proc_root + "/" + pid;
    std::filesystem::create_directories(folder + "/ns");
    std::filesystem::create_directories(folder + "/fd");
    std::filesystem::create_symlink(mount_namespace, folder + "/ns/mnt");
    std::filesystem::create_symlink("/", folder + "/root");
    ASSERT_TRUE(base::write_file(folder + "/comm", name + "\n"));
    ASSERT_TRUE(base::write_file(folder + "/mountinfo", mountinfo));
  }

  std::vector<std::string> users() const {
    auto users = find_device_users(tree_.options(), device_);
    EXPECT_TRUE(users) << users.error().text();
    return users.value_or(std::vector<std::string>());
  }

  SysfsTree tree_;
  std::string controller_;
  std::string folder_;
  Device device_;
};

TEST_F(DeviceUsersTest, AreNobodyWhereNothingUsesTheDevice) {
  add_process("1", "init", "mnt:[1]", "36 35 8:16 / / rw - ext4 /dev/sdb rw\n");
  EXPECT_THAT(users(), IsEmpty());
}

TEST_F(DeviceUsersTest, NameOneProcessOfEachMountNamespace) {
  const std::string mounted = "36 35 8:0 / /mnt/a rw - ext4 /dev/sda rw\n";
  add_process("thread-self", "mountd", "mnt:[1]", mounted);
  add_process("9", "mountd", "mnt:[1]", mounted);
  add_process("10", "redis", "mnt:[2]", mounted);
  add_process("100", "redis-child", "mnt:[2]", mounted);
  add_process("11", "sshd", "mnt:[3]", "");
  EXPECT_THAT(users(), ElementsAre("mounted on '/mnt/a'",
                                   "mounted on '/mnt/a' in the mount namespace of pid 10 (redis)"));
}

TEST_F(DeviceUsersTest, IncludeThoseOfAPartition) {
  add_process("7", "a", "mnt:[1]", "36 35 8:1 / /mnt/p rw - ext4 /dev/sda1 rw\n");
  EXPECT_THAT(users(), ElementsAre("mounted on '/mnt/p' in the mount namespace of pid 7 (a)"));
}

TEST_F(DeviceUsersTest, IncludeFileSystemsWithADeviceNumberOfTheirOwn) {
  add_process("7", "a", "mnt:[1]", fmt::format("36 35 0:41 / /mnt/b rw - btrfs {} rw\n", device_.node));
  EXPECT_THAT(users(), ElementsAre("mounted on '/mnt/b' in the mount namespace of pid 7 (a)"));
}

TEST_F(DeviceUsersTest, IncludeSwapsAndHolders) {
  ASSERT_TRUE(base::write_file(
      tree_.options().proc_root + "/swaps",
      fmt::format("Filename\tType\tSize\tUsed\tPriority\n{}   partition\t1024\t0\t-2\n", device_.node)));
  tree_.make_folder(folder_ + "/sda1/holders/dm-0");
  EXPECT_THAT(users(), ElementsAre("used as swap", "under dm-0"));
}

TEST_F(DeviceUsersTest, AreProcessesThatHaveItOpenOnlyWhereNothingElseExplainsIt) {
  add_process("7", "mkfs.ext4", "mnt:[1]", "");
  std::filesystem::create_symlink(device_.node + "1", tree_.options().proc_root + "/7/fd/3");
  EXPECT_THAT(users(), ElementsAre("open in pid 7 (mkfs.ext4)"));
  tree_.make_folder(folder_ + "/holders/dm-0");
  EXPECT_THAT(users(), ElementsAre("under dm-0"));
}

TEST_F(DeviceUsersTest, AreReadPastProcessesThatEnd) {
  std::filesystem::create_directories(tree_.options().proc_root + "/5");
  add_process("7", "a", "mnt:[1]", "36 35 8:0 / /mnt/a rw - ext4 /dev/sda rw\n");
  EXPECT_THAT(users(), ElementsAre("mounted on '/mnt/a' in the mount namespace of pid 7 (a)"));
}

}  // namespace
}  // namespace vdvs::blockdev
