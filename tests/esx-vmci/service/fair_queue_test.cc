// The pool that is shared out by who asks. Work in these tests waits at a gate until the test opens it.
#include "esx-vmci/service/fair_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <string>
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

TEST(FairQueue, RunsEverythingThatWasPostedBeforeTheDrainEnds) {
  std::atomic<int> done = 0;
  FairQueue queue("test", {.threads = 4, .max_running_per_key = 2, .max_waiting_per_key = 1000});
  for (int i = 0; i < 1000; ++i) ASSERT_OK(queue.post(std::to_string(i % 7), 1, [&] { ++done; }));
  queue.drain();
  EXPECT_EQ(done, 1000);
}

TEST(FairQueue, KeysTakeTurns) {
  std::latch gate(1);
  Record record;
  FairQueue queue("test", {.threads = 1, .max_running_per_key = 1});
  ASSERT_OK(queue.post("busy", 1, [&] { gate.wait(); }));
  for (const char* name : {"busy 1", "busy 2", "busy 3"})
    ASSERT_OK(queue.post("busy", 1, [&, name] { record.add(name); }));
  for (const char* name : {"other 1", "other 2"})
    ASSERT_OK(queue.post("other", 1, [&, name] { record.add(name); }));
  gate.count_down();
  queue.drain();
  EXPECT_THAT(record.lines(), ElementsAre("other 1", "busy 1", "other 2", "busy 2", "busy 3"));
}

TEST(FairQueue, LeavesThreadsForOthersWhileOneKeyHoldsItsShare) {
  std::latch gate(1);
  std::latch served(1);
  FairQueue queue("test", {.threads = 4, .max_running_per_key = 3});
  for (int i = 0; i < 50; ++i) ASSERT_OK(queue.post("slow", 1, [&] { gate.wait(); }));
  ASSERT_OK(queue.post("quick", 1, [&] { served.count_down(); }));
  served.wait();  // while all of "slow" still waits
  gate.count_down();
}

TEST(FairQueue, NeverRunsMoreOfOneKeyThanItsShare) {
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  {
    FairQueue queue("test", {.threads = 8, .max_running_per_key = 2, .max_waiting_per_key = 500});
    for (int i = 0; i < 500; ++i) {
      ASSERT_OK(queue.post("key", 1, [&] {
        const int now = ++running;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        ::sched_yield();
        --running;
      }));
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
  ASSERT_OK(queue.post("a", 1, [&] {
    begun.count_down();
    gate.wait();
  }));
  begun.wait();
  EXPECT_OK(queue.post("a", 1, [] {}));
  EXPECT_OK(queue.post("a", 1, [] {}));
  const auto too_many = queue.post("a", 1, [] {});
  EXPECT_EQ(testing::code_of(too_many), "E_LIMIT");
  EXPECT_THAT(testing::message_of(too_many), ::testing::HasSubstr("2 requests wait already"));
  EXPECT_OK(queue.post("b", 90, [] {}));
  EXPECT_EQ(testing::code_of(queue.post("b", 11, [] {})), "E_LIMIT");
  EXPECT_OK(queue.post("c", 5000, [] {})) << "one alone may be larger than the bound";
  gate.count_down();
}

TEST(FairQueue, AKeyThatWasAtItsBoundIsServedAgainLater) {
  FairQueue queue("test", {.threads = 2, .max_running_per_key = 1, .max_waiting_per_key = 1});
  for (int round = 0; round < 100; ++round) {
    std::latch done(1);
    while (!queue.post("key", 1, [&] { done.count_down(); })) ::sched_yield();
    done.wait();
  }
}

TEST(FairQueue, TakesNothingAfterADrain) {
  FairQueue queue("test", {.threads = 1});
  queue.drain();
  EXPECT_EQ(testing::code_of(queue.post("key", 1, [] {})), "E_UNAVAILABLE");
}

}  // namespace
}  // namespace vdvs::esx
