#include "esx-vmci/service/fair_queue.h"

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace vdvs::esx {

using base::ErrorCode;
using base::fail;
using base::Result;

// A key stands in `ready` exactly once while it has waiting work and a thread left of its share. A thread
// takes the first key, takes one piece of its work, and puts the key back at the end: that is the round
// robin.
struct FairQueue::State {
  struct Item {
    std::size_t bytes = 0;
    std::function<void()> work;
  };
  struct Share {
    std::deque<Item> waiting;
    std::size_t waiting_bytes = 0;
    std::size_t running = 0;
    bool is_ready = false;  ///< It stands in `ready`.
  };

  explicit State(FairQueueLimits limits_in) : limits(limits_in) {}

  const FairQueueLimits limits;
  base::Mutex mutex;
  base::ConditionVariable changed;
  std::unordered_map<std::string, Share> shares GUARDED_BY(mutex);
  std::deque<std::string> ready GUARDED_BY(mutex);
  bool is_draining GUARDED_BY(mutex) = false;
  bool is_over GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads;

  void make_ready(const std::string& key, Share& share) REQUIRES(mutex) {
    if (share.is_ready || share.waiting.empty() || share.running >= limits.max_running_per_key) return;
    share.is_ready = true;
    ready.push_back(key);
    changed.notify_one();
  }

  /// The next piece of the first key. `ready` is not empty.
  Item take(std::string& key) REQUIRES(mutex) {
    key = std::move(ready.front());
    ready.pop_front();
    Share& share = shares[key];
    share.is_ready = false;
    Item item = std::move(share.waiting.front());
    share.waiting.pop_front();
    share.waiting_bytes -= item.bytes;
    ++share.running;
    make_ready(key, share);
    return item;
  }

  void finish(const std::string& key) REQUIRES(mutex) {
    const auto found = shares.find(key);
    --found->second.running;
    make_ready(key, found->second);
    if (found->second.running > 0 || !found->second.waiting.empty()) return;
    shares.erase(found);
    if (is_draining && shares.empty()) changed.notify_all();
  }

  void run() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    mutex.lock();
    for (;;) {
      while (ready.empty() && !is_over) changed.wait(mutex);
      if (ready.empty()) break;
      std::string key;
      Item item = take(key);
      mutex.unlock();
      item.work();
      item.work = nullptr;  // what the work owned dies outside the lock
      mutex.lock();
      finish(key);
    }
    mutex.unlock();
  }
};

FairQueue::FairQueue(std::string name, FairQueueLimits limits) : state_(std::make_unique<State>(limits)) {
  VDVS_CHECK(limits.threads > 0 && limits.max_running_per_key > 0);
  constexpr std::size_t kMaxThreadNameBytes = 15;  // pthread_setname_np(3)
  for (std::size_t i = 0; i < limits.threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->run(); });
    ::pthread_setname_np(state_->threads.back().native_handle(), name.substr(0, kMaxThreadNameBytes).c_str());
  }
}

FairQueue::~FairQueue() {
  drain();
  {
    base::MutexLock lock(state_->mutex);
    state_->is_over = true;
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

Result<void> FairQueue::post(const std::string& key, std::size_t bytes, std::function<void()> work) {
  const FairQueueLimits& limits = state_->limits;
  base::MutexLock lock(state_->mutex);
  if (state_->is_draining) return fail(ErrorCode::kUnavailable, "queue work of '{}': stopping", key);
  State::Share& share = state_->shares[key];  // an empty one is erased by nobody only if it is filled below
  if (share.waiting.size() >= limits.max_waiting_per_key) {
    return fail(ErrorCode::kLimit, "queue work of '{}': {} requests wait already, which is the most", key,
                limits.max_waiting_per_key);
  }
  if (!share.waiting.empty() && share.waiting_bytes + bytes > limits.max_waiting_bytes_per_key) {
    return fail(ErrorCode::kLimit,
                "queue work of '{}': waiting requests hold {} bytes already, the most is {}", key,
                share.waiting_bytes, limits.max_waiting_bytes_per_key);
  }
  share.waiting.push_back({bytes, std::move(work)});
  share.waiting_bytes += bytes;
  state_->make_ready(key, share);
  return {};
}

void FairQueue::drain() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
  state_->mutex.lock();
  state_->is_draining = true;
  while (!state_->shares.empty()) state_->changed.wait(state_->mutex);
  state_->mutex.unlock();
}

}  // namespace vdvs::esx
