// What each request means: counts, comparisons with the engine, and what is answered when the control plane is silent.

#include "mountd/volume_keeper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "fake_world.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

const std::string kTarget = "/mnt/fake/db@ds";

class VolumeKeeperTest : public ::testing::Test {
 protected:
  esx::VolumeName name(const std::string& text = "db") { return *esx::VolumeName::parse(text); }
  FakeDisk& disk() { return fake_.machine.disks.at("db"); }
  ContainerMount container() { return {.volume = "db", .driver = "vsphere", .source = kTarget, .container = "web", .is_running = true}; }
  ContainerMount stopped_container() { return {.volume = "db", .driver = "vsphere", .source = "", .container = "web"}; }
  EngineWord word(std::vector<ContainerMount> mounts) { return {std::move(mounts), boot_time() + std::chrono::hours(1)}; }
  ProcessIdentity live_engine() { return identify_process(::getpid()); }
  ProcessIdentity dead_engine() { return {::getpid(), 1}; }

  void create(const esx::OptionMap& options = {}) { ASSERT_TRUE(keeper_.create(name(), options, "", {})); }
  void mount_for(const std::string& id, ProcessIdentity engine) {
    auto path = keeper_.mount(name());
    ASSERT_TRUE(path) << path.error().text();
    EXPECT_EQ(*path, kTarget);
    ASSERT_TRUE(keeper_.hold(name(), id, engine));
  }

  tests::TemporaryFolder folder_;
  FakeWorld fake_;
  std::unique_ptr<VolumeCatalogue> catalogue_ = std::move(VolumeCatalogue::open(folder_.path() + "/catalogue.log")).value();
  std::unique_ptr<MountHolders> holders_ = std::move(MountHolders::open(folder_.path() + "/run", "boot")).value();
  VolumeKeeper keeper_{fake_.world, *holders_, *catalogue_};
};

TEST_F(VolumeKeeperTest, CreateTwiceWithTheSameOptionsIsSuccess) {
  create({{"size", "1gb"}});
  create({{"size", "1024mb"}});
  create();
}

TEST_F(VolumeKeeperTest, CreateWithOtherOptionsIsRefusedWithTheDifference) {
  create({{"size", "1gb"}});
  auto again = keeper_.create(name(), {{"size", "2gb"}}, "", {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), base::ErrorCode::kExists);
  EXPECT_NE(again.error().text().find("already exists"), std::string::npos);
  EXPECT_NE(again.error().text().find("size"), std::string::npos) << again.error().text();
}

TEST_F(VolumeKeeperTest, CreateWithAFileSystemThatCannotBeMadeHereListsThoseThatCan) {
  auto created = keeper_.create(name(), {{"fstype", "zfs"}}, "", {});
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().message(), "create 'db': Not found mkfs for zfs\nSupported filesystems found: btrfs, ext4, xfs");
  EXPECT_TRUE(fake_.machine.disks.empty());
}

TEST_F(VolumeKeeperTest, BadMkfsAndMountOptionsAreRefusedAtTheCreate) {
  for (const auto& [option, value] : esx::OptionMap{{"mountopts", "errors=panic"}, {"mountopts", "remount"}, {"mkfsopts", "/dev/sda"}}) {
    auto created = keeper_.create(name(), {{option, value}}, "", {});
    ASSERT_FALSE(created) << value;
    EXPECT_EQ(created.error().code(), base::ErrorCode::kInvalid) << value;
    EXPECT_NE(created.error().message().find(option), std::string::npos) << created.error().text();
  }
  EXPECT_TRUE(fake_.machine.disks.empty());
}

TEST_F(VolumeKeeperTest, FormatNowLeavesAFormattedDetachedVolume) {
  create({{"format", "now"}});
  EXPECT_EQ(disk().content, FakeContent::kFileSystem);
  EXPECT_EQ(disk().place, FakeDisk::kNowhere);
}

TEST_F(VolumeKeeperTest, FormatNowThatFailsLeavesNoVolume) {
  fake_.machine.fault = FaultKind::kFailBefore;
  fake_.machine.fault_at = 3;  // create, attach, set_init, mkfs
  auto created = keeper_.create(name(), {{"format", "now"}}, "", {});
  ASSERT_FALSE(created);
  EXPECT_NE(created.error().text().find("mkfs"), std::string::npos) << created.error().text();
  EXPECT_TRUE(fake_.machine.disks.empty());
}

TEST_F(VolumeKeeperTest, TheSecondContainerKeepsWhatTheFirstLeaves) {
  create();
  mount_for("id1", live_engine());
  mount_for("id2", live_engine());
  EXPECT_EQ(*keeper_.unmount(name(), "id1"), 1);
  EXPECT_TRUE(disk().is_mounted);
  EXPECT_EQ(*keeper_.unmount(name(), "id2"), 0);
  EXPECT_FALSE(disk().is_mounted);
  EXPECT_EQ(disk().place, FakeDisk::kHere) << "the detach lingers";
  ASSERT_TRUE(keeper_.settle(name()));
  EXPECT_EQ(disk().place, FakeDisk::kNowhere);
}

TEST_F(VolumeKeeperTest, DockerCpOnARunningContainerDoesNotTakeItsMountAway) {
  create();
  mount_for("id1", live_engine());
  mount_for("id1", live_engine());
  EXPECT_EQ(*keeper_.unmount(name(), "id1"), 1);
  EXPECT_TRUE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, ShortAndQualifiedNamesAreOneVolume) {
  create();
  mount_for("id1", live_engine());
  EXPECT_EQ(*keeper_.unmount(name("db@ds"), "id1"), 0);
  EXPECT_FALSE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, SettleLeavesAHeldVolumeAlone) {
  create();
  mount_for("id1", live_engine());
  ASSERT_TRUE(keeper_.settle(name()));
  EXPECT_TRUE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, RemoveIsRefusedWhileAContainerHoldsIt) {
  create();
  mount_for("id1", live_engine());
  auto removed = keeper_.remove(name());
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), base::ErrorCode::kInUse);
  EXPECT_TRUE(fake_.machine.disks.contains("db"));
}

TEST_F(VolumeKeeperTest, AFailedMountLeavesNothingAttached) {
  create();
  disk().content = FakeContent::kForeign;
  ASSERT_FALSE(keeper_.mount(name()));
  EXPECT_EQ(disk().place, FakeDisk::kNowhere);
}

TEST_F(VolumeKeeperTest, CountsOfADeadEngineAreDroppedWhenNothingRuns) {
  create();
  mount_for("id1", dead_engine());
  auto outcome = keeper_.reconcile(name(), word({stopped_container()}));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->holders_left, 0);
  EXPECT_FALSE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, AStartingContainerOfALivingEngineIsWaitedFor) {
  create();
  mount_for("id1", live_engine());
  auto outcome = keeper_.reconcile(name(), word({stopped_container()}));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->holders_left, 1);
  ASSERT_TRUE(outcome->look_again_in);
  EXPECT_LE(*outcome->look_again_in, kStartGrace);
  EXPECT_TRUE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, DockerCreateMountsBeforeItsContainerIsListed) {
  create();
  mount_for("id1", live_engine());
  EXPECT_EQ(keeper_.reconcile(name(), word({}))->holders_left, 1);
  EXPECT_TRUE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, AContainerThatWasRemovedWhileNobodyWasThereHoldsNothing) {
  create();
  mount_for("id1", live_engine());
  auto reopened = std::move(MountHolders::open(folder_.path() + "/run", "boot")).value();
  VolumeKeeper restarted{fake_.world, *reopened, *catalogue_};
  EXPECT_EQ(restarted.reconcile(name(), word({stopped_container()}))->holders_left, 1);
  EXPECT_EQ(restarted.reconcile(name(), word({}))->holders_left, 0);
  EXPECT_FALSE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, AHolderWhoseLastCallWasAnUnmountIsNotStarting) {  // one id, mounted again after both daemons were killed
  create();
  mount_for("id1", dead_engine());
  mount_for("id1", live_engine());
  EXPECT_EQ(*keeper_.unmount(name(), "id1"), 1);
  EXPECT_EQ(keeper_.reconcile(name(), word({stopped_container()}))->holders_left, 0);
}

TEST_F(VolumeKeeperTest, AMountThatCameAfterTheQuestionIsNotInTheAnswer) {
  create();
  mount_for("id1", dead_engine());
  auto outcome = keeper_.reconcile(name(), {{}, std::chrono::milliseconds(0)});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->holders_left, 1);
  EXPECT_TRUE(outcome->look_again_in);
}

TEST_F(VolumeKeeperTest, AMountOfAnUnknownEngineIsWaitedForToo) {
  create();
  mount_for("id1", {});
  EXPECT_EQ(keeper_.reconcile(name(), word({stopped_container()}))->holders_left, 1);
}

TEST_F(VolumeKeeperTest, ARunningContainerKeepsItsVolumeThoughTheCountsAreLost) {
  create();
  ASSERT_TRUE(keeper_.mount(name()));
  auto outcome = keeper_.reconcile(name(), word({container(), container()}));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->holders_left, 2);
  EXPECT_EQ(*keeper_.unmount(name(), "an id never heard of"), 1);
  EXPECT_EQ(*keeper_.unmount(name(), "another"), 0);
  EXPECT_FALSE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, AContainerOfAnotherVolumeDoesNotCount) {
  create();
  mount_for("id1", dead_engine());
  ContainerMount other{.volume = "db2", .driver = "vsphere", .source = "/mnt/fake/db2@ds", .container = "web", .is_running = true};
  EXPECT_EQ(keeper_.reconcile(name(), word({other}))->holders_left, 0);
}

TEST_F(VolumeKeeperTest, RecoveryMountsWhatIsHeldAndDetachesWhatIsNot) {
  create();
  ASSERT_TRUE(holders_->add("db@ds", "id1", live_engine()));
  ASSERT_TRUE(keeper_.recover(name(), true));
  EXPECT_TRUE(disk().is_mounted);
  ASSERT_TRUE(holders_->drop("db@ds", "id1"));
  disk().is_mounted = false;
  ASSERT_TRUE(keeper_.recover(name(), true));
  EXPECT_EQ(disk().place, FakeDisk::kNowhere);
}

TEST_F(VolumeKeeperTest, RecoveryWaitsForTheEngineBeforeItUnmounts) {
  create();
  ASSERT_TRUE(keeper_.mount(name()));
  ASSERT_TRUE(keeper_.recover(name(), true));
  EXPECT_TRUE(disk().is_mounted);
  ASSERT_TRUE(keeper_.recover(name(), false));
  EXPECT_FALSE(disk().is_mounted);
}

TEST_F(VolumeKeeperTest, TracesFindTheAttachedTheMountedAndTheHeld) {
  create();
  ASSERT_TRUE(keeper_.create(name("b"), {}, "", {}));
  disk().place = FakeDisk::kHere;
  ASSERT_TRUE(holders_->add("gone@ds", "id", {}));
  auto traces = keeper_.traces();
  ASSERT_TRUE(traces);
  std::vector<std::string> texts;
  EXPECT_TRUE(traces->is_whole);
  for (const auto& trace : traces->volumes) texts.push_back(trace.text());
  EXPECT_EQ(texts, (std::vector<std::string>{"db@ds", "gone@ds"}));
}

TEST_F(VolumeKeeperTest, TracesSayWhenTheControlPlaneIsSilent) {
  create();
  ASSERT_TRUE(holders_->add("gone@ds", "id", {}));
  fake_.machine.is_reachable = false;
  auto traces = keeper_.traces();
  ASSERT_TRUE(traces);
  EXPECT_FALSE(traces->is_whole);
  ASSERT_EQ(traces->volumes.size(), 1u);
  EXPECT_EQ(traces->volumes.front().text(), "gone@ds");
}

TEST_F(VolumeKeeperTest, ASilentControlPlaneIsAnsweredFromMemory) {
  create({{"size", "1gb"}});
  ASSERT_TRUE(keeper_.get(name()));
  fake_.machine.is_reachable = false;
  auto view = keeper_.get(name());
  ASSERT_FALSE(view);
  EXPECT_EQ(view.error().code(), base::ErrorCode::kUnavailable);
  auto memory = keeper_.remembered(name(), "why");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->status.at("backend").as_string(), "why");
  EXPECT_EQ(memory->status.at("capacity").at("size").as_string(), "1GB");
  EXPECT_FALSE(keeper_.remembered(name("never"), "why"));
}

TEST_F(VolumeKeeperTest, AVolumeThatIsGoneIsForgotten) {
  create();
  ASSERT_TRUE(keeper_.get(name()));
  fake_.machine.disks.clear();
  EXPECT_EQ(keeper_.get(name()).error().code(), base::ErrorCode::kNotFound);
  EXPECT_FALSE(keeper_.remembered(name(), "why"));
}

TEST_F(VolumeKeeperTest, EachDriverNameListsItsOwnVolumes) {
  create();
  ASSERT_TRUE(keeper_.create(name("old"), {}, "vmdk", {}));
  auto ours = keeper_.list("vsphere", "vsphere");
  auto theirs = keeper_.list("vmdk", "vsphere");
  ASSERT_EQ(ours->volumes.size(), 1u);
  EXPECT_EQ(ours->volumes[0].name, "db");
  ASSERT_EQ(theirs->volumes.size(), 1u);
  EXPECT_EQ(theirs->volumes[0].name, "old");
}

TEST_F(VolumeKeeperTest, AnotherDriverNameHasNoVolumeThatWasMadeUnderTheMainOne) {
  create();
  ASSERT_TRUE(keeper_.create(name("old"), {}, "vmdk", {}));
  EXPECT_TRUE(keeper_.get(name(), "vsphere", "vsphere"));
  EXPECT_EQ(keeper_.get(name(), "vmdk", "vsphere").error().code(), base::ErrorCode::kNotFound);
  EXPECT_TRUE(keeper_.get(name("old"), "vmdk", "vsphere"));
  // One that the predecessor made may have containers that know it under either name.
  fake_.machine.disks["db"].init = esx::InitState::kReady;
  EXPECT_TRUE(keeper_.get(name(), "vmdk", "vsphere"));
  fake_.machine.disks["db"].fs_uuid = "made-by-us";
  EXPECT_EQ(keeper_.get(name(), "vmdk", "vsphere").error().code(), base::ErrorCode::kNotFound);
}

}  // namespace
}  // namespace vdvs::mountd
