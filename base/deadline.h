// Deadlines are points on the steady clock, passed down whole: a callee never starts a time-out of its own.
#pragma once

#include <algorithm>
#include <chrono>

namespace vdvs::base {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

inline Deadline deadline_in(Clock::duration time) { return Clock::now() + time; }
inline bool has_passed(Deadline deadline) { return Clock::now() >= deadline; }

/// What is left in whole milliseconds, rounded up and never negative: what poll(2) wants.
inline int poll_timeout_ms(Deadline deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::clamp<std::chrono::milliseconds::rep>(left.count(), 0, 1'000'000'000));
}

}  // namespace vdvs::base
