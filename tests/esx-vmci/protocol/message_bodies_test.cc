#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/json.h"
#include "esx-vmci/protocol/message.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using base::LoopAddress;
using base::ScsiAddress;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

boost::json::value json_of(std::string_view text) {
  auto value = base::parse_json(text);
  VDVS_CHECK(value.has_value());
  return *value;
}

base::DiskAddress address_of(std::string_view text) {
  auto address = decode_attach(json_of(text));
  EXPECT_OK(address);
  return address ? *address : base::DiskAddress();
}

TEST(AttachReply, OfAnOriginalServiceNamesThePlace) {
  EXPECT_EQ(
      address_of(R"({"Unit": "3", "ControllerPciSlotNumber": "160", "ControllerPciBusNumber": "15.0"})"),
      base::DiskAddress(ScsiAddress{.disk_uuid = "", .pci_slot = 160, .pci_bus = "15.0", .unit = 3}));
}

TEST(AttachReply, OfOlderServicesHasTheSlotAlone) {
  EXPECT_EQ(address_of(R"({"Unit": 3, "ControllerPciSlotNumber": 192})"),
            base::DiskAddress(ScsiAddress{.disk_uuid = "", .pci_slot = 192, .pci_bus = "", .unit = 3}));
}

TEST(AttachReply, OfTheFirstServicesIsRefusedWithWhatToDo) {
  auto refused = decode_attach(json_of(R"({"Bus": "0", "Unit": "1"})"));
  EXPECT_EQ(code_of(refused), "E_UNSUPPORTED");
  EXPECT_THAT(refused.error().remedy(), HasSubstr("update the service"));
}

TEST(AttachReply, WithoutAPlaceIsNoAnswer) {
  for (const char* body :
       {"null", "[]", "{}", R"({"Unit": "x", "ControllerPciSlotNumber": "1"})", R"({"Unit": "1"})",
        R"({"vdvs": {"kind": "tape"}})", R"({"vdvs": {"kind": "scsi", "disk_uuid": "", "unit": 1}})",
        R"({"vdvs": {"kind": "loop"}})", R"({"vdvs": 3})"}) {
    EXPECT_EQ(code_of(decode_attach(json_of(body))), "E_CORRUPT") << body;
  }
}

TEST(AttachReply, WithDetailsIsTheWholeAddress) {
  const base::DiskAddress loop = LoopAddress{"/dev/loop3", 17, 2049, 1234};
  const base::DiskAddress scsi =
      ScsiAddress{.disk_uuid = "6000c29a", .pci_slot = 160, .pci_bus = "15.0", .unit = 14};
  const base::DiskAddress by_uuid =
      ScsiAddress{.disk_uuid = "6000c29a", .pci_slot = {}, .pci_bus = "", .unit = 0};
  for (const auto& address : {loop, scsi, by_uuid}) {
    auto again = decode_attach(json_of(encode_reply(encode_attach(address, true))));
    ASSERT_OK(again);
    EXPECT_EQ(*again, address);
  }
}

TEST(AttachReply, ALoopDeviceIsNamedToAnOriginalClientToo) {
  EXPECT_EQ(encode_reply(encode_attach(LoopAddress{"/dev/loop3", 17, 2049, 1234}, false)),
            R"({"Device": "/dev/loop3"})");
  EXPECT_EQ(address_of(R"({"Device": "/dev/loop3"})"), base::DiskAddress(LoopAddress{.node = "/dev/loop3"}));
}

VolumeInfo example() {
  VolumeInfo info{.name = name_of("db@ds1")};
  info.disk_uuid = std::string(32, 'a');
  info.size_bytes = (1ull << 30) + (512ull << 20);
  info.allocated_bytes = 13ull << 20;
  info.created = "Tue Mar 27 18:02:11 2018";
  info.created_by = "web-1";
  info.options = {{"size", "1536mb"}, {"fstype", "xfs"}, {"mode", "0750"}};
  info.init = InitState::kFormatted;
  info.fs_uuid = "f00d";
  info.holder = DiskHolder{"uuid-2", "web-2", "2026-11-21T10:41:00Z", "scsi 0:1"};
  info.is_attached_here = true;
  info.address =
      ScsiAddress{.disk_uuid = std::string(32, 'a'), .pci_slot = 160, .pci_bus = "15.0", .unit = 1};
  return info;
}

void expect_equal(const VolumeInfo& a, const VolumeInfo& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.disk_uuid, b.disk_uuid);
  EXPECT_EQ(a.size_bytes, b.size_bytes);
  EXPECT_EQ(a.allocated_bytes, b.allocated_bytes);
  EXPECT_EQ(a.created, b.created);
  EXPECT_EQ(a.created_by, b.created_by);
  EXPECT_EQ(a.options, b.options);
  EXPECT_EQ(a.init, b.init);
  EXPECT_EQ(a.fs_uuid, b.fs_uuid);
  ASSERT_EQ(a.holder.has_value(), b.holder.has_value());
  if (a.holder) {
    EXPECT_EQ(a.holder->uuid, b.holder->uuid);
    EXPECT_EQ(a.holder->name, b.holder->name);
    EXPECT_EQ(a.holder->since, b.holder->since);
    EXPECT_EQ(a.holder->what, b.holder->what);
  }
  EXPECT_EQ(a.is_attached_here, b.is_attached_here);
  EXPECT_EQ(a.address, b.address);
}

TEST(GetReply, WithDetailsIsTheWholeVolume) {
  for (bool is_attached : {true, false}) {
    VolumeInfo info = example();
    if (!is_attached) {
      info.holder.reset();
      info.address.reset();
      info.is_attached_here = false;
      info.init = InitState::kNew;
    }
    auto again = decode_info(json_of(encode_reply(encode_info(info, true))), name_of("db"));
    ASSERT_OK(again);
    expect_equal(*again, info);
  }
}

TEST(GetReply, ForAnOriginalClientHasTheStatusKeysAlone) {
  const boost::json::value expected = json_of(R"({
    "created by VM": "web-1", "created": "Tue Mar 27 18:02:11 2018", "status": "attached",
    "capacity": {"size": "1GB", "allocated": "13MB"}, "datastore": "ds1", "attached to VM": "web-2",
    "attachedVMDevice": {"Unit": "1", "ControllerPciSlotNumber": "160", "ControllerPciBusNumber": "15.0"},
    "fstype": "xfs", "diskformat": "thin", "attach-as": "independent_persistent", "access": "read-write",
    "clone-from": "None"})");
  EXPECT_EQ(encode_info(example(), false), expected);
  VolumeInfo free = example();
  free.holder.reset();
  const auto status = encode_info(free, false);
  EXPECT_EQ(status.at("status"), "detached");
  EXPECT_FALSE(status.as_object().contains("attached to VM"));
  EXPECT_FALSE(status.as_object().contains("attachedVMDevice"));
}

TEST(GetReply, OfAnOriginalServiceIsReadAsFarAsItGoes) {
  auto info = decode_info(encode_info(example(), false), name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->name.text(), "db@ds1");
  EXPECT_EQ(info->size_bytes, 1ull << 30) << "rounded in the text";
  EXPECT_EQ(info->init, InitState::kReady) << "whatever is on it is data";
  EXPECT_FALSE(info->is_attached_here);
  ASSERT_TRUE(info->holder);
  EXPECT_EQ(info->holder->name, "web-2");
  EXPECT_EQ(info->options.at("fstype"), "xfs");
  EXPECT_FALSE(info->options.contains("clone-from"));
  ASSERT_TRUE(info->address);
  EXPECT_EQ(std::get<ScsiAddress>(*info->address).pci_bus, "15.0");
}

TEST(GetReply, NullOrNoDatastoreIsAnErrorAndNotACrash) {
  EXPECT_EQ(code_of(decode_info(nullptr, name_of("db"))), "E_CORRUPT");
  EXPECT_EQ(code_of(decode_info(json_of(R"({"status": "attached"})"), name_of("db"))), "E_CORRUPT");
  EXPECT_EQ(code_of(decode_info(json_of(R"({"datastore": 3})"), name_of("db"))), "E_CORRUPT");
}

TEST(GetReply, SizesAreShownAsThePredecessorDid) {
  EXPECT_EQ(human_size(1023), "1023");
  EXPECT_EQ(human_size(1024), "1KB");
  EXPECT_EQ(human_size(100ull << 20), "100MB");
  EXPECT_EQ(human_size(2ull << 40), "2048GB");
}

TEST(ListReply, GivesSortedNamesAndLeavesOutWhatNobodyCanUse) {
  auto names = decode_list(json_of(
      R"([{"Name": "b@ds"}, {"Name": "a@ds", "Attributes": {}}, {"Name": "a@ds"}, {"Name": "x-flat@ds"}])"));
  ASSERT_OK(names);
  EXPECT_THAT(*names, ElementsAre(name_of("a@ds"), name_of("b@ds")));
  for (const char* body : {"null", "{}", R"(["a@ds"])", R"([{"name": "a@ds"}])", R"([{"Name": "short"}])"}) {
    EXPECT_EQ(code_of(decode_list(json_of(body))), "E_CORRUPT") << body;
  }
}

TEST(AttachedReply, ComesBackAsItWasSent) {
  const boost::json::value body = encode_attached({{name_of("a@ds"), name_of("b@ds")}, "ds"});
  EXPECT_EQ(encode_reply(body), R"({"volumes": ["a@ds", "b@ds"], "default_datastore": "ds"})");
  auto again = decode_attached(body);
  ASSERT_OK(again);
  EXPECT_THAT(again->volumes, ElementsAre(name_of("a@ds"), name_of("b@ds")));
  EXPECT_EQ(again->default_datastore, "ds");
  EXPECT_EQ(code_of(decode_attached(json_of(R"({"volumes": [1]})"))), "E_CORRUPT");
}

TEST(InitRequest, ComesBackAsItWasSent) {
  for (InitState state :
       {InitState::kNew, InitState::kFormatting, InitState::kFormatted, InitState::kReady}) {
    auto wish = decode_init(encode_init({state, state == InitState::kReady ? "f00d" : ""}));
    ASSERT_OK(wish);
    EXPECT_EQ(wish->state, state);
    EXPECT_EQ(wish->fs_uuid, state == InitState::kReady ? "f00d" : "");
  }
  EXPECT_EQ(message_of(decode_init({})), "set_init: no state is given");
  EXPECT_EQ(message_of(decode_init({{"state", "old"}})), "set_init: 'old' is not a state");
  EXPECT_EQ(message_of(decode_init({{"state", "new"}, {"x", ""}})), "set_init: unknown option 'x'");
}

}  // namespace
}  // namespace vdvs::esx::testing
