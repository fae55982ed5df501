// How much a group may use: reserved with the check, given back, set right after a crash.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

class Quota : public TenancyTest {
 protected:
  void SetUp() override {
    init();
    group_ = make_group("g1", {kWeb}, kDs1);
  }
  std::uint64_t used(std::string_view url = kDs1) {
    const auto usage = tenancy_->usage(group_);
    EXPECT_OK(usage);
    for (const auto& [datastore, mb] : *usage) {
      if (datastore == url) return mb;
    }
    return 0;
  }
  std::string rows() { return sql("select datastore_url, volume_name, volume_size from volumes order by 2"); }
  std::string asked(std::string_view volume, std::uint64_t size_mb, std::string_view url = kDs1) {
    return message_of(make_volume(group_, url, volume, size_mb));
  }
  base::Result<void> forget(std::string_view volume) {
    const auto row = tenancy_->row_of_volume(group_, kDs1, volume);
    if (!row) return std::unexpected(row.error());
    return tenancy_->forget_volume(group_, kDs1, volume, *row);
  }
  VmGroup group_;
  const std::string ds1_ = std::string(kDs1);
};

const char* const kTooLarge = "Volume size exceeds the max volume size limit";
const char* const kTooMuch = "The total volume size exceeds the usage quota";

TEST_F(Quota, LimitsOneVolume) {
  limit(group_, kDs1, 500, 1000);
  EXPECT_EQ(asked("a", 501), kTooLarge);
  EXPECT_EQ(asked("a", 500), "");
}

TEST_F(Quota, LimitsTheSum) {
  limit(group_, kDs1, 500, 1000);
  EXPECT_EQ(asked("a", 500), "");
  EXPECT_EQ(asked("b", 500), "");
  EXPECT_EQ(asked("c", 1), kTooMuch);
  EXPECT_EQ(used(), 1000u);
}

TEST_F(Quota, LeavesARowOfThePredecessorsShape) {
  EXPECT_EQ(asked("a", 100), "");
  EXPECT_EQ(sql("select * from volumes"), group_.uuid + "|" + ds1_ + "|a|100\n");
}

TEST_F(Quota, IsCheckedAfterTheRightToCreate) {
  ASSERT_OK(tenancy_->change_privilege(group_, kDs1,
                                       {.allow_create = false, .max_volume_mb = 1, .usage_quota_mb = 1}));
  EXPECT_EQ(asked("a", 100), "No create privilege");
}

TEST_F(Quota, IsGivenBackWhenTheVolumeIsNotMade) {
  limit(group_, kDs1, 0, 100);
  {
    const auto reservation = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
    ASSERT_OK(reservation);
    EXPECT_EQ(used(), 100u);
    EXPECT_EQ(asked("b", 1), kTooMuch);
  }
  EXPECT_EQ(used(), 0u);
  EXPECT_EQ(asked("b", 100), "");
}

TEST_F(Quota, IsFreeAfterARemove) {
  limit(group_, kDs1, 0, 100);
  EXPECT_EQ(asked("a", 100), "");
  ASSERT_OK(forget("a"));
  ASSERT_OK(forget("a"));
  EXPECT_EQ(asked("b", 100), "");
}

TEST_F(Quota, OfAVolumeThatWasMadeAgainMeanwhileIsNotForgotten) {
  EXPECT_EQ(asked("a", 100), "");
  const auto row = tenancy_->row_of_volume(group_, kDs1, "a");
  ASSERT_OK(row);
  // The disk is removed here; another request makes it again before its row is forgotten.
  EXPECT_EQ(asked("a", 60), "");
  ASSERT_OK(tenancy_->forget_volume(group_, kDs1, "a", *row));
  EXPECT_EQ(rows(), ds1_ + "|a|60\n");
}

TEST_F(Quota, OfAVolumeThatTwoHaveRemovedAndAThirdHasMadeAgainStays) {
  EXPECT_EQ(asked("a", 100), "");
  const auto row = tenancy_->row_of_volume(group_, kDs1, "a");
  ASSERT_OK(row);
  ASSERT_OK(tenancy_->forget_volume(group_, kDs1, "a", *row));
  EXPECT_EQ(asked("a", 60), "") << "an id that was the greatest is not given again";
  ASSERT_OK(tenancy_->forget_volume(group_, kDs1, "a", *row));
  EXPECT_EQ(used(), 60u);
}

TEST_F(Quota, CountsAVolumeThatIsThereOnce) {
  limit(group_, kDs1, 0, 100);
  EXPECT_EQ(asked("a", 100), "");
  EXPECT_EQ(asked("a", 100), "");
  EXPECT_EQ(used(), 100u);
}

TEST_F(Quota, OfAVolumeThatWasThereBeforeIsNotGivenBack) {
  EXPECT_EQ(asked("a", 100), "");
  {
    ASSERT_OK(tenancy_->reserve(group_, kDs1, kDs1, "a", 50));
  }
  EXPECT_EQ(rows(), ds1_ + "|a|100\n");
}

TEST_F(Quota, OfALostRaceLeavesTheWinnersRow) {
  auto loser = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(loser);
  auto winner = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(winner);
  {
    const QuotaReservation gone = std::move(*loser);
  }
  winner->keep();
  EXPECT_EQ(rows(), ds1_ + "|a|100\n");
}

TEST_F(Quota, OfAFailedSecondLeavesTheFirstsRow) {
  auto first = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(first);
  {
    ASSERT_OK(tenancy_->reserve(group_, kDs1, kDs1, "a", 100));
  }
  first->keep();
  EXPECT_EQ(rows(), ds1_ + "|a|100\n");
}

TEST_F(Quota, IsKeptThoughAnotherServiceHasComparedMeanwhile) {
  auto reservation = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(reservation);
  const auto other = make_sqlite_tenancy(path_);
  ASSERT_OK(other->reconcile_volumes(group_, kDs1, {}));
  EXPECT_EQ(used(), 0u);
  reservation->keep();
  EXPECT_EQ(used(), 100u);
}

TEST_F(Quota, OfTheVmsDatastoreCountsOnTheRealOne) {
  const VmGroup group = make_group("g2");
  limit(group, kVmDatastoreUrl, 500, 1000);
  EXPECT_OK(make_volume(group, kVmDatastoreUrl, "short", 500, kDs1));
  EXPECT_OK(make_volume(group, kDs1, "long", 500, kDs1));
  EXPECT_EQ(message_of(make_volume(group, kVmDatastoreUrl, "third", 1, kDs1)), kTooMuch);
  EXPECT_OK(make_volume(group, kVmDatastoreUrl, "elsewhere", 500, kDs2));
  EXPECT_EQ(sql("select count(*) from volumes where datastore_url='" + ds1_ + "'"), "2\n");
}

TEST_F(Quota, OfAllDatastoresIsForEachOfThem) {
  ASSERT_OK(tenancy_->add_privilege(group_, {std::string(kAllDatastoresUrl), true, 0, 100}));
  EXPECT_EQ(asked("a", 100, kDs2), "");
  EXPECT_EQ(asked("b", 1, kDs2), kTooMuch);
  EXPECT_EQ(asked("c", 5000, kDs1), "") << "the default datastore has a row of its own";
}

TEST_F(Quota, IsNotExceededByHugeSizes) {
  limit(group_, kDs1, 0, 100);
  EXPECT_EQ(asked("a", ~std::uint64_t{0}), "Invalid volume size specified.");
  EXPECT_EQ(asked("a", (std::uint64_t{1} << 50)), kTooMuch);
}

TEST_F(Quota, IsSetRightByAComparison) {
  EXPECT_EQ(asked("crashed", 100), "");
  EXPECT_EQ(asked("grown", 100), "");
  EXPECT_EQ(asked("same", 100), "");
  ASSERT_OK(tenancy_->reconcile_volumes(group_, kDs1, {{"grown", 200}, {"same", 100}, {"clone", 50}}));
  EXPECT_EQ(rows(), ds1_ + "|clone|50\n" + ds1_ + "|grown|200\n" + ds1_ + "|same|100\n");
}

TEST_F(Quota, OfOtherDatastoresAndGroupsIsNotComparedAway) {
  EXPECT_OK(make_volume(make_group("g2"), kVmDatastoreUrl, "others", 1));
  ASSERT_OK(tenancy_->add_privilege(group_, {.datastore_url = std::string(kDs2), .allow_create = true}));
  EXPECT_EQ(asked("far", 2, kDs2), "");
  ASSERT_OK(tenancy_->reconcile_volumes(group_, kDs1, {}));
  EXPECT_EQ(sql("select volume_name from volumes order by 1"), "far\nothers\n");
}

TEST_F(Quota, OfAVolumeInTheMakingIsNotComparedAway) {
  auto reservation = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(reservation);
  ASSERT_OK(tenancy_->reconcile_volumes(group_, kDs1, {{"a", 7}}));
  EXPECT_EQ(rows(), ds1_ + "|a|100\n");
  {
    const QuotaReservation gone = std::move(*reservation);
  }
  EXPECT_EQ(rows(), "");
}

TEST_F(Quota, OfAVolumeThatAnotherServiceIsMakingIsNotComparedAway) {
  auto reservation = tenancy_->reserve(group_, kDs1, kDs1, "a", 100);
  ASSERT_OK(reservation);
  const auto other = make_sqlite_tenancy(path_);
  ASSERT_OK(other->reconcile_volumes(group_, kDs1, {{"a", std::nullopt}}));
  EXPECT_EQ(rows(), ds1_ + "|a|100\n");
  ASSERT_OK(other->reconcile_volumes(group_, kDs1, {{"a", std::nullopt}, {"unknown", std::nullopt}}));
  EXPECT_EQ(rows(), ds1_ + "|a|100\n") << "no row is made of what is not finished";
  reservation->keep();
}

TEST_F(Quota, OfAGroupThatIsGoneCannotBeReserved) {
  ASSERT_OK(tenancy_->remove_group(group_, true));
  EXPECT_EQ(asked("a", 1), "No access privilege exists");
}

TEST_F(Quota, TreatsVolumeNamesAsData) {
  EXPECT_EQ(asked("x' || '", 5), "");
  EXPECT_EQ(asked(std::string("a\0b", 3), 5), "");
  ASSERT_OK(forget("a"));
  EXPECT_EQ(used(), 10u);
}

}  // namespace
}  // namespace vdvs::esx::testing
