// Storage policies: what is one, and files that only ever lie in their folder.
#include "esx-vmci/tenancy/policies.h"

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;

const std::string kThick = R"((("proportionalCapacity" i100)("hostFailuresToTolerate" i0)))";
const std::string kThin = R"((("proportionalCapacity" i0)))";

std::string refusal(std::string_view content) { return message_of(validate_policy_content(content)); }

TEST(PolicyContent, IsAListOfKnownCapabilities) {
  EXPECT_EQ(refusal(kThick), "");
  EXPECT_EQ(refusal(R"( ( ("stripeWidth" i12)
     ("cacheReservation" i1000000) ("iopsLimit" i500) ("checksumDisabled" i1) ("forceProvisioning" i1) ) )"),
            "");
  EXPECT_EQ(refusal(R"((("replicaPreference" "RAID-5/6 (Erasure Coding) - Capacity")))"), "");
}

TEST(PolicyContent, NamesTheKnownOnesWhereOneIsNot) {
  EXPECT_EQ(refusal(R"((("hostFailures" i1)))"),
            "Error: Invalid policy string: at character 3: unknown capability 'hostFailures'; known are "
            "hostFailuresToTolerate, forceProvisioning, stripeWidth, cacheReservation, proportionalCapacity, "
            "iopsLimit, checksumDisabled, replicaPreference");
}

TEST(PolicyContent, HasValuesInRange) {
  EXPECT_THAT(refusal(R"((("hostFailuresToTolerate" i4)))"),
              HasSubstr("'hostFailuresToTolerate' takes i0 to i3"));
  EXPECT_THAT(refusal(R"((("stripeWidth" i0)))"), HasSubstr("'stripeWidth' takes i1 to i12"));
  EXPECT_THAT(refusal(R"((("proportionalCapacity" i-1)))"), HasSubstr("takes i0 to i100"));
  EXPECT_THAT(refusal(R"((("iopsLimit" i99999999999999999999999)))"), HasSubstr("'iopsLimit' takes"));
  EXPECT_THAT(refusal(R"((("forceProvisioning" "yes")))"), HasSubstr("'i' should be here"));
  EXPECT_THAT(refusal(R"((("replicaPreference" "RAID-0")))"),
              HasSubstr("'replicaPreference' takes \"RAID-1"));
}

TEST(PolicyContent, HasBalancedParentheses) {
  for (const char* text :
       {"", " ", "(", "()", "(()", "((\"stripeWidth\" i1)", "(\"stripeWidth\" i1)", "((\"stripeWidth\" i1)))",
        "((\"stripeWidth\" i1)) x", "((\"stripeWidth\"", "((\"stripeWidth", "((\"stripeWidth\" i))",
        "((stripeWidth i1))", "((\"stripeWidth\" i1 i2))", ")("})
    EXPECT_THAT(refusal(text), HasSubstr("Error: Invalid policy string: at character ")) << text;
}

TEST(PolicyContent, NamesACapabilityOnce) {
  EXPECT_THAT(refusal(R"((("stripeWidth" i1)("stripeWidth" i2)))"),
              HasSubstr("'stripeWidth' is there twice"));
}

TEST(PolicyContent, IsNotForAShell) {
  EXPECT_NE(refusal(kThin + "'; reboot; '"), "");
  EXPECT_THAT(refusal("((\"'$(reboot)\n\" i1))"), HasSubstr("unknown capability ''$(reboot)?'"));
}

TEST(PolicyContent, HasALimit) {
  EXPECT_THAT(refusal(std::string(5000, ' ')), HasSubstr("5000 bytes (at most 4096)"));
}

TEST(PolicyName, IsAPlainFileName) {
  for (const char* name : {"", "../x", "/etc/passwd", "a/b", ".", "..", ".hidden", "a\nb", "a\x7f", "p.tmp",
                           "p.old", "p.failed_volume_updates"})
    EXPECT_EQ(code_of(validate_policy_name(name)), "E_INVALID") << name;
  EXPECT_EQ(code_of(validate_policy_name(std::string(201, 'p'))), "E_INVALID");
  EXPECT_EQ(code_of(validate_policy_name(std::string_view("a\0b", 3))), "E_INVALID");
  for (const char* name : {"gold", "my policy", "raid-1.v2", "\xe4\xbd\xa0"})
    EXPECT_EQ(code_of(validate_policy_name(name)), "OK") << name;
}

class Policies : public ::testing::Test {
 protected:
  std::vector<std::string> names() {
    std::vector<std::string> found;
    const auto listed = store_.list();
    EXPECT_OK(listed);
    if (listed) {
      for (const Policy& policy : *listed) found.push_back(policy.name);
    }
    return found;
  }
  TemporaryFolder root_;
  const std::string folder_ = root_.path() + "/dockvols/policies";
  PolicyStore store_{folder_};
};

using ::testing::ElementsAre;

TEST_F(Policies, AreFilesWithANewline) {
  ASSERT_OK(store_.create("gold", kThick));
  EXPECT_EQ(read_text(folder_ + "/gold"), kThick + "\n");
  EXPECT_EQ(store_.find("gold")->content, kThick);
}

TEST_F(Policies, AreNoneWithoutAFolder) {
  EXPECT_THAT(names(), ElementsAre());
  EXPECT_EQ(message_of(store_.find("gold")), "Error: Policy gold does not exist");
  EXPECT_EQ(message_of(store_.update("gold", kThin)), "Error: Policy gold does not exist");
  EXPECT_EQ(message_of(store_.remove("gold")), "Policy gold does not exist");
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(Policies, AreMadeOnce) {
  ASSERT_OK(store_.create("gold", kThick));
  const auto again = store_.create("gold", kThin);
  EXPECT_EQ(message_of(again), "Error: Policy already exists");
  EXPECT_EQ(code_of(again), "E_EXISTS");
  EXPECT_EQ(store_.find("gold")->content, kThick);
}

TEST_F(Policies, AreCheckedBeforeTheyAreWritten) {
  EXPECT_THAT(message_of(store_.create("gold", "nonsense")), HasSubstr("Error: Invalid policy string"));
  EXPECT_EQ(code_of(store_.create("../gold", kThin)), "E_INVALID");
  EXPECT_FALSE(std::filesystem::exists(root_.path() + "/dockvols/gold"));
}

TEST_F(Policies, AreReplacedInOneStep) {
  ASSERT_OK(store_.create("gold", kThick));
  ASSERT_OK(store_.update("gold", kThin));
  EXPECT_EQ(store_.find("gold")->content, kThin);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/gold.tmp"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/gold.old"));
}

TEST_F(Policies, AreNotReplacedByThemselves) {
  ASSERT_OK(store_.create("gold", kThick));
  EXPECT_EQ(message_of(store_.update("gold", kThick)),
            "Error: New policy is identical to old policy. Ignoring.");
  EXPECT_FALSE(store_.update("gold", "((("));
  EXPECT_EQ(store_.find("gold")->content, kThick);
}

TEST_F(Policies, AreRemoved) {
  ASSERT_OK(store_.create("gold", kThick));
  ASSERT_OK(store_.remove("gold"));
  EXPECT_THAT(names(), ElementsAre());
  EXPECT_EQ(message_of(store_.remove("gold")), "Policy gold does not exist");
}

TEST_F(Policies, AreListedByNameWithoutWhatUpdatesLeave) {
  ASSERT_OK(store_.create("silver", kThin));
  ASSERT_OK(store_.create("gold", kThick));
  for (const char* name : {"/gold.tmp", "/gold.old", "/gold.failed_volume_updates", "/.vdvs.lock"})
    write_text(folder_ + name, "left over");
  std::filesystem::create_directory(folder_ + "/folder");
  EXPECT_THAT(names(), ElementsAre("gold", "silver"));
}

TEST_F(Policies, SurviveAnInterruptedUpdate) {
  ASSERT_OK(store_.create("gold", kThick));
  write_text(folder_ + "/gold.tmp", "half of a pol");
  ASSERT_OK(store_.update("gold", kThin));
  EXPECT_EQ(store_.find("gold")->content, kThin);
}

TEST_F(Policies, OfThePredecessorAreReadAsTheyAre) {
  std::filesystem::create_directories(folder_);
  write_text(folder_ + "/old", "((\"anything\" x1))\n");
  EXPECT_EQ(store_.find("old")->content, "((\"anything\" x1))");
  EXPECT_THAT(names(), ElementsAre("old"));
}

TEST_F(Policies, NeverFollowALink) {
  ASSERT_OK(store_.create("gold", kThick));
  const std::string secret = root_.path() + "/secret";
  write_text(secret, "secret");
  ASSERT_EQ(::symlink(secret.c_str(), (folder_ + "/link").c_str()), 0);
  ASSERT_EQ(::symlink(secret.c_str(), (folder_ + "/gold.tmp").c_str()), 0);
  EXPECT_THAT(names(), ElementsAre("gold"));
  EXPECT_EQ(code_of(store_.find("link")), "E_NOT_FOUND");
  EXPECT_EQ(code_of(store_.create("link", kThin)), "E_EXISTS");
  ASSERT_OK(store_.update("gold", kThin));
  EXPECT_EQ(read_text(secret), "secret");
}

TEST_F(Policies, DoNotLieInAFolderBehindALink) {
  std::filesystem::create_directories(root_.path() + "/elsewhere");
  std::filesystem::create_directories(root_.path() + "/dockvols");
  ASSERT_EQ(::symlink((root_.path() + "/elsewhere").c_str(), folder_.c_str()), 0);
  EXPECT_FALSE(store_.create("gold", kThick));
  EXPECT_TRUE(std::filesystem::is_empty(root_.path() + "/elsewhere"));
}

TEST_F(Policies, StopNobodyWithAFifo) {
  ASSERT_OK(store_.create("gold", kThick));
  ASSERT_EQ(::mkfifo((folder_ + "/pipe").c_str(), 0600), 0);
  EXPECT_THAT(names(), ElementsAre("gold"));
  EXPECT_EQ(code_of(store_.find("pipe")), "E_NOT_FOUND");
}

TEST_F(Policies, AreMadeByOneOfMany) {
  const auto made = side_by_side(4, [&](int) { return store_.create("gold", kThick) ? 1 : 0; });
  EXPECT_EQ(made[0] + made[1] + made[2] + made[3], 1);
}

}  // namespace
}  // namespace vdvs::esx::testing
