// Groups of VMs that share a service: what one has, another can neither see nor take, and nobody gets more
// room than the quota says.
#include <atomic>
#include <thread>

#include "base/fault.h"
#include "esx-vmci/fault_points.h"
#include "tests/esx-vmci/service/service_fixture.h"

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;
namespace json = boost::json;

class PipelineTenancy : public testing::ServiceTest {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(init()); }
  ~PipelineTenancy() override { EXPECT_OK(base::set_faults("")); }
};

TEST_F(PipelineTenancy, GroupsHaveNamesOfTheirOwnAndSeeNothingOfEachOther) {
  make_group("webs", {"web"}, url_of("ds1"));
  make_group("dbs", {"db"}, url_of("ds1"));
  make("web", "vol", "2mb");
  make("web", "secret", "2mb");
  make("db", "vol", "3mb");
  EXPECT_THAT(listed("web"), UnorderedElementsAre("vol@ds1", "secret@ds1"));
  EXPECT_THAT(listed("db"), ElementsAre("vol@ds1"));
  EXPECT_EQ(ask("web", "get", "vol").at("capacity").at("size"), json::value("2MB"));
  EXPECT_EQ(ask("db", "get", "vol").at("capacity").at("size"), json::value("3MB"));
  const std::string device = device_of(ask("web", "attach", "vol"));
  EXPECT_NE(device_of(ask("db", "attach", "vol")), device);
}

TEST_F(PipelineTenancy, AnotherGroupsVolumeIsNotThereWhateverIsAsked) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  make_group("dbs", {"db"}, url_of("ds1"));
  make("web", "secret");
  const std::string device = device_of(ask("web", "attach", "secret"));
  for (const std::string name : {"secret", "secret@ds1"}) {
    for (const char* command : {"get", "attach", "set_init", "reset"}) {
      const OptionMap options =
          command == std::string("set_init") ? encode_init({InitState::kReady, "x"}) : OptionMap{};
      EXPECT_THAT(refusal("db", command, name, options), StartsWith("Volume secret not found")) << command;
    }
    EXPECT_EQ(refusal("db", "create", "copy", {{"clone-from", name}}),
              "Could not find volume for cloning " + name);
    expect_done("db", "detach", name);
    expect_done("db", "remove", name);
  }
  EXPECT_EQ(device_of(ask("web", "attach", "secret")), device) << "it was taken away";
  EXPECT_EQ(decode_attached(ask("db", "attached"))->volumes.size(), 0u);
  // Neither is it reached by the folder's name.
  for (const std::string& name :
       {std::string("../webs/secret"), webs.uuid + "/secret", "../" + webs.uuid + "/secret"})
    EXPECT_THAT(refusal("db", "get", name), HasSubstr("illegal characters")) << name;
}

TEST_F(PipelineTenancy, AGroupWhoseUuidIsAPathReachesNothing) {
  make_group("webs", {"web"}, url_of("ds1"));
  make("web", "secret");
  const VmGroup dbs = make_group("dbs", {"db"}, url_of("ds1"));
  for (const std::string uuid : {"../../outside", "..", "/etc", "policies"}) {
    sql("update tenants set id = '" + uuid + "' where name = 'dbs'; update vms set tenant_id = '" + uuid +
        "' where vm_name = 'db'; update privileges set tenant_id = '" + uuid +
        "' where tenant_id not in "
        "(select id from tenants);");
    EXPECT_THAT(refusal("db", "list"), HasSubstr("is no uuid")) << uuid;
    EXPECT_THAT(refusal("db", "create", "vol"), HasSubstr("is no uuid")) << uuid;
    EXPECT_FALSE(std::filesystem::exists(path_of("outside"))) << uuid;
  }
}

TEST_F(PipelineTenancy, ALinkInPlaceOfAGroupsFolderIsNotFollowed) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  const VmGroup dbs = make_group("dbs", {"db"}, url_of("ds1"));
  make("web", "secret");
  std::filesystem::create_symlink(folder_of(webs), folder_of(dbs));
  EXPECT_THAT(refusal("db", "get", "secret"), ::testing::Not(StartsWith("not refused")));
  EXPECT_THAT(refusal("db", "list"), ::testing::Not(StartsWith("not refused")));
  EXPECT_THAT(refusal("db", "create", "vol"), ::testing::Not(StartsWith("not refused")));
  EXPECT_THAT(listed("web"), ElementsAre("secret@ds1"));
}

TEST_F(PipelineTenancy, RightsAreOfADatastoreThenOfTheVmsOwnThenOfAll) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));  // web lives on ds2
  EXPECT_EQ(refusal("web", "create", "vol@ds2"), "No access privilege exists");
  allow(webs, std::string(kAllDatastoresUrl), false);
  EXPECT_EQ(refusal("web", "create", "vol@ds2"), "No create privilege");
  EXPECT_THAT(refusal("web", "get", "vol@ds2"), StartsWith("Volume vol not found"));
  allow(webs, std::string(kVmDatastoreUrl), true);
  make("web", "vol@ds2");
  allow(webs, url_of("ds2"), false);
  EXPECT_EQ(refusal("web", "remove", "vol@ds2"), "No delete privilege");
  (void)device_of(ask("web", "attach", "vol@ds2"));
  expect_done("web", "detach", "vol@ds2");
  make("web", "vol");
  EXPECT_THAT(listed("web"), ElementsAre("vol@ds1", "vol@ds2"));
}

TEST_F(PipelineTenancy, TheDefaultDatastoreMayBeWhereTheVmLives) {
  const VmGroup both = make_group("both", {"web", "db"}, std::string(kVmDatastoreUrl));
  make("web", "vol", "2mb");
  make("db", "vol", "3mb");
  EXPECT_EQ(ask("web", "get", "vol").at("datastore"), json::value("ds2"));
  EXPECT_EQ(ask("db", "get", "vol").at("datastore"), json::value("ds1"));
  EXPECT_EQ(sql("select volume_size from volumes where datastore_url = '" + url_of("ds2") + "'"), "2\n");
  EXPECT_EQ(used_mb(both), 5u);
}

TEST_F(PipelineTenancy, ADefaultDatastoreThatIsNotHereIsSaid) {
  make_group("webs", {"web"}, "ds:///vmfs/volumes/gone/");
  EXPECT_THAT(refusal("web", "get", "vol"), StartsWith("Invalid datastore 'ds:///vmfs/volumes/gone/'"));
  EXPECT_THAT(listed("web"), IsEmpty());
}

TEST_F(PipelineTenancy, ARightsRowOfAnotherDatastoreDoesNotCountForAClonesSource) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  allow(webs, url_of("ds2"), true);
  make("web", "vol@ds2");
  ASSERT_OK(tenancy_->remove_privilege(webs, url_of("ds2")));
  EXPECT_EQ(refusal("web", "create", "copy", {{"clone-from", "vol@ds2"}}),
            "Failed to authorize VM: No access privilege exists, datastore: ds2");
}

TEST_F(PipelineTenancy, ClonesCountWithTheirWholeSize) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  limit(webs, url_of("ds1"), 0, 4500);
  make("web", "vol", "1900mb");  // the predecessor's text of it, 1GB, is not its size
  EXPECT_EQ(used_mb(webs), 1900u);
  expect_done("web", "create", "copy", {{"clone-from", "vol"}});
  EXPECT_EQ(used_mb(webs), 3800u);
  EXPECT_EQ(refusal("web", "create", "third", {{"clone-from", "vol"}}),
            "The total volume size exceeds the usage quota");
  EXPECT_EQ(used_mb(webs), 3800u);
  expect_done("web", "remove", "vol");
  EXPECT_EQ(used_mb(webs), 1900u);
  expect_done("web", "create", "third", {{"clone-from", "copy"}});
}

TEST_F(PipelineTenancy, ACloneIsHeldAgainstTheLargestVolumeToo) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  make("web", "vol", "20mb");
  limit(webs, url_of("ds1"), 10, 0);
  EXPECT_EQ(refusal("web", "create", "copy", {{"clone-from", "vol"}}),
            "Volume size exceeds the max volume size limit");
}

TEST_F(PipelineTenancy, ManyCreatesAtOnceDoNotExceedTheQuota) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  limit(webs, url_of("ds1"), 0, 10);
  std::atomic<int> made = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> many;
  for (int i = 0; i < 12; ++i) {
    many.emplace_back([&, i] {
      const json::value reply = ask("web", "create", fmt::format("vol{}", i), {{"size", "3mb"}});
      (reply.is_null() ? made : refused)++;
    });
  }
  for (std::thread& each : many) each.join();
  EXPECT_EQ(made, 3);
  EXPECT_EQ(refused, 9);
  EXPECT_EQ(listed("web").size(), 3u);
  EXPECT_EQ(used_mb(webs), 9u);
}

TEST_F(PipelineTenancy, AFailedCreateGivesItsRoomBack) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  EXPECT_THAT(refusal("web", "create", "vol", {{"size", "3mb"}, {"bogus", "1"}}),
              StartsWith("Invalid options"));
  EXPECT_EQ(used_mb(webs), 0u);
  ASSERT_OK(base::set_faults(std::string(kFaultCreateExtent) + "=fail"));
  EXPECT_THAT(refusal("web", "create", "vol", {{"size", "3mb"}}), HasSubstr("failed on request"));
  EXPECT_EQ(used_mb(webs), 0u);
  EXPECT_THAT(listed("web"), IsEmpty());
}

TEST_F(PipelineTenancy, ACreateThatFailsWhenItsDiskIsThereKeepsItsRoom) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  ASSERT_OK(base::set_faults(std::string(kFaultCreateCommit) + "=fail"));
  EXPECT_THAT(refusal("web", "create", "vol", {{"size", "3mb"}}), HasSubstr("failed on request"));
  EXPECT_THAT(listed("web"), ElementsAre("vol@ds1"));
  EXPECT_EQ(used_mb(webs), 3u);
  EXPECT_THAT(refusal("web", "create", "copy", {{"clone-from", "vol"}}), HasSubstr("failed on request"));
  EXPECT_EQ(used_mb(webs), 6u);
}

TEST_F(PipelineTenancy, ACreateThatIsSentAgainHearsThatItIsThereAlsoWhereItTookTheLastRoom) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  limit(webs, url_of("ds1"), 0, 3);
  make("web", "vol", "3mb");
  EXPECT_THAT(refusal("web", "create", "vol", {{"size", "3mb"}}), HasSubstr("already exists"));
}

TEST_F(PipelineTenancy, AVmWithoutAGroupLetsGoOfItsOwnDisksAndOfNothingElse) {
  const VmGroup webs = make_group("webs", {"web"}, url_of("ds1"));
  make("web", "vol");
  make("db", "vol@ds2");
  make("db", "mine");
  (void)device_of(ask("web", "attach", "vol"));
  (void)device_of(ask("db", "attach", "vol@ds2"));
  (void)device_of(ask("db", "attach", "mine"));
  ASSERT_OK(tenancy_->remove_group(group("_DEFAULT"), true));
  EXPECT_EQ(refusal("db", "get", "mine"), "VM db does not belong to any vmgroup");
  EXPECT_EQ(refusal("db", "remove", "mine"), "VM db does not belong to any vmgroup");
  expect_done("db", "detach", "mine");
  expect_done("db", "detach", "vol@ds1");  // that is web's
  EXPECT_EQ(ask("web", "get", "vol").at("status"), json::value("attached"));
  EXPECT_EQ(testing::loops_below(folder_.path()).size(), 2u);
  expect_done("db", "detach", "vol");
  EXPECT_EQ(testing::loops_below(folder_.path()).size(), 1u);
  EXPECT_EQ(ask("web", "get", "vol").at("status"), json::value("attached"));
}

TEST_F(PipelineTenancy, AVmWithoutAGroupIsAskedWhichOfTwoDisksItMeans) {
  make("db", "vol@ds1");
  make("db", "vol@ds2");
  (void)device_of(ask("db", "attach", "vol@ds1"));
  (void)device_of(ask("db", "attach", "vol@ds2"));
  ASSERT_OK(tenancy_->remove_group(group("_DEFAULT"), true));
  EXPECT_THAT(refusal("db", "detach", "vol"), HasSubstr("this VM has several disks of that name"));
  expect_done("db", "detach", "vol@ds2");
  expect_done("db", "detach", "vol");
  EXPECT_THAT(testing::loops_below(folder_.path()), IsEmpty());
}

}  // namespace
}  // namespace vdvs::esx
