// Waiting for a flock with a deadline. flock(2) itself waits for ever or not at all, and interrupting it
// needs a signal, which a library must not own.
//
// The lock that is met nearly always is udevd's, which reads a disk that has just appeared for some
// milliseconds. It is waited for with pauses that grow: an inotify watch would tell of its end exactly, but
// closing its descriptor takes the kernel some 20 ms (fsnotify waits for a grace period), longer than the
// lock itself. A lock that lasts beyond these pauses is worth a watch. It is for IN_CLOSE on the node, since
// what ends a lock is that its holder closes it. The kernel sends that event just before it drops the lock,
// and a lock can also be dropped without a close or through another node of the same disk; so each wait is
// bounded as well.
#include "fs-format/disk_lock.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fs-format/processes.h"

namespace vdvs::fsformat {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{1};
constexpr milliseconds kWatchFrom{16};  ///< 1 + 2 + 4 + 8 ms have passed by then.
constexpr milliseconds kLongestPause{64};

base::UniqueFd watch_for_close(const std::string& node) {
  base::UniqueFd watch(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (watch.is_open()) ::inotify_add_watch(watch.get(), node.c_str(), IN_CLOSE);
  return watch;  // Without a watch (a limit was reached) the pauses alone have to do.
}

/// Until something closes the node, or until the deadline where there is no watch.
void wait_for_close(const base::UniqueFd& watch, base::Deadline deadline) {
  pollfd wait = {watch.get(), POLLIN, 0};  // poll(2) passes over a descriptor of -1
  if (::poll(&wait, 1, base::poll_timeout_ms(deadline)) <= 0) return;
  char events[4096];
  while (::read(watch.get(), events, sizeof events) > 0) {
  }
}

}  // namespace

base::Result<void> lock_disk(const base::UniqueFd& fd, const std::string& node, LockKind kind,
                             base::Deadline deadline) {
  const int operation = (kind == LockKind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  base::UniqueFd watch;
  bool is_watching = false;
  milliseconds pause = kFirstPause;
  for (;;) {
    if (::flock(fd.get(), operation) == 0) return {};
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return base::fail_errno(errno, "flock '{}'", node);
    if (base::has_passed(deadline)) break;
    if (!is_watching && pause >= kWatchFrom) {
      watch = watch_for_close(node);
      is_watching = true;
      continue;  // Look once more: the lock may have gone before the watch was there.
    }
    wait_for_close(watch, std::min(deadline, base::deadline_in(pause)));
    pause = std::min(2 * pause, kLongestPause);
  }
  const std::string holder = describe_lock_holder(fd);
  return base::fail(base::ErrorCode::kInUse, "lock '{}': another program is working on this disk{}", node,
                    holder.empty() ? "" : fmt::format(" ({})", holder));
}

}  // namespace vdvs::fsformat
