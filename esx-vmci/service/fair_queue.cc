#include "esx-vmci/service/fair_queue.h"

#include <pthread.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <deque>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"

namespace vdvs::esx {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

/// How often the watch looks whether the leader is still at the same piece of short work.
constexpr std::chrono::milliseconds kWatchTick{1};
/// The watch sleeps when it has seen no short work for so long.
constexpr int kQuietTicks = 20;
/// Work was not as short as it was said to be: for so long no other is believed.
constexpr std::chrono::seconds kDistrustTime{1};
constexpr std::size_t kMaxThreadNameBytes = 15;  // pthread_setname_np(3)

}  // namespace

// A key stands in `ready` exactly once while it has waiting work and a thread left of its share. A thread
// takes the first key, takes one piece of its work, and puts the key back at the end: that is the round
// robin.
//
// Who is woken: whoever leaves work in `ready` that it does not take itself wakes one thread, which does the
// same. The leader (who runs the loop) takes what is short before it waits for the next event.
struct FairQueue::State {
  struct Share {
    std::deque<FairWork> waiting;
    std::size_t waiting_bytes = 0;
    std::size_t running = 0;
    bool is_ready = false;  ///< It stands in `ready`.
  };

  State(FairQueueLimits limits_in, boost::asio::io_context* loop_in) : limits(limits_in), loop(loop_in) {}

  const FairQueueLimits limits;
  boost::asio::io_context* const loop;
  base::Mutex mutex;
  base::ConditionVariable changed;
  base::ConditionVariable emptied;
  std::unordered_map<std::string, Share> shares GUARDED_BY(mutex);
  std::deque<std::string> ready GUARDED_BY(mutex);
  bool is_draining GUARDED_BY(mutex) = false;
  bool is_over GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads;

  bool is_looping GUARDED_BY(mutex) = false;  ///< Somebody is to lead.
  std::thread::id leader GUARDED_BY(mutex);   ///< Who does; nobody while another one is being woken.
  std::uint64_t terms GUARDED_BY(mutex) = 0;  ///< Leaders so far: a leader whose term is over sees it here.
  bool is_leader_working GUARDED_BY(mutex) = false;
  std::uint64_t short_works GUARDED_BY(mutex) = 0;  ///< Begun by leaders.
  base::Clock::time_point distrusted_until GUARDED_BY(mutex);
  base::ConditionVariable watch_changed;
  bool is_watch_asleep GUARDED_BY(mutex) = false;
  std::thread watch;

  void make_ready(const std::string& key, Share& share) REQUIRES(mutex) {
    if (share.is_ready || share.waiting.empty() || share.running >= limits.max_running_per_key) return;
    share.is_ready = true;
    ready.push_back(key);
  }

  /// The next piece of the first key. `ready` is not empty.
  FairWork take() REQUIRES(mutex) {
    const std::string key = std::move(ready.front());
    ready.pop_front();
    Share& share = shares[key];
    share.is_ready = false;
    FairWork work = std::move(share.waiting.front());
    share.waiting.pop_front();
    share.waiting_bytes -= work.bytes;
    ++share.running;
    make_ready(key, share);
    return work;
  }

  void finish(const std::string& key) REQUIRES(mutex) {
    const auto found = shares.find(key);
    --found->second.running;
    make_ready(key, found->second);
    if (found->second.running > 0 || !found->second.waiting.empty()) return;
    shares.erase(found);
    if (is_draining && shares.empty()) emptied.notify_all();
  }

  /// A thread of the pool, or the one that called `run_loop`, which leaves with the loop.
  void serve(bool is_callers) VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    mutex.lock();
    for (;;) {
      if (is_looping && leader == std::thread::id()) {
        lead();
      } else if (is_callers && !is_looping) {
        break;
      } else if (!ready.empty()) {
        FairWork work = take();
        if (!ready.empty()) changed.notify_one();
        mutex.unlock();
        run(work);
        if (work.done) boost::asio::post(*loop, std::move(work.done));
        mutex.lock();
        finish(work.key);
      } else if (is_over) {
        break;
      } else {
        changed.wait(mutex);
      }
    }
    mutex.unlock();
  }

  static void run(FairWork& work) {
    work.run();
    work.run = nullptr;  // what the work owned dies outside the lock
  }

  /// Holds the lock when it begins and when it returns. Returns when its term is over.
  void lead() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    leader = std::this_thread::get_id();
    const std::uint64_t term = ++terms;
    while (is_looping) {
      while (!ready.empty() && shares[ready.front()].waiting.front().is_short) {
        if (!work_as_leader(term)) return;
      }
      if (!ready.empty()) changed.notify_one();
      mutex.unlock();
      loop->run_one();
      mutex.lock();
      if (loop->stopped()) is_looping = false;
    }
    leader = {};
    changed.notify_all();
  }

  /// Its first short work. False: it took too long, and another one leads now.
  bool work_as_leader(std::uint64_t term) VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    FairWork work = take();
    is_leader_working = true;
    ++short_works;
    if (is_watch_asleep) watch_changed.notify_one();
    mutex.unlock();
    run(work);
    mutex.lock();
    const bool is_leader = terms == term && leader == std::this_thread::get_id();
    if (is_leader) is_leader_working = false;
    finish(work.key);
    if (!work.done) return is_leader;
    mutex.unlock();
    if (is_leader) {
      work.done();
    } else {
      boost::asio::post(*loop, std::move(work.done));
    }
    mutex.lock();
    return is_leader;
  }

  void watch_leader() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    mutex.lock();
    int quiet_ticks = 0;
    while (!is_over) {
      if (quiet_ticks > kQuietTicks) {
        is_watch_asleep = true;
        watch_changed.wait(mutex);
        is_watch_asleep = false;
        quiet_ticks = 0;
        continue;
      }
      const bool was_working = is_leader_working;
      const std::uint64_t seen = short_works;
      const base::Deadline tick = base::deadline_in(kWatchTick);
      while (!is_over && !base::has_passed(tick)) watch_changed.wait_until(mutex, tick);
      const bool is_new = short_works != seen;
      if (was_working && is_leader_working && !is_new) end_term();
      quiet_ticks = is_new || is_leader_working ? 0 : quiet_ticks + 1;
    }
    mutex.unlock();
  }

  void end_term() REQUIRES(mutex) {
    is_leader_working = false;
    leader = {};
    distrusted_until = base::Clock::now() + kDistrustTime;
    changed.notify_one();
  }
};

FairQueue::FairQueue(std::string name, FairQueueLimits limits, boost::asio::io_context* loop)
    : state_(std::make_unique<State>(limits, loop)) {
  VDVS_CHECK(limits.threads > 0 && limits.max_running_per_key > 0);
  const std::string thread_name = name.substr(0, kMaxThreadNameBytes);
  for (std::size_t i = 0; i < limits.threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->serve(false); });
    ::pthread_setname_np(state_->threads.back().native_handle(), thread_name.c_str());
  }
  if (loop == nullptr) return;
  state_->watch = std::thread([state = state_.get()] { state->watch_leader(); });
  ::pthread_setname_np(state_->watch.native_handle(), "watch");
}

FairQueue::~FairQueue() {
  drain();
  {
    base::MutexLock lock(state_->mutex);
    VDVS_CHECK(!state_->is_looping);
    state_->is_over = true;
  }
  state_->changed.notify_all();
  state_->watch_changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
  if (state_->watch.joinable()) state_->watch.join();
}

Result<void> FairQueue::post(FairWork work) {
  VDVS_CHECK(!work.done || state_->loop != nullptr);
  const FairQueueLimits& limits = state_->limits;
  const std::string key = work.key;
  base::MutexLock lock(state_->mutex);
  if (state_->is_draining) return fail(ErrorCode::kUnavailable, "queue work of '{}': stopping", key);
  State::Share& share = state_->shares[key];  // an empty one is erased by nobody only if it is filled below
  if (share.waiting.size() >= limits.max_waiting_per_key) {
    return fail(ErrorCode::kLimit, "queue work of '{}': {} requests wait already, which is the most", key,
                limits.max_waiting_per_key);
  }
  if (!share.waiting.empty() && share.waiting_bytes + work.bytes > limits.max_waiting_bytes_per_key) {
    return fail(ErrorCode::kLimit,
                "queue work of '{}': waiting requests hold {} bytes already, the most is {}", key,
                share.waiting_bytes, limits.max_waiting_bytes_per_key);
  }
  work.is_short = work.is_short && state_->leader == std::this_thread::get_id() &&
                  base::Clock::now() >= state_->distrusted_until;
  const bool is_for_others = !work.is_short;
  share.waiting_bytes += work.bytes;
  share.waiting.push_back(std::move(work));
  state_->make_ready(key, share);
  if (is_for_others) state_->changed.notify_one();
  return {};
}

void FairQueue::run_loop() {
  {
    base::MutexLock lock(state_->mutex);
    VDVS_CHECK(state_->loop != nullptr);
    state_->is_looping = true;
  }
  state_->serve(true);
}

void FairQueue::drain() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
  state_->mutex.lock();
  state_->is_draining = true;
  state_->changed.notify_all();  // what the leader was to do, who may be here instead
  while (!state_->shares.empty()) state_->emptied.wait(state_->mutex);
  state_->mutex.unlock();
}

}  // namespace vdvs::esx
