// Mounting with the kernel's new interface (fsopen(2) and its kin, Linux 5.2): each parameter is refused by
// name, the kernel explains itself in words, and a mount can exist before it has a place.
//
// Its words come from two sources. What goes through the file system context is read back from its
// descriptor. What a file system prints to the kernel's log ("EXT4-fs (loop3): bad geometry") is read from
// /dev/kmsg, from where it stood before the attempt, so far as it names the device; where the log may not be
// read, the errno has to do.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/fault.h"
#include "fs-format/fault_points.h"
#include "fs-format/immutable_folder.h"
#include "fs-format/mount_options.h"
#include "fs-format/mounter.h"
#include "fs-format/processes.h"

namespace vdvs::fsformat {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using base::UniqueFd;

constexpr const char* kMountinfo = "/proc/thread-self/mountinfo";
constexpr std::size_t kMaxMountinfoBytes = 64 * 1024 * 1024;
constexpr std::size_t kMaxWordsBytes = 1200;
/// How many mounts stacked on one target are taken off.
constexpr int kMaxStackedMounts = 16;

void add_words(std::string& words, std::string_view more) {
  while (!more.empty() && (more.back() == '\n' || more.back() == ' ')) more.remove_suffix(1);
  if (more.empty() || words.size() + more.size() > kMaxWordsBytes) return;
  if (!words.empty()) words += "; ";
  words += more;
}

/// The messages of a file system context, one a read: "e ext4: Unknown parameter 'foo'" (e, w or i, then a
/// blank).
std::string context_words(const UniqueFd& context) {
  std::string words;
  char message[1024];
  for (;;) {
    const ssize_t got = ::read(context.get(), message, sizeof message);
    if (got <= 0) return words;
    const std::string_view text(message, static_cast<std::size_t>(got));
    add_words(words, text.size() > 2 && text[1] == ' ' ? text.substr(2) : text);
  }
}

/// What the kernel logs about one device from now on.
class KernelLog {
 public:
  explicit KernelLog(std::string device)
      : device_(std::move(device)), log_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (log_.is_open()) ::lseek(log_.get(), 0, SEEK_END);
  }

  // A record is "6,339,5140900,-;the message\n", with lines of properties after it that begin with a blank.
  std::string words() const {
    std::string words;
    char record[8192];
    while (log_.is_open()) {
      const ssize_t got = ::read(log_.get(), record, sizeof record);
      if (got < 0 && errno == EPIPE) continue;  // Records were overwritten before we came.
      if (got <= 0) break;
      std::string_view text(record, static_cast<std::size_t>(got));
      text.remove_prefix(std::min(text.size(), text.find(';') + 1));
      text = text.substr(0, text.find('\n'));
      if (names_device(text)) add_words(words, text);
    }
    return words;
  }

 private:
  /// "loop1" is not meant by "loop12".
  bool names_device(std::string_view text) const {
    const std::size_t at = text.find(device_);
    if (at == std::string_view::npos) return false;
    const std::size_t end = at + device_.size();
    return end == text.size() || !std::isalnum(static_cast<unsigned char>(text[end]));
  }

  std::string device_;
  UniqueFd log_;
};

ErrorCode code_of_mount_error(int errnum, bool has_options) {
  switch (errnum) {
    case EUCLEAN:  // EFSCORRUPTED
    case EBADMSG:  // EFSBADCRC
      return ErrorCode::kCorrupt;
    // The kernel says EINVAL for a bad option and for a superblock that it does not understand.
    case EINVAL:
      return has_options ? ErrorCode::kInvalid : ErrorCode::kCorrupt;
    case EROFS:
    case EACCES:
      return ErrorCode::kReadOnly;
    default:
      return Error::from_errno("", errnum).code();
  }
}

std::string remedy_of(ErrorCode code, const MountRequest& request, const MountOptions& options) {
  if (code == ErrorCode::kReadOnly && !options.is_read_only)
    return "the device is read-only: mount it read-only";
  if (code == ErrorCode::kReadOnly) {
    const bool is_xfs = request.fstype == "xfs";
    return fmt::format(
        "its journal has to be replayed: mount it read-write once, or give the mount option '{}' to read it "
        "as it is",
        is_xfs ? "norecovery" : "noload");
  }
  if (code == ErrorCode::kCorrupt) return fmt::format("check the file system on {} by hand", request.node);
  return {};
}

std::unexpected<Error> mount_error(const MountRequest& request, const MountOptions& options, int errnum,
                                   std::string words) {
  const ErrorCode code = code_of_mount_error(errnum, !options.parameters.empty());
  Error error = Error::from_errno(fmt::format("mount '{}' as {}", request.node, request.fstype), errnum);
  std::string message = error.message();
  if (!words.empty()) message += fmt::format(" ({})", words);
  return std::unexpected(Error(code, std::move(message), remedy_of(code, request, options)));
}

Result<void> set_parameter(const MountRequest& request, const UniqueFd& context,
                           const SuperblockParameter& parameter) {
  const int result =
      parameter.value
          ? ::fsconfig(context.get(), FSCONFIG_SET_STRING, parameter.key.c_str(), parameter.value->c_str(), 0)
          : ::fsconfig(context.get(), FSCONFIG_SET_FLAG, parameter.key.c_str(), nullptr, 0);
  if (result == 0) return {};
  const int errnum = errno;
  const std::string words = context_words(context);
  const std::string option =
      parameter.value ? fmt::format("{}={}", parameter.key, *parameter.value) : parameter.key;
  const std::string message =
      Error::from_errno(fmt::format("mount '{}' as {}: option '{}'", request.node, request.fstype, option),
                        errnum)
          .message();
  return std::unexpected(
      Error(ErrorCode::kInvalid, words.empty() ? message : fmt::format("{} ({})", message, words)));
}

/// The superblock, or the errno of making it.
struct Created {
  UniqueFd context;
  int errnum = 0;
};

Result<Created> create_superblock(const MountRequest& request, const MountOptions& options,
                                  bool with_nouuid) {
  UniqueFd context(::fsopen(request.fstype.c_str(), FSOPEN_CLOEXEC));
  if (!context.is_open()) {
    if (errno != ENODEV) return base::fail_errno(errno, "mount '{}' as {}", request.node, request.fstype);
    return base::fail(ErrorCode::kUnsupported, "mount '{}': this kernel has no file system {}", request.node,
                      request.fstype);
  }
  RETURN_IF_ERROR(set_parameter(request, context, {.key = "source", .value = request.node}));
  if (options.is_read_only)
    RETURN_IF_ERROR(set_parameter(request, context, {.key = "ro", .value = std::nullopt}));
  if (with_nouuid) RETURN_IF_ERROR(set_parameter(request, context, {.key = "nouuid", .value = std::nullopt}));
  for (const SuperblockParameter& parameter : options.parameters)
    RETURN_IF_ERROR(set_parameter(request, context, parameter));
  const bool is_made = ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
  return Created{std::move(context), is_made ? 0 : errno};
}

/// xfs refuses a second file system with the uuid of one that is mounted, anywhere on the host and in any
/// mount namespace, by EINVAL without a reason. nouuid switches off that comparison and nothing else, so that
/// trying again with it is exact, where searching mountinfo would not see mounts in other namespaces.
bool may_be_duplicate_uuid(const MountRequest& request, const MountOptions& options, int errnum) {
  return request.fstype == "xfs" && errnum == EINVAL && !options.has("nouuid");
}

/// btrfs registers a file system's uuid in sysfs. A clone of a mounted one gets a name of its own there, but while the
/// other one is being mounted or unmounted this instant, the name is taken and the mount fails; the kernel tells
/// nobody when that is over.
constexpr int kBtrfsTries = 40;
constexpr int kBtrfsPauseMs = 50;
bool is_name_of_a_leaving_one(const MountRequest& request, int errnum) {
  return request.fstype == "btrfs" && errnum == EEXIST;
}

Result<UniqueFd> open_folder_of(const DetachedMount& mount) {
  return base::open_file_at(mount.fd(), ".", O_RDONLY | O_DIRECTORY);
}

bool is_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

class KernelMounter final : public Mounter {
 public:
  Result<DetachedMount> open(const MountRequest& request) override {
    ASSIGN_OR_RETURN(const MountOptions options, parse_mount_options(request.options, request.is_read_only));
    const KernelLog log(std::filesystem::path(request.node).filename().string());
    ASSIGN_OR_RETURN(Created created, create_superblock(request, options, false));
    if (created.errnum != 0 && may_be_duplicate_uuid(request, options, created.errnum)) {
      ASSIGN_OR_RETURN(Created again, create_superblock(request, options, true));
      if (again.errnum == 0) created = std::move(again);
    }
    for (int i = 0; i < kBtrfsTries && is_name_of_a_leaving_one(request, created.errnum); ++i) {
      ::poll(nullptr, 0, kBtrfsPauseMs);
      ASSIGN_OR_RETURN(created, create_superblock(request, options, false));
    }
    if (created.errnum != 0) {
      std::string words = context_words(created.context);
      add_words(words, log.words());
      return mount_error(request, options, created.errnum, std::move(words));
    }
    UniqueFd mount(
        ::fsmount(created.context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(options.attributes)));
    if (!mount.is_open()) return mount_error(request, options, errno, context_words(created.context));
    return DetachedMount(std::move(mount));
  }

  Result<void> prepare_root(const DetachedMount& mount, const RootOwner& owner) override {
    ASSIGN_OR_RETURN(const UniqueFd root, open_folder_of(mount));
    // A lost+found that holds something stays: then this is no fresh file system.
    if (::unlinkat(root.get(), "lost+found", AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY &&
        errno != EEXIST && errno != ENOTDIR) {
      return base::fail_errno(errno, "remove lost+found");
    }
    const RootOwner unchanged;
    const bool has_owner = owner.uid != unchanged.uid || owner.gid != unchanged.gid;
    const bool has_mode = owner.mode != unchanged.mode;
    if (has_owner && ::fchown(root.get(), owner.uid, owner.gid) != 0) {
      return base::fail_errno(errno, "set owner of the root folder");
    }
    if (has_mode && ::fchmod(root.get(), owner.mode) != 0)
      return base::fail_errno(errno, "set mode of the root folder");
    // The caller records that the root is prepared; what it was asked for must not be lost in a crash after
    // that.
    if (has_owner || has_mode) return base::sync_all(root, "the root folder");
    return {};
  }

  Result<void> attach(DetachedMount mount, const std::string& target) override {
    ASSIGN_OR_RETURN(const UniqueFd folder, make_immutable_folder(target));
    RETURN_IF_ERROR(base::fault_point(kFaultMountFolder));
    if (::move_mount(mount.fd().get(), "", folder.get(), "",
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
      return {};
    auto failure = base::fail_errno(errno, "mount at '{}'", target);
    (void)remove_immutable_folder(target);
    return failure;
  }

  Result<void> unmount(const std::string& target) override {
    for (int stacked = 0; ::umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0; ++stacked) {
      if (stacked == kMaxStackedMounts) {
        return base::fail(ErrorCode::kLimit, "unmount '{}': more than {} mounts on one another", target,
                          kMaxStackedMounts);
      }
    }
    const int errnum = errno;
    if (errnum == EBUSY) return busy(target);
    if (errnum != EINVAL && errnum != ENOENT) return base::fail_errno(errnum, "unmount '{}'", target);
    RETURN_IF_ERROR(base::fault_point(kFaultUnmountMount));
    return remove_immutable_folder(target);
  }

  Result<std::vector<Mount>> list() override {
    ASSIGN_OR_RETURN(const std::string text, base::read_file(kMountinfo, kMaxMountinfoBytes));
    return parse_mountinfo(text);
  }

  Result<void> share(const std::string& folder) override {
    RETURN_IF_ERROR(base::make_folders(folder));
    ASSIGN_OR_RETURN(const UniqueFd fd, base::open_file(folder, O_PATH | O_DIRECTORY));
    struct statx status = {};
    if (::statx(fd.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &status) != 0)
      return base::fail_errno(errno, "stat '{}'", folder);
    ASSIGN_OR_RETURN(const auto mounts, list());
    const auto mount = std::ranges::find(mounts, status.stx_mnt_id, &Mount::id);
    if (mount == mounts.end())
      return base::fail(ErrorCode::kNotFound, "share '{}': its mount is not in {}", folder, kMountinfo);
    if (mount->is_shared) return {};
    const bool is_mount_point = (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    if (!is_mount_point && ::mount(folder.c_str(), folder.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return base::fail_errno(errno, "share '{}': bind mount", folder);
    }
    if (::mount(nullptr, folder.c_str(), nullptr, MS_SHARED, nullptr) != 0)
      return base::fail_errno(errno, "share '{}'", folder);
    return {};
  }

 private:
  std::unexpected<Error> busy(const std::string& target) {
    std::string holders = describe_mount_users(target);
    if (auto mounts = list(); mounts && holders.empty()) {
      const auto below =
          std::ranges::find_if(*mounts, [&](const Mount& mount) { return is_below(mount.target, target); });
      if (below != mounts->end()) holders = fmt::format("a mount at '{}'", below->target);
    }
    return std::unexpected(
        Error(ErrorCode::kInUse,
              fmt::format("unmount '{}': in use by {}", target,
                          holders.empty() ? "a process that cannot be seen from here" : holders),
              "end what uses it, then try again"));
  }
};

}  // namespace

std::unique_ptr<Mounter> make_kernel_mounter() { return std::make_unique<KernelMounter>(); }

}  // namespace vdvs::fsformat
