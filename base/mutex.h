// A mutex that clang's thread-safety analysis can follow (-Wthread-safety, on in the clang presets).
// docs/threading.md lists every mutex of the project and the order in which they may be taken.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define VDVS_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define VDVS_THREAD_ANNOTATION(x)
#endif

#define GUARDED_BY(x) VDVS_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) VDVS_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) VDVS_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace vdvs::base {

class VDVS_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() VDVS_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() VDVS_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class VDVS_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) VDVS_THREAD_ANNOTATION(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() VDVS_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// Waits on a Mutex that the caller holds.
using ConditionVariable = std::condition_variable_any;

}  // namespace vdvs::base
