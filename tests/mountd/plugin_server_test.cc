// The plugin server over real unix sockets, with clients that do what dockerd does and clients that do not.
#include "mountd/plugin_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <filesystem>

#include "tests/mountd/plugin_client.h"

namespace vdvs::mountd {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kGetDb = post("/VolumeDriver.Get", R"({"Name":"db"})");

PluginReply echo_name(const PluginRequest& request) { return MountPoint{"/mnt/" + request.name}; }

TEST(PluginServer, AnswersActivateByItself) {
  RunningServer running;
  running.handler.hold();
  RawClient client = running.connect();
  client.send("POST /Plugin.Activate HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: 0\r\n\r\n");
  const ReceivedReply reply = client.receive();
  EXPECT_EQ(reply.status, 200u);
  EXPECT_EQ(reply.body, "{\"Implements\": [\"VolumeDriver\"]}\n");
  EXPECT_THAT(reply.head, HasSubstr("Content-Type: application/vnd.docker.plugins.v1.1+json\r\n"));
  EXPECT_TRUE(running.handler.seen().empty());
}

TEST(PluginServer, HandsTheRequestToTheHandler) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(post("/VolumeDriver.Mount", R"({"Name":"db","ID":"x1"})"));
  EXPECT_EQ(client.receive().status, 200u);
  client.send(post("/VolumeDriver.Create", R"({"Name":"db","Opts":{"size":"1gb"}})"));
  EXPECT_EQ(client.receive().status, 200u);
  const auto seen = running.handler.seen();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].method, Method::kMount);
  EXPECT_EQ(seen[0].driver, "vsphere");
  EXPECT_EQ(seen[0].name, "db");
  EXPECT_EQ(seen[0].mount_id, "x1");
  EXPECT_EQ(seen[1].options.at("size"), "1gb");
  EXPECT_FALSE(seen[0].request_id.empty());
  EXPECT_NE(seen[0].request_id, seen[1].request_id);
}

TEST(PluginServer, EmptyBodyIsAnErrorWhereOneIsNeeded) {
  RunningServer running;
  RawClient client = running.connect();
  for (const char* method : {"Create", "Remove", "Path", "Mount", "Unmount"}) {
    client.send(post(std::string("/VolumeDriver.") + method, ""));
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 400u) << method;
    EXPECT_THAT(reply.body, AllOf(HasSubstr("the request has no body"), HasSubstr("repeat the command")));
  }
  for (const char* method : {"List", "Capabilities"}) {
    client.send(post(std::string("/VolumeDriver.") + method, ""));
    EXPECT_EQ(client.receive().status, 200u) << method;
  }
}

TEST(PluginServer, GetWithoutABodyIsDroppedSoThatDockerKeepsItsRecord) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(post("/VolumeDriver.Get", ""));
  EXPECT_TRUE(client.is_ended());
  EXPECT_TRUE(running.handler.seen().empty());
}

TEST(PluginServer, ErrorOfTheHandlerIsStatus500OnAConnectionThatGoesOn) {
  RunningServer running;
  running.handler.answer_with(
      [](const PluginRequest&) { return base::fail(base::ErrorCode::kInUse, "remove 'db': in use"); });
  RawClient client = running.connect();
  for (int i = 0; i < 2; ++i) {
    client.send(kGetDb);
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 500u);
    EXPECT_EQ(boost::json::parse(reply.body).at("Err").as_string(), "remove 'db': in use [E_IN_USE]");
  }
}

TEST(PluginServer, BodyThatCannotBeDecodedIs400OnAConnectionThatGoesOn) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(post("/VolumeDriver.Mount", "{\"Name\":"));
  const ReceivedReply reply = client.receive();
  EXPECT_EQ(reply.status, 400u);
  EXPECT_THAT(std::string(boost::json::parse(reply.body).at("Err").as_string()),
              HasSubstr("decode 'VolumeDriver.Mount'"));
  client.send(kGetDb);
  EXPECT_EQ(client.receive().status, 200u);
}

TEST(PluginServer, UnknownPathIs404WithTheEndpoints) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(post("/VolumeDriver.Resize", "{}"));
  const ReceivedReply reply = client.receive();
  EXPECT_EQ(reply.status, 404u);
  EXPECT_THAT(reply.body, HasSubstr("/VolumeDriver.Create"));
}

TEST(PluginServer, NoAnswerDropsTheConnection) {
  RunningServer running;
  running.handler.answer_with([](const PluginRequest&) { return NoAnswer{}; });
  RawClient client = running.connect();
  client.send(kGetDb);
  EXPECT_TRUE(client.is_ended());
}

TEST(PluginServer, ForgottenAnswerDropsTheConnection) {
  RunningServer running;
  running.handler.hold();
  RawClient client = running.connect();
  client.send(kGetDb);
  {
    auto [request, respond] = running.handler.take_held();
  }
  EXPECT_TRUE(client.is_ended());
}

TEST(PluginServer, AnswersComeFromAnyThread) {
  RunningServer running;
  running.handler.hold();
  RawClient client = running.connect();
  for (int i = 0; i < 20; ++i) {
    client.send(kGetDb);
    auto [request, respond] = running.handler.take_held();
    std::thread([answer = std::move(respond)] { answer(MountPoint{"/mnt/db"}); }).join();
    EXPECT_THAT(client.receive().body, HasSubstr("/mnt/db"));
  }
}

/// Over a socketpair: what dies here cannot clean up a folder.
void answer_twice() {
  boost::asio::io_context loop(1);
  FakeHandler handler;
  handler.hold();
  auto server = make_plugin_server(loop, {}, handler);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  base::UniqueFd ours(ends[0]);
  server->serve_connection(base::UniqueFd(ends[1]), "vsphere");
  if (!base::write_all(ours, kGetDb, "socketpair")) return;
  loop.poll();
  const Respond respond = handler.take_held().second;
  respond(Done{});
  respond(Done{});
}

TEST(PluginServerDeathTest, AnsweringTwiceIsOurOwnBug) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(answer_twice(), "check failed");
}

TEST(PluginServer, AnswerAfterTheClientLeftIsHarmless) {
  RunningServer running;
  running.handler.hold();
  {
    RawClient client = running.connect();
    client.send(kGetDb);
  }
  running.handler.take_held().second(Done{});
  running.handler.answer_with(echo_name);
  RawClient other = running.connect();
  other.send(kGetDb);
  EXPECT_EQ(other.receive().status, 200u);
}

TEST(PluginServer, AnswerAfterTheServerIsGoneIsHarmless) {
  Respond late;
  {
    RunningServer running;
    running.handler.hold();
    RawClient client = running.connect();
    client.send(kGetDb);
    late = running.handler.take_held().second;
    running.destroy();
    EXPECT_TRUE(client.is_ended());
  }
  late(Done{});
}

TEST(PluginServer, TwoHundredParallelRequestsAreAllAnswered) {
  RunningServer running;
  running.handler.hold();
  constexpr int kRequests = 200;
  std::vector<RawClient> clients;
  for (int i = 0; i < kRequests; ++i) {
    clients.push_back(running.connect());
    clients.back().send(post("/VolumeDriver.Path", fmt::format(R"({{"Name":"v{}"}})", i)));
  }
  std::vector<std::thread> workers;
  for (int i = 0; i < kRequests; ++i) {
    auto [request, respond] = running.handler.take_held();
    workers.emplace_back(
        [name = request.name, answer = std::move(respond)] { answer(MountPoint{"/mnt/" + name}); });
  }
  for (std::thread& worker : workers) worker.join();
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_THAT(clients[static_cast<std::size_t>(i)].receive().body,
                HasSubstr(fmt::format("\"/mnt/v{}\"", i)));
  }
}

TEST(PluginServer, IdleConnectionIsUsedAgain) {
  RunningServer running({.request_read_time = 1ms, .reply_write_time = 1ms});
  RawClient idle = running.connect();
  idle.send(kGetDb);
  EXPECT_EQ(idle.receive().status, 200u);
  // Another client runs into the read time: by then the idle one has been idle for as long.
  RawClient slow = running.connect();
  slow.send("POST /Vol");
  EXPECT_TRUE(slow.is_ended());
  idle.send(kGetDb);
  EXPECT_EQ(idle.receive().status, 200u);
}

TEST(PluginServer, RequestThatStopsHalfWayIsDroppedAtTheDeadlineAlone) {
  RunningServer running({.request_read_time = 30ms});
  running.handler.hold();
  RawClient other = running.connect();
  other.send(kGetDb);  // Handling has no deadline.
  auto [request, respond] = running.handler.take_held();
  for (std::size_t bytes : {std::size_t{1}, kGetDb.size() / 2, kGetDb.size() - 1}) {
    RawClient slow = running.connect();
    slow.send(std::string_view(kGetDb).substr(0, bytes));
    EXPECT_TRUE(slow.is_ended()) << bytes;
  }
  respond(Done{});
  EXPECT_EQ(other.receive().status, 200u);
}

TEST(PluginServer, ClientThatDoesNotReadItsReplyIsDroppedAtTheDeadlineAlone) {
  RunningServer running({.reply_write_time = 30ms});
  running.handler.answer_with([](const PluginRequest&) { return MountPoint{std::string(8 << 20, 'x')}; });
  RawClient lazy = running.connect();
  lazy.send(kGetDb);
  // The rest of the reply does not fit the socket, and nobody reads it.
  EXPECT_TRUE(lazy.is_hung_up_on());
  RawClient other = running.connect();
  other.send("POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(other.receive().status, 200u);
}

TEST(PluginServer, LargeReplyReachesAReaderThatTakesItsTime) {
  RunningServer running;
  running.handler.answer_with([](const PluginRequest&) { return MountPoint{std::string(8 << 20, 'x')}; });
  RawClient client = running.connect();
  client.send(kGetDb);
  EXPECT_EQ(boost::json::parse(client.receive().body).at("Mountpoint").as_string().size(), 8u << 20);
}

TEST(PluginServer, MoreConnectionsThanTheLimitWaitTheirTurn) {
  RunningServer running({.max_connections = 4});
  running.handler.hold();
  std::vector<RawClient> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(running.connect());
    clients.back().send(post("/VolumeDriver.List", "{}", "Connection: close\r\n"));
  }
  for (int i = 0; i < 20; ++i) running.handler.take_held().second(Done{});
  for (RawClient& client : clients) EXPECT_EQ(client.receive().status, 200u);
}

TEST(PluginServer, AtTheLimitTheConnectionThatIsIdleForLongestMakesRoom) {
  RunningServer running({.max_connections = 2, .request_read_time = 1ms});
  RawClient first = running.connect();
  RawClient second = running.connect();
  for (RawClient* client : {&first, &second}) {
    client->send(kGetDb);
    EXPECT_EQ(client->receive().status, 200u);
  }
  RawClient third = running.connect();
  EXPECT_TRUE(first.is_ended());
  RawClient fourth = running.connect();
  EXPECT_TRUE(second.is_ended());
}

// The undefined-behaviour sanitizer makes a pipe to look at an object's type, and calls the object bad where
// it cannot: this test has no place in its build. GCC has no __has_feature.
#if !defined(__has_feature)
#define VDVS_HAS_UBSAN 0
#else
#define VDVS_HAS_UBSAN __has_feature(undefined_behavior_sanitizer)
#endif

#if !VDVS_HAS_UBSAN
TEST(PluginServer, WithoutDescriptorsItWaitsForSome) {
  RunningServer running;
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  rlimit usual = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit low = {.rlim_cur = 256, .rlim_max = usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<base::UniqueFd> all_others;
  for (int fd = ::dup(socket.get()); fd >= 0; fd = ::dup(socket.get())) all_others.emplace_back(fd);
  RawClient client(std::move(socket), running.socket());
  client.send(kGetDb);
  for (int i = 0; i < 3; ++i) running.on_loop([] {});  // By now the loop has tried.
  EXPECT_TRUE(running.handler.seen().empty());
  all_others.clear();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(client.receive().status, 200u);
}
#endif

TEST(PluginServer, StopRemovesTheSocketAndLetsRunningRequestsFinish) {
  RunningServer running;
  running.handler.hold();
  RawClient idle = running.connect();
  idle.send("POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(idle.receive().status, 200u);
  RawClient busy = running.connect();
  busy.send(kGetDb);
  auto [request, respond] = running.handler.take_held();
  running.stop();
  EXPECT_FALSE(std::filesystem::exists(running.socket()));
  EXPECT_FALSE(running.connect().is_connected());
  EXPECT_TRUE(idle.is_ended());
  respond(Done{});
  const ReceivedReply reply = busy.receive();
  EXPECT_EQ(reply.status, 200u);
  EXPECT_THAT(reply.head, HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(busy.is_ended());
}

TEST(PluginServer, LoopRunsOnUntilTheLastAnswer) {
  tests::TemporaryFolder folder;
  FakeHandler handler;
  handler.hold();
  boost::asio::io_context loop(1);
  auto server = make_plugin_server(
      loop, open_listeners({.folder = folder.path(), .drivers = {"vsphere"}}).value(), handler);
  RawClient client(folder.path() + "/vsphere.sock");
  client.send(kGetDb);
  std::thread worker([&] {
    auto [request, respond] = handler.take_held();
    boost::asio::post(loop, [&] { server->stop(); });
    respond(Done{});
  });
  loop.run();  // Returns: nothing is left to do. Had it returned before the answer, the client would get
               // none.
  worker.join();
  EXPECT_EQ(client.receive().status, 200u);
}

TEST(PluginServer, StopLeavesASocketFileThatAnotherHasMadeMeanwhile) {
  RunningServer running;
  std::filesystem::remove(running.socket());
  RunningServer other;
  ASSERT_EQ(::link(other.socket().c_str(), running.socket().c_str()), 0);
  running.stop();
  EXPECT_TRUE(std::filesystem::exists(running.socket()));
}

TEST(PluginServer, ServesAConnectionThatWasAcceptedElsewhere) {
  RunningServer running;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  base::UniqueFd ours(ends[0]);
  running.on_loop([&] { running.server().serve_connection(base::UniqueFd(ends[1]), "vmdk"); });
  ASSERT_TRUE(base::write_all(ours, kGetDb, "socketpair"));
  char buffer[12] = {};
  ASSERT_EQ(::recv(ours.get(), buffer, sizeof buffer, MSG_WAITALL), 12);
  EXPECT_EQ(std::string_view(buffer, 12), "HTTP/1.1 200");
  EXPECT_EQ(running.handler.seen().at(0).driver, "vmdk");
}

}  // namespace
}  // namespace vdvs::mountd
