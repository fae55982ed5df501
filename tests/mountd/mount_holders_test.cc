#include "mountd/mount_holders.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

class MountHoldersTest : public ::testing::Test {
 protected:
  std::unique_ptr<MountHolders> open(const std::string& boot = "boot-1") {
    return std::move(MountHolders::open(folder_.path(), boot)).value();
  }
  tests::TemporaryFolder folder_;
};

TEST_F(MountHoldersTest, OneIdMountedTwiceNeedsTwoUnmounts) {  // docker cp on a running container
  auto holders = open();
  ASSERT_TRUE(holders->add("db@ds", "id1", {}));
  ASSERT_TRUE(holders->add("db@ds", "id1", {}));
  ASSERT_TRUE(holders->drop("db@ds", "id1"));
  EXPECT_EQ(holders->total("db@ds"), 1);
  ASSERT_TRUE(holders->drop("db@ds", "id1"));
  EXPECT_EQ(holders->total("db@ds"), 0);
  EXPECT_TRUE(holders->volumes().empty());
}

TEST_F(MountHoldersTest, CountsSurviveARestartOfTheDaemon) {
  ASSERT_TRUE(open()->add("db@ds", "id1", {42, 43}));
  auto holders = open();
  ASSERT_EQ(holders->of("db@ds").size(), 1u);
  EXPECT_EQ(holders->of("db@ds")[0].engine, (ProcessIdentity{42, 43}));
}

TEST_F(MountHoldersTest, CountsDoNotSurviveARebootOfTheHost) {
  ASSERT_TRUE(open("boot-1")->add("db@ds", "id1", {}));
  EXPECT_EQ(open("boot-2")->total("db@ds"), 0);
}

TEST_F(MountHoldersTest, AnUnknownIdIsNoErrorAndTakesNothing) {
  auto holders = open();
  ASSERT_TRUE(holders->add("db@ds", "id1", {}));
  EXPECT_TRUE(holders->drop("db@ds", "id2"));
  EXPECT_TRUE(holders->drop("other@ds", "id1"));
  EXPECT_EQ(holders->total("db@ds"), 1);
}

TEST_F(MountHoldersTest, AnUnknownIdTakesAHolderThatWasFoundWithoutOne) {  // live-restore, after the counts were lost
  auto holders = open();
  ASSERT_TRUE(holders->add_recovered("db@ds", 1));
  EXPECT_TRUE(holders->drop("db@ds", "id1"));
  EXPECT_EQ(holders->total("db@ds"), 0);
}

TEST_F(MountHoldersTest, AFileCutAtAnyByteIsEmptyOrWhole) {
  const std::string path = folder_.path() + "/holders.json";
  ASSERT_TRUE(open()->add("db@ds", "id1", {}));
  const std::string whole = *base::read_file(path, 1 << 20);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    ASSERT_TRUE(base::write_file(path, whole.substr(0, size)));
    const bool lacks_only_the_newline = size + 1 == whole.size();
    ASSERT_EQ(open()->total("db@ds"), lacks_only_the_newline ? 1 : 0) << "cut at " << size;
  }
}

TEST(ProcessIdentity, TellsAProcessFromALaterOneWithItsPid) {
  const ProcessIdentity self = identify_process(::getpid());
  EXPECT_GT(self.start_ticks, 0u);
  EXPECT_TRUE(is_alive(self));
  EXPECT_FALSE(is_alive({self.pid, self.start_ticks + 1}));
  EXPECT_FALSE(is_alive({}));
}

}  // namespace
}  // namespace vdvs::mountd
