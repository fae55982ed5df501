#include "base/strands.h"

#include <pthread.h>

#include <deque>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"

namespace vdvs::base {

// Each key with work has a queue; a key stands in `ready` while it has work and nobody runs it. A thread takes a key, runs
// its first piece of work, and puts the key back at the end: no key can keep a thread to itself.
struct Strands::State {
  struct Queue {
    std::deque<std::function<void()>> work;
  };

  Mutex mutex;
  ConditionVariable changed;
  std::unordered_map<std::string, Queue> queues GUARDED_BY(mutex);
  std::deque<std::string> ready GUARDED_BY(mutex);
  std::size_t running GUARDED_BY(mutex) = 0;
  bool is_draining GUARDED_BY(mutex) = false;
  bool is_over GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads;

  void run() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
    mutex.lock();
    for (;;) {
      while (ready.empty() && !is_over) changed.wait(mutex);
      if (ready.empty()) break;
      std::string key = std::move(ready.front());
      ready.pop_front();
      Queue& queue = queues[key];
      std::function<void()> work = std::move(queue.work.front());
      queue.work.pop_front();
      ++running;
      mutex.unlock();
      work();
      work = nullptr;  // what the work owned dies outside the lock
      mutex.lock();
      --running;
      if (auto found = queues.find(key); found->second.work.empty()) {
        queues.erase(found);
      } else {
        ready.push_back(std::move(key));
        changed.notify_one();
      }
      if (is_draining && queues.empty()) changed.notify_all();
    }
    mutex.unlock();
  }
};

Strands::Strands(std::string name, std::size_t threads) : state_(std::make_unique<State>()) {
  constexpr std::size_t kMaxThreadNameBytes = 15;  // pthread_setname_np(3)
  for (std::size_t i = 0; i < threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->run(); });
    ::pthread_setname_np(state_->threads.back().native_handle(), name.substr(0, kMaxThreadNameBytes).c_str());
  }
}

Strands::~Strands() {
  drain();
  {
    MutexLock lock(state_->mutex);
    state_->is_over = true;
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

void Strands::post(const std::string& key, std::function<void()> work) {
  MutexLock lock(state_->mutex);
  if (state_->is_draining) return;
  auto [found, is_new] = state_->queues.try_emplace(key);
  found->second.work.push_back(std::move(work));
  if (!is_new) return;
  state_->ready.push_back(key);
  state_->changed.notify_one();
}

void Strands::drain() VDVS_THREAD_ANNOTATION(no_thread_safety_analysis) {
  state_->mutex.lock();
  state_->is_draining = true;
  while (!state_->queues.empty()) state_->changed.wait(state_->mutex);
  state_->mutex.unlock();
}

}  // namespace vdvs::base
