// A loop without a thread of its own: of those who wait for something that happens on it, one runs it, and
// passes it on when it has got what it waited for. So an answer reaches its caller in the thread that reads
// it from the socket, which halves the way of a request; and a client that asks for nothing costs nothing.
//
// What happens while nobody waits (the service closes an idle connection) is seen at the beginning of the
// next call, before that does anything.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <functional>
#include <list>
#include <utility>

#include "base/mutex.h"

namespace vdvs::esx {

/// Thread: any. All handlers run one after the other, as on one thread.
class SharedLoop {
 public:
  /// One who waits. On the waiting thread's stack, or longer.
  class Waiter {
    friend SharedLoop;
    bool is_done_ = false;
    base::ConditionVariable changed_;
  };

  SharedLoop() : work_(boost::asio::make_work_guard(context_)) {}
  /// Waits until all who wait have left.
  ~SharedLoop() {
    base::MutexLock lock(mutex_);
    while (inside_ > 0) has_left_.wait(mutex_);
  }
  SharedLoop(const SharedLoop&) = delete;
  SharedLoop& operator=(const SharedLoop&) = delete;

  boost::asio::io_context& context() { return context_; }

  /// Runs `begin` on the loop, and returns after `finish` was called for `waiter`. Not from the loop.
  void wait(Waiter& waiter, std::function<void()> begin) EXCLUDES(mutex_) {
    if (take_over()) {
      context_.poll();
      begin();
      run_until_done(waiter);
    } else {
      boost::asio::post(context_, std::move(begin));
    }
    while (!leave(waiter)) run_until_done(waiter);
  }

  /// On the loop; `waiter` may be gone when it returns.
  void finish(Waiter& waiter) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    waiter.is_done_ = true;
    waiter.changed_.notify_one();
  }

 private:
  bool take_over() EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    ++inside_;
    return !std::exchange(is_run_, true);
  }

  void run_until_done(Waiter& waiter) EXCLUDES(mutex_) {
    while (!is_done(waiter)) context_.run_one();
    base::MutexLock lock(mutex_);
    is_run_ = false;
  }

  bool is_done(const Waiter& waiter) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    return waiter.is_done_;
  }

  /// False: it is this waiter's turn to run the loop.
  bool leave(Waiter& waiter) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    const auto place = waiting_.insert(waiting_.end(), &waiter);
    while (!waiter.is_done_ && is_run_) waiter.changed_.wait(mutex_);
    waiting_.erase(place);
    if (!waiter.is_done_) {
      is_run_ = true;
      return false;
    }
    // Whoever leaves says so to the next one, also where it was woken only to run the loop.
    if (!is_run_ && !waiting_.empty()) waiting_.front()->changed_.notify_one();
    if (--inside_ == 0) has_left_.notify_one();
    return true;
  }

  boost::asio::io_context context_;
  const boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  base::Mutex mutex_;
  base::ConditionVariable has_left_;               ///< The last one that was inside.
  std::size_t inside_ GUARDED_BY(mutex_) = 0;      ///< Calls of `wait`.
  std::list<Waiter*> waiting_ GUARDED_BY(mutex_);  ///< For their end, or to run the loop.
  bool is_run_ GUARDED_BY(mutex_) = false;         ///< By somebody who waits.
};

}  // namespace vdvs::esx
