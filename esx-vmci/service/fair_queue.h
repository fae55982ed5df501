// Work on a bounded pool of threads, shared out by who asks: keys that have work take turns, and one key
// never has more than its share of the threads. So a guest with a thousand slow requests waits for itself,
// and another guest's single request is the next to run.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"

namespace vdvs::esx {

struct FairQueueLimits {
  std::size_t threads = 16;
  std::size_t max_running_per_key = 4;
  std::size_t max_waiting_per_key = 1024;
  std::size_t max_waiting_bytes_per_key = 4 * 1024 * 1024;
};

class FairQueue {
 public:
  /// Starts the threads, called `name` in /proc.
  FairQueue(std::string name, FairQueueLimits limits);
  /// Drains, then joins.
  ~FairQueue();
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  /// Runs `work` on one of the threads, in the order of its posting within `key` as far as it begins.
  /// `bytes`: what it holds while it waits. Never blocks. Errors: kLimit, which says whose limit was reached;
  /// kUnavailable after `drain` has begun. Thread: any.
  base::Result<void> post(const std::string& key, std::size_t bytes, std::function<void()> work);

  /// Takes no more work, and returns when what was posted has run.
  void drain();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace vdvs::esx
