// The client before an original service: what it sends, and what it makes up for.
#include <algorithm>
#include <latch>

#include "esx-vmci/client/service_link.h"
#include "tests/esx-vmci/client/original_peer.h"

namespace vdvs::esx::testing {
namespace {

using base::ScsiAddress;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class ClientOfOriginal : public ::testing::Test {
 protected:
  OriginalPeer peer(OriginalPeer::Intercept intercept = {}, const std::string& vm = "web-1") {
    return OriginalPeer(fmt::format("{}/{}.sock", folder_.path(), vm), vm, store_, std::move(intercept));
  }
  std::unique_ptr<ControlPlane> client(const OriginalPeer& service, const std::string& state = {},
                                       const std::string& vm_name = {}) const {
    return client_of({.endpoint = service.endpoint(),
                      .request_time = std::chrono::minutes(2),
                      .state_file = state.empty() ? state : folder_.path() + "/" + state,
                      .vm_name = vm_name});
  }
  /// Answers this command with that text, and all others as ever.
  static OriginalPeer::Intercept answers(std::string command, std::string reply) {
    return [command = std::move(command), reply = std::move(reply)](const Request& request) {
      return request.command == command ? std::optional(reply) : std::nullopt;
    };
  }
  static std::string error_text(std::string_view text) { return encode_reply(error_reply(text)); }

  TemporaryFolder folder_;
  OriginalStore store_;
};

std::vector<std::string> texts(const base::Result<std::vector<VolumeName>>& names) {
  std::vector<std::string> result;
  EXPECT_OK(names);
  if (!names) return result;
  for (const VolumeName& name : *names) result.push_back(name.text());
  return result;
}

// ---- the wire ----

TEST_F(ClientOfOriginal, GetsByteForByteTheRequestsOfItsOwnGuests) {
  OriginalPeer service = peer();
  auto plane = client(service);
  EXPECT_OK(plane->list());
  EXPECT_OK(plane->create(name_of("vol1"), {{"size", "1gb"}, {"fstype", "ext4"}}, {}));
  EXPECT_OK(plane->attach(name_of("vol1@ds1")));
  EXPECT_OK(plane->detach(name_of("vol1@ds1")));
  EXPECT_OK(plane->remove(name_of("vol1@ds1")));
  std::vector<std::string> payloads = service.payloads();
  EXPECT_EQ(service.connections(), payloads.size()) << "one request a connection";
  EXPECT_THAT(payloads.at(0), HasSubstr(R"("cmd":"version")"));
  payloads.erase(payloads.begin());
  EXPECT_EQ(payloads.at(0), R"({"cmd":"list","details":{"Name":""},"version":"2"})");
  EXPECT_THAT(
      payloads,
      Contains(
          R"({"cmd":"create","details":{"Name":"vol1","Opts":{"fstype":"ext4","size":"1gb"}},"version":"2"})"));
  for (const char* command : {"attach", "detach", "remove"}) {
    EXPECT_THAT(payloads, Contains(fmt::format(
                              R"({{"cmd":"{}","details":{{"Name":"vol1@ds1"}},"version":"2"}})", command)));
  }
  EXPECT_THAT(payloads, Not(Contains(HasSubstr("ext\":"))));
}

TEST_F(ClientOfOriginal, IsRecognisedThoughItDoesNotKnowItsOwnVersion) {
  OriginalPeer service = peer(answers("version", error_text("Unknown command:version")));
  EXPECT_OK(client(service)->list());
  EXPECT_EQ(service.payloads().back(), R"({"cmd":"list","details":{"Name":""},"version":"2"})");
}

TEST_F(ClientOfOriginal, GetsSeveralRequestsAtOnceButNotTooMany) {
  constexpr std::size_t kCallers = 60;
  std::latch some_at_once(8);
  OriginalPeer service = peer([&](const Request& request) -> std::optional<std::string> {
    if (request.command != "get" || request.name != "first") return std::nullopt;
    some_at_once.arrive_and_wait();
    return std::nullopt;
  });
  auto plane = client(service);
  EXPECT_OK(plane->list());
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < kCallers; ++i) {
    callers.emplace_back(
        [&, i] { EXPECT_EQ(code_of(plane->get(name_of(i < 8 ? "first" : "other"))), "E_NOT_FOUND"); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_GE(service.most_at_once(), 8u);
  EXPECT_LE(service.most_at_once(), 32u);
}

TEST_F(ClientOfOriginal, ARequestBeyondItsBoundIsRefusedHere) {
  OriginalPeer service = peer();
  auto link = make_service_link(service.endpoint(), {});
  auto ask = [&](std::size_t bytes) {
    Request request{.command = "create", .name = "v", .options = {{"size", ""}}, .version = kProtocolVersion};
    request.options["size"] = std::string(bytes - encode_request(request).size() - 1, 'x');
    return link->ask(request, base::deadline_in(std::chrono::minutes(5)));
  };
  EXPECT_OK(ask(kMaxOriginalRequestBytes));
  const auto refused = ask(kMaxOriginalRequestBytes + 1);
  EXPECT_EQ(code_of(refused), "E_LIMIT");
  EXPECT_THAT(message_of(refused),
              HasSubstr("the request has 4097 bytes, and this service takes 4096 at most"));
}

TEST_F(ClientOfOriginal, ACutConnectionIsTriedAgain) {
  std::atomic<int> lists = 0;
  OriginalPeer service = peer([&](const Request& request) -> std::optional<std::string> {
    if (request.command == "list" && lists++ < 2) return "";
    return std::nullopt;
  });
  EXPECT_OK(client(service)->list());
  EXPECT_EQ(lists, 3);
}

TEST_F(ClientOfOriginal, IsTakenForWhatItIsAfterAnUpdate) {
  std::optional<OriginalPeer> service;
  service.emplace(folder_.path() + "/web-1.sock", "web-1", store_);
  auto plane = client(*service);
  EXPECT_OK(plane->list());
  const std::string path = service->endpoint().path;
  service.reset();
  EXPECT_EQ(code_of(plane->list()), "E_UNAVAILABLE");
  std::atomic<int> enveloped = 0;
  RawService updated(path, [&](RawConnection& connection, std::size_t) {
    if (!connection.greet()) return;
    while (auto request = connection.read_request()) {
      enveloped += request->id.has_value() ? 1 : 0;
      connection.answer(*request, encode_list({}));
    }
  });
  EXPECT_OK(plane->list());
  EXPECT_OK(plane->list());
  EXPECT_EQ(enveloped, 2);
  EXPECT_EQ(updated.accepted(), 1u);
}

// ---- what its replies mean ----

TEST_F(ClientOfOriginal, AVolumesLife) {
  OriginalPeer service = peer();
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("db"), {{"size", "200mb"}}, {}));
  auto info = plane->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->name.text(), "db@ds1");
  EXPECT_EQ(info->size_bytes, 200u << 20);
  EXPECT_EQ(info->created_by, "web-1");
  EXPECT_EQ(info->options.at("fstype"), "ext4");
  EXPECT_EQ(info->init, InitState::kNew);
  const auto address = plane->attach(name_of("db"));
  ASSERT_OK(address);
  const auto& scsi = std::get<ScsiAddress>(*address);
  EXPECT_EQ(scsi.unit, 0u);
  EXPECT_EQ(scsi.pci_slot, 160u);
  EXPECT_EQ(scsi.pci_bus, "15.0");
  info = plane->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_TRUE(info->is_attached_here);
  EXPECT_EQ(info->address, *address);
  EXPECT_EQ(info->holder->name, "web-1");
  EXPECT_EQ(code_of(plane->remove(name_of("db"))), "E_IN_USE");
  ASSERT_OK(plane->detach(name_of("db")));
  ASSERT_OK(plane->detach(name_of("db")));
  ASSERT_OK(plane->remove(name_of("db")));
  ASSERT_OK(plane->remove(name_of("db")));
  EXPECT_OK(plane->detach(name_of("db")));
  EXPECT_EQ(code_of(plane->get(name_of("db"))), "E_NOT_FOUND");
}

TEST_F(ClientOfOriginal, ADiskIsFoundByItsSlotWhereAnOlderReleaseGivesNoBus) {
  OriginalPeer service = peer(answers("attach", R"({"Unit": "3", "ControllerPciSlotNumber": "192"})"));
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("db"), {}, {}));
  const auto address = plane->attach(name_of("db"));
  ASSERT_OK(address);
  EXPECT_EQ(std::get<ScsiAddress>(*address), (ScsiAddress{.pci_slot = 192, .unit = 3}));
}

TEST_F(ClientOfOriginal, TheFirstReleasesOfAllGiveNothingToFindADiskBySoItIsGivenBack) {
  OriginalPeer service = peer([&](const Request& request) -> std::optional<std::string> {
    if (request.command != "attach") return std::nullopt;
    std::lock_guard lock(store_.mutex);
    store_.volumes.at("db").attached_vm = "web-1";
    return R"({"Bus": "1", "Unit": "0"})";
  });
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("db"), {}, {}));
  const auto refused = plane->attach(name_of("db"));
  EXPECT_EQ(code_of(refused), "E_UNSUPPORTED");
  EXPECT_THAT(refused.error().text(), HasSubstr("update the service on the hypervisor"));
  std::lock_guard lock(store_.mutex);
  EXPECT_EQ(store_.volumes.at("db").attached_vm, "");
}

TEST_F(ClientOfOriginal, AFailedAttachIsOneThoughItsErrorIsAList) {
  OriginalPeer service =
      peer(answers("attach", R"({"Error": ["Failed to add PVSCSI Controller: %s", "no slot"]})"));
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("db"), {}, {}));
  const auto refused = plane->attach(name_of("db"));
  EXPECT_EQ(code_of(refused), "E_IO");
  EXPECT_EQ(message_of(refused), "Failed to add PVSCSI Controller: no slot");
}

TEST_F(ClientOfOriginal, MetadataThatItCannotReadIsNoMissingVolume) {
  OriginalPeer service = peer(answers("get", "null"));
  EXPECT_EQ(code_of(client(service)->get(name_of("db"))), "E_CORRUPT");
}

TEST_F(ClientOfOriginal, ItsTextsBecomeCodes) {
  const std::vector<std::pair<std::string, std::string>> kTexts = {
      {"VM web-1 does not belong to any vmgroup", "E_DENIED"},
      {"No mount privilege", "E_DENIED"},
      {"Failed to lock the file disk /vmfs/x.vmdk already attached to VM=web-2", "E_BUSY_ELSEWHERE"},
      {"Failed to place new disk - The maximum number of supported volumes has been reached.", "E_LIMIT"},
      {"Invalid datastore 'x'.\nKnown datastores: ds1.\nDefault datastore: ds1", "E_INVALID"},
      {"'Volume name is too long (max len is 100)'", "E_INVALID"},
      {version_mismatch_text(2, 1), "E_UNSUPPORTED"},
      {"Server returned an error: KeyError('cmd',)", "E_IO"},
  };
  for (const auto& [text, code] : kTexts) {
    std::filesystem::remove(folder_.path() + "/web-1.sock");
    OriginalPeer service = peer([said = text](const Request& request) {
      return request.command == "remove" ? std::optional(error_text(said)) : std::nullopt;
    });
    EXPECT_EQ(code_of(client(service)->remove(name_of("db"))), code) << text;
  }
}

TEST_F(ClientOfOriginal, AnotherVmsDiskIsBusyThere) {
  OriginalPeer one = peer();
  OriginalPeer two = peer({}, "web-2");
  auto ours = client(one);
  auto theirs = client(two);
  ASSERT_OK(ours->create(name_of("db"), {}, {}));
  ASSERT_OK(theirs->attach(name_of("db")));
  EXPECT_EQ(code_of(ours->attach(name_of("db"))), "E_BUSY_ELSEWHERE");
  EXPECT_EQ(code_of(ours->remove(name_of("db"))), "E_BUSY_ELSEWHERE");
  EXPECT_OK(ours->detach(name_of("db")));
  const auto info = ours->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->holder->name, "web-2");
  EXPECT_FALSE(info->is_attached_here);
  EXPECT_FALSE(info->address);
}

// ---- what it does not keep for us ----

TEST_F(ClientOfOriginal, OurOwnOptionsAreKeptHereAndOutliveTheClient) {
  OriginalPeer service = peer();
  ASSERT_OK(client(service, "state")->create(name_of("db"), {{"size", "2560mb"}, {"uid", "1000"}}, {}));
  EXPECT_THAT(service.payloads(), Not(Contains(HasSubstr("uid"))));
  const auto info = client(service, "state")->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->options.at("uid"), "1000");
  EXPECT_EQ(info->options.at("size"), "2560mb") << "its Status says 2GB";
  EXPECT_EQ(info->size_bytes, 2560ull << 20);
  EXPECT_EQ(info->init, InitState::kNew);
}

TEST_F(ClientOfOriginal, AVolumeThatAnotherHostMadeHoldsData) {
  OriginalPeer one = peer();
  OriginalPeer two = peer({}, "web-2");
  ASSERT_OK(client(two)->create(name_of("db"), {}, {}));
  EXPECT_EQ(client(one)->get(name_of("db"))->init, InitState::kReady);
}

TEST_F(ClientOfOriginal, AVolumeThatAnotherHostMadeAnewUnderTheSameNameHoldsData) {
  OriginalPeer one = peer();
  OriginalPeer two = peer({}, "web-2");
  auto ours = client(one, "state");
  auto theirs = client(two);
  ASSERT_OK(ours->create(name_of("db"), {{"size", "100mb"}, {"uid", "1000"}}, {}));
  ASSERT_OK(theirs->remove(name_of("db")));
  ASSERT_OK(theirs->create(name_of("db"), {}, {}));
  const auto info = ours->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->init, InitState::kReady);
  EXPECT_FALSE(info->options.contains("uid"));
}

TEST_F(ClientOfOriginal, TheFirstFormattingMovesForwardAndIsRemembered) {
  OriginalPeer service = peer();
  {
    auto plane = client(service, "state");
    ASSERT_OK(plane->create(name_of("db"), {}, {}));
    ASSERT_OK(plane->set_init(name_of("db"), InitState::kFormatting, ""));
    ASSERT_OK(plane->set_init(name_of("db"), InitState::kFormatted, "f00d"));
  }
  auto plane = client(service, "state");
  EXPECT_EQ(plane->get(name_of("db"))->init, InitState::kFormatted);
  EXPECT_EQ(plane->get(name_of("db"))->fs_uuid, "f00d");
  EXPECT_EQ(code_of(plane->set_init(name_of("db"), InitState::kFormatting, "")), "E_INVALID");
  ASSERT_OK(plane->set_init(name_of("db"), InitState::kReady, "f00d"));
  EXPECT_EQ(code_of(plane->reset(name_of("db"))), "E_INVALID");
}

TEST_F(ClientOfOriginal, AResetMakesTheDiskAnewAsItWas) {
  OriginalPeer service = peer();
  auto plane = client(service, "state");
  ASSERT_OK(plane->create(name_of("db"), {{"size", "300mb"}, {"uid", "7"}}, {}));
  ASSERT_OK(plane->set_init(name_of("db"), InitState::kFormatting, ""));
  ASSERT_OK(plane->attach(name_of("db")));
  EXPECT_EQ(code_of(plane->reset(name_of("db"))), "E_IN_USE");
  ASSERT_OK(plane->detach(name_of("db")));
  ASSERT_OK(plane->reset(name_of("db")));
  const auto info = plane->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->init, InitState::kNew);
  EXPECT_EQ(info->size_bytes, 300u << 20);
  EXPECT_EQ(info->options.at("uid"), "7");
}

TEST_F(ClientOfOriginal, AResetThatEndedHalfWayIsFinishedByTheNext) {
  std::atomic<bool> is_full = false;
  OriginalPeer service = peer([&](const Request& request) -> std::optional<std::string> {
    if (request.command == "create" && is_full) return error_text("No space left on device");
    return std::nullopt;
  });
  {
    auto plane = client(service, "state");
    ASSERT_OK(plane->create(name_of("db@ds1"), {{"size", "300mb"}}, {}));
    ASSERT_OK(plane->set_init(name_of("db@ds1"), InitState::kFormatting, ""));
    is_full = true;
    EXPECT_EQ(code_of(plane->reset(name_of("db@ds1"))), "E_NO_SPACE");
    is_full = false;
  }
  auto plane = client(service, "state");
  EXPECT_EQ(code_of(plane->get(name_of("db@ds1"))), "E_NOT_FOUND");
  ASSERT_OK(plane->reset(name_of("db@ds1")));
  EXPECT_EQ(plane->get(name_of("db@ds1"))->init, InitState::kNew);
  EXPECT_EQ(plane->get(name_of("db@ds1"))->size_bytes, 300u << 20);
}

TEST_F(ClientOfOriginal, AClonesFirstFormattingIsItsSourcesOnlyWhereThatWasNeverWritten) {
  OriginalPeer service = peer();
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("blank"), {}, {}));
  ASSERT_OK(plane->create(name_of("used"), {}, {}));
  ASSERT_OK(plane->set_init(name_of("used"), InitState::kFormatting, ""));
  ASSERT_OK(plane->create(name_of("of-blank"), {{"clone-from", "blank"}}, {}));
  ASSERT_OK(plane->create(name_of("of-used@ds1"), {{"clone-from", "used"}}, {}));
  EXPECT_EQ(plane->get(name_of("of-blank"))->init, InitState::kNew);
  EXPECT_EQ(plane->get(name_of("of-used"))->init, InitState::kReady);
  EXPECT_EQ(code_of(plane->create(name_of("x"), {{"clone-from", "none"}}, {})), "E_NOT_FOUND");
}

TEST_F(ClientOfOriginal, ACreateWhoseAnswerWasLostIsFoundDoneIfItIsAsAskedFor) {
  for (const char* size : {"100mb", "200mb"}) {
    std::filesystem::remove(folder_.path() + "/web-1.sock");
    std::atomic<int> creates = 0;
    OriginalPeer service = peer([&](const Request& request) -> std::optional<std::string> {
      if (request.command != "create" || creates++ > 0) return std::nullopt;
      std::lock_guard lock(store_.mutex);
      store_.volumes["db"] = {
          .options = {{"size", size}, {"fstype", "ext4"}}, .created = "c", .created_by = "web-1"};
      return "";  // made, and not said
    });
    auto plane = client(service);
    const auto created = plane->create(name_of("db"), {{"size", "100mb"}}, {});
    EXPECT_EQ(code_of(created), size == std::string("100mb") ? "OK" : "E_EXISTS");
    if (created) {
      EXPECT_EQ(plane->get(name_of("db"))->init, InitState::kNew);
    }
  }
}

TEST_F(ClientOfOriginal, KnowsWhatIsAttachedHereFromItsRecordsOrByItsName) {
  OriginalPeer one = peer();
  OriginalPeer two = peer({}, "web-2");
  auto ours = client(one, "state");
  for (const char* name : {"a", "b", "c"}) ASSERT_OK(ours->create(name_of(name), {}, {}));
  ASSERT_OK(ours->attach(name_of("a")));
  ASSERT_OK(client(two)->attach(name_of("b")));
  EXPECT_THAT(texts(ours->attached_here()), ElementsAre("a@ds1"));
  EXPECT_THAT(texts(client(one, "state")->attached_here()), ElementsAre("a@ds1"));
  EXPECT_THAT(texts(client(one, "", "web-1")->attached_here()), ElementsAre("a@ds1")) << "told its name";
  EXPECT_THAT(texts(client(one)->attached_here()), IsEmpty()) << "knows nothing";
  ASSERT_OK(ours->detach(name_of("a")));
  EXPECT_THAT(texts(ours->attached_here()), IsEmpty());
}

TEST_F(ClientOfOriginal, AnAttachedDiskOfWhichThereIsNoRecordIsAskedForAgain) {
  OriginalPeer service = peer();
  auto plane = client(service);
  ASSERT_OK(plane->create(name_of("db"), {}, {}));
  const auto address = plane->attach(name_of("db"));
  ASSERT_OK(address);
  {
    std::lock_guard lock(store_.mutex);
    store_.volumes.at("db").device = {};
  }
  const auto info = client(service, "", "web-1")->get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_TRUE(info->is_attached_here);
  EXPECT_EQ(info->address, *address);
}

TEST_F(ClientOfOriginal, AStateFileThatCannotBeReadIsSaidAtOnce) {
  std::filesystem::create_directory(folder_.path() + "/state");
  EXPECT_FALSE(make_client_control_plane({.state_file = folder_.path() + "/state"}));
}

TEST_F(ClientOfOriginal, WhatCannotBeRememberedIsNotSaidToBeDone) {
  OriginalPeer service = peer();
  auto plane = client(service, "gone/state");
  EXPECT_FALSE(plane->create(name_of("db"), {}, {}));
}

TEST_F(ClientOfOriginal, ADamagedRecordIsOneOfAVolumeThatHoldsData) {
  OriginalPeer service = peer();
  ASSERT_OK(client(service, "state")->create(name_of("a"), {{"uid", "1"}}, {}));
  ASSERT_OK(client(service, "state")->create(name_of("b"), {{"uid", "1"}}, {}));
  std::string text = read_text(folder_.path() + "/state");
  text.at(text.find("a@ds1")) = 'x';
  write_text(folder_.path() + "/state", text);
  auto plane = client(service, "state");
  EXPECT_EQ(plane->get(name_of("a"))->init, InitState::kReady);
  EXPECT_EQ(plane->get(name_of("b"))->init, InitState::kNew);
  EXPECT_FALSE(plane->get(name_of("x")));
}

}  // namespace
}  // namespace vdvs::esx::testing
