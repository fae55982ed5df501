// Groups: what they are called, what they need, and what goes with them.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;

class Groups : public TenancyTest {
 protected:
  void SetUp() override { init(); }
};

TEST_F(Groups, LeaveExactlyTheirRowsWhenMade) {
  const VmGroup group = make_group("g1", {kWeb, kDb}, kDs1);
  EXPECT_EQ(sql("select * from tenants where name='g1'"), group.uuid + "|g1||" + std::string(kDs1) + "\n");
  EXPECT_EQ(sql("select * from vms order by vm_name desc"),
            kWeb.vm_uuid + "|" + group.uuid + "|web\n" + kDb.vm_uuid + "|" + group.uuid + "|db\n");
  EXPECT_EQ(sql("select * from privileges where tenant_id='" + group.uuid + "'"),
            group.uuid + "|" + std::string(kDs1) + "|1|0|0\n");
}

TEST_F(Groups, HaveARandomUuidOfVersion4) {
  const std::string uuid = make_group("g1").uuid;
  EXPECT_THAT(uuid,
              ::testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(uuid, make_group("g2").uuid);
}

TEST_F(Groups, AreListedWithTheDefaultOne) {
  make_group("g1");
  const auto groups = tenancy_->groups();
  ASSERT_OK(groups);
  ASSERT_EQ(groups->size(), 2u);
  EXPECT_EQ(groups->at(0).name, "_DEFAULT");
  EXPECT_EQ(groups->at(0).description, "This is a default vmgroup");
  EXPECT_EQ(groups->at(1).name, "g1");
}

TEST_F(Groups, AreFoundByName) {
  make_group("g1");
  ASSERT_OK(tenancy_->find_group("g1"));
  EXPECT_EQ(message_of(tenancy_->find_group("g2")), "Vmgroup g2 does not exist");
}

TEST_F(Groups, NeedAValidName) {
  auto refusal = [&](std::string_view name) {
    return message_of(tenancy_->create_group(name, "", kVmDatastoreUrl, {}));
  };
  EXPECT_EQ(refusal(""), "Vmgroup name is empty");
  EXPECT_EQ(refusal("-g"), "Vmgroup name -g is invalid, only [a-zA-Z0-9_][a-zA-Z0-9_.-]* is allowed");
  EXPECT_EQ(refusal("../g"), "Vmgroup name ../g is invalid, only [a-zA-Z0-9_][a-zA-Z0-9_.-]* is allowed");
  EXPECT_THAT(refusal("g 1"), HasSubstr("is invalid"));
  EXPECT_THAT(refusal("gr\xc3\xbcn"), HasSubstr("is invalid"));
  EXPECT_EQ(refusal(std::string(65, 'g')), "Vmgroup name exceeds 64 characters: " + std::string(65, 'g'));
  EXPECT_EQ(refusal(std::string(64, 'g')), "");
  EXPECT_EQ(refusal("g1.a-b_c"), "");
}

TEST_F(Groups, AreMadeOnce) {
  make_group("g1");
  const auto again = tenancy_->create_group("g1", "", kVmDatastoreUrl, {});
  EXPECT_EQ(message_of(again), "Vmgroup g1 already exists");
  EXPECT_EQ(code_of(again), "E_EXISTS");
}

TEST_F(Groups, HaveADescriptionOf256CharactersAtMost) {
  EXPECT_OK(tenancy_->create_group("g1", std::string(256, 'd'), kVmDatastoreUrl, {}));
  EXPECT_THAT(message_of(tenancy_->create_group("g2", std::string(257, 'd'), kVmDatastoreUrl, {})),
              HasSubstr("Vmgroup description exceeds 256 characters: ddd"));
}

TEST_F(Groups, CannotHaveAllDatastoresAsTheirDefault) {
  const auto refused = tenancy_->create_group("g1", "", kAllDatastoresUrl, {});
  EXPECT_THAT(message_of(refused), HasSubstr("Cannot use _ALL_DS as default datastore"));
  EXPECT_EQ(message_of(tenancy_->update_group(make_group("g1"),
                                              {.default_datastore_url = std::string(kAllDatastoresUrl)})),
            message_of(refused));
}

TEST_F(Groups, LeaveNothingBehindWhenTheyAreRefused) {
  make_group("g1", {kWeb});
  EXPECT_FALSE(tenancy_->create_group("g2", "", kDs1, {kDb, kWeb}));
  EXPECT_EQ(sql("select count(*) from tenants"), "2\n");
  EXPECT_EQ(sql("select count(*) from vms"), "1\n");
}

TEST_F(Groups, AreRenamedWithTheirMembersAndRights) {
  const VmGroup group = make_group("g1", {kWeb});
  const auto renamed = tenancy_->update_group(group, {.name = "g2"});
  ASSERT_OK(renamed);
  EXPECT_EQ(renamed->name, "g2");
  EXPECT_EQ(renamed->uuid, group.uuid);
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g2");
  EXPECT_OK(tenancy_->authorize(*renamed, kVmDatastoreUrl, kDs1, Access::kCreate));
  EXPECT_FALSE(tenancy_->find_group("g1"));
}

TEST_F(Groups, AreNotGivenAnInvalidNewName) {
  const VmGroup group = make_group("g1");
  EXPECT_EQ(message_of(tenancy_->update_group(group, {.name = "../../etc"})),
            "Vmgroup name ../../etc is invalid, only [a-zA-Z0-9_][a-zA-Z0-9_.-]* is allowed");
  EXPECT_EQ(message_of(tenancy_->update_group(group, {.name = ""})), "Vmgroup name is empty");
  EXPECT_OK(tenancy_->find_group("g1"));
}

TEST_F(Groups, AreNotGivenANameThatIsTaken) {
  const VmGroup group = make_group("g1");
  make_group("g2");
  EXPECT_EQ(message_of(tenancy_->update_group(group, {.name = "g2"})), "Vmgroup g2 already exists");
  EXPECT_OK(tenancy_->update_group(group, {.name = "g1"}));
}

TEST_F(Groups, ChangeAllOrNothing) {
  const VmGroup group = make_group("g1");
  EXPECT_FALSE(tenancy_->update_group(
      group, {.name = "g2", .description = "new", .default_datastore_url = std::string(kAllDatastoresUrl)}));
  const auto still = tenancy_->find_group("g1");
  ASSERT_OK(still);
  EXPECT_EQ(still->description, "");
}

TEST_F(Groups, TheDefaultOneKeepsItsName) {
  EXPECT_EQ(message_of(tenancy_->update_group(default_group(), {.name = "g1"})),
            "Vmgroup name _DEFAULT is invalid, only rename of vmgroups other than _DEFAULT is allowed");
}

TEST_F(Groups, NoOtherOneBecomesTheDefaultOneByItsName) {
  const VmGroup group = make_group("g1");
  ASSERT_OK(tenancy_->remove_group(default_group(), false));
  EXPECT_EQ(code_of(tenancy_->update_group(group, {.name = "_DEFAULT"})), "E_INVALID");
}

TEST_F(Groups, GetRightsOnTheirNewDefaultDatastore) {
  const VmGroup group = make_group("g1");
  ASSERT_OK(tenancy_->update_group(group, {.default_datastore_url = std::string(kDs1)}));
  const auto rights = tenancy_->privileges(group);
  ASSERT_OK(rights);
  ASSERT_EQ(rights->size(), 2u);
  EXPECT_THAT(*rights, ::testing::Contains(Privilege{std::string(kDs1), true, 0, 0}));
}

TEST_F(Groups, KeepTheLimitsThatTheirNewDefaultDatastoreHad) {
  const VmGroup group = make_group("g1");
  const Privilege limited{std::string(kDs1), false, 100, 200};
  ASSERT_OK(tenancy_->add_privilege(group, limited));
  ASSERT_OK(tenancy_->update_group(group, {.default_datastore_url = std::string(kDs1)}));
  EXPECT_THAT(*tenancy_->privileges(group), ::testing::Contains(limited));
}

TEST_F(Groups, TakeTheirRowsWithThem) {
  const VmGroup group = make_group("g1", {kWeb});
  ASSERT_OK(make_volume(group, kVmDatastoreUrl, "v", 1));
  ASSERT_OK(tenancy_->remove_group(group, true));
  for (const char* table : {"vms", "privileges", "volumes"})
    EXPECT_EQ(sql("select count(*) from " + std::string(table) + " where tenant_id='" + group.uuid + "'"),
              "0\n");
  EXPECT_EQ(sql("select name from tenants"), "_DEFAULT\n");
  EXPECT_EQ(code_of(tenancy_->remove_group(group, true)), "E_NOT_FOUND");
}

TEST_F(Groups, StayWhileTheyHaveMembers) {
  const VmGroup group = make_group("g1", {kWeb});
  const auto refused = tenancy_->remove_group(group, false);
  EXPECT_EQ(message_of(refused),
            "Cannot delete non-empty vmgroup g1. Remove VMs from the vmgroup before deleting it.");
  EXPECT_EQ(code_of(refused), "E_IN_USE");
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g1");
}

TEST_F(Groups, TheDefaultOneCanGoAndComeBackWithItsUuid) {
  ASSERT_OK(tenancy_->remove_group(default_group(), false));
  const auto nobody = tenancy_->group_of(kWeb.vm_uuid, "web");
  EXPECT_EQ(message_of(nobody), "VM web does not belong to any vmgroup");
  EXPECT_EQ(code_of(nobody), "E_DENIED");
  EXPECT_EQ(message_of(tenancy_->group_of(kWeb.vm_uuid, "")),
            "VM " + kWeb.vm_uuid + " does not belong to any vmgroup");

  const auto back = tenancy_->create_group("_DEFAULT", "", kVmDatastoreUrl, {});
  ASSERT_OK(back);
  EXPECT_EQ(back->uuid, "11111111-1111-1111-1111-111111111111");
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "_DEFAULT");
}

TEST_F(Groups, TheDefaultOneIsNotMadeWithMembers) {
  ASSERT_OK(tenancy_->remove_group(default_group(), false));
  EXPECT_EQ(message_of(tenancy_->create_group("_DEFAULT", "", kVmDatastoreUrl, {kWeb})),
            "Invalid Argument(['web'])");
}

TEST_F(Groups, NamesAreDataForSqlite) {
  EXPECT_EQ(message_of(tenancy_->find_group("x' OR '1'='1")), "Vmgroup x' OR '1'='1 does not exist");
  const VmGroup group = make_group("g1");
  ASSERT_OK(tenancy_->update_group(group, {.description = "'); DROP TABLE vms; --"}));
  EXPECT_EQ(sql("select count(*) from vms"), "0\n");
}

}  // namespace
}  // namespace vdvs::esx::testing
