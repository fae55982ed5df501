#include "esx-vmci/hypervisor/image_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr off_t kFirstQemuByte = 100;

/// Locks of others that a writer of the whole file would meet.
Result<ImageUser> look_at_ranges(const UniqueFd& extent, const std::string& path) {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  if (::fcntl(extent.get(), F_OFD_GETLK, &range) != 0) {
    if (errno == EINVAL || errno == ENOLCK || errno == EOPNOTSUPP)
      return ImageUser::kNobody;  // no such locks here
    return fail_errno(errno, "look at the locks of '{}'", path);
  }
  if (range.l_type == F_UNLCK) return ImageUser::kNobody;
  return range.l_start >= kFirstQemuByte ? ImageUser::kQemu : ImageUser::kOther;
}

/// Nobody, or who is in the way; with flock held where it is nobody.
Result<ImageUser> try_claim(const UniqueFd& extent, const std::string& path) {
  if (::flock(extent.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return ImageUser::kOther;
    return fail_errno(errno, "lock '{}'", path);
  }
  return look_at_ranges(extent, path);
}

/// The end of an open file description is told just before its locks go.
class CloseWatch {
 public:
  explicit CloseWatch(const std::string& path) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    if (fd_.is_open()) ::inotify_add_watch(fd_.get(), path.c_str(), IN_CLOSE);
  }
  /// False at the deadline.
  bool wait(base::Deadline deadline) const {
    pollfd ready{fd_.get(), POLLIN, 0};
    if (::poll(&ready, 1, base::poll_timeout_ms(deadline)) <= 0) return false;
    char events[4096];
    while (::read(fd_.get(), events, sizeof events) > 0) {
    }
    return true;
  }

 private:
  UniqueFd fd_;
};

Result<UniqueFd> open_extent(const std::string& path) {
  return base::open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
}

Result<void> check_extent(const UniqueFd& extent, const std::string& path, std::uint64_t size_bytes) {
  struct stat info;
  if (::fstat(extent.get(), &info) != 0) return fail_errno(errno, "stat '{}'", path);
  if (!S_ISREG(info.st_mode)) return fail(ErrorCode::kUnsupported, "'{}' is not a regular file", path);
  if (static_cast<std::uint64_t>(info.st_size) < size_bytes)
    return fail(ErrorCode::kCorrupt, "'{}' is short ({} bytes of {})", path, info.st_size, size_bytes);
  return {};
}

}  // namespace

Result<ImageUser> look_at_image(const std::string& extent_path) {
  ASSIGN_OR_RETURN(const UniqueFd extent, base::open_file(extent_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  return look_at_ranges(extent, extent_path);
}

Result<ImageClaim> ImageClaim::take(const std::string& extent_path, std::uint64_t size_bytes,
                                    base::Deadline deadline) {
  ASSIGN_OR_RETURN(UniqueFd extent, open_extent(extent_path));
  RETURN_IF_ERROR(check_extent(extent, extent_path, size_bytes));
  std::optional<CloseWatch> watch;
  for (bool is_last_try = false;;) {
    ASSIGN_OR_RETURN(const ImageUser user, try_claim(extent, extent_path));
    if (user == ImageUser::kNobody) return ImageClaim(std::move(extent));
    if (is_last_try) {
      return fail(ErrorCode::kBusyElsewhere, "'{}' is locked by {}", extent_path,
                  user == ImageUser::kQemu
                      ? "a virtual machine that this service does not know, or another host's"
                      : "another host or process");
    }
    if (!watch) {
      watch.emplace(extent_path);  // and look again: it may have gone before the watch was there
    } else {
      is_last_try = !watch->wait(deadline);
    }
  }
}

}  // namespace vdvs::esx
