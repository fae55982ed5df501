#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temporary_folder.h"

namespace vdvs::base {
namespace {

TEST(Files, ReplacingLeavesNothingElseBehind) {
  tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/state";
  ASSERT_TRUE(replace_file_durably(path, "old"));
  ASSERT_TRUE(replace_file_durably(path, "new"));
  EXPECT_EQ(*read_file(path, 100), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, ReadingStopsAtItsLimit) {
  tests::TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.path() + "/large", std::string(1000, 'x')));
  EXPECT_EQ(read_file(folder.path() + "/large", 999).error().code(), ErrorCode::kLimit);
  EXPECT_EQ(read_file(folder.path() + "/large", 1000)->size(), 1000u);
}

TEST(Files, AMissingFileIsNotFoundAndNamed) {
  auto text = read_file("/no/such/file", 10);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(text.error().message().find("/no/such/file"), std::string::npos);
}

TEST(Files, MakesFoldersAndRefusesAFileInTheirPlace) {
  tests::TemporaryFolder folder;
  ASSERT_TRUE(make_folders(folder.path() + "/a/b/c"));
  ASSERT_TRUE(make_folders(folder.path() + "/a/b/c"));
  ASSERT_TRUE(write_file(folder.path() + "/file", ""));
  EXPECT_FALSE(make_folders(folder.path() + "/file"));
  EXPECT_FALSE(make_folders(folder.path() + "/file/below"));
}

TEST(UniqueFd, ClosesOnceWhateverIsMoved) {
  UniqueFd one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = one.get();
  UniqueFd two(std::move(one));
  EXPECT_FALSE(one.is_open());  // NOLINT: what a moved-from descriptor is, is what is tested
  one = std::move(two);
  EXPECT_EQ(one.get(), number);
  one.reset();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace vdvs::base
