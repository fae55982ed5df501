// The engine's client against a server that behaves as no engine should: slow, cut, huge, garbage.
// tests/docker/ runs the same client against a real engine (scenario "engine").
#include "mountd/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "base/fd.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kPatience = 30s;

/// One accepted connection as the script of a test sees it.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  /// The request's head. Empty where the client closed first.
  std::string read_request() {
    std::string head;
    char byte = 0;
    while (!head.ends_with("\r\n\r\n")) {
      if (::read(fd_, &byte, 1) != 1) return {};
      head += byte;
    }
    return head;
  }
  /// False once the client has gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t put = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }
  void reply(std::string_view body, std::string_view status = "200 OK") {
    send(fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body));
  }
  bool send_chunk(std::string_view bytes) { return send(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes)); }
  /// Until the client, or the end of the test, closes the connection.
  void wait_for_close() {
    char byte = 0;
    while (::read(fd_, &byte, 1) > 0) {
    }
  }

 private:
  int fd_;
};

/// Listens on a unix socket; runs the script for each connection on a thread of its own.
class FakeServer {
 public:
  using Script = std::function<void(Peer&)>;

  explicit FakeServer(Script script) : script_(std::move(script)) {
    char pattern[] = "/tmp/vdvs-engine-test.XXXXXX";
    folder_ = ::mkdtemp(pattern);
  }
  ~FakeServer() {
    stop();
    std::filesystem::remove_all(folder_);
  }

  std::string path() const { return folder_ + "/docker.sock"; }

  FakeServer& start() {
    listener_ = base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    VDVS_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    VDVS_CHECK(::listen(listener_.get(), 16) == 0);
    acceptor_ = std::thread([this] { accept_all(); });
    return *this;
  }

  /// Ends every connection, as the death of an engine does; leaves the socket file.
  void stop() {
    if (!acceptor_.joinable()) return;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    listener_.reset();
    end_connections();
    for (auto& thread : sessions_) thread.join();
    sessions_.clear();
    connections_.clear();
  }

  void end_connections() {
    std::lock_guard lock(mutex_);
    for (auto& connection : connections_) ::shutdown(connection.get(), SHUT_RDWR);
  }

 private:
  void accept_all() {
    for (;;) {
      int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::lock_guard lock(mutex_);
      connections_.emplace_back(fd);
      sessions_.emplace_back([this, fd] {
        Peer peer(fd);
        script_(peer);
        ::shutdown(fd, SHUT_RDWR);
      });
    }
  }

  Script script_;
  std::string folder_;
  base::UniqueFd listener_;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<base::UniqueFd> connections_;
  std::vector<std::thread> sessions_;
};

constexpr std::string_view kTwoContainers = R"([
  {"Id": "aa", "Names": ["/web"], "State": "running", "Mounts": [
     {"Type": "volume", "Name": "db", "Source": "/mnt/vmdk/db@ds", "Destination": "/data", "Driver": "vsphere", "RW": true},
     {"Type": "bind", "Source": "/etc/hosts", "Destination": "/etc/hosts"}]},
  {"Id": "bb", "Names": [], "Mounts": [{"Type": "volume", "Name": "log", "Source": "", "Driver": "local"}]},
  {"Id": "cc", "Names": null, "Mounts": null}, {"Id": "dd"}])";

base::Result<std::vector<ContainerMount>> ask(const FakeServer& server,
                                              base::Clock::duration time = kPatience) {
  return make_docker_engine(server.path())->running_mounts(base::deadline_in(time));
}

TEST(DockerEngine, TellsTheVolumesOfRunningContainers) {
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
  EXPECT_EQ((*mounts)[1].volume, "log");
  EXPECT_EQ((*mounts)[1].container, "bb") << "the id stands in for a missing name";
}

TEST(DockerEngine, AsksOnlyForContainersThatHoldTheirMounts) {
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
              HasSubstr("GET /containers/json?filters=%7B%22status%22%3A%5B%22running%22%2C%22paused%22"
                        "%2C%22restarting%22%5D%7D HTTP/1.1\r\n"));
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
    auto mounts = make_docker_engine(path)->running_mounts(base::deadline_in(kPatience));
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

constexpr std::string_view kEventsHead =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

class EngineWatchTest : public testing::Test {
 protected:
  /// Runs the loop until `is_done`, or fails after kPatience.
  void run_until(const std::function<bool()>& is_done) {
    const base::Deadline deadline = base::deadline_in(kPatience);
    while (!is_done()) {
      ASSERT_FALSE(base::has_passed(deadline)) << "nothing came";
      loop_.run_one_until(deadline);
      if (loop_.stopped()) loop_.restart();
    }
  }
  void watch(const FakeServer& server) {
    watch_ = make_engine_watch(
        loop_, server.path(),
        {.on_connected = [this] { ++connected_; }, .on_container_end = [this] { ++ends_; }});
  }

  boost::asio::io_context loop_{1};
  std::unique_ptr<EngineWatch> watch_;
  int connected_ = 0;
  int ends_ = 0;
};

TEST_F(EngineWatchTest, TellsOfTheEngineAndOfEachContainerThatDies) {
  std::mutex mutex;
  std::condition_variable changed;
  int allowed_events = 0;
  FakeServer server([&](Peer& peer) {
    if (!peer.read_request().starts_with("GET /events?filters=%7B%22type%22")) return peer.reply("{}");
    peer.send(kEventsHead);
    for (int event = 0; event < 3; ++event) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return allowed_events > event; });
      peer.send_chunk("{\"status\":\"die\"}\n");
    }
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return connected_ == 1; });
  EXPECT_EQ(ends_, 0);
  for (int event = 1; event <= 3; ++event) {
    {
      std::lock_guard lock(mutex);
      allowed_events = event;
    }
    changed.notify_all();
    run_until([&] { return ends_ == event; });
  }
  EXPECT_EQ(connected_, 1);
}

TEST_F(EngineWatchTest, MakesTheEngineUseItsPluginsOnceAfterEachConnect) {
  std::atomic<int> lists = 0;
  FakeServer server([&](Peer& peer) {
    if (peer.read_request().starts_with("GET /volumes HTTP/1.1\r\n")) {
      ++lists;
      return peer.reply("{}");
    }
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return connected_ == 1 && lists == 1; });
  server.end_connections();
  run_until([&] { return connected_ == 2 && lists == 2; });
}

TEST_F(EngineWatchTest, GoesOnWhileTheEngineWaitsForOurAnswerBeforeItListsVolumes) {
  FakeServer server([](Peer& peer) {
    if (peer.read_request().starts_with("GET /volumes")) return peer.wait_for_close();
    peer.send(kEventsHead);
    peer.send_chunk("{}\n");
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return connected_ == 1 && ends_ == 1; });
}

TEST_F(EngineWatchTest, AsksForTheVolumesAgainWhereTheEngineFailsToList) {
  std::atomic<int> lists = 0;
  FakeServer server([&](Peer& peer) {
    if (peer.read_request().starts_with("GET /volumes")) {
      return peer.reply("{}", ++lists < 3 ? "500 Internal Server Error" : "200 OK");
    }
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return lists == 3; });
  EXPECT_EQ(connected_, 1);
}

TEST_F(EngineWatchTest, FindsAnEngineThatStartsLater) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  watch(server);
  loop_.run_one();  // the first look misses
  EXPECT_EQ(connected_, 0);
  server.start();
  run_until([&] { return connected_ == 1; });
}

TEST_F(EngineWatchTest, LooksAgainWhenTheEngineGoesAwayAndComesBack) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return connected_ == 1; });
  server.stop();
  std::filesystem::remove(server.path());
  run_until([&] { return loop_.run_one() > 0; });
  server.start();
  run_until([&] { return connected_ == 2; });
}

TEST_F(EngineWatchTest, TakesGarbageForAnEngineThatIsDown) {
  std::atomic<int> connections = 0;
  FakeServer server([&](Peer& peer) {
    peer.read_request();
    if (++connections < 3) {
      peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n");
    } else {
      peer.send("garbage\r\n\r\n");
    }
  });
  watch(server.start());
  run_until([&] { return connections >= 4; });
  EXPECT_EQ(ends_, 0);
}

TEST_F(EngineWatchTest, CanEndInsideItsOwnCallback) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send(kEventsHead);
    peer.send_chunk("{}\n");
    peer.wait_for_close();
  });
  server.start();
  watch_ = make_engine_watch(loop_, server.path(),
                             {.on_connected = [this] { watch_.reset(); }, .on_container_end = {}});
  loop_.run();
  watch_ = make_engine_watch(loop_, server.path(),
                             {.on_connected = {}, .on_container_end = [this] { watch_.reset(); }});
  loop_.restart();
  loop_.run();
  EXPECT_EQ(watch_, nullptr);
}

TEST_F(EngineWatchTest, TellsNothingAfterItsEnd) {
  FakeServer server([](Peer& peer) {
    peer.read_request();
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  watch(server.start());
  watch_.reset();
  loop_.run();  // ends: nothing is left to wait for
  EXPECT_EQ(connected_, 0);
}

TEST_F(EngineWatchTest, LeavesNothingBehindInALoopThatNeverRuns) {
  FakeServer server([](Peer& peer) { peer.wait_for_close(); });
  watch(server.start());
  watch_.reset();
}

TEST_F(EngineWatchTest, WaitsForAnEngineThatAcceptsAndIsNotReady) {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_ready = false;
  FakeServer server([&](Peer& peer) {
    peer.read_request();
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return is_ready; });
    peer.send(kEventsHead);
    lock.unlock();
    peer.wait_for_close();
  });
  watch(server.start());
  loop_.run_for(20ms);
  EXPECT_EQ(connected_, 0);
  {
    std::lock_guard lock(mutex);
    is_ready = true;
  }
  changed.notify_all();
  run_until([&] { return connected_ == 1; });
}

}  // namespace
}  // namespace vdvs::mountd
