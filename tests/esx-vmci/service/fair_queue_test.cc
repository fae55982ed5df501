// The pool that is shared out by who asks. Work in these tests waits at a gate until the test opens it.
#include "esx-vmci/service/fair_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;

/// What ran, in its order.
class Record {
 public:
  void add(const std::string& text) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    lines_.push_back(text);
  }
  std::vector<std::string> lines() const EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    return lines_;
  }

 private:
  mutable base::Mutex mutex_;
  std::vector<std::string> lines_ GUARDED_BY(mutex_);
};

FairWork work(std::string key, std::size_t bytes, std::function<void()> run) {
  return {.key = std::move(key), .bytes = bytes, .run = std::move(run)};
}

TEST(FairQueue, RunsEverythingThatWasPostedBeforeTheDrainEnds) {
  std::atomic<int> done = 0;
  FairQueue queue("test", {.threads = 4, .max_running_per_key = 2, .max_waiting_per_key = 1000});
  for (int i = 0; i < 1000; ++i) ASSERT_OK(queue.post(work(std::to_string(i % 7), 1, [&] { ++done; })));
  queue.drain();
  EXPECT_EQ(done, 1000);
}

TEST(FairQueue, KeysTakeTurns) {
  std::latch gate(1);
  Record record;
  FairQueue queue("test", {.threads = 1, .max_running_per_key = 1});
  ASSERT_OK(queue.post(work("busy", 1, [&] { gate.wait(); })));
  for (const char* name : {"busy 1", "busy 2", "busy 3"})
    ASSERT_OK(queue.post(work("busy", 1, [&, name] { record.add(name); })));
  for (const char* name : {"other 1", "other 2"})
    ASSERT_OK(queue.post(work("other", 1, [&, name] { record.add(name); })));
  gate.count_down();
  queue.drain();
  EXPECT_THAT(record.lines(), ElementsAre("other 1", "busy 1", "other 2", "busy 2", "busy 3"));
}

TEST(FairQueue, LeavesThreadsForOthersWhileOneKeyHoldsItsShare) {
  std::latch gate(1);
  std::latch served(1);
  FairQueue queue("test", {.threads = 4, .max_running_per_key = 3});
  for (int i = 0; i < 50; ++i) ASSERT_OK(queue.post(work("slow", 1, [&] { gate.wait(); })));
  ASSERT_OK(queue.post(work("quick", 1, [&] { served.count_down(); })));
  served.wait();  // while all of "slow" still waits
  gate.count_down();
}

TEST(FairQueue, NeverRunsMoreOfOneKeyThanItsShare) {
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  {
    FairQueue queue("test", {.threads = 8, .max_running_per_key = 2, .max_waiting_per_key = 500});
    for (int i = 0; i < 500; ++i) {
      ASSERT_OK(queue.post(work("key", 1, [&] {
        const int now = ++running;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        ::sched_yield();
        --running;
      })));
    }
  }
  EXPECT_LE(most, 2);
  EXPECT_GE(most, 1);
}

TEST(FairQueue, RefusesWorkBeyondAKeysBoundsAndOnlyThatKeys) {
  std::latch gate(1);
  std::latch begun(1);
  FairQueue queue(
      "test",
      {.threads = 1, .max_running_per_key = 1, .max_waiting_per_key = 2, .max_waiting_bytes_per_key = 100});
  ASSERT_OK(queue.post(work("a", 1, [&] {
    begun.count_down();
    gate.wait();
  })));
  begun.wait();
  EXPECT_OK(queue.post(work("a", 1, [] {})));
  EXPECT_OK(queue.post(work("a", 1, [] {})));
  const auto too_many = queue.post(work("a", 1, [] {}));
  EXPECT_EQ(testing::code_of(too_many), "E_LIMIT");
  EXPECT_THAT(testing::message_of(too_many), ::testing::HasSubstr("2 requests wait already"));
  EXPECT_OK(queue.post(work("b", 90, [] {})));
  EXPECT_EQ(testing::code_of(queue.post(work("b", 11, [] {}))), "E_LIMIT");
  EXPECT_OK(queue.post(work("c", 5000, [] {}))) << "one alone may be larger than the bound";
  gate.count_down();
}

TEST(FairQueue, AKeyThatWasAtItsBoundIsServedAgainLater) {
  FairQueue queue("test", {.threads = 2, .max_running_per_key = 1, .max_waiting_per_key = 1});
  for (int round = 0; round < 100; ++round) {
    std::latch done(1);
    while (!queue.post(work("key", 1, [&] { done.count_down(); }))) ::sched_yield();
    done.wait();
  }
}

TEST(FairQueue, TakesNothingAfterADrain) {
  FairQueue queue("test", {.threads = 1});
  queue.drain();
  EXPECT_EQ(testing::code_of(queue.post(work("key", 1, [] {}))), "E_UNAVAILABLE");
}

/// A queue that runs a loop, on a thread of the test's.
class LoopingQueue : public ::testing::Test {
 protected:
  ~LoopingQueue() override {
    boost::asio::post(loop_, [this] { loop_.stop(); });
    thread_.join();
  }
  void on_loop(std::function<void()> work) { boost::asio::post(loop_, std::move(work)); }
  /// Of the thread that runs the loop now.
  std::thread::id leader() {
    std::promise<std::thread::id> id;
    on_loop([&] { id.set_value(std::this_thread::get_id()); });
    return id.get_future().get();
  }
  base::Result<void> post(std::string key, bool is_short, std::function<void()> run,
                          std::function<void()> done = {}) {
    return queue_.post({.key = std::move(key),
                        .bytes = 1,
                        .run = std::move(run),
                        .done = std::move(done),
                        .is_short = is_short});
  }

  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{loop_.get_executor()};
  FairQueue queue_{"test", {.threads = 3, .max_running_per_key = 2, .max_waiting_per_key = 10'000}, &loop_};
  std::thread thread_{[this] { queue_.run_loop(); }};
};

TEST_F(LoopingQueue, ShortWorkOfTheLoopIsDoneByWhoRunsTheLoop) {
  // A thread that happens to be awake may take it; one that sleeps is not woken for it.
  EXPECT_TRUE(testing::soon([&] {
    std::promise<std::vector<std::thread::id>> seen;
    on_loop([&] {
      auto ids = std::make_shared<std::vector<std::thread::id>>();
      auto note = [ids] { ids->push_back(std::this_thread::get_id()); };
      note();
      ASSERT_OK(post("key", true, note, [&, ids, note] {
        note();
        seen.set_value(*ids);
      }));
    });
    const auto ids = seen.get_future().get();
    return ids.size() == 3 && ids[0] == ids[1] && ids[1] == ids[2];
  }));
}

TEST_F(LoopingQueue, WorkThatWasSaidToBeShortAndIsNotHoldsUpNoLoop) {
  auto gate = std::make_shared<std::latch>(1);
  std::promise<std::thread::id> stuck;
  std::promise<std::thread::id> done_on;
  on_loop([&] {
    ASSERT_OK(post(
        "slow", true,
        [&stuck, gate] {
          stuck.set_value(std::this_thread::get_id());
          gate->wait();
        },
        [&] { done_on.set_value(std::this_thread::get_id()); }));
  });
  const std::thread::id was_leader = stuck.get_future().get();
  const std::thread::id is_leader = leader();  // answers while the work is stuck
  EXPECT_NE(was_leader, is_leader);
  gate->count_down();
  EXPECT_NE(done_on.get_future().get(), was_leader) << "what follows the work belongs to the loop";
}

TEST_F(LoopingQueue, NothingIsLeftLyingWhateverLengthWorkHas) {
  constexpr int kWorks = 20'000;
  std::atomic<int> run = 0;
  std::promise<void> all_done;
  int done = 0;  // on the loop
  for (int i = 0; i < kWorks; ++i) {
    on_loop([&, i] {
      auto work = [&run, i] {
        ++run;
        if (i % 1000 == 7) std::this_thread::yield();
        if (i % 5000 == 11) ::poll(nullptr, 0, 5);  // longer than it said
      };
      auto posted = post(std::to_string(i % 5), i % 3 != 0, work, [&] {
        if (++done == kWorks) all_done.set_value();
      });
      ASSERT_OK(posted);
    });
  }
  all_done.get_future().get();
  EXPECT_EQ(run, kWorks);
}

TEST_F(LoopingQueue, ADrainOnTheLoopWaitsForShortWorkToo) {
  std::atomic<int> run = 0;
  std::promise<int> seen;
  on_loop([&] {
    for (int i = 0; i < 10; ++i) ASSERT_OK(post("key", true, [&] { ++run; }));
    queue_.drain();
    seen.set_value(run);
  });
  EXPECT_EQ(seen.get_future().get(), 10);
}

}  // namespace
}  // namespace vdvs::esx
