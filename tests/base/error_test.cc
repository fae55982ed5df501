#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace vdvs::base {
namespace {

TEST(Error, ReadsAsOneLineWithItsCodeAndItsRemedy) {
  Error error = Error(ErrorCode::kBusyElsewhere, "disk is attached to vm 'web-2'").within("remove 'db'").with_remedy("stop it there");
  EXPECT_EQ(error.text(), "remove 'db': disk is attached to vm 'web-2' [E_BUSY_ELSEWHERE]; stop it there");
}

TEST(Error, OfASystemCallHasTheCodeThatFits) {
  EXPECT_EQ(Error::from_errno("open", ENOENT).code(), ErrorCode::kNotFound);
  EXPECT_EQ(Error::from_errno("write", ENOSPC).code(), ErrorCode::kNoSpace);
  EXPECT_EQ(Error::from_errno("write", EROFS).code(), ErrorCode::kReadOnly);
  EXPECT_EQ(Error::from_errno("read", EIO).code(), ErrorCode::kIo);
  EXPECT_EQ(Error::from_errno("open 'x'", ENOENT).message(), "open 'x': No such file or directory");
  EXPECT_EQ(Error::from_errno("open", ENOENT).system_errno(), ENOENT);
}

Result<int> half(int number) {
  if (number % 2 != 0) return fail(ErrorCode::kInvalid, "halve {}: it is odd", number);
  return number / 2;
}

Result<int> quarter(int number) {
  ASSIGN_OR_RETURN(int once, half(number));
  RETURN_IF_ERROR(half(once));
  return half(once);
}

TEST(Error, PassesThroughTheMacros) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(7).error().message(), "halve 7: it is odd");
  EXPECT_EQ(quarter(6).error().message(), "halve 3: it is odd");
}

TEST(ErrorDeathTest, CheckAbortsWithItsPlace) { EXPECT_DEATH(VDVS_CHECK(1 == 2), "error_test.cc.*1 == 2"); }

}  // namespace
}  // namespace vdvs::base
