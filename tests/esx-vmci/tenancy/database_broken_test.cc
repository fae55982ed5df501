// A database that is cut, scribbled over, read-only, or something else altogether: an error, never a crash,
// and never an answer that lets more through than the whole one did.
#include <random>

#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

class DatabaseBroken : public TenancyTest {
 protected:
  void SetUp() override {
    init();
    group_ = make_group("g1", {kWeb, kDb}, kDs1);
    EXPECT_OK(make_volume(group_, kDs1, "v", 1));
    whole_ = read_text(path_);
    tenancy_.reset();
  }
  /// Asks and changes all there is, on a database with these bytes.
  void use(const std::string& bytes) {
    ::unlink((path_ + "-journal").c_str());
    write_text(path_, bytes);
    const auto tenancy = make_sqlite_tenancy(path_);
    (void)tenancy->mode();
    const auto group = tenancy->group_of(kWeb.vm_uuid, "web");
    if (!group) {
      EXPECT_FALSE(group.error().message().empty());
    }
    (void)tenancy->groups();
    (void)tenancy->members(group_);
    (void)tenancy->privileges(group_);
    (void)tenancy->usage(group_);
    (void)tenancy->authorize(group_, kDs1, kDs1, Access::kCreate);
    (void)tenancy->reserve(group_, kDs1, kDs1, "w", 1);
    (void)tenancy->reconcile_volumes(group_, kDs1, {{"x", 1}});
    (void)tenancy->add_vms(group_, {kLog});
    (void)tenancy->update_group(group_, {.name = "g9"});
  }
  VmGroup group_;
  std::string whole_;
};

TEST_F(DatabaseBroken, CutAnywhereIsAnErrorOrWhole) {
  // Every byte of the header, and each page's beginning, middle and end.
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i <= 110; i += 3) lengths.push_back(i);
  for (std::size_t page = 0; page < whole_.size(); page += 4096) {
    for (const std::size_t at : {page + 1, page + 2048, page + 4095, page + 4096}) lengths.push_back(at);
  }
  for (const std::size_t length : lengths) use(whole_.substr(0, length));
}

TEST_F(DatabaseBroken, CutShortIsABrokenLink) {
  for (const std::size_t length : {std::size_t{0}, std::size_t{50}, std::size_t{4096}}) {
    write_text(path_, whole_.substr(0, length));
    const auto tenancy = make_sqlite_tenancy(path_);
    EXPECT_EQ(tenancy->mode(), DbMode::kBrokenLink) << length;
    const auto group = tenancy->group_of(kWeb.vm_uuid, "web");
    EXPECT_EQ(message_of(group),
              "DB access error at " + path_ + ": BrokenLink (Broken link or corrupted DB file)");
    EXPECT_EQ(code_of(group), "E_CORRUPT");
  }
}

TEST_F(DatabaseBroken, RandomBytesAreNoDatabase) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  std::string bytes(8192, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  write_text(path_, bytes);
  EXPECT_EQ(code_of(make_sqlite_tenancy(path_)->groups()), "E_CORRUPT");
}

TEST_F(DatabaseBroken, ScribbledOverNeverCrashes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    std::string bytes = whole_;
    for (int i = 0; i <= round % 12; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    use(bytes);
  }
}

TEST_F(DatabaseBroken, ADatabaseOfSomethingElseIsRefusedAndLeftAlone) {
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  sql("create table recipes(name text)");
  const std::string before = read_text(path_);
  EXPECT_EQ(code_of(make_sqlite_tenancy(path_)->groups()), "E_CORRUPT");
  EXPECT_EQ(read_text(path_), before);
}

TEST_F(DatabaseBroken, AFolderInItsPlaceIsABrokenLink) {
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  ASSERT_TRUE(std::filesystem::create_directory(path_));
  const auto tenancy = make_sqlite_tenancy(path_);
  EXPECT_EQ(tenancy->mode(), DbMode::kBrokenLink);
  EXPECT_EQ(code_of(tenancy->groups()), "E_CORRUPT");
  EXPECT_FALSE(init_local_database(path_, false));
}

TEST_F(DatabaseBroken, AFifoInItsPlaceStopsNobody) {
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(make_sqlite_tenancy(path_)->mode(), DbMode::kBrokenLink);
}

TEST_F(DatabaseBroken, ABrokenOneCanBeMovedAway) {
  write_text(path_, "rubbish");
  EXPECT_OK(remove_local_database(path_, false));
  EXPECT_OK(init_local_database(path_, false));
}

TEST_F(DatabaseBroken, AnInterruptedWritersJournalIsRolledBackBeforeItMoves) {
  // A hot journal, as a crash leaves it: the database half written, the old pages in the journal.
  const int status = in_child([&] {
    const int result =
        std::system(("printf 'pragma cache_size=1;\\npragma cache_spill=1;\\nbegin immediate;\\n"
                     "create table filler(x);\\ninsert into filler select randomblob(3000) from "
                     "pragma_function_list limit 100;\\nupdate tenants set name=name||1;\\n"
                     ".shell kill -9 $PPID\\n' | sqlite3 '" +
                     path_ + "' >/dev/null 2>&1")
                        .c_str());
    (void)result;
    return 0;
  });
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path_ + "-journal"));
  const auto said = remove_local_database(path_, false);
  ASSERT_OK(said);
  const std::string backup = said->substr(said->rfind(' ') + 1);
  EXPECT_EQ(run({"sqlite3", backup, "select name from tenants order by name"}), "_DEFAULT\ng1\n");
  EXPECT_FALSE(std::filesystem::exists(path_ + "-journal"));
}

}  // namespace
}  // namespace vdvs::esx::testing
