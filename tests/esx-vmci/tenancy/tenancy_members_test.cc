// Who is in which group.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

class Members : public TenancyTest {
 protected:
  void SetUp() override { init(); }
  std::vector<std::string> names_in(const VmGroup& group) {
    std::vector<std::string> names;
    const auto members = tenancy_->members(group);
    EXPECT_OK(members);
    if (members) {
      for (const auto& member : *members) names.push_back(member.vm_name);
    }
    return names;
  }
};

using ::testing::ElementsAre;

TEST_F(Members, BelongToTheirGroupAndOthersToTheDefaultOne) {
  make_group("g1", {kWeb});
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g1");
  EXPECT_EQ(group_name_of(kDb.vm_uuid), "_DEFAULT");
}

TEST_F(Members, AreFoundWhateverTheCaseOfTheirUuid) {
  make_group("g1", {kWeb});
  EXPECT_EQ(group_name_of("564DAC12-B1A0-F735-0DF3-BCEB00B30340"), "g1");
  sql("update vms set vm_id='564dAC12-b1a0-F735-0df3-bceb00b30340'");
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g1");
  EXPECT_EQ(group_name_of("564DAC12-B1A0-F735-0DF3-BCEB00B30340"), "g1");
}

TEST_F(Members, AreAddedAndListed) {
  const VmGroup group = make_group("g1");
  ASSERT_OK(tenancy_->add_vms(group, {kWeb, kDb}));
  EXPECT_THAT(names_in(group), ElementsAre("db", "web"));
  EXPECT_EQ(group_name_of(kDb.vm_uuid), "g1");
}

TEST_F(Members, OfTheSameGroupAreNotAddedAgain) {
  const VmGroup group = make_group("g1", {kWeb});
  EXPECT_EQ(message_of(tenancy_->add_vms(group, {kDb, kWeb})),
            "VM 'web' has already been associated with tenant 'g1', cannot add it again");
  EXPECT_THAT(names_in(group), ElementsAre("web"));
}

TEST_F(Members, OfAnotherGroupAreNotAdded) {
  make_group("g1", {kWeb});
  const VmGroup other = make_group("g2");
  const auto refused = tenancy_->add_vms(other, {kDb, kWeb});
  EXPECT_EQ(message_of(refused), "VM 'web' has already been associated with tenant 'g1', can't add it");
  EXPECT_EQ(code_of(refused), "E_EXISTS");
  EXPECT_THAT(names_in(other), ElementsAre());
  EXPECT_EQ(message_of(tenancy_->create_group("g3", "", kVmDatastoreUrl, {kWeb})), message_of(refused));
}

TEST_F(Members, OfAnotherGroupAreRecognisedInAnyCase) {
  make_group("g1", {kWeb});
  EXPECT_EQ(code_of(tenancy_->add_vms(make_group("g2"), {{"564DAC12-B1A0-F735-0DF3-BCEB00B30340", "web"}})),
            "E_EXISTS");
}

TEST_F(Members, AreGivenOnceEach) {
  const VmGroup group = make_group("g1");
  const std::vector<Tenancy::Member> twice = {kWeb, {"564DAC12-b1a0-f735-0df3-bceb00b30340", "web"}};
  const std::string text = "VMs ['web', 'web'] contain duplicates, they should be unique";
  EXPECT_EQ(message_of(tenancy_->add_vms(group, twice)), text);
  EXPECT_EQ(message_of(tenancy_->replace_vms(group, twice)), text);
  EXPECT_EQ(message_of(tenancy_->create_group("g2", "", kVmDatastoreUrl, twice)), text);
}

TEST_F(Members, AreNeverNone) {
  const VmGroup group = make_group("g1", {kWeb});
  EXPECT_EQ(message_of(tenancy_->add_vms(group, {})), "VM list cannot be empty");
  EXPECT_EQ(message_of(tenancy_->remove_vms(group, {})), "VM list cannot be empty");
  EXPECT_EQ(message_of(tenancy_->replace_vms(group, {})), "Replace VM cannot be empty");
}

TEST_F(Members, HaveAUuid) {
  EXPECT_EQ(message_of(tenancy_->add_vms(make_group("g1"), {{"", "ghost"}})), "Cannot find vm ghost");
}

TEST_F(Members, AreRemoved) {
  const VmGroup group = make_group("g1", {kWeb, kDb});
  ASSERT_OK(tenancy_->remove_vms(group, {{"564DAC12-B1A0-F735-0DF3-BCEB00B30340", "web"}}));
  EXPECT_THAT(names_in(group), ElementsAre("db"));
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "_DEFAULT");
}

TEST_F(Members, AreRemovedTogetherOrNotAtAll) {
  const VmGroup group = make_group("g1", {kWeb});
  EXPECT_EQ(message_of(tenancy_->remove_vms(group, {kWeb, kDb})),
            "VM 'db' has not been associated with tenant 'g1', cannot remove it");
  EXPECT_THAT(names_in(group), ElementsAre("web"));
}

TEST_F(Members, AreReplaced) {
  const VmGroup group = make_group("g1", {kWeb, kDb});
  ASSERT_OK(tenancy_->replace_vms(group, {kDb, kLog}));
  EXPECT_THAT(names_in(group), ElementsAre("db", "log"));
}

TEST_F(Members, OfAnotherGroupDoNotReplace) {
  const VmGroup group = make_group("g1", {kWeb});
  make_group("g2", {kDb});
  EXPECT_EQ(message_of(tenancy_->replace_vms(group, {kDb})),
            "VM 'db' has already been associated with tenant 'g2', can't add it");
  EXPECT_THAT(names_in(group), ElementsAre("web"));
}

TEST_F(Members, AreNotNamedForTheDefaultGroup) {
  const std::string text = "This feature is not supported for vmgroup _DEFAULT.";
  EXPECT_EQ(message_of(tenancy_->add_vms(default_group(), {kWeb})), text);
  EXPECT_EQ(message_of(tenancy_->remove_vms(default_group(), {kWeb})), text);
  EXPECT_EQ(message_of(tenancy_->replace_vms(default_group(), {kWeb})), text);
}

TEST_F(Members, AreNotAddedToAGroupThatIsGone) {
  const VmGroup group = make_group("g1");
  ASSERT_OK(tenancy_->remove_group(group, false));
  EXPECT_EQ(message_of(tenancy_->add_vms(group, {kWeb})), "Vmgroup g1 does not exist");
}

TEST_F(Members, OfAGroupThatThePredecessorLostAreInTheDefaultOne) {
  sql("insert into vms values('" + kWeb.vm_uuid + "', 'no-such-tenant', 'web')");
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "_DEFAULT");
}

}  // namespace
}  // namespace vdvs::esx::testing
