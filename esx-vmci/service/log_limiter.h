// A line of log about what strangers do: at most one a second, so that no stranger can fill a disk, and each
// says how many were not written.
#pragma once

#include <cstdint>
#include <optional>

#include "base/deadline.h"

namespace vdvs::esx {

/// Thread: one.
class LogLimiter {
 public:
  struct Line {
    std::uint64_t not_shown = 0;  ///< Since the last one.
  };

  /// Set where a line may be written now.
  std::optional<Line> next(base::Clock::time_point now = base::Clock::now()) {
    constexpr std::chrono::seconds kPause{1};
    if (last_ && now - *last_ < kPause) {
      ++not_shown_;
      return std::nullopt;
    }
    last_ = now;
    const Line line{not_shown_};
    not_shown_ = 0;
    return line;
  }

 private:
  std::optional<base::Clock::time_point> last_;
  std::uint64_t not_shown_ = 0;
};

}  // namespace vdvs::esx
