#include "base/fault.h"

#include <gtest/gtest.h>

#include <future>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::base {
namespace {

class FaultTest : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(set_faults("")); }
};

TEST_F(FaultTest, WithoutAFaultAPointIsPassed) { EXPECT_TRUE(fault_point("walk.attach.before")); }

TEST_F(FaultTest, FailsAsOftenAsAsked) {
  ASSERT_TRUE(set_faults("a.before=fail:2,b.after=fail"));
  EXPECT_FALSE(fault_point("a.before"));
  EXPECT_FALSE(fault_point("a.before"));
  EXPECT_TRUE(fault_point("a.before"));
  EXPECT_TRUE(fault_point("a.after"));
  EXPECT_FALSE(fault_point("b.after"));
}

TEST_F(FaultTest, BlocksUntilTheGateIsThere) {
  tests::TemporaryFolder folder;
  const std::string gate = folder.path() + "/gate";
  ASSERT_TRUE(set_faults("a.before=block:" + gate));
  auto passed = std::async(std::launch::async, [] { return fault_point("a.before").has_value(); });
  EXPECT_EQ(passed.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  ASSERT_TRUE(write_file(gate, ""));
  EXPECT_TRUE(passed.get());
}

TEST_F(FaultTest, RefusesWhatItCannotRead) {
  for (const char* text : {"a", "a=explode", "a=block", "a=block:"}) EXPECT_FALSE(set_faults(text)) << text;
}

using FaultDeathTest = FaultTest;

TEST_F(FaultDeathTest, KillsByTheSignalThatCannotBeCaught) {
  ASSERT_TRUE(set_faults("a.before=kill"));
  EXPECT_EXIT((void)fault_point("a.before"), ::testing::KilledBySignal(SIGKILL), "");
}

}  // namespace
}  // namespace vdvs::base
