// packet_delay: a cable that takes its time. Joins two network namespaces by a TAP device in each, and
// carries every frame from one to the other after a delay, in order, without losing any below its bound. For
// kernels without netem; with a round trip that is much longer than anything that a CPU does, round trips can
// be counted.
//
//   packet_delay --delay-us 5000 --end PID:NAME --end PID:NAME      prints "ready" when both devices are
//   there
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/fd.h"

namespace vdvs {
namespace {

using base::Clock;
using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr std::size_t kMaxFrameBytes = 65'536;
/// On the way in one direction; beyond it frames are dropped, as by any router.
constexpr std::size_t kMaxBytesOnTheWay = 64ull << 20;

/// A TAP device in the network namespace of a process. Leaves this thread there.
Result<UniqueFd> make_end(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(colon + 1);
  if (colon == std::string::npos || name.empty() || name.size() >= IFNAMSIZ)
    return fail(ErrorCode::kInvalid, "end '{}': wanted is PID:NAME", text);
  const std::string path = "/proc/" + text.substr(0, colon) + "/ns/net";
  ASSIGN_OR_RETURN(const UniqueFd space, base::open_file(path, O_RDONLY));
  if (::setns(space.get(), CLONE_NEWNET) != 0) return fail_errno(errno, "enter '{}'", path);
  ASSIGN_OR_RETURN(UniqueFd tap, base::open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
  ifreq request = {};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) return fail_errno(errno, "make TAP device '{}'", name);
  return tap;
}

/// One direction.
class Way {
 public:
  Way(const UniqueFd& from, const UniqueFd& to, Clock::duration delay)
      : from_(from), to_(to), delay_(delay) {}

  int readable() const { return from_.get(); }

  /// All frames that have come. Errors: the device is gone.
  Result<void> take() {
    std::array<char, kMaxFrameBytes> frame;
    for (;;) {
      const ssize_t size = ::read(from_.get(), frame.data(), frame.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) return {};
      if (size < 0 && errno == EIO) return {};  // the device is down
      if (size <= 0) return fail_errno(errno, "read a frame");
      const auto bytes = static_cast<std::size_t>(size);
      if (bytes_ + bytes > kMaxBytesOnTheWay) continue;
      bytes_ += bytes;
      frames_.push_back({base::deadline_in(delay_), std::vector<char>(frame.begin(), frame.begin() + size)});
    }
  }

  /// Those whose time has come.
  void deliver() {
    for (; !frames_.empty() && base::has_passed(frames_.front().due); frames_.pop_front()) {
      const std::vector<char>& bytes = frames_.front().bytes;
      bytes_ -= bytes.size();
      // A device that is down, or whose queue is full, drops frames.
      if (::write(to_.get(), bytes.data(), bytes.size()) < 0 && errno != EIO && errno != EAGAIN)
        std::fprintf(stderr, "packet_delay: a frame of %zu bytes was refused: errno %d\n", bytes.size(),
                     errno);
    }
  }

  std::optional<base::Deadline> next_due() const {
    return frames_.empty() ? std::nullopt : std::optional(frames_.front().due);
  }

 private:
  struct Frame {
    base::Deadline due;
    std::vector<char> bytes;
  };
  const UniqueFd& from_;
  const UniqueFd& to_;
  const Clock::duration delay_;
  std::size_t bytes_ = 0;
  std::deque<Frame> frames_;
};

/// poll(2) knows milliseconds alone.
timespec time_until(base::Deadline due) {
  const auto left = std::max<std::chrono::nanoseconds>(due - Clock::now(), std::chrono::nanoseconds(0));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  return {.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
}

Result<void> carry(std::array<Way, 2>& ways) {
  for (;;) {
    std::optional<base::Deadline> due;
    for (Way& way : ways) {
      way.deliver();
      const auto next = way.next_due();
      if (next && (!due || *next < *due)) due = next;
    }
    const timespec timeout = due ? time_until(*due) : timespec{};
    std::array<pollfd, 2> polled{{{ways[0].readable(), POLLIN, 0}, {ways[1].readable(), POLLIN, 0}}};
    if (::ppoll(polled.data(), polled.size(), due ? &timeout : nullptr, nullptr) < 0 && errno != EINTR)
      return fail_errno(errno, "wait for frames");
    for (Way& way : ways) RETURN_IF_ERROR(way.take());
  }
}

Result<void> run(const std::vector<std::string>& ends, std::chrono::microseconds delay) {
  // The namespaces are named by processes of the one in which we begin.
  ASSIGN_OR_RETURN(const UniqueFd one, make_end(ends[0]));
  ASSIGN_OR_RETURN(const UniqueFd other, make_end(ends[1]));
  std::array<Way, 2> ways{Way(one, other, delay), Way(other, one, delay)};
  std::puts("ready");
  std::fflush(stdout);
  return carry(ways);
}

}  // namespace
}  // namespace vdvs

int main(int argc, char** argv) {
  CLI::App app("Joins two network namespaces by a cable that takes its time.");
  long long delay_us = 0;
  std::vector<std::string> ends;
  app.add_option("--delay-us", delay_us, "One way")->required()->check(CLI::Range(0, 10'000'000));
  app.add_option("--end", ends, "PID:NAME of a device to make; twice")->required()->expected(2);
  CLI11_PARSE(app, argc, argv);
  const auto done = vdvs::run(ends, std::chrono::microseconds(delay_us));
  if (!done) std::fprintf(stderr, "packet_delay: %s\n", done.error().text().c_str());
  return 1;
}
