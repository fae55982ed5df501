// What a group may do on which datastore.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

class Privileges : public TenancyTest {
 protected:
  void SetUp() override {
    init();
    group_ = make_group("g1");
  }
  std::string asked(std::string_view url, Access access, std::string_view vm_url = kDs1) {
    return message_of(tenancy_->authorize(group_, url, vm_url, access));
  }
  std::string row_that_counts(std::string_view url, std::string_view vm_url = kDs1) {
    const auto row = tenancy_->authorize(group_, url, vm_url, Access::kGet);
    return row ? row->datastore_url : row.error().message();
  }
  void add(std::string_view url, bool allow_create = true) {
    EXPECT_OK(
        tenancy_->add_privilege(group_, {.datastore_url = std::string(url), .allow_create = allow_create}));
  }
  VmGroup group_;
};

TEST_F(Privileges, OfTheDatastoreItselfComeFirst) {
  add(kDs1);
  add(kAllDatastoresUrl);
  EXPECT_EQ(row_that_counts(kDs1), kDs1);
}

TEST_F(Privileges, OfTheVmsDatastoreCountForItByName) {
  add(kAllDatastoresUrl);
  EXPECT_EQ(row_that_counts(kDs1, kDs1), kVmDatastoreUrl);
  EXPECT_EQ(row_that_counts(kDs2, kDs1), kAllDatastoresUrl);
}

TEST_F(Privileges, OfAllDatastoresCountLast) {
  EXPECT_EQ(row_that_counts(kDs2), "No access privilege exists");
  add(kAllDatastoresUrl);
  EXPECT_EQ(row_that_counts(kDs2), kAllDatastoresUrl);
}

TEST_F(Privileges, OfTheDefaultDatastoreAreItsRowsOwn) {
  add(kDs1, false);
  EXPECT_EQ(row_that_counts(kVmDatastoreUrl, kDs1), kVmDatastoreUrl);
}

TEST_F(Privileges, AreNeededForEverything) {
  for (const Access access : {Access::kGet, Access::kMount, Access::kCreate, Access::kRemove})
    EXPECT_EQ(asked(kDs2, access), "No access privilege exists");
  EXPECT_EQ(code_of(tenancy_->authorize(group_, kDs2, kDs1, Access::kGet)), "E_DENIED");
}

TEST_F(Privileges, WithoutCreateStillMount) {
  add(kDs2, false);
  EXPECT_EQ(asked(kDs2, Access::kGet), "");
  EXPECT_EQ(asked(kDs2, Access::kMount), "");
  EXPECT_EQ(asked(kDs2, Access::kCreate), "No create privilege");
  EXPECT_EQ(asked(kDs2, Access::kRemove), "No delete privilege");
}

TEST_F(Privileges, AreSwitchedOffAndOnAgain) {
  ASSERT_OK(tenancy_->change_privilege(group_, kVmDatastoreUrl, {.allow_create = false}));
  EXPECT_EQ(asked(kVmDatastoreUrl, Access::kCreate), "No create privilege");
  ASSERT_OK(tenancy_->change_privilege(group_, kVmDatastoreUrl, {.allow_create = true}));
  EXPECT_EQ(asked(kVmDatastoreUrl, Access::kCreate), "");
}

TEST_F(Privileges, OfOneGroupAreNotAnothers) {
  add(kDs2);
  const VmGroup other = make_group("g2");
  EXPECT_EQ(message_of(tenancy_->authorize(other, kDs2, kDs1, Access::kGet)), "No access privilege exists");
}

TEST_F(Privileges, AreAddedOnce) {
  add(kDs1);
  EXPECT_EQ(message_of(tenancy_->add_privilege(group_, {.datastore_url = std::string(kDs1)})),
            "Access privilege for (g1, " + std::string(kDs1) + ") already exists");
  EXPECT_EQ(message_of(tenancy_->add_privilege(group_, {.datastore_url = std::string(kVmDatastoreUrl)})),
            "Access privilege for (g1, _VM_DS) already exists");
}

TEST_F(Privileges, HaveAMaximumWithinTheirTotal) {
  EXPECT_EQ(message_of(tenancy_->add_privilege(group_, {std::string(kDs1), true, 200, 100})),
            "Volume max size 200MB exceeds the total size 100MB");
  EXPECT_OK(tenancy_->add_privilege(group_, {std::string(kDs1), true, 100, 200}));
  EXPECT_EQ(message_of(tenancy_->change_privilege(group_, kDs1, {.max_volume_mb = 201})),
            "Volume max size 201MB exceeds the total size 200MB");
  EXPECT_EQ(message_of(tenancy_->change_privilege(group_, kDs1, {.usage_quota_mb = 99})),
            "Volume max size 100MB exceeds the total size 99MB");
  EXPECT_OK(tenancy_->change_privilege(group_, kDs1, {.max_volume_mb = 300, .usage_quota_mb = 300}));
}

TEST_F(Privileges, AreUnlimitedAgainWithZero) {
  limit(group_, kVmDatastoreUrl, 100, 200);
  EXPECT_EQ(code_of(make_volume(group_, kVmDatastoreUrl, "v", 1000)), "E_LIMIT");
  limit(group_, kVmDatastoreUrl, 0, 0);
  EXPECT_OK(make_volume(group_, kVmDatastoreUrl, "v", 1000));
}

TEST_F(Privileges, KeepWhatIsNotChanged) {
  const Privilege before{std::string(kDs1), true, 100, 200};
  ASSERT_OK(tenancy_->add_privilege(group_, before));
  ASSERT_OK(tenancy_->change_privilege(group_, kDs1, {}));
  EXPECT_THAT(*tenancy_->privileges(group_), ::testing::Contains(before));
}

TEST_F(Privileges, AreChangedWhereTheyAre) {
  EXPECT_EQ(message_of(tenancy_->change_privilege(group_, kDs1, {.allow_create = true})),
            "No access privilege exists for (g1, " + std::string(kDs1) + ")");
  EXPECT_EQ(message_of(tenancy_->remove_privilege(group_, kAllDatastoresUrl)),
            "No access privilege exists for (g1, _ALL_DS)");
}

TEST_F(Privileges, OfTheDefaultDatastoreStay) {
  EXPECT_EQ(message_of(tenancy_->remove_privilege(group_, kVmDatastoreUrl)),
            "Removing of access privilege to 'default_datastore' is not supported");
  add(kDs1);
  EXPECT_OK(tenancy_->remove_privilege(group_, kDs1));
  EXPECT_EQ(sql("select count(*) from privileges where tenant_id='" + group_.uuid + "'"), "1\n");
}

TEST_F(Privileges, WithoutAllDatastoresTheDefaultGroupKeepsToTheVmsOwn) {
  const VmGroup everyone = default_group();
  ASSERT_OK(tenancy_->remove_privilege(everyone, kAllDatastoresUrl));
  EXPECT_OK(tenancy_->authorize(everyone, kDs1, kDs1, Access::kCreate));
  EXPECT_EQ(message_of(tenancy_->authorize(everyone, kDs2, kDs1, Access::kCreate)),
            "No access privilege exists");
}

TEST_F(Privileges, ThatOthersWroteNegativeLetNothingThrough) {
  sql("update privileges set max_volume_size=-5 where tenant_id='" + group_.uuid + "'");
  EXPECT_EQ(code_of(make_volume(group_, kVmDatastoreUrl, "v", 2)), "E_LIMIT");
}

TEST_F(Privileges, HaveLimitsThatFitIntoTheDatabase) {
  EXPECT_EQ(message_of(tenancy_->add_privilege(group_, {std::string(kDs1), true, 0, ~std::uint64_t{0}})),
            "Invalid volume size specified.");
}

}  // namespace
}  // namespace vdvs::esx::testing
