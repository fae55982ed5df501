// volume ls, shortls, set, detach; policies.
#include "tests/esx-vmci/admin/admin_fixture.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class AdminVolumes : public AdminTest {};

TEST_F(AdminVolumes, AreListedWithThirteenColumns) {
  make_volume("db", "ds1", "_DEFAULT", {{"size", "2mb"}, {"access", "read-only"}});
  const auto output = run("volume ls");
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_THAT(output->columns,
              ElementsAre("Volume", "Datastore", "VMGroup", "Capacity", "Used", "Filesystem", "Policy",
                          "Disk Format", "Attached-to", "Access", "Attach-as", "Created By", "Created Date"));
  ASSERT_THAT(output->rows, SizeIs(1));
  const Row& row = output->rows.front();
  EXPECT_THAT(Row(row.begin(), row.begin() + 4), ElementsAre("db", "ds1", "_DEFAULT", "2MB"));
  EXPECT_THAT(Row(row.begin() + 5, row.begin() + 12),
              ElementsAre("ext4", "N/A", "thin", "detached", "read-only", "independent_persistent", "web-1"));
  EXPECT_THAT(row.back(), SizeIs(24));  // Tue Mar 27 18:02:11 2018
}

TEST_F(AdminVolumes, OfEveryGroupAndDatastoreAreListed) {
  init();
  make_group("g1");
  make_volume("a", "ds2");
  make_volume("b", "ds1", "g1");
  make_volume("a", "ds1", "g1");
  EXPECT_THAT(rows("volume ls", {{"c", "vmgroup,volume,datastore"}}),
              ::testing::UnorderedElementsAre(Row{"a", "ds2", "_DEFAULT"}, Row{"a", "ds1", "g1"},
                                              Row{"b", "ds1", "g1"}));
  EXPECT_THAT(rows("volume ls", {{"c", "volume"}, {"vmgroup", "g?"}}), ElementsAre(Row{"a"}, Row{"b"}));
  EXPECT_THAT(rows("volume ls", {{"c", "volume"}, {"vmgroup", "other"}}), IsEmpty());
}

TEST_F(AdminVolumes, OfAGroupThatIsGoneAreNotAvailablesAndStillListed) {
  init();
  make_volume("db");
  lines("vmgroup rm", {{"name", "_DEFAULT"}});
  EXPECT_THAT(rows("volume ls", {{"c", "volume,vmgroup"}}), ElementsAre(Row{"db", "N/A"}));
  EXPECT_THAT(rows("volume ls", {{"c", "volume"}, {"vmgroup", "N/A"}}), ElementsAre(Row{"db"}));
}

TEST_F(AdminVolumes, ShowTheNameThatTheirVmHasNow) {
  make_volume("db");
  attach("web-1", place("db"));
  EXPECT_THAT(rows("volume shortls"), ElementsAre(Row{"db", "2MB", "thin", "web-1"}));
  vms_.states[0].vm.name = "web-1-renamed";
  EXPECT_THAT(rows("volume ls", {{"c", "attached-to"}}), ElementsAre(Row{"web-1-renamed"}));
}

TEST_F(AdminVolumes, ThatCannotBeReadAreShownAndExplained) {
  make_volume("db");
  make_volume("torn");
  const std::string folder = path_of("ds1") + "/dockvols/11111111-1111-1111-1111-111111111111";
  ASSERT_TRUE(base::write_file(folder + "/torn.vmdk", "no descriptor"));
  const auto output = run("volume ls", {{"c", "volume,capacity"}});
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_THAT(output->rows, ElementsAre(Row{"db", "2MB"}, Row{"torn", "N/A"}));
  EXPECT_THAT(output->lines, ElementsAre(HasSubstr("torn@ds1 of vmgroup _DEFAULT: ")));
}

TEST_F(AdminVolumes, OfADatastoreThatIsAwayAreNotPassedOverInSilence) {
  make_volume("a", "ds1");
  make_volume("b", "ds2");
  std::filesystem::rename(path_of("ds2"), path_of("ds2.away"));
  const auto output = run("volume ls", {{"c", "volume"}});
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_THAT(output->rows, ElementsAre(Row{"a"}));
  EXPECT_THAT(output->lines, ElementsAre(StartsWith("Datastore ds2 cannot be listed: ")));
  std::filesystem::rename(path_of("ds2.away"), path_of("ds2"));
  EXPECT_THAT(rows("volume ls", {{"c", "volume"}}), ElementsAre(Row{"a"}, Row{"b"}));
}

TEST_F(AdminVolumes, AListingMakesNoFolders) {
  rows("volume ls");
  EXPECT_FALSE(std::filesystem::exists(path_of("ds2") + "/dockvols/11111111-1111-1111-1111-111111111111"));
}

TEST_F(AdminVolumes, KeepTheSettingsThatAreSet) {
  make_volume("db");
  EXPECT_THAT(
      lines("volume set", {{"volume", "db@ds1"}, {"vmgroup", "_DEFAULT"}, {"options", "access=read-only"}}),
      ElementsAre("Successfully updated settings for db@ds1"));
  lines("volume set", {{"volume", "db@DS1"}, {"vmgroup", "_DEFAULT"}, {"options", "attach-as=persistent"}});
  EXPECT_THAT(rows("volume ls", {{"c", "access,attach-as,volume"}}),
              ElementsAre(Row{"db", "read-only", "persistent"}));
}

TEST_F(AdminVolumes, RefuseSettingsThatTheyDoNotHave) {
  make_volume("db");
  auto refused = [&](const std::string& options) {
    return error("volume set", {{"volume", "db@ds1"}, {"vmgroup", "_DEFAULT"}, {"options", options}});
  };
  EXPECT_EQ(refused("access=write-only"), "Failed to update access=write-only for db@ds1.");
  EXPECT_EQ(refused("attach-as=x"), "Failed to update attach-as=x for db@ds1.");
  EXPECT_EQ(refused("size=1gb"), "Failed to update size=1gb for db@ds1.");
  EXPECT_EQ(refused(""), "Failed to update  for db@ds1.");
  EXPECT_THAT(rows("volume ls", {{"c", "access"}}), ElementsAre(Row{"read-write"}));
}

TEST_F(AdminVolumes, ThatAreNotThereCannotBeSet) {
  auto failed = [&](const std::string& volume, const std::string& group) {
    const auto output =
        run("volume set", {{"volume", volume}, {"vmgroup", group}, {"options", "access=read-only"}});
    EXPECT_FALSE(output);
    return output ? "" : output.error().remedy();
  };
  make_volume("db");
  EXPECT_EQ(failed("other@ds1", "_DEFAULT"), "Volume other@ds1 not found in vmgroup _DEFAULT");
  EXPECT_EQ(failed("db@ds1", "nogroup"), "Vmgroup nogroup does not exist");
  EXPECT_THAT(failed("db@ds9", "_DEFAULT"), HasSubstr("Invalid datastore 'ds9'"));
  EXPECT_THAT(failed("db", "_DEFAULT"), HasSubstr("volume@datastore"));
}

TEST_F(AdminVolumes, AreTakenOutOfTheirVmByForceAlone) {
  make_volume("db");
  attach("web-1", place("db"));
  EXPECT_THAT(error("volume detach", {{"volume", "db@ds1"}}),
              StartsWith("detach 'db@ds1': disk is attached to vm 'web-1' since 2"));
  EXPECT_THAT(rows("volume ls", {{"c", "attached-to"}}), ElementsAre(Row{"web-1"}));
  EXPECT_THAT(lines("volume detach", {{"volume", "db@ds1"}, {"force", ""}}),
              ElementsAre(StartsWith("Volume db@ds1 was detached from vm 'web-1', which had it since 2")));
  EXPECT_THAT(rows("volume ls", {{"c", "attached-to"}}), ElementsAre(Row{"detached"}));
  EXPECT_THAT(lines("volume detach", {{"volume", "db"}, {"force", ""}}),
              ElementsAre("Volume db@ds1 is attached to no VM"));
  EXPECT_THAT(lines("volume detach", {{"volume", "db"}}), ElementsAre("Volume db@ds1 is attached to no VM"));
  attach("web-2", place("db"));
}

TEST_F(AdminVolumes, ForDetachMustBeOneVolume) {
  init();
  make_group("g1");
  make_volume("db", "ds1");
  make_volume("db", "ds1", "g1");
  const std::string message = error("volume detach", {{"volume", "db"}, {"force", ""}});
  EXPECT_THAT(message, AllOf(HasSubstr("db@ds1 of vmgroup _DEFAULT"), HasSubstr("db@ds1 of vmgroup g1")));
  EXPECT_THAT(lines("volume detach", {{"volume", "db"}, {"vmgroup", "g1"}, {"force", ""}}),
              ElementsAre("Volume db@ds1 is attached to no VM"));
  EXPECT_EQ(error("volume detach", {{"volume", "none"}, {"force", ""}}), "Volume none not found");
}

class AdminPolicies : public AdminTest {
 protected:
  AdminPolicies() : policies_(path_of("ds1") + "/dockvols/policies") { restart(&policies_); }
  void make_volume_with(const std::string& policy, const std::string& volume) {
    make_volume(volume, "ds1", "_DEFAULT", {{"size", "2mb"}});
    StoredDisk disk = *place(volume).store->load(volume);
    disk.sidecar.options["vsan-policy-name"] = policy;
    ASSERT_TRUE(place(volume).store->save(disk, DiskStore::Durability::kNow));
  }

  static constexpr const char* kContent = "((\"hostFailuresToTolerate\" i1))";
  static constexpr const char* kOther = "((\"hostFailuresToTolerate\" i0))";
  PolicyStore policies_;
};

TEST_F(AdminPolicies, NeedADatastoreThatKnowsThem) {
  restart(nullptr);
  for (const char* verb : {"policy create", "policy update"})
    EXPECT_EQ(error(verb, {{"name", "p"}, {"content", kContent}}), "Error: VSAN datastore does not exist");
  EXPECT_EQ(error("policy ls"), "Error: VSAN datastore does not exist");
}

TEST_F(AdminPolicies, AreMadeListedAndRemoved) {
  EXPECT_THAT(lines("policy create", {{"name", "p"}, {"content", kContent}}),
              ElementsAre("Successfully created policy: p"));
  EXPECT_EQ(error("policy create", {{"name", "p"}, {"content", kContent}}), "Error: Policy already exists");
  EXPECT_THAT(rows("policy ls"), ElementsAre(Row{"p", kContent, "Unused"}));
  EXPECT_THAT(lines("policy rm", {{"name", "p"}}), ElementsAre("Successfully removed policy: p"));
  EXPECT_THAT(error("policy rm", {{"name", "p"}}), HasSubstr("Policy p does not exist"));
  EXPECT_THAT(rows("policy ls"), IsEmpty());
}

TEST_F(AdminPolicies, InUseCannotBeRemoved) {
  lines("policy create", {{"name", "p"}, {"content", kContent}});
  make_volume_with("p", "db");
  EXPECT_THAT(rows("policy ls"), ElementsAre(Row{"p", kContent, "In use by 1 volumes"}));
  EXPECT_THAT(error("policy rm", {{"name", "p"}}),
              StartsWith("Cannot remove. Policy is in use by {'volume': 'db', 'policy': 'p', 'path': '"));
  EXPECT_THAT(rows("volume ls", {{"c", "policy"}}), ElementsAre(Row{"p"}));
}

TEST_F(AdminPolicies, AreKeptWhereItIsNotKnownWhoUsesThem) {
  lines("policy create", {{"name", "p"}, {"content", kContent}});
  make_volume("b", "ds2");
  std::filesystem::rename(path_of("ds2"), path_of("ds2.away"));
  EXPECT_THAT(error("policy rm", {{"name", "p"}}), StartsWith("Cannot tell which volumes use policy p: "));
  EXPECT_THAT(rows("policy ls"), SizeIs(1));
}

TEST_F(AdminPolicies, AreAppliedToTheVolumesThatNameThem) {
  std::vector<std::string> applied;
  restart(&policies_, [&](const Place& where, std::string_view content) -> base::Result<void> {
    applied.push_back(where.volume + " " + std::string(content));
    return {};
  });
  lines("policy create", {{"name", "p"}, {"content", kContent}});
  make_volume_with("p", "a");
  make_volume_with("q", "b");
  EXPECT_THAT(lines("policy update", {{"name", "p"}, {"content", kOther}}),
              ElementsAre("Successfully updated policy p"));
  EXPECT_THAT(applied, ElementsAre(std::string("a ") + kOther));
  EXPECT_THAT(rows("policy ls"), ElementsAre(Row{"p", kOther, "In use by 1 volumes"}));
}

TEST_F(AdminPolicies, StayAsTheyWereWhereNoVolumeTakesTheChange) {
  restart(&policies_, [](const Place&, std::string_view) -> base::Result<void> {
    return base::fail(base::ErrorCode::kIo, "no room");
  });
  lines("policy create", {{"name", "p"}, {"content", kContent}});
  make_volume_with("p", "a");
  EXPECT_EQ(
      error("policy update", {{"name", "p"}, {"content", kOther}}),
      "Successfully updated: 0 volumes.\nFailed to update:     a@ds1 of vmgroup _DEFAULT (no room) volumes");
  EXPECT_THAT(rows("policy ls"), ElementsAre(Row{"p", kContent, "In use by 1 volumes"}));
}

TEST_F(AdminPolicies, SayWhenVolumesCannotTakeAChange) {
  lines("policy create", {{"name", "p"}, {"content", kContent}});
  make_volume_with("p", "a");
  EXPECT_THAT(
      lines("policy update", {{"name", "p"}, {"content", kOther}}),
      ElementsAre("Successfully updated policy p", StartsWith("1 volumes that use it keep what they have")));
  EXPECT_THAT(error("policy update", {{"name", "none"}, {"content", kOther}}),
              HasSubstr("Policy none does not exist"));
}

}  // namespace
}  // namespace vdvs::esx::testing
