// vmgroup, vmgroup vm, vmgroup access.
#include "tests/esx-vmci/admin/admin_fixture.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* kInitNeeded =
    "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.";

class AdminGroups : public AdminTest {
 protected:
  Flags group(const std::string& name, const Flags& more = {}) {
    Flags flags = more;
    flags["name"] = name;
    return flags;
  }
  Row row_of(const std::string& name) {
    for (const Row& row : rows("vmgroup ls"))
      if (row.at(1) == name) return row;
    return {};
  }
};

TEST_F(AdminGroups, WithoutADatabaseAreOneThatCannotBeChanged) {
  EXPECT_THAT(rows("vmgroup ls"), ElementsAre(ElementsAre("11111111-1111-1111-1111-111111111111", "_DEFAULT",
                                                          ::testing::_, "_VM_DS", "")));
  EXPECT_EQ(error("vmgroup create", group("g", {{"default-datastore", "ds1"}})), kInitNeeded);
  EXPECT_EQ(error("vmgroup update", group("_DEFAULT", {{"description", "x"}})), kInitNeeded);
  EXPECT_EQ(error("vmgroup rm", group("_DEFAULT")), kInitNeeded);
  EXPECT_EQ(error("vmgroup vm add", group("g", {{"vm-list", "web-1"}})), kInitNeeded);
  EXPECT_EQ(error("vmgroup access rm", group("_DEFAULT", {{"datastore", "_ALL_DS"}})), kInitNeeded);
}

TEST_F(AdminGroups, AreMadeAndListed) {
  init();
  EXPECT_THAT(
      lines("vmgroup create", group("g1", {{"default-datastore", "ds1"}, {"vm-list", "web-1, web-2"}})),
      ElementsAre("vmgroup 'g1' is created. Do not forget to run 'vmgroup vm add' to add vm to vmgroup."));
  const auto output = run("vmgroup ls");
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_THAT(output->columns, ElementsAre("Uuid", "Name", "Description", "Default_datastore", "VM_list"));
  const Row row = row_of("g1");
  ASSERT_THAT(row, SizeIs(5));
  EXPECT_THAT(row[0], SizeIs(36));
  EXPECT_EQ(row[3], "ds1");
  EXPECT_EQ(row[4], "web-1,web-2");
  EXPECT_THAT(rows("vmgroup access ls", group("g1")), ElementsAre(Row{"ds1", "True", "Unset", "Unset"}));
}

TEST_F(AdminGroups, NeedADatastoreThatThereIs) {
  init();
  EXPECT_EQ(error("vmgroup create", group("g", {{"default-datastore", "nods"}})),
            "Datastore nods does not exist");
  EXPECT_EQ(error("vmgroup create", group("g", {{"default-datastore", "_ALL_DS"}})),
            "Cannot use _ALL_DS as default datastore. Please use specific datastore name or _VM_DS special "
            "datastore");
  lines("vmgroup create", group("g", {{"default-datastore", "_VM_DS"}}));
  EXPECT_EQ(row_of("g").at(3), "_VM_DS");
}

TEST_F(AdminGroups, AreNotMadeWithVmsThatThereAreNot) {
  init();
  auto refused = [&](const std::string& vms) {
    return error("vmgroup create", group("g", {{"default-datastore", "ds1"}, {"vm-list", vms}}));
  };
  EXPECT_EQ(refused("web-1,gone,lost"), "Cannot find vm gone,lost");
  EXPECT_EQ(refused(""), "VM list cannot be empty");
  EXPECT_EQ(refused("web-1,web-1"), "VMs web-1 contain duplicates, they should be unique");
  EXPECT_THAT(row_of("g"), IsEmpty());
}

TEST_F(AdminGroups, AreChanged) {
  init();
  make_group("g1");
  make_volume("db", "ds1", "g1");
  EXPECT_THAT(lines("vmgroup update",
                    group("g1", {{"new-name", "g2"}, {"description", "d"}, {"default-datastore", "ds2"}})),
              ElementsAre("vmgroup modify succeeded"));
  EXPECT_THAT(row_of("g1"), IsEmpty());
  const Row row = row_of("g2");
  EXPECT_EQ(row.at(2), "d");
  EXPECT_EQ(row.at(3), "ds2");
  EXPECT_THAT(rows("vmgroup access ls", group("g2")), SizeIs(2));
  EXPECT_THAT(rows("volume ls", {{"c", "volume,vmgroup"}}), ElementsAre(Row{"db", "g2"}));
  EXPECT_TRUE(std::filesystem::is_symlink(path_of("ds1") + "/dockvols/g2"));
  EXPECT_FALSE(std::filesystem::is_symlink(path_of("ds1") + "/dockvols/g1"));
}

TEST_F(AdminGroups, AreNotRenamedToWhatIsNoName) {
  init();
  make_group("g1");
  EXPECT_THAT(error("vmgroup update", group("g1", {{"new-name", "../x"}})),
              StartsWith("Vmgroup name ../x is invalid"));
  EXPECT_EQ(error("vmgroup update", group("_DEFAULT", {{"new-name", "x"}})),
            "Vmgroup name _DEFAULT is invalid, only rename of vmgroups other than _DEFAULT is allowed");
  EXPECT_EQ(error("vmgroup update", group("none", {{"description", "x"}})), "Vmgroup none does not exist");
  EXPECT_THAT(error("vmgroup update", group("g1")), HasSubstr("nothing to change"));
}

TEST_F(AdminGroups, AreRemovedWhenTheyAreEmpty) {
  init();
  make_group("g1");
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}}));
  make_volume("db", "ds1", "g1");
  EXPECT_EQ(error("vmgroup rm", group("g1")),
            "Cannot delete non-empty vmgroup g1. Remove VMs from the vmgroup before deleting it.");
  lines("vmgroup vm rm", group("g1", {{"vm-list", "web-1"}}));
  EXPECT_EQ(error("vmgroup rm", group("g1")),
            "Internal Error(The vmgroup has volumes in it, these must be removed/migrated before deleting "
            "the vmgroup.)");
  ASSERT_TRUE(operations_->remove(vm("web-1"), place("db", "ds1", "g1")));
  EXPECT_THAT(lines("vmgroup rm", group("g1")), ElementsAre("vmgroup rm succeeded"));
  EXPECT_THAT(row_of("g1"), IsEmpty());
  EXPECT_FALSE(std::filesystem::is_symlink(path_of("ds1") + "/dockvols/g1"));
}

TEST_F(AdminGroups, AreRemovedWithTheirVolumesWhereThatIsAsked) {
  init();
  make_group("g1");
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}}));
  make_volume("a", "ds1", "g1");
  make_volume("b", "ds2", "g1");
  make_volume("c", "ds1");
  EXPECT_THAT(lines("vmgroup rm", group("g1", {{"remove-volumes", ""}, {"force", ""}})),
              ElementsAre("All Volumes will be removed. vmgroup rm succeeded"));
  EXPECT_THAT(rows("volume ls", {{"c", "volume,vmgroup"}}), ElementsAre(Row{"c", "_DEFAULT"}));
}

TEST_F(AdminGroups, KeepEveryVolumeWhileOneIsAttached) {
  init();
  make_group("g1");
  make_volume("a", "ds1", "g1");
  make_volume("b", "ds2", "g1");
  attach("web-1", place("b", "ds2", "g1"));
  EXPECT_EQ(error("vmgroup rm", group("g1", {{"remove-volumes", ""}})),
            "Failed to remove volume b, in use by VM = web-1.");
  EXPECT_THAT(rows("volume ls", {{"c", "volume"}}), ElementsAre(Row{"a"}, Row{"b"}));
  EXPECT_THAT(row_of("g1"), SizeIs(5));
}

TEST_F(AdminGroups, AreKeptWhileTheirVolumesAreNotAllToBeSeen) {
  init();
  make_group("g1");
  make_volume("b", "ds2", "g1");
  std::filesystem::rename(path_of("ds2"), path_of("ds2.away"));
  EXPECT_THAT(error("vmgroup rm", group("g1", {{"remove-volumes", ""}})),
              StartsWith("Cannot tell which volumes vmgroup g1 has: "));
  EXPECT_THAT(row_of("g1"), SizeIs(5));
}

TEST_F(AdminGroups, TheDefaultOneFindsItsVolumesAgain) {
  init();
  make_volume("db");
  lines("vmgroup rm", group("_DEFAULT"));
  EXPECT_THAT(rows("volume ls", {{"c", "volume,vmgroup"}}), ElementsAre(Row{"db", "N/A"}));
  EXPECT_EQ(error("vmgroup create",
                  group("_DEFAULT", {{"default-datastore", "_VM_DS"}, {"vm-list", "web-1,web-2"}})),
            "Invalid Argument(['web-1', 'web-2'])");
  EXPECT_THAT(lines("vmgroup create", group("_DEFAULT", {{"default-datastore", "_VM_DS"}})),
              ElementsAre("vmgroup '_DEFAULT' is created."));
  EXPECT_THAT(rows("volume ls", {{"c", "volume,vmgroup"}}), ElementsAre(Row{"db", "_DEFAULT"}));
}

TEST_F(AdminGroups, TheDefaultOneHasNoListOfVms) {
  init();
  for (const char* verb : {"vmgroup vm add", "vmgroup vm rm", "vmgroup vm replace"}) {
    EXPECT_EQ(error(verb, group("_DEFAULT", {{"vm-list", "web-1"}})),
              "This feature is not supported for vmgroup _DEFAULT.");
  }
  EXPECT_EQ(error("vmgroup vm ls", group("_DEFAULT")),
            "_DEFAULT tenant contains all VMs which were not added to other tenants");
}

TEST_F(AdminGroups, TakeVmsInAndGiveThemBack) {
  init();
  make_group("g1");
  EXPECT_THAT(lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}})),
              ElementsAre("vmgroup vm add succeeded"));
  EXPECT_THAT(rows("vmgroup vm ls", group("g1")), ElementsAre(Row{"uuid-of-web-1", "web-1"}));
  EXPECT_THAT(lines("vmgroup vm replace", group("g1", {{"vm-list", "web-2,db-1"}})),
              ElementsAre("vmgroup vm replace succeeded"));
  EXPECT_THAT(rows("vmgroup vm ls", group("g1")),
              ::testing::UnorderedElementsAre(Row{"uuid-of-web-2", "web-2"}, Row{"uuid-of-db-1", "db-1"}));
  EXPECT_THAT(lines("vmgroup vm rm", group("g1", {{"vm-list", "uuid-of-web-2"}})),
              ElementsAre("vmgroup vm rm succeeded"));
  EXPECT_THAT(rows("vmgroup vm ls", group("g1")), ElementsAre(Row{"uuid-of-db-1", "db-1"}));
}

TEST_F(AdminGroups, TakeAVmOnce) {
  init();
  make_group("g1");
  make_group("g2");
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}}));
  EXPECT_THAT(error("vmgroup vm add", group("g1", {{"vm-list", "web-1"}})),
              HasSubstr("has already been associated with tenant 'g1', cannot add it again"));
  EXPECT_THAT(error("vmgroup vm add", group("g2", {{"vm-list", "web-1"}})),
              HasSubstr("has already been associated with tenant 'g1', can't add it"));
  EXPECT_THAT(error("vmgroup vm rm", group("g2", {{"vm-list", "web-1"}})),
              HasSubstr("has not been associated with tenant 'g2', cannot remove it"));
  EXPECT_EQ(error("vmgroup vm replace", group("g2", {{"vm-list", " , "}})), "Replace VM cannot be empty");
  EXPECT_EQ(error("vmgroup vm add", group("g2", {{"vm-list", ""}})), "VM list cannot be empty");
}

TEST_F(AdminGroups, DoNotChangeForAVmThatHasDisks) {
  init();
  make_group("g1");
  make_volume("db");
  attach("web-1", place("db"));
  EXPECT_EQ(error("vmgroup vm add", group("g1", {{"vm-list", "web-1"}})),
            "Cannot add VM to vmgroup VM 'web-1' has volumes mounted.");
  EXPECT_EQ(error("vmgroup create", group("g2", {{"default-datastore", "ds1"}, {"vm-list", "web-1"}})),
            "Cannot add VM to vmgroup VM 'web-1' has volumes mounted.");
  EXPECT_EQ(error("vmgroup vm replace", group("g1", {{"vm-list", "web-1"}})),
            "Cannot complete vmgroup vm replace. VM 'web-1' has volumes mounted.");
  ASSERT_TRUE(operations_->detach(vm("web-1"), place("db")));
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}}));
  make_volume("own", "ds1", "g1");
  attach("web-1", place("own", "ds1", "g1"));
  EXPECT_EQ(error("vmgroup vm rm", group("g1", {{"vm-list", "web-1"}})),
            "Cannot complete vmgroup vm rm. VM 'web-1' has volumes mounted.");
  EXPECT_EQ(error("vmgroup vm replace", group("g1", {{"vm-list", "web-2"}})),
            "Cannot complete vmgroup vm replace. VM 'web-1' has volumes mounted.");
  // Who stays keeps its disks.
  lines("vmgroup vm replace", group("g1", {{"vm-list", "web-1,web-2"}}));
}

TEST_F(AdminGroups, RememberVmsThatAreGone) {
  init();
  make_group("g1");
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-1"}}));
  vms_.states.erase(vms_.states.begin());
  EXPECT_EQ(row_of("g1").at(4), "web-1");
  EXPECT_THAT(rows("vmgroup vm ls", group("g1")), ElementsAre(Row{"uuid-of-web-1", "web-1"}));
  EXPECT_THAT(lines("vmgroup vm rm", group("g1", {{"vm-list", "web-1"}})),
              ElementsAre("vmgroup vm rm succeeded"));
}

TEST_F(AdminGroups, HaveRowsOfAccess) {
  init();
  make_group("g1", "ds2");
  EXPECT_THAT(
      lines("vmgroup access add",
            group("g1", {{"datastore", "ds1"}, {"volume-maxsize", "600MB"}, {"volume-totalsize", "1gb"}})),
      ElementsAre("vmgroup access add succeeded"));
  EXPECT_THAT(rows("vmgroup access ls", group("g1")),
              IsSupersetOf({Row{"ds1", "False", "600.00MB", "1.00GB"}}));
  EXPECT_THAT(error("vmgroup access add", group("g1", {{"datastore", "ds1"}})), HasSubstr("already exists"));
  EXPECT_THAT(lines("vmgroup access set", group("g1", {{"datastore", "ds1"}, {"allow-create", "true"}})),
              ElementsAre("vmgroup access set succeeded"));
  EXPECT_THAT(rows("vmgroup access ls", group("g1")),
              IsSupersetOf({Row{"ds1", "True", "600.00MB", "1.00GB"}}));
  EXPECT_THAT(lines("vmgroup access rm", group("g1", {{"datastore", "ds1"}})),
              ElementsAre("vmgroup access rm succeeded"));
  EXPECT_THAT(rows("vmgroup access ls", group("g1")), ElementsAre(Row{"ds2", "True", "Unset", "Unset"}));
  EXPECT_EQ(error("vmgroup access rm", group("g1", {{"datastore", "ds2"}})),
            "Removing of access privilege to 'default_datastore' is not supported");
}

TEST_F(AdminGroups, LoseTheirLimitsWhenTheyAreSetToNone) {
  init();
  make_group("g1", "ds2");
  lines("vmgroup access add",
        group("g1", {{"datastore", "ds1"}, {"volume-maxsize", "1TB"}, {"volume-totalsize", "2TB"}}));
  lines("vmgroup access set", group("g1", {{"datastore", "ds1"}, {"volume-maxsize", "0MB"}}));
  EXPECT_THAT(rows("vmgroup access ls", group("g1")), IsSupersetOf({Row{"ds1", "False", "Unset", "2.00TB"}}));
  lines("vmgroup access set", group("g1", {{"datastore", "ds1"}, {"volume-totalsize", "Unset"}}));
  EXPECT_THAT(rows("vmgroup access ls", group("g1")), IsSupersetOf({Row{"ds1", "False", "Unset", "Unset"}}));
}

TEST_F(AdminGroups, RefuseLimitsThatAreNone) {
  init();
  make_group("g1");
  auto refused = [&](const Flags& more) { return error("vmgroup access set", group("g1", more)); };
  EXPECT_EQ(refused({{"datastore", "ds1"}, {"volume-maxsize", "big"}}), "Invalid volume size specified.");
  EXPECT_EQ(refused({{"datastore", "ds1"}, {"allow-create", "maybe"}}),
            "Invalid value maybe for allow-create option");
  EXPECT_EQ(refused({{"datastore", "ds1"}, {"volume-maxsize", "2GB"}, {"volume-totalsize", "1GB"}}),
            "Volume max size 2048MB exceeds the total size 1024MB");
  EXPECT_EQ(refused({{"datastore", "nods"}}), "Datastore nods does not exist");
}

TEST_F(AdminGroups, AreSeenBesideTheVmsAndDatastoresThatThereAre) {
  init();
  make_group("g1");
  lines("vmgroup vm add", group("g1", {{"vm-list", "web-2"}}));
  EXPECT_THAT(rows("vm ls"), ElementsAre(Row{"uuid-of-web-1", "web-1", "on", "_DEFAULT"},
                                         Row{"uuid-of-web-2", "web-2", "on", "g1"},
                                         Row{"uuid-of-db-1", "db-1", "on", "_DEFAULT"}));
  EXPECT_THAT(rows("datastore ls"),
              ElementsAre(ElementsAre("ds1", "folder", StartsWith("file://"), "available"),
                          ElementsAre("ds2", "folder", StartsWith("file://"), "available")));
}

}  // namespace
}  // namespace vdvs::esx::testing
