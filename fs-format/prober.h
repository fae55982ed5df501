// What is on a disk? The answer decides whether it may be formatted, so it is a proof: only a Prober makes a
// Blank, and only a Blank can be formatted. A Blank holds flock(LOCK_EX) on the whole-disk node from the
// probe to the end of mkfs, as systemd's BLOCK_DEVICE_LOCKING asks, so that udev and other tools keep away.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <variant>

#include "base/deadline.h"
#include "base/error.h"
#include "base/fd.h"

namespace vdvs::fsformat {

struct FileSystem {
  std::string type;  ///< libblkid's name: "ext4", "xfs", "btrfs", "vfat", ...
  std::string uuid;  ///< As libblkid prints it; may be empty (some types have none).
  std::string label;
  bool needs_check = false;  ///< Its superblock says that it has errors or was not unmounted cleanly, and it
                             ///< is not mounted now.
  bool operator==(const FileSystem&) const = default;
};

/// Something else than one file system on the whole disk: a partition table, swap, LVM, LUKS, RAID, or bytes
/// nobody knows.
struct Foreign {
  std::string what;  ///< "GPT partition table", "LVM2_member", "data that is not zero at byte 4096".
};

/// Proof that a disk carries no signature and that its beginning and end are zero. Owns: the locked node.
class Blank {
 public:
  const std::string& node() const { return node_; }
  int fd() const { return fd_.get(); }

 private:
  friend class BlankMint;
  Blank(std::string node, base::UniqueFd fd) : node_(std::move(node)), fd_(std::move(fd)) {}
  std::string node_;
  base::UniqueFd fd_;
};

/// For probers (and the tests' fake prober) alone.
class BlankMint {
 protected:
  static Blank make_blank(std::string node, base::UniqueFd fd) {
    return Blank(std::move(node), std::move(fd));
  }
};

using Content = std::variant<Blank, FileSystem, Foreign>;

class Prober {
 public:
  virtual ~Prober() = default;
  /// Reads the disk at `node`, a whole block device. Never writes.
  /// Errors: kInUse where another process holds the lock of the whole disk (a formatter that is still
  /// running), kIo.
  virtual base::Result<Content> probe(const std::string& node) = 0;
};

struct ProberOptions {
  /// How long a lock held by somebody else is waited for: udevd holds it for some milliseconds after each
  /// change of a disk.
  base::Clock::duration lock_wait = std::chrono::seconds(5);
};

std::unique_ptr<Prober> make_blkid_prober(ProberOptions options = {});

}  // namespace vdvs::fsformat
