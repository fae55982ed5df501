// Work on a bounded pool of threads, shared out by who asks: keys that have work take turns, and one key
// never has more than its share of the threads. So a guest with a thousand slow requests waits for itself,
// and another guest's single request is the next to run.
//
// The pool can also run a loop, one thread at a time. Work that is posted on the loop and expected to be
// short is then done by the thread that runs the loop, which saves waking another one and being woken by it:
// most of what a short request costs. Work that turns out not to be short does not hold up the loop: within
// two milliseconds another thread of the pool runs the loop on.
#pragma once

#include <boost/asio/io_context.hpp>
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

struct FairWork {
  std::string key;
  std::size_t bytes = 0;  ///< What it holds while it waits.
  std::function<void()> run;
  std::function<void()> done = {};  ///< On the loop, after `run`; not at all once the loop has been stopped.
  bool is_short = false;            ///< As far as one can tell: well below a millisecond.
};

class FairQueue {
 public:
  /// Starts the threads, called `name` in /proc. `loop`, if any, outlives the queue.
  FairQueue(std::string name, FairQueueLimits limits, boost::asio::io_context* loop = nullptr);
  /// Drains, then joins. Not from the loop, and not before `run_loop` has returned.
  ~FairQueue();
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  /// In the order of the posting within a key, as far as it begins. Never blocks. Errors: kLimit, which says
  /// whose limit was reached; kUnavailable after `drain` has begun. Thread: any.
  base::Result<void> post(FairWork work);

  /// Runs the loop, on this thread and on the pool's, until it is stopped or has nothing left to do.
  void run_loop();

  /// Takes no more work, and returns when what was posted has run. Thread: any, the loop's too.
  void drain();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace vdvs::esx
