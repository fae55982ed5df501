// The client before services of ours: side by side over one connection, deadlines, services that are away,
// that stop, start again, or answer nonsense. What answers waits at the tests' gates, so nothing is a matter
// of time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <random>

#include "esx-vmci/client/service_link.h"
#include "tests/esx-vmci/client/served.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::testing {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ScriptedHandler final : public RequestHandler {
 public:
  json::value answer(const Vm& vm, const Request& request) const override {
    if (request.command == "version")
      return encode_version({.version = "test", .capabilities = capabilities});
    return script(vm, request);
  }
  std::vector<std::string> capabilities = {"envelope", "details"};
  std::function<json::value(const Vm&, const Request&)> script = [](const Vm&, const Request&) {
    return json::value(nullptr);
  };
};

VolumeInfo volume(const std::string& name) {
  return {
      .name = name_of(name), .size_bytes = 8u << 20, .options = {{"size", "8mb"}}, .init = InitState::kNew};
}

class ClientOfService : public ::testing::Test {
 protected:
  Endpoint here() const { return unix_at(folder_.path() + "/s.sock"); }
  std::unique_ptr<Served> serve(GuestServerOptions options = {}) {
    return std::make_unique<Served>(std::vector{here()}, handler_, *vms_, TlsFiles(), options);
  }
  std::unique_ptr<ControlPlane> client(std::chrono::milliseconds request_time = std::chrono::minutes(5)) {
    return client_of({.endpoint = here(), .request_time = request_time});
  }
  RawService raw(RawService::Script script) { return RawService(here().path, std::move(script)); }

  TemporaryFolder folder_;
  ScriptedHandler handler_;
  std::unique_ptr<VmDirectory> vms_ = make_local_vm_directory({.uuid = "host-uuid", .name = "host"}, {});
};

void run_side_by_side(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

// ---- side by side ----

TEST_F(ClientOfService, RequestsRunSideBySideOverOneConnection) {
  constexpr std::size_t kCallers = 16;
  std::latch all_inside(kCallers);
  handler_.script = [&](const Vm&, const Request& request) {
    all_inside.arrive_and_wait();
    return encode_info(volume(request.name + "@ds"), request.wants_details);
  };
  auto served = serve({.threads = 2 * kCallers, .max_running_per_vm = kCallers});  // a guest has half of them
  auto plane = client();
  run_side_by_side(kCallers, [&](std::size_t i) {
    const auto info = plane->get(name_of(fmt::format("v{}", i)));
    ASSERT_OK(info);
    EXPECT_EQ(info->name.volume(), fmt::format("v{}", i));
  });
  EXPECT_EQ(served->transport().accepted, 1u);
}

TEST_F(ClientOfService, ASlowRequestHoldsUpNoOther) {
  std::latch begun(1);
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    if (request.command == "create") {
      begun.count_down();
      gate.wait();
    }
    return request.command == "list" ? encode_list({name_of("a@ds")}) : json::value(nullptr);
  };
  auto served = serve();
  auto plane = client();
  std::thread slow([&] { EXPECT_OK(plane->create(name_of("v"), {}, {})); });
  begun.wait();
  EXPECT_OK(plane->list());
  EXPECT_OK(plane->remove(name_of("w")));
  gate.count_down();
  slow.join();
}

TEST_F(ClientOfService, ManyCallersGetTheirOwnAnswersInWhateverOrderTheyCome) {
  constexpr std::size_t kCallers = 200;
  const auto seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  auto service = raw([&](RawConnection& connection, std::size_t) {
    if (!connection.greet()) return;
    std::mt19937 random(seed);
    std::vector<Request> waiting;
    for (std::size_t answered = 0; answered < kCallers;) {
      if (waiting.size() + answered < kCallers) {
        auto request = connection.read_request();
        if (!request) return;
        waiting.push_back(std::move(*request));
        if (waiting.size() < kCallers / 4) continue;
      }
      std::swap(waiting.at(random() % waiting.size()), waiting.back());
      connection.answer(waiting.back(), encode_info(volume(waiting.back().name + "@ds"), true));
      waiting.pop_back();
      ++answered;
    }
    connection.read_payload();
  });
  auto plane = client();
  run_side_by_side(kCallers, [&](std::size_t i) {
    const auto info = plane->get(name_of(fmt::format("v{}", i)));
    ASSERT_OK(info);
    EXPECT_EQ(info->name.volume(), fmt::format("v{}", i));
  });
  EXPECT_EQ(service.accepted(), 1u);
}

// ---- away ----

TEST_F(ClientOfService, AServiceThatIsAwayIsUnavailableAtOnceWithItsPlaceAndWhatToDo) {
  auto plane = client(std::chrono::hours(24));  // far beyond the test's own limit
  for (int i = 0; i < 3; ++i) {
    const auto listed = plane->list();
    ASSERT_EQ(code_of(listed), "E_UNAVAILABLE");
    EXPECT_THAT(message_of(listed), StartsWith("list: connect to '" + here().text() + "': No such file"));
    EXPECT_THAT(listed.error().remedy(), HasSubstr("systemctl status vmdkopsd"));
  }
  EXPECT_EQ(message_of(plane->attach(name_of("db"))).substr(0, 13), "attach 'db': ");
  EXPECT_EQ(code_of(plane->attached_here()), "E_UNAVAILABLE");
}

TEST_F(ClientOfService, ASocketThatNobodyListensOnIsUnavailableAtOnce) {
  base::UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  here().path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const auto listed = client(std::chrono::hours(24))->list();
  EXPECT_EQ(code_of(listed), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(listed), HasSubstr("Connection refused"));
}

TEST_F(ClientOfService, AServiceThatComesLaterIsFoundByTheNextCall) {
  auto plane = client();
  EXPECT_EQ(code_of(plane->remove(name_of("v"))), "E_UNAVAILABLE");
  auto served = serve();
  EXPECT_OK(plane->remove(name_of("v")));
  served.reset();
  served = serve();
  EXPECT_OK(plane->remove(name_of("v")));
}

TEST_F(ClientOfService, WhatRunsWhileTheServiceEndsIsAskedOfTheNextOne) {
  std::latch begun(1);
  std::latch gate(1);
  std::atomic<int> asked = 0;
  handler_.script = [&](const Vm&, const Request&) {
    if (asked++ == 0) {
      begun.count_down();
      gate.wait();
    }
    return json::value(nullptr);
  };
  auto served = serve();
  auto plane = client();
  std::thread caller([&] { EXPECT_OK(plane->remove(name_of("v"))); });
  begun.wait();
  std::thread ending([&] { served.reset(); });  // closes the connection, and waits for what runs
  // Its thread is busy with ending from there on, and takes no answer of what runs.
  EXPECT_TRUE(soon([&] { return !std::filesystem::exists(here().path); }));
  gate.count_down();
  ending.join();
  served = serve();
  caller.join();
  EXPECT_EQ(asked, 2);
}

TEST_F(ClientOfService, WhatAStoppingServiceDeclinesIsAskedAgain) {
  std::atomic<int> asked = 0;
  handler_.script = [&](const Vm&, const Request&) {
    return asked++ < 2 ? error_reply(kStoppingText) : json::value(nullptr);
  };
  auto served = serve();
  EXPECT_OK(client()->remove(name_of("v")));
  EXPECT_EQ(asked, 3);
}

TEST_F(ClientOfService, AConnectionThatTheServiceClosedForIdlenessIsMadeAnew) {
  auto served = serve({.idle_time = std::chrono::milliseconds(20)});
  auto plane = client();
  EXPECT_OK(plane->remove(name_of("v")));
  EXPECT_TRUE(soon([&] { return served->counters().connections == 0; }));
  EXPECT_OK(plane->remove(name_of("v")));
  EXPECT_EQ(served->transport().accepted, 2u);
}

TEST_F(ClientOfService, TheDefaultDatastoreIsLearnedAndKnownWhileTheServiceIsAway) {
  handler_.capabilities.push_back("init");
  handler_.script = [](const Vm&, const Request& request) {
    return request.command == "attached"
               ? encode_attached({.volumes = {name_of("a@ds")}, .default_datastore = "ds"})
               : json::value(nullptr);
  };
  auto served = serve();
  auto plane = client();
  EXPECT_EQ(plane->default_datastore(), "");
  EXPECT_OK(plane->remove(name_of("v")));
  EXPECT_EQ(plane->default_datastore(), "ds");
  const auto attached = plane->attached_here();
  ASSERT_OK(attached);
  EXPECT_EQ(attached->front().text(), "a@ds");
  served.reset();
  EXPECT_EQ(code_of(plane->list()), "E_UNAVAILABLE");
  EXPECT_EQ(plane->default_datastore(), "ds");
}

// ---- deadlines ----

TEST_F(ClientOfService, ACallEndsAtItsDeadlineAndItsLateAnswerIsNobodys) {
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    if (request.name == "slow") gate.wait();
    return json::value(nullptr);
  };
  auto served = serve();
  auto plane = client(std::chrono::milliseconds(300));
  const auto late = plane->remove(name_of("slow"));
  EXPECT_EQ(code_of(late), "E_TIMEOUT");
  EXPECT_THAT(message_of(late), StartsWith("remove 'slow': ask '" + here().text() + "': no answer in time"));
  gate.count_down();
  auto patient = client();
  EXPECT_OK(patient->remove(name_of("quick")));
}

TEST_F(ClientOfService, AConnectionThatStaysSilentIsLeftForANewOne) {
  auto service = raw([](RawConnection& connection, std::size_t index) {
    if (!connection.greet()) return;
    while (auto request = connection.read_request()) {
      if (index > 0) connection.answer(*request, nullptr);
    }
  });
  auto plane = client(std::chrono::milliseconds(300));
  EXPECT_EQ(code_of(plane->remove(name_of("v"))), "E_TIMEOUT");
  EXPECT_TRUE(soon([&] { return plane->remove(name_of("v")).has_value(); }));
  EXPECT_GE(service.accepted(), 2u);
}

TEST_F(ClientOfService, AServiceThatNeverSaysWhoItIsIsUnavailable) {
  auto service = raw([](RawConnection& connection, std::size_t) {
    while (connection.read_request()) {
    }
  });
  const auto refused = client(std::chrono::milliseconds(300))->remove(name_of("v"));
  EXPECT_EQ(code_of(refused), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(refused), HasSubstr("the service does not answer"));
}

// ---- answers ----

TEST_F(ClientOfService, TheServicesErrorsArriveAsTheyAre) {
  handler_.script = [](const Vm&, const Request& request) {
    return error_body(base::Error(ErrorCode::kBusyElsewhere, "attach 'db': disk is attached to vm 'web-2'",
                                  "stop its container"),
                      request.wants_details);
  };
  auto served = serve();
  const auto refused = client()->attach(name_of("db"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(),
            "attach 'db': disk is attached to vm 'web-2' [E_BUSY_ELSEWHERE]; stop its container");
}

TEST_F(ClientOfService, ARequestBeyondTheBoundIsRefusedHere) {
  std::atomic<int> asked = 0;
  handler_.script = [&](const Vm&, const Request&) {
    ++asked;
    return json::value(nullptr);
  };
  auto served = serve();
  const auto refused =
      client()->create(name_of("v"), {{"mountopts", std::string(kMaxRequestBytes, 'x')}}, {});
  EXPECT_EQ(code_of(refused), "E_LIMIT");
  EXPECT_THAT(message_of(refused), HasSubstr(fmt::format("(max is {})", kMaxRequestBytes)));
  EXPECT_EQ(asked, 0);
}

TEST_F(ClientOfService, NonsenseBreaksTheConnectionAndTheRequestIsAskedAgain) {
  const std::vector<std::function<void(RawConnection&, const Request&)>> nonsense = {
      [](RawConnection& connection, const Request&) {
        connection.send_bytes("HTTP/1.1 400 Bad Request\r\n\r\n");
      },
      [](RawConnection& connection, const Request&) { connection.send_payload("{\"id\":"); },
      [](RawConnection& connection, const Request&) { connection.send_payload("null"); },
      [](RawConnection& connection, const Request&) {
        connection.send_bytes(std::string("\xef\xbe\xad\x0b\xff\xff\xff\xff", 8));
      },
  };
  for (std::size_t kind = 0; kind < nonsense.size(); ++kind) {
    SCOPED_TRACE(kind);
    auto service = raw([&](RawConnection& connection, std::size_t index) {
      if (!connection.greet()) return;
      const auto request = connection.read_request();
      if (!request) return;
      if (index > 0) {
        connection.answer(*request, nullptr);
      } else {
        nonsense[kind](connection, *request);
      }
      connection.read_payload();  // until the client leaves
    });
    EXPECT_OK(client()->remove(name_of("v")));
    EXPECT_EQ(service.accepted(), 2u);
  }
}

TEST_F(ClientOfService, AnAnswerToNobodyIsLeftAside) {
  auto service = raw([](RawConnection& connection, std::size_t) {
    if (!connection.greet()) return;
    const auto request = connection.read_request();
    if (!request) return;
    connection.send_payload(encode_enveloped(*request->id + 1000, error_reply("nobody's")));
    connection.answer(*request, nullptr);
    connection.read_payload();
  });
  EXPECT_OK(client()->remove(name_of("v")));
  EXPECT_EQ(service.accepted(), 1u);
}

TEST_F(ClientOfService, ARequestThatFailsOverAndOverIsGivenUpWithItsLastCause) {
  auto service = raw([](RawConnection& connection, std::size_t) {
    if (connection.greet()) connection.read_request();
  });
  const auto failed = client(std::chrono::milliseconds(400))->remove(name_of("v"));
  EXPECT_EQ(code_of(failed), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(failed), HasSubstr("the connection was closed"));
  EXPECT_THAT(message_of(failed), HasSubstr(" tries)"));
  EXPECT_GE(service.accepted(), 2u);
}

// ---- what a lost answer means ----

/// Does what was asked first and leaves without an answer; answers everything of the second connection.
RawService::Script loses_the_first_answer(std::function<json::value(const Request&)> answer) {
  return [answer = std::move(answer)](RawConnection& connection, std::size_t index) {
    if (!connection.greet()) return;
    while (auto request = connection.read_request()) {
      if (index == 0) return;
      connection.answer(*request, answer(*request));
    }
  };
}

json::value already_exists() {
  return error_body(base::Error(ErrorCode::kExists, "create 'v': it already exists"), true);
}

TEST_F(ClientOfService, ACreateWhoseAnswerWasLostIsFoundDone) {
  auto service = raw(loses_the_first_answer([](const Request& request) {
    return request.command == "create" ? already_exists() : encode_info(volume("v@ds"), true);
  }));
  EXPECT_OK(client()->create(name_of("v"), {{"size", "8mb"}}, {}));
}

TEST_F(ClientOfService, AVolumeThatIsNotAsAskedForIsNotTakenForALostCreate) {
  auto service = raw(loses_the_first_answer([](const Request& request) {
    return request.command == "create" ? already_exists() : encode_info(volume("v@ds"), true);
  }));
  EXPECT_EQ(code_of(client()->create(name_of("v"), {{"size", "9mb"}}, {})), "E_EXISTS");
}

TEST_F(ClientOfService, AVolumeThatSomebodyUsesIsNotTakenForALostCreate) {
  auto service = raw(loses_the_first_answer([](const Request& request) {
    VolumeInfo used = volume("v@ds");
    used.holder = DiskHolder{.uuid = "u", .name = "web-2", .since = {}, .what = {}};
    return request.command == "create" ? already_exists() : encode_info(used, true);
  }));
  EXPECT_EQ(code_of(client()->create(name_of("v"), {{"size", "8mb"}}, {})), "E_EXISTS");
}

TEST_F(ClientOfService, AVolumeThatExistsIsNotTakenForOurOwnWhereNothingWasLost) {
  handler_.script = [](const Vm&, const Request& request) {
    return request.command == "create" ? already_exists() : encode_info(volume("v@ds"), true);
  };
  auto served = serve();
  EXPECT_EQ(code_of(client()->create(name_of("v"), {{"size", "8mb"}}, {})), "E_EXISTS");
}

TEST_F(ClientOfService, AResetWhoseAnswerWasLostIsFoundDoneOnlyOnABlankDisk) {
  for (const InitState state : {InitState::kNew, InitState::kReady}) {
    auto service = raw(loses_the_first_answer([state](const Request& request) {
      VolumeInfo info = volume("v@ds");
      info.init = state;
      return request.command == "reset"
                 ? error_body(base::Error(ErrorCode::kInvalid, "reset 'v': its state is new"), true)
                 : encode_info(info, true);
    }));
    EXPECT_EQ(code_of(client()->reset(name_of("v"))), state == InitState::kNew ? "OK" : "E_INVALID");
  }
}

// ---- the link itself ----

TEST_F(ClientOfService, CallsThatWaitWhenItsLinkEndsAreToldSo) {
  std::latch all_asked(4);
  auto service = raw([&](RawConnection& connection, std::size_t) {
    if (!connection.greet()) return;
    while (connection.read_request()) all_asked.count_down();
  });
  auto link = make_service_link(here(), {});
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&link = *link] {
      auto answer = link.ask({.command = "list", .name = {}}, base::deadline_in(std::chrono::minutes(5)));
      EXPECT_EQ(code_of(answer), "E_UNAVAILABLE");
      EXPECT_THAT(message_of(answer), HasSubstr("is being closed"));
    });
  }
  all_asked.wait();
  link.reset();
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ClientOfService, CallersComeAndGoAndNobodyIsForgotten) {
  handler_.script = [](const Vm&, const Request& request) {
    if (request.name == "slow") std::this_thread::yield();
    return json::value(request.name);
  };
  auto served = serve();
  auto link = make_service_link(here(), {});
  run_side_by_side(12, [&](std::size_t i) {
    for (int round = 0; round < 200; ++round) {
      const std::string name = round % 3 == 0 ? "slow" : fmt::format("v{}", i);
      auto answer = link->ask({.command = "get", .name = name}, base::deadline_in(std::chrono::minutes(5)));
      ASSERT_OK(answer);
      ASSERT_OK(answer->result);
      ASSERT_EQ(*answer->result, json::value(name));
    }
  });
  EXPECT_EQ(served->transport().accepted, 1u);
}

// ---- TLS ----

class ClientOverTls : public ClientOfService {
 protected:
  Served serve_tls() {
    return Served({{.kind = Endpoint::Kind::kTcp, .port = 0, .host = "127.0.0.1"}}, handler_, *vms_,
                  pki_.service());
  }
  test::Pki pki_;
};

TEST_F(ClientOverTls, TheCertificateIsWhoAsks) {
  handler_.script = [](const Vm& vm, const Request& request) {
    return encode_info(volume(fmt::format("{}@{}", request.name, vm.name)), true);
  };
  Served served = serve_tls();
  auto plane = client_of(served.endpoint(), pki_.guest("web-1"));
  run_side_by_side(16, [&](std::size_t) {
    const auto info = plane->get(name_of("v"));
    ASSERT_OK(info);
    EXPECT_EQ(info->name.text(), "v@web-1");
  });
  EXPECT_EQ(served.transport().accepted, 1u);
}

TEST_F(ClientOverTls, ARefusedCertificateIsDeniedAtOnceAndNotTriedAgain) {
  Served served = serve_tls();
  const test::Pki other;
  TlsFiles files = other.guest("web-1");
  files.authority = pki_.service().authority;
  const auto refused = client_of(served.endpoint(), files)->list();
  EXPECT_EQ(code_of(refused), "E_DENIED");
  EXPECT_THAT(message_of(refused), StartsWith("list: "));
  EXPECT_THAT(message_of(refused), HasSubstr(served.endpoint().text()));
  EXPECT_THAT(refused.error().remedy(), HasSubstr("vdvs cert"));
  EXPECT_TRUE(soon([&] { return served.transport().refused_certificate > 0; })) << "counted after the alert";
  EXPECT_EQ(served.transport().refused_certificate, 1u);
}

TEST_F(ClientOverTls, AGuestWithoutCertificatesIsToldWhichItNeeds) {
  Served served = serve_tls();
  const auto refused = client_of(served.endpoint())->list();
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(refused.error().text(), HasSubstr("'vdvs cert'"));
}

TEST(ClientOptions, ATimeOfNothingIsRefused) {
  EXPECT_EQ(code_of(make_client_control_plane({.request_time = std::chrono::milliseconds(0)})), "E_INVALID");
}

}  // namespace
}  // namespace vdvs::esx::testing
