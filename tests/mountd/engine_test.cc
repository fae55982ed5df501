// The engine's client against a server that behaves as no engine should: slow, cut, huge, garbage.
// tests/docker/ runs the same client against a real engine (scenario engine_client).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "mountd/engine.h"
#include "tests/mountd/fake_engine.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kPatience = 30s;

constexpr std::string_view kTwoContainers = R"([
  {"Id": "aa", "Names": ["/web"], "State": "running", "Mounts": [
     {"Type": "volume", "Name": "db", "Source": "/mnt/vmdk/db@ds", "Destination": "/data", "Driver": "vsphere", "RW": true},
     {"Type": "bind", "Source": "/etc/hosts", "Destination": "/etc/hosts"}]},
  {"Id": "bb", "Names": [], "Mounts": [{"Type": "volume", "Name": "log", "Source": "", "Driver": "local"}]},
  {"Id": "cc", "Names": null, "Mounts": null}, {"Id": "dd"}])";

base::Result<std::vector<ContainerMount>> ask(const FakeServer& server,
                                              base::Clock::duration time = kPatience) {
  return make_docker_engine(server.path())->container_mounts(base::deadline_in(time));
}

TEST(DockerEngine, TellsTheVolumesOfContainersAndWhetherTheyRun) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.reply(kTwoContainers);
  });
  auto mounts = ask(server.start());
  ASSERT_TRUE(mounts) << mounts.error().text();
  ASSERT_EQ(mounts->size(), 2u);
  EXPECT_EQ((*mounts)[0].volume, "db");
  EXPECT_EQ((*mounts)[0].driver, "vsphere");
  EXPECT_EQ((*mounts)[0].source, "/mnt/vmdk/db@ds");
  EXPECT_EQ((*mounts)[0].container, "web");
  EXPECT_TRUE((*mounts)[0].is_running);
  EXPECT_FALSE((*mounts)[1].is_running);
  EXPECT_EQ((*mounts)[1].volume, "log");
  EXPECT_EQ((*mounts)[1].container, "bb") << "the id stands in for a missing name";
}

TEST(DockerEngine, AsksForContainersInAllStates) {
  std::string request;
  FakeServer server([&](Peer& peer) {
    request = peer.read_request();
    peer.reply("[]");
  });
  auto mounts = ask(server.start());
  server.stop();
  ASSERT_TRUE(mounts) << mounts.error().text();
  EXPECT_TRUE(mounts->empty());
  EXPECT_THAT(request,
              HasSubstr("GET /containers/json?all=1 HTTP/1.1\r\n"));
}

TEST(DockerEngine, ReadsAReplyInChunks) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (char byte : kTwoContainers) peer.send_chunk(std::string_view(&byte, 1));
    peer.send("0\r\n\r\n");
  });
  auto mounts = ask(server.start());
  ASSERT_TRUE(mounts) << mounts.error().text();
  EXPECT_EQ(mounts->size(), 2u);
}

TEST(DockerEngine, ReadsAReplyThatEndsWithItsConnection) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send("HTTP/1.1 200 OK\r\n\r\n");
    peer.send(kTwoContainers);
  });
  auto mounts = ask(server.start());
  ASSERT_TRUE(mounts) << mounts.error().text();
  EXPECT_EQ(mounts->size(), 2u);
}

TEST(DockerEngine, NeedsNoEndOfTheConnectionToKnowTheEndOfAReply) {
  for (bool is_chunked : {false, true}) {
    FakeServer server([&](Peer& peer) {
      peer.read_request();
      if (is_chunked) {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send_chunk(kTwoContainers);
        peer.send("0\r\n\r\n");
      } else {
        peer.reply(kTwoContainers);
      }
      peer.wait_for_close();
    });
    auto mounts = ask(server.start());
    ASSERT_TRUE(mounts) << mounts.error().text();
    EXPECT_EQ(mounts->size(), 2u);
  }
}

TEST(DockerEngine, IsUnavailableWithoutASocket) {
  FakeServer server([](Peer&) {});
  auto mounts = ask(server);
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(mounts.error().message(),
              HasSubstr("ask the Docker engine at '" + server.path() + "': connect: "));
}

TEST(DockerEngine, IsUnavailableWhereNobodyListens) {
  FakeServer server([](Peer&) {});
  server.start().stop();
  ASSERT_TRUE(std::filesystem::exists(server.path()));
  auto mounts = ask(server);
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable);
}

TEST(DockerEngine, IsUnavailableAtAPathThatNoSocketCanHave) {
  for (const std::string& path : {std::string(), "/tmp/" + std::string(200, 'x')}) {
    auto mounts = make_docker_engine(path)->container_mounts(base::deadline_in(kPatience));
    ASSERT_FALSE(mounts);
    EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable);
  }
}

TEST(DockerEngine, GivesUpAtTheDeadlineWhereThePeerNeverAnswers) {
  FakeServer server([](Peer& peer) { peer.wait_for_close(); });
  auto mounts = ask(server.start(), 50ms);
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kTimeout);
}

TEST(DockerEngine, TheDeadlineCoversAReplyThatTrickles) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (peer.send_chunk(" ")) std::this_thread::yield();
  });
  auto mounts = ask(server.start(), 50ms);
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kTimeout);
}

TEST(DockerEngine, GivesUpAtOnceWhereTheDeadlineHasPassed) {
  FakeServer server([](Peer& peer) { peer.wait_for_close(); });
  auto mounts = ask(server.start(), -1s);
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kTimeout);
}

TEST(DockerEngine, NeverTakesAPartOfAReplyForTheWhole) {
  const std::string whole =
      fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", kTwoContainers.size(), kTwoContainers);
  for (std::size_t cut = 0; cut < whole.size(); cut += cut < 60 ? 1 : 37) {
    FakeServer server([&](Peer& peer) {
      peer.read_request();
      peer.send(std::string_view(whole).substr(0, cut));
    });
    auto mounts = ask(server.start());
    ASSERT_FALSE(mounts) << "cut at byte " << cut;
    EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable) << "cut at byte " << cut;
  }
}

struct BadReply {
  std::string bytes;
  std::string cause;
};

TEST(DockerEngine, SaysWhatIsWrongWithAReply) {
  auto with_body = [](std::string_view body) {
    return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
  };
  const BadReply bad_replies[] = {
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "read the reply: bad version"},
      {"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "it answered with HTTP 500"},
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answered with HTTP 404"},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n", "header limit exceeded"},
      {with_body("<html>"), "parse JSON"},
      {with_body(R"({"message": "no"})"), "it is no array"},
      {with_body("[1]"), "an element is no object"},
      {with_body(R"([{"Mounts": 1}])"), "'Mounts' is no array"},
      {with_body(R"([{"Mounts": [1]}])"), "a mount is no object"},
      {with_body(std::string(100'000, '[')), "parse JSON"},
  };
  for (const BadReply& bad : bad_replies) {
    FakeServer server([&](Peer& peer) {
      peer.read_request();
      peer.send(bad.bytes);
    });
    auto mounts = ask(server.start());
    ASSERT_FALSE(mounts) << bad.cause;
    EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable);
    EXPECT_THAT(mounts.error().message(), HasSubstr(bad.cause));
  }
}

TEST(DockerEngine, ReadsNoReplyWithoutABound) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string megabyte(1 << 20, ' ');
    while (peer.send_chunk(megabyte)) {
    }
  });
  auto mounts = ask(server.start());
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(mounts.error().message(), HasSubstr("more than 67108864 bytes"));
}

TEST(DecodeContainerEvent, FindsTheIdAndNothingThatIsNone) {
  EXPECT_EQ(decode_container_event(die_event("c0ffee")), "c0ffee");
  const std::string others[] = {"",
                                "{}",
                                "[1]",
                                R"({"Actor":1})",
                                R"({"Actor":{}})",
                                R"({"Actor":{"ID":7}})",
                                die_event(""),
                                die_event("../volumes"),
                                die_event("a b"),
                                die_event(std::string(200, 'a'))};
  for (const std::string& line : others) EXPECT_EQ(decode_container_event(line), std::nullopt) << line;
}

}  // namespace
}  // namespace vdvs::mountd
