// The watch on the engine: when it tells, and that it neither waits nor wakes without need.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/fd.h"
#include "mountd/engine.h"
#include "tests/mountd/fake_engine.h"

namespace vdvs::mountd {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 30s;

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
  std::atomic<int> connected_ = 0;
  std::atomic<int> ends_ = 0;
};

TEST_F(EngineWatchTest, TellsOfTheEngineAndOfEachContainerThatDies) {
  Gate gates[3];
  FakeServer server([&](Peer& peer) {
    if (!peer.read_request().starts_with("GET /events?filters=%7B%22type%22")) return peer.reply("{}");
    peer.send(kEventsHead);
    for (Gate& gate : gates) {
      gate.wait();
      peer.send_chunk(die_event("c0ffee"));
    }
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return connected_ == 1; });
  EXPECT_EQ(ends_, 0);
  for (int event = 1; event <= 3; ++event) {
    gates[event - 1].open();
    run_until([&] { return ends_ == event; });
  }
  EXPECT_EQ(connected_, 1);
}

TEST_F(EngineWatchTest, TellsOfADeathOnlyWhenTheEngineHasLetTheContainerGo) {
  Gate asked;
  Gate exit_handled;
  FakeServer server([&](Peer& peer) {
    const std::string request = peer.read_request();
    if (request.starts_with("GET /volumes")) return peer.reply("{}");
    if (request.starts_with("GET /containers/c0ffee/json HTTP/1.1\r\n")) {
      asked.open();
      exit_handled.wait();
      return peer.reply("{}", "404 Not Found");
    }
    peer.send(kEventsHead);
    peer.send_chunk(die_event("c0ffee"));
    peer.wait_for_close();
  });
  watch(server.start());
  std::thread runner([&] { run_until([&] { return ends_ == 1; }); });
  asked.wait();
  EXPECT_EQ(ends_, 0);
  exit_handled.open();
  runner.join();
  EXPECT_EQ(ends_, 1);
}

TEST_F(EngineWatchTest, TellsOfEveryDeathOfAThousandInPiecesOfAnySize) {
  constexpr int kDeaths = 1000;
  std::atomic<int> asked = 0;
  FakeServer server([&](Peer& peer) {
    const std::string request = peer.read_request();
    if (!request.starts_with("GET /events")) {
      if (request.starts_with("GET /containers/")) ++asked;
      return peer.reply("{}");
    }
    std::string text;
    for (int death = 0; death < kDeaths; ++death) text += die_event(fmt::format("c{}", death));
    peer.send(kEventsHead);
    for (std::size_t at = 0, size = 1; at < text.size(); at += size, size = size % 997 + 1) {
      peer.send_chunk(std::string_view(text).substr(at, size));
    }
    peer.wait_for_close();
  });
  watch(server.start());
  run_until([&] { return ends_ == kDeaths; });
  EXPECT_EQ(asked, kDeaths);
}

TEST_F(EngineWatchTest, LeavesAnEngineWhoseEventsHaveNoEnd) {
  std::atomic<int> connections = 0;
  FakeServer server([&](Peer& peer) {
    if (!peer.read_request().starts_with("GET /events")) return peer.reply("{}");
    ++connections;
    peer.send(kEventsHead);
    const std::string text(64 * 1024, 'x');
    while (peer.send_chunk(text)) {
    }
  });
  watch(server.start());
  run_until([&] { return connections == 2; });
  EXPECT_EQ(ends_, 0);
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
    const std::string request = peer.read_request();
    if (request.starts_with("GET /volumes")) return peer.wait_for_close();
    if (request.starts_with("GET /containers")) return peer.reply("{}");
    peer.send(kEventsHead);
    peer.send_chunk(die_event("c0ffee"));
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

TEST_F(EngineWatchTest, DoesNotWakeAnEngineThatWasStoppedWhileSystemdListensForIt) {
  std::atomic<int> connections = 0;
  FakeServer server([&](Peer& peer) {
    if (!peer.read_request().starts_with("GET /events")) return peer.reply("{}");
    ++connections;
    peer.send(kEventsHead);
    peer.wait_for_close();
  });
  server.start();
  const std::string pid_file = std::filesystem::path(server.path()).replace_extension(".pid").string();
  ASSERT_TRUE(base::write_file(pid_file, std::to_string(::getpid()) + "\n"));
  watch(server);
  run_until([&] { return connected_ == 1; });
  std::filesystem::remove(pid_file);
  server.end_connections();  // and it goes on listening
  loop_.run_for(1s);         // the first two looks are due after 0.2 s and 0.6 s
  EXPECT_EQ(connections, 1);
  ASSERT_TRUE(base::write_file(pid_file, std::to_string(::getpid()) + "\n"));
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
    if (!peer.read_request().starts_with("GET /events")) return peer.reply("{}");
    peer.send(kEventsHead);
    peer.send_chunk(die_event("c0ffee"));
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
