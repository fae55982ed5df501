// The server of guests over real unix sockets, with real threads. What answers is the test's: it waits at
// gates, so that "while one is slow" is a state and not a matter of time.
#include "esx-vmci/service/guest_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <functional>
#include <future>
#include <latch>
#include <map>
#include <set>
#include <thread>

#include "tests/esx-vmci/service/raw_guest.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

using testing::numbered;
using testing::RawGuest;
using testing::request_of;
namespace json = boost::json;

class ScriptedHandler final : public RequestHandler {
 public:
  json::value answer(const Vm& vm, const Request& request) const override { return script(vm, request); }
  std::function<json::value(const Vm&, const Request&)> script = [](const Vm& vm, const Request& request) {
    return json::value(vm.name + " " + request.name);
  };
};

/// Knows what the local one knows, but for the VMs that it is told to refuse.
class ScriptedVms final : public VmDirectory {
 public:
  base::Result<Vm> identify(const Peer& peer) override {
    ++asked;
    if (refusal) return std::unexpected(*refusal);
    return local_->identify(peer);
  }
  base::Result<std::vector<VmState>> vms() override { return local_->vms(); }
  base::Result<VmState> find_vm(std::string_view name) override { return local_->find_vm(name); }
  void watch_power(std::function<void(const VmState&)>) override {}

  std::optional<base::Error> refusal;
  std::atomic<int> asked = 0;

 private:
  std::unique_ptr<VmDirectory> local_ = make_local_vm_directory({.uuid = "host-uuid", .name = "host"}, {});
};

class GuestServerTest : public ::testing::Test {
 protected:
  void serve(GuestServerOptions options = {}, const std::vector<std::string>& vms = {"one", "two"}) {
    std::vector<std::unique_ptr<Listener>> listeners;
    for (const std::string& vm : vms) {
      Endpoint endpoint{.kind = Endpoint::Kind::kUnix, .path = socket_of(vm), .assigned_vm = vm};
      auto listener = make_listener(loop_, endpoint, {}, {});
      ASSERT_OK(listener);
      listeners.push_back(std::move(*listener));
    }
    pool_ = std::make_unique<FairQueue>("guest", pool_limits(options), &loop_);
    server_ = make_guest_server(*pool_, std::move(listeners), handler_, vms_, options);
    server_->start();
    thread_ = std::thread([this] { pool_->run_loop(); });
  }

  ~GuestServerTest() override {
    on_loop([this] { server_.reset(); });
    guard_.reset();
    if (thread_.joinable()) thread_.join();
  }

  void on_loop(const std::function<void()>& work) {
    if (!thread_.joinable()) return work();
    std::promise<void> done;
    boost::asio::post(loop_, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  std::string socket_of(const std::string& vm) const { return folder_.path() + "/" + vm + ".sock"; }
  RawGuest guest(const std::string& vm = "one") const { return RawGuest(socket_of(vm)); }
  /// Another guest gets its answer now.
  void expect_served(const std::string& vm = "two") {
    EXPECT_EQ(guest(vm).ask(request_of("get", "v")), json::value(vm + " v"));
  }

  tests::TemporaryFolder folder_;
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{loop_.get_executor()};
  ScriptedHandler handler_;
  ScriptedVms vms_;
  std::unique_ptr<FairQueue> pool_;
  std::unique_ptr<GuestServer> server_;
  std::thread thread_;
};

TEST_F(GuestServerTest, ARequestWithoutIdGetsOneReplyAndTheConnectionIsClosed) {
  serve();
  RawGuest original = guest();
  ASSERT_TRUE(original.send(request_of("get", "db")));
  EXPECT_EQ(original.receive(), R"("one db")");
  EXPECT_TRUE(original.is_closed());
}

TEST_F(GuestServerTest, NumberedRequestsShareAConnectionAndAreAnsweredAsTheyAreDone) {
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    if (request.name == "slow") gate.wait();
    return json::value(request.name);
  };
  serve();
  RawGuest ours = guest();
  ASSERT_TRUE(ours.send(numbered(7, request_of("create", "slow"))));
  ASSERT_TRUE(ours.send(numbered(8, request_of("get", "quick"))));
  EXPECT_EQ(ours.receive_json(), json::parse(R"({"id": 8, "reply": "quick"})"));
  gate.count_down();
  EXPECT_EQ(ours.receive_json(), json::parse(R"({"id": 7, "reply": "slow"})"));
  EXPECT_EQ(ours.ask(numbered(9, request_of("get", "again"))), json::parse(R"({"id": 9, "reply": "again"})"));
}

TEST_F(GuestServerTest, TheSocketSaysWhoAsksAndIsAskedOncePerConnection) {
  serve();
  RawGuest two = guest("two");
  for (std::uint64_t i = 1; i <= 20; ++i) {
    const json::value reply = two.ask(numbered(i, request_of("get", "v")));
    EXPECT_EQ(reply.at("reply"), json::value("two v"));
  }
  EXPECT_EQ(vms_.asked, 1);
}

TEST_F(GuestServerTest, AGuestWithManySlowRequestsDoesNotHoldUpAnother) {
  std::latch gate(1);
  handler_.script = [&](const Vm& vm, const Request& request) {
    if (vm.name == "one") gate.wait();
    return json::value(vm.name + " " + request.name);
  };
  serve({.threads = 4, .max_running_per_vm = 2});
  std::vector<std::unique_ptr<RawGuest>> slow;
  for (int i = 0; i < 50; ++i) {
    slow.push_back(std::make_unique<RawGuest>(socket_of("one")));
    ASSERT_TRUE(slow.back()->send(request_of("create", "x")));
  }
  expect_served("two");
  gate.count_down();
  for (auto& each : slow) EXPECT_EQ(each->receive_json(), json::value("one x"));
}

TEST_F(GuestServerTest, AGuestThatStallsInTheMiddleOfAFrameHoldsUpNobody) {
  serve();
  RawGuest stalled = guest("one");
  ASSERT_TRUE(stalled.send_bytes(std::string_view("\xEF\xBE\xAD\x0B\x33\x00\x00\x00{\"cmd\"", 14)));
  expect_served("two");
  expect_served("one");
}

TEST_F(GuestServerTest, AGuestThatSendsNothingIsDroppedAfterItsTime) {
  serve({.idle_time = std::chrono::milliseconds(50), .first_frame_time = std::chrono::milliseconds(1)});
  RawGuest silent = guest();
  EXPECT_TRUE(silent.is_closed());
  RawGuest kept = guest();
  if (kept.send(numbered(1, request_of("get", "v")))) {
    (void)kept.receive();
    EXPECT_TRUE(kept.is_closed());
  }
  EXPECT_GE(server_->counters().timed_out, 1u);
}

TEST_F(GuestServerTest, AGuestThatWaitsForASlowAnswerIsNotDropped) {
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    if (request.name == "slow") gate.wait();
    return json::value(request.name);
  };
  serve({.idle_time = std::chrono::milliseconds(1)});
  RawGuest waits = guest();
  ASSERT_TRUE(waits.send(numbered(1, request_of("create", "slow"))));
  // Another guest's connection is timed out meanwhile: so much time has passed.
  RawGuest idle = guest("two");
  (void)idle.ask(numbered(1, request_of("get", "v")));
  EXPECT_TRUE(idle.is_closed());
  gate.count_down();
  EXPECT_EQ(waits.receive_json().at("reply"), json::value("slow"));
}

TEST_F(GuestServerTest, TenThousandMalformedFramesCostOnlyTheirSender) {
  serve();
  constexpr int kFrames = 10'000;
  const std::string long_length("\xEF\xBE\xAD\x0B\xFF\xFF\xFF\x7F", 8);
  const std::string no_nul("\xEF\xBE\xAD\x0B\x02\x00\x00\x00{}", 10);
  const std::string empty("\xEF\xBE\xAD\x0B\x00\x00\x00\x00", 8);
  const std::string bad[] = {"GET / HTTP/1.1\r\n\r\n", long_length, no_nul, empty};
  for (int i = 0; i < kFrames; ++i) {
    RawGuest hostile = guest("one");
    (void)hostile.send_bytes(bad[i % 4]);
    if (i % 1000 == 0) {
      EXPECT_TRUE(hostile.is_closed());
      expect_served("two");
    }
  }
  EXPECT_TRUE(testing::soon([&] { return server_->counters().malformed_frames == kFrames; }));
  expect_served("one");
}

TEST_F(GuestServerTest, AThousandIdleConnectionsAreHeldAndOthersAreServed) {
  serve({.first_frame_time = std::chrono::minutes(10)});
  std::vector<std::unique_ptr<RawGuest>> idle;
  for (int i = 0; i < 1000; ++i) idle.push_back(std::make_unique<RawGuest>(socket_of("one")));
  EXPECT_TRUE(testing::soon([&] { return server_->counters().connections == 1000; }));
  expect_served("two");
  expect_served("one");
  EXPECT_EQ(idle.back()->ask(request_of("get", "v")), json::value("one v"));
}

TEST_F(GuestServerTest, BadJsonGetsTheOriginalTextAndAClose) {
  serve();
  RawGuest original = guest();
  ASSERT_TRUE(original.send_payload("{not json"));
  EXPECT_THAT(original.receive().value_or(""), ::testing::HasSubstr("Failed to parse json"));
  EXPECT_TRUE(original.is_closed());
  expect_served("one");
}

TEST_F(GuestServerTest, APeerThatIsNoVmIsToldSoClosedAndCounted) {
  vms_.refusal = base::Error(base::ErrorCode::kDenied, "identify: nobody's");
  serve();
  RawGuest stranger = guest();
  ASSERT_TRUE(stranger.send(request_of("list")));
  EXPECT_EQ(stranger.receive(), R"({"Error": "identify: nobody's"})");
  EXPECT_TRUE(stranger.is_closed());
  EXPECT_EQ(server_->counters().refused_vms, 1u);
}

TEST_F(GuestServerTest, AHypervisorThatDoesNotAnswerIsSaidSo) {
  vms_.refusal = base::Error(base::ErrorCode::kUnavailable, "connect: refused");
  serve();
  EXPECT_EQ(
      guest().ask(request_of("list")).at("Error"),
      json::value("Service is presently unavailable, ensure the ESXi Host Agent is running on this host"));
}

TEST_F(GuestServerTest, RequestsBeyondAGuestsBoundAreRefusedToThatGuestAlone) {
  std::latch gate(1);
  std::latch has_begun(1);
  handler_.script = [&](const Vm& vm, const Request& request) {
    if (vm.name == "one" && !has_begun.try_wait()) has_begun.count_down();
    if (vm.name == "one") gate.wait();
    return json::value(vm.name + " " + request.name);
  };
  serve({.threads = 2, .max_running_per_vm = 1, .max_waiting_per_vm = 3});
  RawGuest greedy = guest("one");
  constexpr std::uint64_t kRequests = 20;
  ASSERT_TRUE(greedy.send(numbered(1, request_of("get", "v"))));
  has_begun.wait();  // From here on what comes has to wait.
  for (std::uint64_t i = 2; i <= kRequests; ++i)
    ASSERT_TRUE(greedy.send(numbered(i, request_of("get", "v"))));
  std::size_t refused = 0;
  for (; refused < kRequests - 4; ++refused) {
    const json::value reply = greedy.receive_json();
    EXPECT_EQ(reply.at("reply").at("code"), json::value("E_LIMIT")) << json::serialize(reply);
  }
  expect_served("two");
  EXPECT_EQ(server_->counters().refused_limit, kRequests - 4);
  gate.count_down();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(greedy.receive_json().at("reply"), json::value("one v"));
}

TEST_F(GuestServerTest, AConnectionAtItsBoundIsReadAgainWhenAnswersAreOut) {
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    gate.wait();
    return json::value(request.name);
  };
  serve({.max_in_flight_per_channel = 4});
  RawGuest busy = guest();
  constexpr std::uint64_t kRequests = 200;
  for (std::uint64_t i = 1; i <= kRequests; ++i) ASSERT_TRUE(busy.send(numbered(i, request_of("get", "v"))));
  EXPECT_TRUE(testing::soon([&] { return server_->counters().requests == 4; }));
  gate.count_down();
  std::set<std::int64_t> answered;
  for (std::uint64_t i = 1; i <= kRequests; ++i)
    answered.insert(busy.receive_json().at("id").to_number<std::int64_t>());
  EXPECT_EQ(answered.size(), kRequests);
}

TEST_F(GuestServerTest, AGuestThatDoesNotTakeItsRepliesIsDropped) {
  handler_.script = [](const Vm& vm, const Request& request) {
    return request.name == "large" ? json::value(std::string(4 << 20, 'x'))
                                   : json::value(vm.name + " " + request.name);
  };
  serve({.write_time = std::chrono::milliseconds(20)});
  RawGuest deaf = guest("one");
  for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(deaf.send(numbered(i, request_of("get", "large"))));
  EXPECT_TRUE(testing::soon([&] { return server_->counters().requests == 3; }));
  EXPECT_TRUE(testing::soon([&] { return server_->counters().connections == 0; }));
  EXPECT_EQ(server_->counters().timed_out, 1u);
  expect_served("two");
}

TEST_F(GuestServerTest, AGuestThatGoesAwayUnderALargeReplyLeavesNothingBehind) {
  handler_.script = [](const Vm& vm, const Request& request) {
    return request.name == "large" ? json::value(std::string(4 << 20, 'x'))
                                   : json::value(vm.name + " " + request.name);
  };
  serve();
  {
    RawGuest gone = guest("one");
    ASSERT_TRUE(gone.send(numbered(1, request_of("get", "large"))));
    ASSERT_TRUE(gone.send(numbered(2, request_of("get", "v"))));
    EXPECT_TRUE(gone.receive_some());
  }
  EXPECT_TRUE(testing::soon([&] { return server_->counters().connections == 0; }));
  expect_served("two");
}

TEST_F(GuestServerTest, AnOriginalGuestThatClosesItsHalfStillGetsItsAnswer) {
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    gate.wait();
    return json::value(request.name);
  };
  serve();
  RawGuest half = guest();
  ASSERT_TRUE(half.send(request_of("get", "v")));
  half.close_own_half();
  EXPECT_TRUE(testing::soon([&] { return server_->counters().requests == 1; }));
  gate.count_down();
  EXPECT_EQ(half.receive(), R"("v")");
  EXPECT_TRUE(half.is_closed());
}

TEST_F(GuestServerTest, AReplyThatIsTooLongBecomesAnError) {
  handler_.script = [](const Vm&, const Request&) { return json::value(std::string(kMaxReplyBytes, 'x')); };
  serve();
  EXPECT_THAT(json::serialize(guest().ask(request_of("list"))), ::testing::HasSubstr("E_LIMIT"));
}

TEST_F(GuestServerTest, AGuestThatGoesAwayInTheMiddleLeavesNothingBehind) {
  auto gate = std::make_shared<std::latch>(1);  // shared: the last one to be let through may still look at it
  std::atomic<int> begun = 0;
  handler_.script = [&begun, gate](const Vm& vm, const Request& request) {
    if (vm.name == "one") {
      ++begun;
      gate->wait();
    }
    return json::value(vm.name + " " + request.name);
  };
  serve();
  {
    RawGuest gone = guest("one");
    for (std::uint64_t i = 1; i <= 10; ++i) ASSERT_TRUE(gone.send(numbered(i, request_of("create", "v"))));
    EXPECT_TRUE(testing::soon([&] { return server_->counters().requests == 10 && begun == 4; }));
  }
  expect_served("two");
  EXPECT_TRUE(testing::soon([&] { return server_->counters().connections == 0; }));
  gate->count_down();
  EXPECT_TRUE(testing::soon([&] { return server_->counters().abandoned == 6; }));
  EXPECT_EQ(begun, 4) << "what had not begun is not done for nobody";
}

TEST_F(GuestServerTest, AShortRequestThatTakesLongHoldsUpNobody) {
  auto gate = std::make_shared<std::latch>(1);
  handler_.script = [gate](const Vm& vm, const Request& request) {
    if (request.name == "slow") gate->wait();
    return json::value(vm.name + " " + request.name);
  };
  serve();
  RawGuest stalled = guest("one");
  EXPECT_EQ(stalled.ask(numbered(1, request_of("get", "v"))).at("reply"), json::value("one v"));  // known now
  ASSERT_TRUE(stalled.send(numbered(2, request_of("get", "slow"))));
  for (int i = 0; i < 100; ++i) expect_served("two");
  gate->count_down();
  EXPECT_THAT(stalled.receive().value_or(""), ::testing::HasSubstr("one slow"));
}

class GuestServerStopTest : public GuestServerTest {
 protected:
  void stop() {
    on_loop([this] { server_->stop([this] { drained_.set_value(); }); });
  }
  bool is_drained() { return drained_future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  std::promise<void> drained_;
  std::future<void> drained_future_ = drained_.get_future();
};

TEST_F(GuestServerStopTest, WhatRunsIsFinishedAndAnsweredAndNewRequestsAreDeclined) {
  std::latch begun(1);
  std::latch gate(1);
  handler_.script = [&](const Vm&, const Request& request) {
    if (request.name == "runs") {
      begun.count_down();
      gate.wait();
    }
    return json::value(request.name);
  };
  serve({.threads = 2, .max_running_per_vm = 1});
  RawGuest one = guest("one");
  ASSERT_TRUE(one.send(numbered(1, request_of("create", "runs"))));
  begun.wait();
  ASSERT_TRUE(one.send(numbered(2, request_of("create", "waits"))));
  EXPECT_TRUE(testing::soon([&] { return server_->counters().requests == 2; }));
  stop();
  const json::value declined("Service is being stopped: operation declined!");
  EXPECT_EQ(guest("two").ask(request_of("get", "v")).at("Error"), declined);
  EXPECT_FALSE(is_drained());
  gate.count_down();
  std::map<std::int64_t, json::value> replies;
  for (int i = 0; i < 2; ++i) {
    const json::value reply = one.receive_json();
    replies[reply.at("id").to_number<std::int64_t>()] = reply.at("reply");
  }
  EXPECT_EQ(replies[1], json::value("runs"));
  EXPECT_EQ(replies[2].at("Error"), declined);
  drained_future_.wait();
  EXPECT_TRUE(one.is_closed());
}

TEST_F(GuestServerStopTest, AnIdleServerIsDrainedAtOnceAndItsConnectionsAreClosed) {
  serve();
  RawGuest idle = guest();
  (void)idle.ask(numbered(1, request_of("get", "v")));
  stop();
  drained_future_.wait();
  EXPECT_TRUE(idle.is_closed());
}

TEST_F(GuestServerStopTest, AGuestThatKeepsAskingDoesNotKeepTheServerFromStopping) {
  std::latch begun(1);
  std::latch gate(1);
  handler_.script = [&](const Vm& vm, const Request&) {
    if (vm.name == "two") {
      begun.count_down();
      gate.wait();
    }
    return json::value(nullptr);
  };
  serve();
  std::atomic<bool> is_over = false;
  std::thread asker([&] {
    RawGuest busy = guest("one");
    for (std::uint64_t i = 1; !is_over; ++i) {
      if (!busy.send(numbered(i, request_of("get", "v"))) || !busy.receive()) break;
    }
  });
  RawGuest slow = guest("two");
  ASSERT_TRUE(slow.send(numbered(1, request_of("create", "v"))));
  begun.wait();
  stop();
  EXPECT_TRUE(testing::soon([&] { return server_->counters().declined > 100; }));
  gate.count_down();
  drained_future_.wait();
  is_over = true;
  asker.join();
}

}  // namespace
}  // namespace vdvs::esx
