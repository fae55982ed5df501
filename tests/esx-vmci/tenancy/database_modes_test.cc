// No database, a local one, a link to a shared one, a broken link: looked at on every call.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class DatabaseModes : public TenancyTest {
 protected:
  std::string datastore_ = folder_.path() + "/ds";
  std::string shared_ = datastore_ + "/dockvols/vmdkops_config.db";
  void init_shared() {
    std::filesystem::create_directories(datastore_);
    ASSERT_OK(init_shared_database(path_, datastore_, false));
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }
};

TEST_F(DatabaseModes, WithoutADatabaseEveryVmMayDoEverything) {
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
  const auto group = tenancy_->group_of(kWeb.vm_uuid, "web");
  ASSERT_OK(group);
  EXPECT_EQ(group->uuid, "11111111-1111-1111-1111-111111111111");
  EXPECT_EQ(group->default_datastore_url, kVmDatastoreUrl);
  for (const Access access : {Access::kGet, Access::kMount, Access::kCreate, Access::kRemove})
    EXPECT_OK(tenancy_->authorize(*group, kDs1, kDs2, access));
  auto room = tenancy_->reserve(*group, kDs1, kDs2, "v", 1 << 20);
  ASSERT_OK(room);
  room->keep();
  const auto row = tenancy_->row_of_volume(*group, kDs1, "v");
  ASSERT_OK(row);
  EXPECT_OK(tenancy_->forget_volume(*group, kDs1, "v", *row));
  EXPECT_OK(tenancy_->reconcile_volumes(*group, kDs1, {{"v", 1}}));
  EXPECT_EQ(tenancy_->usage(*group)->size(), 0u);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(DatabaseModes, WithoutADatabaseThereIsOnlyTheDefaultGroup) {
  ASSERT_EQ(tenancy_->groups()->size(), 1u);
  EXPECT_EQ(tenancy_->groups()->front().name, "_DEFAULT");
  EXPECT_EQ(tenancy_->privileges(default_group())->size(), 2u);
  EXPECT_EQ(tenancy_->members(default_group())->size(), 0u);
  EXPECT_EQ(message_of(tenancy_->find_group("g1")), "Vmgroup g1 does not exist");
}

TEST_F(DatabaseModes, WithoutADatabaseNothingCanBeChanged) {
  const std::string text =
      "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.";
  EXPECT_EQ(message_of(tenancy_->create_group("g1", "", kVmDatastoreUrl, {})), text);
  EXPECT_EQ(message_of(tenancy_->update_group(default_group(), {.description = "x"})), text);
  EXPECT_EQ(message_of(tenancy_->remove_group(default_group(), true)), text);
  EXPECT_EQ(message_of(tenancy_->add_vms(default_group(), {kWeb})), text);
  EXPECT_EQ(message_of(tenancy_->add_privilege(default_group(), {.datastore_url = "x"})), text);
  EXPECT_EQ(message_of(remove_local_database(path_, false)), text);
  EXPECT_EQ(message_of(unlink_shared_database(path_)), text);
}

TEST_F(DatabaseModes, AreSeenWithoutARestart) {
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
  init();
  EXPECT_EQ(tenancy_->mode(), DbMode::kSingleNode);
  make_group("g1", {kWeb});
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g1");
  ASSERT_OK(remove_local_database(path_, true));
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "_DEFAULT");
  init();
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "_DEFAULT");
  make_group("g2", {kWeb});
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g2");
}

TEST_F(DatabaseModes, ALocalOneIsMadeWholeAndAlone) {
  ASSERT_OK(init_local_database(folder_.path() + "/etc/vmware/auth-db", false));
  init();
  EXPECT_EQ(files(), (std::vector<std::string>{"auth-db", "etc"}));
}

TEST_F(DatabaseModes, AnExistingOneIsNotReplaced) {
  init();
  make_group("g1");
  const auto refused = init_local_database(path_, false);
  EXPECT_EQ(code_of(refused), "E_EXISTS");
  EXPECT_THAT(message_of(refused), HasSubstr("already initialized: SingleNode (local DB exists)"));
  EXPECT_OK(tenancy_->find_group("g1"));
}

TEST_F(DatabaseModes, AForcedInitKeepsTheOldOneAsABackup) {
  init();
  make_group("g1");
  ASSERT_OK(init_local_database(path_, true));
  EXPECT_EQ(tenancy_->groups()->size(), 1u);
  ASSERT_EQ(files().size(), 2u);
  EXPECT_THAT(files()[1], StartsWith("auth-db.bak_"));
  EXPECT_EQ(run({"sqlite3", folder_.path() + "/" + files()[1], "select name from tenants where name='g1'"}),
            "g1\n");
}

TEST_F(DatabaseModes, ALocalOneIsMovedToABackupWithTheTimeInItsName) {
  init();
  const auto said = remove_local_database(path_, false);
  ASSERT_OK(said);
  EXPECT_THAT(*said, ::testing::MatchesRegex(
                         "Moved .*/auth-db to backup file .*/auth-db\\.bak_[A-Z][a-z]{2}_[A-Z][a-z]{2}"
                         "_[_0-9][0-9]_[0-9:]{8}_[0-9]{4}"));
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
}

TEST_F(DatabaseModes, WithoutABackupItIsReallyGone) {
  init();
  EXPECT_OK(tenancy_->groups());
  ASSERT_OK(remove_local_database(path_, true));
  EXPECT_EQ(files(), std::vector<std::string>());
}

TEST_F(DatabaseModes, ASharedOneIsALink) {
  init_shared();
  EXPECT_EQ(tenancy_->mode(), DbMode::kMultiNode);
  EXPECT_EQ(tenancy_->shared_location(), shared_);
  EXPECT_EQ(tenancy_->path(), path_);
  make_group("g1");
  EXPECT_EQ(run({"sqlite3", shared_, "select name from tenants where name='g1'"}), "g1\n");
}

TEST_F(DatabaseModes, ASecondHostUsesTheSharedOneThatIsThere) {
  init_shared();
  make_group("g1", {kWeb});
  const std::string second = folder_.path() + "/host2-auth-db";
  ASSERT_OK(init_shared_database(second, datastore_, false));
  const auto other = make_sqlite_tenancy(second);
  const auto group = other->group_of(kWeb.vm_uuid, "web");
  ASSERT_OK(group);
  EXPECT_EQ(group->name, "g1");
}

TEST_F(DatabaseModes, ASharedOneNeedsItsDatastore) {
  EXPECT_EQ(code_of(init_shared_database(path_, folder_.path() + "/no-such", false)), "E_NOT_FOUND");
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
}

TEST_F(DatabaseModes, SomethingElseInTheSharedOnesPlaceIsNotUsed) {
  std::filesystem::create_directories(datastore_ + "/dockvols");
  write_text(shared_, "not a database, but somebody's notes\n");
  EXPECT_EQ(code_of(init_shared_database(path_, datastore_, false)), "E_CORRUPT");
  EXPECT_EQ(read_text(shared_), "not a database, but somebody's notes\n");
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
}

TEST_F(DatabaseModes, UnlinkingLeavesTheSharedOne) {
  init_shared();
  ASSERT_OK(unlink_shared_database(path_));
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
  EXPECT_TRUE(std::filesystem::exists(shared_));
}

TEST_F(DatabaseModes, TheWrongFlagTakesNothingAway) {
  init_shared();
  EXPECT_EQ(code_of(remove_local_database(path_, true)), "E_INVALID");
  EXPECT_EQ(tenancy_->mode(), DbMode::kMultiNode);
  ASSERT_OK(unlink_shared_database(path_));
  init();
  EXPECT_EQ(code_of(unlink_shared_database(path_)), "E_INVALID");
  EXPECT_EQ(tenancy_->mode(), DbMode::kSingleNode);
}

TEST_F(DatabaseModes, ABrokenLinkStopsEverything) {
  init_shared();
  std::filesystem::rename(datastore_, folder_.path() + "/away");
  EXPECT_EQ(tenancy_->mode(), DbMode::kBrokenLink);
  const std::string text = "DB access error at " + path_ + ": BrokenLink (Broken link or corrupted DB file)";
  EXPECT_EQ(message_of(tenancy_->group_of(kWeb.vm_uuid, "web")), text);
  EXPECT_EQ(message_of(tenancy_->groups()), text);
  EXPECT_EQ(message_of(tenancy_->create_group("g1", "", kVmDatastoreUrl, {})), text);
  EXPECT_EQ(message_of(tenancy_->reserve({}, kDs1, kDs1, "v", 1)), text);
  std::filesystem::rename(folder_.path() + "/away", datastore_);
  EXPECT_EQ(tenancy_->mode(), DbMode::kMultiNode);
  EXPECT_OK(tenancy_->groups());
}

TEST_F(DatabaseModes, ABrokenLinkIsTakenAwayByEitherFlag) {
  ASSERT_EQ(::symlink("/no/such/file", path_.c_str()), 0);
  ASSERT_OK(remove_local_database(path_, false));
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
  ASSERT_EQ(::symlink("/no/such/file", path_.c_str()), 0);
  ASSERT_OK(unlink_shared_database(path_));
  EXPECT_EQ(tenancy_->mode(), DbMode::kNotConfigured);
}

TEST_F(DatabaseModes, AForcedSharedInitReplacesALocalOneAndKeepsIt) {
  init();
  std::filesystem::create_directories(datastore_);
  EXPECT_EQ(code_of(init_shared_database(path_, datastore_, false)), "E_EXISTS");
  ASSERT_OK(init_shared_database(path_, datastore_, true));
  EXPECT_EQ(tenancy_->mode(), DbMode::kMultiNode);
  ASSERT_EQ(files().size(), 3u);
  EXPECT_THAT(files()[1], StartsWith("auth-db.bak_"));
}

TEST_F(DatabaseModes, WhoeverIsInTheDatabaseFinishesBeforeItGoes) {
  init();
  // A writer that holds the database for longer than anybody waits.
  int ready[2];
  int done[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(done, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(done[1]);
    const std::string command =
        "printf \"begin immediate;\\n.shell echo ready >&3\\n.shell cat <&4 >/dev/null\\n\" | "
        "sqlite3 '" +
        path_ + "'";
    ::dup2(ready[1], 3);
    ::dup2(done[0], 4);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ready[1]);
  ::close(done[0]);
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_EQ(code_of(remove_local_database(path_, true)), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(tenancy_->create_group("g1", "", kVmDatastoreUrl, {})), "E_UNAVAILABLE");
  EXPECT_OK(tenancy_->groups());
  ::close(done[1]);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ::close(ready[0]);
  EXPECT_OK(remove_local_database(path_, true));
}

}  // namespace
}  // namespace vdvs::esx::testing
