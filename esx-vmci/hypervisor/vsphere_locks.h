// One at a time for each key (a VM, a disk), among the threads of this process.
#pragma once

#include <condition_variable>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace vdvs::esx {

class KeyedLocks {
 public:
  /// Owns: the key, until it is destroyed. Must not outlive its KeyedLocks.
  class Held {
   public:
    Held(KeyedLocks& locks, std::string key) : locks_(&locks), key_(std::move(key)) {}
    Held(Held&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(std::move(other.key_)) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (locks_ != nullptr) locks_->release(key_);
    }

   private:
    KeyedLocks* locks_;
    std::string key_;
  };

  /// Waits until the key is free.
  Held hold(const std::string& key) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    while (!keys_.insert(key).second) released_.wait(mutex_);
    return Held(*this, key);
  }

 private:
  void release(const std::string& key) EXCLUDES(mutex_) {
    {
      base::MutexLock lock(mutex_);
      keys_.erase(key);
    }
    released_.notify_all();
  }

  base::Mutex mutex_;  ///< A leaf: held for moments, never while a key is waited for.
  base::ConditionVariable released_;
  std::set<std::string> keys_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::esx
