// Several folders as datastores: their names and urls, the folders and links of groups, one that is away, and
// what an attacker might put in their place.
#include <algorithm>

#include "esx-vmci/datastore/group_folders.h"
#include "esx-vmci/datastore/sync_together.h"
#include "tests/esx-vmci/service/service_fixture.h"

namespace vdvs::esx {
namespace {

using testing::code_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
namespace fs = std::filesystem;

const Group kWebs{"564dac12-b1a0-f735-0df3-bceb00b30340", "webs"};
const Group kDbs{"564dac12-b1a0-f735-0df3-bceb00b30341", "dbs"};

class FolderDatastores : public ::testing::Test {
 protected:
  FolderDatastores() {
    for (const char* name : {"ds1", "ds2"}) fs::create_directory(path(name));
    open();
  }
  /// As a service that starts: what it remembers of earlier is `known_mark`.
  void open(const std::string& known_mark = {}, bool makes_roots = false) {
    auto opened = make_folder_datastores({{.name = "ds1", .path = path("ds1"), .known_mark = known_mark},
                                          {.name = "ds2", .path = path("ds2")}},
                                         makes_roots);
    ASSERT_OK(opened);
    datastores_ = std::move(*opened);
  }
  std::string path(const std::string& datastore) const { return folder_.path() + "/" + datastore; }
  std::string dockvols(const std::string& datastore = "ds1") const { return path(datastore) + "/dockvols"; }
  std::string mark() const { return *base::read_line_file(dockvols() + "/.vdvs-datastore"); }
  base::Result<DiskStore*> store(const Group& group, bool make, const std::string& datastore = "ds1") {
    return datastores_->store(datastore, group, make);
  }
  void make_volume(const Group& group, const std::string& volume) {
    const auto made = store(group, true);
    ASSERT_OK(made);
    ASSERT_OK((*made)->create(volume, {.shape = {1 << 20, DiskFormat::kThin}}, std::nullopt, {}));
  }

  tests::TemporaryFolder folder_;
  std::unique_ptr<Datastores> datastores_;
};

TEST(DatastoreUrl, IsTheVolumesUuidOnVmfsAndThePathElsewhere) {
  EXPECT_EQ(datastore_url("/srv/disks/"), "file:///srv/disks");
  EXPECT_EQ(datastore_url("/srv/./a/../disks"), "file:///srv/disks");
  EXPECT_EQ(datastore_url("/vmfs/volumes/56f2-uuid/some/folder"), "ds:///vmfs/volumes/56f2-uuid/");
}

TEST(DatastoreType, OfAVsanIsKnownByItsPathAlsoWhileItIsAway) {
  const auto datastores = make_folder_datastores({{.name = "fast", .path = "/vmfs/volumes/vsan:52a1/vdvs"},
                                                  {.name = "plain", .path = "/vmfs/volumes/56f2/vdvs"}},
                                                 false);
  ASSERT_OK(datastores);
  EXPECT_EQ((*datastores)->all().front().type, "vsan");
  EXPECT_EQ((*datastores)->all().back().type, "folder");
}

TEST(SyncTogether, TellsOfTheOneThatCouldNotBeMadeDurable) {
  const tests::TemporaryFolder folder;
  auto open = [&](const char* name) { return base::open_file(folder.path() + name, O_RDWR | O_CREAT); };
  const auto one = open("/one");
  const auto other = open("/other");
  ASSERT_OK(one);
  ASSERT_OK(other);
  EXPECT_OK(sync_together({}, "nothing"));
  EXPECT_OK(sync_together({&*one, &*other}, "both"));
  const base::UniqueFd none;
  const auto says_which = HasSubstr("fsync 'all three'");
  EXPECT_THAT(message_of(sync_together({&none, &*one, &*other}, "all three")), says_which);
  EXPECT_THAT(message_of(sync_together({&*one, &none, &*other}, "all three")), says_which);
  EXPECT_THAT(message_of(sync_together({&*one, &*other, &none}, "all three")), says_which);
}

TEST_F(FolderDatastores, AreFoundByNameInAnyCase) {
  EXPECT_EQ(datastores_->find("DS2")->name, "ds2");
  EXPECT_EQ(datastores_->find("ds2")->url, "file://" + path("ds2"));
  const auto unknown = datastores_->find("nowhere");
  EXPECT_EQ(message_of(unknown),
            "Invalid datastore 'nowhere'.\nKnown datastores: ds1, ds2.\nDefault datastore: ds1.");
}

TEST_F(FolderDatastores, TwoOfOneNameOrOneFolderAreRefused) {
  auto opened = [&](const std::string& name, const std::string& where) {
    return message_of(
        make_folder_datastores({{.name = "ds1", .path = path("ds1")}, {.name = name, .path = where}}, false));
  };
  EXPECT_THAT(opened("DS1", path("ds2")), HasSubstr("another datastore has that name"));
  EXPECT_THAT(opened("other", path("ds1")), HasSubstr("is the same folder"));
  fs::create_directory_symlink(path("ds1"), path("link"));
  EXPECT_THAT(opened("other", path("link")), HasSubstr("is the same folder"));
}

TEST_F(FolderDatastores, AGroupHasAFolderByItsUuidAndALinkByItsName) {
  ASSERT_OK(store(kWebs, true));
  EXPECT_TRUE(fs::is_directory(dockvols() + "/" + kWebs.uuid));
  EXPECT_EQ(fs::read_symlink(dockvols() + "/webs"), dockvols() + "/" + kWebs.uuid);
  EXPECT_THAT(*datastores_->groups("ds1"), ElementsAre(kWebs.uuid));
  EXPECT_THAT(*datastores_->groups("ds2"), IsEmpty());
}

TEST_F(FolderDatastores, ReadingMakesNothing) {
  const auto read = store(kWebs, false);
  ASSERT_OK(read);
  EXPECT_EQ(*read, nullptr);
  EXPECT_THAT(*datastores_->groups("ds1"), IsEmpty());
  EXPECT_TRUE(fs::is_empty(path("ds1")));
}

TEST_F(FolderDatastores, AGroupThatIsRenamedKeepsItsFolderAndItsLinkFollows) {
  make_volume(kWebs, "vol");
  ASSERT_OK(datastores_->rename_group(kWebs, "fronts"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(dockvols() + "/webs")));
  EXPECT_EQ(fs::read_symlink(dockvols() + "/fronts"), dockvols() + "/" + kWebs.uuid);
  EXPECT_EQ((*store({kWebs.uuid, "fronts"}, false))->list()->size(), 1u);
}

TEST_F(FolderDatastores, ALinkNeverReplacesWhatSomebodyElseHasThere) {
  ASSERT_OK(store(kDbs, true));
  fs::create_directory(dockvols() + "/webs");
  ASSERT_OK(store(kWebs, true));
  EXPECT_TRUE(fs::is_directory(fs::symlink_status(dockvols() + "/webs")));
  EXPECT_EQ(code_of(datastores_->rename_group(kWebs, "dbs")), "E_EXISTS");
  EXPECT_EQ(fs::read_symlink(dockvols() + "/dbs"), dockvols() + "/" + kDbs.uuid);
}

TEST_F(FolderDatastores, ALinkThatDanglesSinceTheDatastoreMovedIsMadeAgain) {
  ASSERT_OK(store(kWebs, true));
  fs::rename(path("ds1"), path("old"));
  auto moved = make_folder_datastores({{.name = "ds1", .path = path("old")}}, false);
  ASSERT_OK(moved);
  ASSERT_OK((*moved)->store("ds1", kWebs, true));
  EXPECT_EQ(fs::read_symlink(path("old") + "/dockvols/webs"), path("old") + "/dockvols/" + kWebs.uuid);
}

TEST_F(FolderDatastores, AGroupIsRemovedWithItsFoldersUnlessItHasVolumes) {
  make_volume(kWebs, "vol");
  ASSERT_OK(store(kWebs, true, "ds2"));
  const auto refused = datastores_->remove_group(kWebs);
  EXPECT_EQ(code_of(refused), "E_IN_USE");
  EXPECT_THAT(message_of(refused), HasSubstr("1 of them, such as 'vol@ds1'"));
  EXPECT_TRUE(fs::exists(dockvols("ds2") + "/" + kWebs.uuid)) << "something was taken away before";
  auto there = *store(kWebs, false);
  ASSERT_OK(there->remove(*there->load("vol")));
  ASSERT_OK(datastores_->remove_group(kWebs));
  for (const char* datastore : {"ds1", "ds2"}) {
    EXPECT_FALSE(fs::exists(dockvols(datastore) + "/" + kWebs.uuid));
    EXPECT_FALSE(fs::exists(fs::symlink_status(dockvols(datastore) + "/webs")));
  }
  EXPECT_EQ(*store(kWebs, false), nullptr);
}

struct BadGroup {
  const char* uuid;
  const char* name;
};
class BadGroupOf : public FolderDatastores, public ::testing::WithParamInterface<BadGroup> {};

TEST_P(BadGroupOf, IsNeverAPath) {
  const Group group{GetParam().uuid, GetParam().name};
  EXPECT_EQ(code_of(store(group, true)), "E_INVALID");
  std::vector<std::string> below;
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
    if (entry.path().string().find("dockvols/") != std::string::npos &&
        entry.path().filename() != ".vdvs-datastore")
      below.push_back(entry.path());
  }
  EXPECT_THAT(below, IsEmpty());
  EXPECT_EQ(fs::exists(folder_.path() + "/outside"), false);
}

INSTANTIATE_TEST_SUITE_P(Groups, BadGroupOf,
                         ::testing::Values(BadGroup{"../../outside", "g"}, BadGroup{"..", "g"},
                                           BadGroup{"", "g"}, BadGroup{"policies", "g"},
                                           BadGroup{"/etc", "g"},
                                           BadGroup{"564dac12-b1a0-f735-0df3-bceb00b30340", "../../outside"},
                                           BadGroup{"564dac12-b1a0-f735-0df3-bceb00b30340", ".."},
                                           BadGroup{"564dac12-b1a0-f735-0df3-bceb00b30340", ""},
                                           BadGroup{"564dac12-b1a0-f735-0df3-bceb00b30340", "a/b"}));

TEST_F(FolderDatastores, LinksInPlaceOfFoldersAreNotFollowed) {
  fs::create_directory(path("outside"));
  fs::create_directory_symlink(path("outside"), dockvols());
  EXPECT_NE(code_of(store(kWebs, true)), "OK");
  EXPECT_TRUE(fs::is_empty(path("outside")));
  fs::remove(dockvols());
  ASSERT_OK(store(kDbs, true));
  fs::create_directory_symlink(path("outside"), dockvols() + "/" + kWebs.uuid);
  EXPECT_NE(code_of(store(kWebs, true)), "OK");
  EXPECT_TRUE(fs::is_empty(path("outside")));
  EXPECT_THAT(*datastores_->groups("ds1"), ElementsAre(kDbs.uuid)) << "the link passed for a group";
}

TEST_F(FolderDatastores, OneThatIsAwayHindersNotTheOther) {
  make_volume(kWebs, "vol");
  ASSERT_OK(store(kWebs, true, "ds2"));
  fs::rename(path("ds1"), path("elsewhere"));
  const auto away = store(kWebs, false);
  EXPECT_EQ(code_of(away), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(away), HasSubstr("datastore 'ds1' is away"));
  EXPECT_EQ(code_of(datastores_->groups("ds1")), "E_UNAVAILABLE");
  EXPECT_OK(store(kWebs, false, "ds2"));
  EXPECT_EQ(datastores_->all().size(), 2u);
  fs::rename(path("elsewhere"), path("ds1"));
  ASSERT_OK(store(kWebs, false));
  EXPECT_EQ((*store(kWebs, false))->list()->size(), 1u);
}

TEST_F(FolderDatastores, AnEmptyFolderInItsPlaceIsNotTheDatastore) {
  make_volume(kWebs, "vol");
  fs::rename(path("ds1"), path("elsewhere"));
  fs::create_directory(path("ds1"));
  for (const bool make : {false, true}) EXPECT_EQ(code_of(store(kWebs, make)), "E_UNAVAILABLE");
  EXPECT_TRUE(fs::is_empty(path("ds1")));
}

TEST_F(FolderDatastores, ANewServiceKnowsByTheMarkWhichDatastoreItWas) {
  make_volume(kWebs, "vol");
  const std::string seen = mark();
  open(seen);
  ASSERT_OK(store(kWebs, false));
  // Another file system is mounted there: with volumes, but not the right one.
  fs::rename(path("ds1"), path("right"));
  fs::create_directory(path("ds1"));
  open();
  make_volume(kWebs, "other");
  open(seen);
  const auto wrong = store(kWebs, true);
  EXPECT_EQ(code_of(wrong), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(wrong), HasSubstr("does not carry its mark"));
  fs::remove_all(path("ds1"));
  fs::rename(path("right"), path("ds1"));
  EXPECT_EQ((*store(kWebs, false))->list()->size(), 1u);
}

TEST_F(FolderDatastores, ARootIsMadeOnceAndNotInPlaceOfOneThatWasThere) {
  fs::remove(path("ds1"));
  EXPECT_EQ(code_of(store(kWebs, true)), "E_UNAVAILABLE");
  open({}, true);
  ASSERT_OK(store(kWebs, true));
  const std::string seen = mark();
  fs::remove_all(path("ds1"));
  EXPECT_EQ(code_of(store(kWebs, true)), "E_UNAVAILABLE");
  open(seen, true);
  EXPECT_EQ(code_of(store(kWebs, true)), "E_UNAVAILABLE");
  EXPECT_FALSE(fs::exists(path("ds1")));
}

TEST_F(FolderDatastores, AGroupsFolderThatWasDeletedAndMadeAgainIsSeen) {
  make_volume(kWebs, "vol");
  EXPECT_EQ((*store(kWebs, false))->list()->size(), 1u);
  fs::remove_all(dockvols() + "/" + kWebs.uuid);
  EXPECT_EQ(*store(kWebs, false), nullptr);
  make_volume(kWebs, "other");
  EXPECT_THAT(*(*store(kWebs, false))->list(), ElementsAre(testing::name_of("other@ds1")));
}

TEST_F(FolderDatastores, TwoServicesThatMeetAnEmptyFolderGiveItOneMark) {
  const std::vector<int> statuses = testing::side_by_side(6, [&](int) {
    auto own = make_folder_datastores({{.name = "ds1", .path = path("ds1")}}, false);
    return own && (*own)->store("ds1", kWebs, true) ? 0 : 1;
  });
  EXPECT_EQ(std::ranges::count(statuses, 0), 6);
  open(mark());
  EXPECT_OK(store(kWebs, false));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dockvols())) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  EXPECT_THAT(names, ElementsAre(".vdvs-datastore", kWebs.uuid, "webs"));
}

}  // namespace
}  // namespace vdvs::esx
