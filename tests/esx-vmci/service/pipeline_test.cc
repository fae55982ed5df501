// Requests through the whole service but its sockets: real folders, a real database, real loop devices.
#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/esx-vmci/service/service_fixture.h"

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::request_of;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;
namespace json = boost::json;

class Pipeline : public testing::ServiceTest {
 protected:
  json::value sidecar_of(const std::string& volume, const std::string& datastore = "ds1") const {
    return json::parse(
        testing::read_text(testing::volumes_folder(path_of(datastore)) + "/" + sidecar_file_name(volume)));
  }
  std::vector<std::string> everything_in(const std::string& datastore) const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_of(datastore)))
      files.push_back(entry.path());
    return files;
  }
};

TEST_F(Pipeline, AVolumeLivesAndDies) {
  make("db", "vol@ds1");
  EXPECT_THAT(listed("db"), ElementsAre("vol@ds1"));
  const std::string device = device_of(ask("db", "attach", "vol@ds1"));
  EXPECT_TRUE(std::filesystem::is_block_file(device));
  EXPECT_EQ(ask("db", "get", "vol@ds1").at("status"), json::value("attached"));
  expect_done("db", "detach", "vol@ds1");
  EXPECT_EQ(ask("db", "get", "vol@ds1").at("status"), json::value("detached"));
  expect_done("db", "remove", "vol@ds1");
  EXPECT_THAT(listed("db"), IsEmpty());
  EXPECT_THAT(refusal("db", "get", "vol@ds1"), StartsWith("Volume vol not found (file: " + path_of("ds1")));
}

TEST_F(Pipeline, ARequestThatIsSentAgainIsNoError) {
  make("db", "vol");
  EXPECT_THAT(refusal("db", "create", "vol", {{"size", "2mb"}}), HasSubstr("already exists"));
  const std::string device = device_of(ask("db", "attach", "vol"));
  EXPECT_EQ(device_of(ask("db", "attach", "vol")), device);
  expect_done("db", "detach", "vol");
  expect_done("db", "detach", "vol");
  expect_done("db", "remove", "vol");
  expect_done("db", "remove", "vol");
}

TEST_F(Pipeline, AnswersAGetWithThePredecessorsKeys) {
  expect_done("db", "create", "vol@ds1", {{"size", "2mb"}, {"fstype", "xfs"}, {"access", "read-only"}});
  (void)ask("db", "attach", "vol@ds1");
  const json::object status = ask("db", "get", "vol@ds1").as_object();
  std::vector<std::string> keys;
  for (const auto& member : status) keys.emplace_back(member.key());
  EXPECT_THAT(keys, UnorderedElementsAre("created by VM", "created", "status", "capacity", "datastore",
                                         "attached to VM", "fstype", "diskformat", "attach-as", "access",
                                         "clone-from"));
  EXPECT_EQ(status.at("created by VM"), json::value("db"));
  EXPECT_EQ(status.at("attached to VM"), json::value("db"));
  EXPECT_EQ(status.at("datastore"), json::value("ds1"));
  EXPECT_EQ(status.at("capacity").at("size"), json::value("2MB"));
  EXPECT_EQ(status.at("access"), json::value("read-only"));
  EXPECT_EQ(status.at("clone-from"), json::value("None"));
}

TEST_F(Pipeline, ADiskIsInOneVmAndTheOtherIsToldWhoHasIt) {
  make("db", "vol@ds1");
  (void)device_of(ask("db", "attach", "vol@ds1"));
  EXPECT_THAT(refusal("web", "attach", "vol@ds1"), HasSubstr("disk is attached to vm 'db' since 20"));
  EXPECT_THAT(refusal("web", "remove", "vol@ds1"),
              StartsWith("Failed to remove volume vol, in use by VM = db."));
  EXPECT_THAT(refusal("db", "remove", "vol@ds1"),
              StartsWith("Failed to remove volume vol, in use by VM = db."));
  // Somebody else's detach takes nothing away.
  expect_done("web", "detach", "vol@ds1");
  EXPECT_EQ(ask("db", "get", "vol@ds1").at("status"), json::value("attached"));
  expect_done("db", "detach", "vol@ds1");
  (void)device_of(ask("web", "attach", "vol@ds1"));
}

TEST_F(Pipeline, OneWhoSpeaksTheExtensionHearsCodeAndRemedy) {
  make("db", "vol@ds1");
  (void)ask("db", "attach", "vol@ds1");
  Request request = request_of("attach", "vol@ds1");
  request.wants_details = true;
  const json::value reply = ask("web", request);
  EXPECT_EQ(reply.at("code"), json::value("E_BUSY_ELSEWHERE"));
  EXPECT_THAT(std::string(reply.at("remedy").as_string()), HasSubstr("vdvs volume detach --force vol@ds1"));
  EXPECT_FALSE(ask("web", "attach", "vol@ds1").as_object().contains("code"));
}

TEST_F(Pipeline, KeepsThePredecessorsSidecar) {
  expect_done("db", "create", "vol@ds1", {{"size", "2mb"}, {"access", "read-only"}});
  json::value sidecar = sidecar_of("vol");
  EXPECT_EQ(sidecar.at("status"), json::value("detached"));
  EXPECT_EQ(sidecar.at("created-by"), json::value("db"));
  EXPECT_EQ(sidecar.at("volOpts").at("size"), json::value("2mb"));
  EXPECT_EQ(sidecar.at("volOpts").at("diskformat"), json::value("thin"));
  EXPECT_EQ(sidecar.at("volOpts").at("access"), json::value("read-only"));
  (void)ask("db", "attach", "vol@ds1");
  sidecar = sidecar_of("vol");
  EXPECT_EQ(sidecar.at("status"), json::value("attached"));
  EXPECT_EQ(sidecar.at("attachedVMUuid"), json::value("uuid-of-db"));
  EXPECT_EQ(sidecar.at("attachedVMName"), json::value("db"));
  expect_done("db", "detach", "vol@ds1");
  sidecar = sidecar_of("vol");
  EXPECT_EQ(sidecar.at("status"), json::value("detached"));
  EXPECT_FALSE(sidecar.as_object().contains("attachedVMUuid"));
  EXPECT_FALSE(sidecar.as_object().contains("attachedVMName"));
}

TEST_F(Pipeline, ASidecarOfGarbageIsAnAnswerAndNeverNull) {
  make("db", "vol@ds1");
  testing::write_text(testing::volumes_folder(path_of("ds1")) + "/" + sidecar_file_name("vol"), "");
  const json::value status = ask("db", "get", "vol@ds1");
  ASSERT_TRUE(status.is_object()) << json::serialize(status);
  EXPECT_EQ(status.at("datastore"), json::value("ds1"));
}

TEST_F(Pipeline, AnExtentThatIsGoneIsAnErrorThatSaysSo) {
  make("db", "vol@ds1");
  std::filesystem::remove(testing::volumes_folder(path_of("ds1")) + "/vol-flat.vmdk");
  EXPECT_THAT(refusal("db", "get", "vol@ds1"), HasSubstr("vol-flat.vmdk"));
  EXPECT_THAT(refusal("db", "attach", "vol@ds1"), HasSubstr("vol-flat.vmdk"));
  expect_done("db", "detach", "vol@ds1");
  expect_done("db", "remove", "vol@ds1");
}

TEST_F(Pipeline, WhatOnlyReadsMakesNoFolders) {
  for (const char* command : {"get", "attach"})
    EXPECT_THAT(refusal("db", command, "vol"), StartsWith("Volume vol not found (file: ")) << command;
  for (const char* command : {"detach", "remove"}) expect_done("db", command, "vol");
  EXPECT_THAT(listed("db"), IsEmpty());
  EXPECT_THAT(refusal("db", "create", "vol", {{"clone-from", "other@ds2"}}),
              StartsWith("Could not find volume for cloning"));
  EXPECT_THAT(everything_in("ds1"), IsEmpty());
  EXPECT_THAT(everything_in("ds2"), IsEmpty());
}

TEST_F(Pipeline, ShortNamesLiveWhereTheVmDoes) {
  make("db", "vol");
  make("web", "vol");
  EXPECT_THAT(listed("db"), ElementsAre("vol@ds1", "vol@ds2"));
  EXPECT_EQ(ask("db", "get", "vol").at("datastore"), json::value("ds1"));
  EXPECT_EQ(ask("web", "get", "vol").at("datastore"), json::value("ds2"));
}

TEST_F(Pipeline, DatastoresAreNamedInAnyCaseAndListedInTheirs) {
  make("db", "vol@DS2");
  EXPECT_THAT(listed("db"), ElementsAre("vol@ds2"));
  EXPECT_EQ(ask("db", "get", "vol@Ds2").at("datastore"), json::value("ds2"));
  EXPECT_THAT(refusal("db", "create", "vol@ds2"), HasSubstr("already exists"));
}

TEST_F(Pipeline, OneVolumeBySeveralNamesIsOneVolume) {
  make("db", "vol");
  (void)device_of(ask("db", "attach", "vol"));
  EXPECT_THAT(refusal("web", "attach", "vol@ds1"), HasSubstr("disk is attached to vm 'db'"));
  EXPECT_THAT(refusal("web", "attach", "vol@DS1"), HasSubstr("disk is attached to vm 'db'"));
}

TEST_F(Pipeline, AListIsWholeOrAnError) {
  make("db", "a@ds1");
  make("db", "b@ds2");
  EXPECT_THAT(listed("db"), ElementsAre("a@ds1", "b@ds2"));
  std::filesystem::rename(path_of("ds2"), path_of("elsewhere"));
  EXPECT_THAT(refusal("db", "list"), StartsWith("datastore 'ds2' is away"));
  EXPECT_EQ(ask("db", "get", "a@ds1").at("datastore"), json::value("ds1"));
  EXPECT_THAT(refusal("db", "get", "b@ds2"), StartsWith("datastore 'ds2' is away"));
  // An empty folder in its place is a mount point on which nothing is mounted.
  std::filesystem::create_directory(path_of("ds2"));
  EXPECT_THAT(refusal("db", "list"), StartsWith("datastore 'ds2' is away"));
  EXPECT_THAT(refusal("db", "create", "c@ds2"), StartsWith("datastore 'ds2' is away"));
  std::filesystem::remove(path_of("ds2"));
  std::filesystem::rename(path_of("elsewhere"), path_of("ds2"));
  EXPECT_THAT(listed("db"), ElementsAre("a@ds1", "b@ds2"));
}

struct BadName {
  const char* name;
  const char* why;
};
class PipelineTraversal : public Pipeline, public ::testing::WithParamInterface<BadName> {};

TEST_P(PipelineTraversal, IsRefusedBeforeAnythingIsTouched) {
  make("db", "there");
  const auto before = everything_in("ds1");
  for (const char* command : {"create", "remove", "attach", "detach", "get", "set_init", "reset"})
    EXPECT_THAT(refusal("db", command, GetParam().name), HasSubstr(GetParam().why)) << command;
  EXPECT_EQ(everything_in("ds1"), before);
  EXPECT_THAT(everything_in("ds2"), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Names, PipelineTraversal,
    ::testing::Values(BadName{"../there", "illegal characters: /"}, BadName{"..", "is not supported"},
                      BadName{".", "is not supported"}, BadName{"/etc/passwd", "illegal characters: /"},
                      BadName{"a\\b", "illegal characters: \\"}, BadName{"", "is empty"},
                      BadName{"there-flat", "ending with '-flat'"}, BadName{"a.vmdk", "containing '.vmdk'"},
                      BadName{"x@..", "Invalid datastore '..'"}, BadName{"x@../ds1", "Invalid datastore"},
                      BadName{"x@/", "Invalid datastore '/'"}, BadName{"x@", "Datastore name is empty"},
                      BadName{"a\nb", "control character"}));

TEST_F(Pipeline, NamesThatLookLikePatternsAreOnlyNames) {
  make("db", "a*");
  make("db", "ab");
  make("db", "[a]?");
  EXPECT_THAT(listed("db"), UnorderedElementsAre("a*@ds1", "ab@ds1", "[a]?@ds1"));
  expect_done("db", "remove", "a*");
  EXPECT_THAT(listed("db"), UnorderedElementsAre("ab@ds1", "[a]?@ds1"));
}

TEST_F(Pipeline, AReadOnlyVolumeIsReadOnlyAsADisk) {
  expect_done("db", "create", "vol", {{"size", "2mb"}, {"access", "read-only"}});
  expect_done("db", "set_init", "vol", encode_init({InitState::kReady, "an-id"}));
  const std::string device = device_of(ask("db", "attach", "vol"));
  const std::string name = std::filesystem::path(device).filename();
  EXPECT_EQ(testing::read_text("/sys/block/" + name + "/ro"), "1\n");
}

TEST_F(Pipeline, ClonesGoFromDatastoreToDatastoreUnderOneNameInBothDirections) {
  make("db", "vol@ds1", "4mb");
  expect_done("db", "create", "vol@ds2", {{"clone-from", "vol@ds1"}});
  const json::value copy = ask("db", "get", "vol@ds2");
  EXPECT_EQ(copy.at("capacity").at("size"), json::value("4MB"));
  EXPECT_EQ(copy.at("clone-from"), json::value("vol"));
  // A short source is looked for beside the clone, wherever the VM lives.
  expect_done("web", "create", "beside@ds1", {{"clone-from", "vol"}});
  EXPECT_EQ(ask("db", "get", "beside@ds1").at("clone-from"), json::value("vol"));
  // Each needs the other's lock.
  std::vector<std::thread> both;
  for (int round = 0; round < 8; ++round) {
    const bool is_even = round % 2 == 0;
    both.emplace_back([&, is_even, round] {
      expect_done("db", "create",
                  fmt::format("{}{}", is_even ? "vol-a" : "vol-b", round) + "@" + (is_even ? "ds1" : "ds2"),
                  {{"clone-from", is_even ? "vol@ds2" : "vol@ds1"}});
    });
  }
  for (std::thread& each : both) each.join();
  EXPECT_EQ(listed("db").size(), 3u + 8u);
}

TEST_F(Pipeline, ADiskThatSomebodyHasIsNotCloned) {
  make("db", "vol@ds1");
  (void)ask("db", "attach", "vol@ds1");
  EXPECT_THAT(refusal("web", "create", "copy@ds1", {{"clone-from", "vol@ds1"}}),
              HasSubstr("disk is attached to vm 'db'"));
  EXPECT_THAT(listed("web"), ElementsAre("vol@ds1"));
}

TEST_F(Pipeline, ExactlyOneOfManyCreatesMakesTheVolume) {
  std::vector<std::thread> many;
  std::atomic<int> made = 0;
  std::atomic<int> found = 0;
  for (int i = 0; i < 16; ++i) {
    many.emplace_back([&] {
      const json::value reply = ask("db", "create", "vol", {{"size", "2mb"}});
      if (reply.is_null()) ++made;
      if (reply.is_object() && reply.at("Error").as_string().find("already exists") != json::string::npos)
        ++found;
    });
  }
  for (std::thread& each : many) each.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(found, 15);
}

TEST_F(Pipeline, TheExtensionTellsWhatAVmHasAndHowFarAFormattingIs) {
  make("db", "vol@ds1");
  make("db", "other@ds2");
  make("web", "webs@ds2");
  (void)ask("db", "attach", "vol@ds1");
  (void)ask("web", "attach", "webs@ds2");
  const auto attached = decode_attached(ask("db", "attached"));
  ASSERT_OK(attached);
  EXPECT_THAT(attached->volumes, ElementsAre(testing::name_of("vol@ds1")));
  EXPECT_EQ(attached->default_datastore, "ds1");
  expect_done("db", "set_init", "other@ds2", encode_init({InitState::kFormatting, "id"}));
  EXPECT_THAT(refusal("db", "set_init", "other@ds2", encode_init({InitState::kNew, ""})),
              HasSubstr("already"));
  expect_done("db", "reset", "other@ds2");
  EXPECT_THAT(refusal("db", "reset", "other@ds2"), HasSubstr("only a disk that was being formatted"));
}

TEST_F(Pipeline, AServiceWithoutItsFolderOfDatastoresSaysSo) {
  std::filesystem::remove(path_of("ds1"));
  EXPECT_THAT(refusal("db", "create", "vol"), StartsWith("datastore 'ds1' is away"));
  EXPECT_THAT(refusal("db", "list"), StartsWith("datastore 'ds1' is away"));
}

/// As folders, but the second one says that it is a vSAN.
class VsanDatastores final : public Datastores {
 public:
  explicit VsanDatastores(Datastores& folders) : folders_(folders) {}
  std::vector<Datastore> all() const override {
    auto all = folders_.all();
    all.back().type = "vsan";
    return all;
  }
  base::Result<Datastore> find(std::string_view name) const override {
    auto found = folders_.find(name);
    if (found && found->name == "ds2") found->type = "vsan";
    return found;
  }
  base::Result<DiskStore*> store(const std::string& datastore, const Group& group, bool make) override {
    return folders_.store(datastore, group, make);
  }
  base::Result<std::vector<std::string>> groups(const std::string& datastore) override {
    return folders_.groups(datastore);
  }
  base::Result<void> rename_group(const Group& group, const std::string& name) override {
    return folders_.rename_group(group, name);
  }
  base::Result<void> remove_group(const Group& group) override { return folders_.remove_group(group); }

 private:
  Datastores& folders_;
};

TEST_F(Pipeline, PoliciesAreNamedAndNeverPaths) {
  VsanDatastores vsan(*datastores_);
  PolicyStore policies(path_of("ds2") + "/dockvols/policies");
  pipeline_ =
      std::make_unique<RequestPipeline>(ServiceParts{vsan, *tenancy_, *vms_, *operations_, &policies});
  EXPECT_EQ(refusal("db", "create", "vol@ds2", {{"vsan-policy-name", "gold"}}),
            "Policy gold does not exist.");
  ASSERT_OK(policies.create("silver", R"((("hostFailuresToTolerate" i1)))"));
  EXPECT_EQ(refusal("db", "create", "vol@ds2", {{"vsan-policy-name", "gold"}}),
            "Policy gold does not exist. Available policies are: ['silver']");
  testing::write_text(path_of("ds2") + "/dockvols/outside", "x");
  for (const char* name : {"../outside", "..", "/etc/passwd", "a/../silver", "silver/", ""})
    EXPECT_THAT(refusal("db", "create", "vol@ds2", {{"vsan-policy-name", name}}), HasSubstr("does not exist"))
        << name;
  EXPECT_EQ(refusal("db", "create", "vol@ds1", {{"vsan-policy-name", "silver"}}),
            "Cannot use a VSAN policy on a non-VSAN datastore");
  EXPECT_THAT(listed("db"), IsEmpty());
  expect_done("db", "create", "vol@ds2", {{"vsan-policy-name", "silver"}});
  EXPECT_EQ(ask("db", "get", "vol@ds2").at("vsan-policy-name"), json::value("silver"));
}

}  // namespace
}  // namespace vdvs::esx
