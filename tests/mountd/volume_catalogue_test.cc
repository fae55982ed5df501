#include "mountd/volume_catalogue.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

CatalogueRecord record(const std::string& name) {
  return {.name = name,
          .disk_uuid = "60 00 C2 9a",
          .fs_uuid = "0d5c",
          .size_bytes = 10ull << 30,
          .created = "Tue Mar 27 18:02:11 2018",
          .created_by = "web-1",
          .driver = {},
          .options = {{"size", "10gb"}, {"fstype", "ext4"}}};
}

class VolumeCatalogueTest : public ::testing::Test {
 protected:
  std::unique_ptr<VolumeCatalogue> open() { return std::move(VolumeCatalogue::open(path_)).value(); }
  tests::TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/catalogue.log";
};

TEST_F(VolumeCatalogueTest, RemembersAcrossARestart) {
  ASSERT_TRUE(open()->put(record("db@ds")));
  EXPECT_EQ(open()->find("db@ds"), record("db@ds"));
}

TEST_F(VolumeCatalogueTest, WritesNothingWhereNothingChanges) {
  auto catalogue = open();
  ASSERT_TRUE(catalogue->put(record("db@ds")));
  const auto size = std::filesystem::file_size(path_);
  ASSERT_TRUE(catalogue->put(record("db@ds")));
  ASSERT_TRUE(catalogue->erase("other@ds"));
  ASSERT_TRUE(catalogue->keep_only({"db@ds"}));
  EXPECT_EQ(std::filesystem::file_size(path_), size);
}

TEST_F(VolumeCatalogueTest, ForgetsWhatWasErased) {
  auto catalogue = open();
  ASSERT_TRUE(catalogue->put(record("db@ds")));
  ASSERT_TRUE(catalogue->erase("db@ds"));
  EXPECT_EQ(open()->find("db@ds"), std::nullopt);
}

TEST_F(VolumeCatalogueTest, KeepsTheDetailsOfWhatAListingStillNames) {
  auto catalogue = open();
  ASSERT_TRUE(catalogue->put(record("db@ds")));
  ASSERT_TRUE(catalogue->put(record("old@ds")));
  ASSERT_TRUE(catalogue->keep_only({"db@ds", "new@ds"}));
  auto again = open();
  EXPECT_EQ(again->names(), (std::vector<std::string>{"db@ds", "new@ds"}));
  EXPECT_EQ(again->find("db@ds"), record("db@ds"));
  EXPECT_EQ(again->find("new@ds"), CatalogueRecord{.name = "new@ds"});
}

TEST_F(VolumeCatalogueTest, FindsAShortNameOnTheStandardDatastoreFirst) {
  auto catalogue = open();
  ASSERT_TRUE(catalogue->put(record("db@a")));
  ASSERT_TRUE(catalogue->put(record("db@b")));
  ASSERT_TRUE(catalogue->put(record("db@x@c")));
  EXPECT_EQ(catalogue->find_short("db", "b")->name, "db@b");
  EXPECT_EQ(catalogue->find_short("db", "")->name, "db@a");
  EXPECT_EQ(catalogue->find_short("db@x", "")->name, "db@x@c");
  EXPECT_EQ(catalogue->find_short("d", ""), std::nullopt);
}

TEST_F(VolumeCatalogueTest, CutAtAnyByteItOpensWithAllTheWholeLinesBefore) {
  {
    auto catalogue = open();
    for (const char* name : {"a@ds", "b@ds", "c@ds"}) ASSERT_TRUE(catalogue->put(record(name)));
  }
  const std::string whole = *base::read_file(path_, 1 << 20);
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    ASSERT_TRUE(base::write_file(path_, whole.substr(0, size)));
    auto catalogue = open();
    // A line that lacks only its newline is whole.
    std::size_t lines = static_cast<std::size_t>(std::count(whole.begin(), whole.begin() + size, '\n'));
    if (size < whole.size() && whole[size] == '\n') ++lines;
    ASSERT_EQ(catalogue->names().size(), lines) << "cut at " << size;
    ASSERT_TRUE(catalogue->put(record("later@ds"))) << "cut at " << size;
    catalogue.reset();
    ASSERT_EQ(open()->names().size(), lines + 1) << "cut at " << size;
  }
}

TEST_F(VolumeCatalogueTest, AFlippedBitInAnyByteCostsOneLineAtTheMost) {
  {
    auto catalogue = open();
    for (const char* name : {"a@ds", "b@ds", "c@ds"}) ASSERT_TRUE(catalogue->put(record(name)));
  }
  const std::string whole = *base::read_file(path_, 1 << 20);
  for (std::size_t byte = 0; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << (byte % 8)));
    ASSERT_TRUE(base::write_file(path_, damaged));
    const std::size_t left = open()->names().size();
    // A newline that is gone joins two lines into one that is damaged.
    ASSERT_GE(left, whole[byte] == '\n' ? 1u : 2u) << "byte " << byte;
    ASSERT_LE(left, 3u);
  }
}

TEST_F(VolumeCatalogueTest, RewritesALongLogAtTheNextStart) {
  {
    auto catalogue = open();
    for (int i = 0; i < 1000; ++i) {
      CatalogueRecord changed = record("db@ds");
      changed.size_bytes = static_cast<std::uint64_t>(i + 1);
      ASSERT_TRUE(catalogue->put(changed));
    }
  }
  const auto before = std::filesystem::file_size(path_);
  EXPECT_EQ(open()->find("db@ds")->size_bytes, 1000u);
  EXPECT_LT(std::filesystem::file_size(path_), before / 100);
}

}  // namespace
}  // namespace vdvs::mountd
