// The host's id and lock, and its memory of the datastores.

#include "mountd/host_state.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "mountd/datastore_memory.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

class HostStateTest : public ::testing::Test {
 protected:
  tests::TemporaryFolder folder_;
};

TEST_F(HostStateTest, TheIdStaysAndIsMadeAnewOnAnotherMachine) {
  const std::string machine = folder_.path() + "/machine-id";
  ASSERT_TRUE(base::write_file(machine, "one\n"));
  const std::string id = *load_host_id(folder_.path(), machine);
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(*load_host_id(folder_.path(), machine), id);
  ASSERT_TRUE(base::write_file(machine, "two\n"));
  EXPECT_NE(*load_host_id(folder_.path(), machine), id);
}

TEST_F(HostStateTest, AnIdThatWasCutIsMadeAnew) {
  const std::string id = *load_host_id(folder_.path());
  ASSERT_TRUE(base::write_file(folder_.path() + "/host-id", id.substr(0, 10)));
  EXPECT_EQ(load_host_id(folder_.path())->size(), 36u);
}

TEST_F(HostStateTest, ASecondDaemonIsRefusedAndToldThePidOfTheFirst) {
  auto lock = lock_state(folder_.path());
  ASSERT_TRUE(lock);
  auto second = lock_state(folder_.path());  // a descriptor of its own: as another process would have
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::ErrorCode::kInUse);
  EXPECT_NE(second.error().message().find("pid " + std::to_string(::getpid())), std::string::npos) << second.error().text();
  lock->reset();
  EXPECT_TRUE(lock_state(folder_.path()));
}

class DatastoreMemoryTest : public ::testing::Test {
 protected:
  DatastoreMemoryTest() { std::filesystem::create_directories(datastore_.path + "/dockvols"); }
  tests::TemporaryFolder folder_;
  std::string state_ = folder_.path();
  esx::DatastoreFolder datastore_{.name = "ds", .path = folder_.path() + "/ds"};
};

TEST_F(DatastoreMemoryTest, ANewDatastoreIsMarkedAndKnownAgain) {
  ASSERT_TRUE(verify_datastores(state_, {datastore_}));
  ASSERT_TRUE(remember_datastores(state_, {datastore_}));
  ASSERT_TRUE(remember_datastores(state_, {datastore_}));
  EXPECT_TRUE(verify_datastores(state_, {datastore_}));
}

TEST_F(DatastoreMemoryTest, AFolderWhoseFileSystemIsNotMountedIsNotServed) {
  ASSERT_TRUE(remember_datastores(state_, {datastore_}));
  std::filesystem::rename(datastore_.path, datastore_.path + "-away");
  std::filesystem::create_directories(datastore_.path);
  auto verified = verify_datastores(state_, {datastore_});
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code(), base::ErrorCode::kUnavailable);
  EXPECT_NE(verified.error().remedy().find("mount its file system"), std::string::npos);
}

TEST_F(DatastoreMemoryTest, AnotherDatastoreInItsPlaceIsNotServed) {
  ASSERT_TRUE(remember_datastores(state_, {datastore_}));
  ASSERT_TRUE(base::write_file(datastore_.path + "/dockvols/.vdvs-datastore", "another\n"));
  EXPECT_FALSE(verify_datastores(state_, {datastore_}));
}

TEST_F(DatastoreMemoryTest, ADatastoreThatCannotBeMarkedIsServedAllTheSame) {
  esx::DatastoreFolder read_only{.name = "proc", .path = "/proc"};
  ASSERT_TRUE(remember_datastores(state_, {read_only}));
  EXPECT_TRUE(verify_datastores(state_, {read_only}));
}

}  // namespace
}  // namespace vdvs::mountd
