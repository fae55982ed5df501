// Mounts, in two steps: `open` makes a mount that is nowhere in the tree yet (fsopen, fsmount), so that its
// root can be prepared unseen; `attach` puts it at its place in one move. `list` is the kernel's truth.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::fsformat {

struct MountRequest {
  std::string node;
  std::string fstype;
  bool is_read_only = false;
  std::string
      options;  ///< As for mount -o: "noatime,data=writeback". Generic flags and the type's own may be mixed.
};

/// Owns: a mount without a place; dropping it unmounts. fd() is its root folder (an O_PATH descriptor).
class DetachedMount {
 public:
  explicit DetachedMount(base::UniqueFd fd) : fd_(std::move(fd)) {}
  const base::UniqueFd& fd() const { return fd_; }

 private:
  base::UniqueFd fd_;
};

/// A line of mountinfo.
struct Mount {
  std::string target;
  std::string source;
  std::string fstype;
  std::string
      root;  ///< The folder within the file system that stands at `target`; "/" unless it is a bind mount.
  dev_t device = 0;
  bool is_read_only = false;
  bool is_shared = false;
  std::uint64_t id = 0;  ///< The kernel's, unique while the mount lives.
};

struct RootOwner {
  uid_t uid = static_cast<uid_t>(-1);  ///< -1: leave as it is.
  gid_t gid = static_cast<gid_t>(-1);
  mode_t mode = static_cast<mode_t>(-1);
};

class Mounter {
 public:
  virtual ~Mounter() = default;

  /// Errors: kInvalid with the kernel's words for a bad option, kCorrupt for a bad file system, kIo. Two
  /// clones of one xfs volume can be mounted at once (nouuid is added where the uuid is mounted already).
  virtual base::Result<DetachedMount> open(const MountRequest& request) = 0;

  /// First use of a fresh file system: removes the empty lost+found (database images and Docker's copy-up
  /// want an empty folder), sets owner and mode of the root.
  virtual base::Result<void> prepare_root(const DetachedMount& mount, const RootOwner& owner) = 0;

  /// Makes the folder `target` where it is missing (immutable, so that nothing can write under the mount) and
  /// moves the mount there.
  virtual base::Result<void> attach(DetachedMount mount, const std::string& target) = 0;

  /// Unmounts and removes the folder under it. A target that is not mounted is success; the folder goes all
  /// the same. Errors: kInUse, naming the processes that have files open there.
  virtual base::Result<void> unmount(const std::string& target) = 0;

  virtual base::Result<std::vector<Mount>> list() = 0;

  /// Makes `folder` (0755), and makes mounts under it propagate to other mount namespaces: where it is not on
  /// a shared mount, it becomes a shared bind mount of itself.
  virtual base::Result<void> share(const std::string& folder) = 0;
};

std::unique_ptr<Mounter> make_kernel_mounter();

/// Reads the text of /proc/self/mountinfo (proc(5)). Pure. Lines that cannot be read are left out.
std::vector<Mount> parse_mountinfo(std::string_view text);

}  // namespace vdvs::fsformat
