// Makes, checks and grows file systems with the tools that are installed (mkfs.*, fsck.*, ...).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "fs-format/prober.h"

namespace vdvs::fsformat {

struct FormatRequest {
  std::string fstype = "ext4";
  std::string label;  ///< Fitted to what the type allows: cut at a character, never refused.
  std::vector<std::string> mkfs_options;  ///< Passed on as they are, after our own.
};

class Formatter {
 public:
  virtual ~Formatter() = default;

  /// Runs mkfs on a disk that is proven blank; the lock goes with it, into mkfs too. Quick: no discard of a
  /// fresh disk, lazy tables. Errors: kUnsupported (no such mkfs; the error lists those that are there),
  /// kInvalid with mkfs's words, kTimeout, kNoSpace.
  virtual base::Result<FileSystem> format(Blank blank, const FormatRequest& request,
                                          base::Deadline deadline) = 0;

  /// Repairs what the type's tool repairs without asking (e2fsck -p: a journal replay, mostly).
  /// Errors: kCorrupt with the checker's words where more than that would be needed.
  virtual base::Result<void> check(const std::string& node, const FileSystem& fs,
                                   base::Deadline deadline) = 0;

  /// Grows a file system to the size of its device: mounted at `mount_point` (ext then needs
  /// CAP_SYS_RESOURCE), or, ext alone, not mounted, where `mount_point` is empty: it is checked wholly first.
  /// Errors: kUnsupported, kDenied, kCorrupt with the checker's words.
  virtual base::Result<void> grow(const std::string& node, const std::string& mount_point,
                                  const std::string& fstype, base::Deadline deadline) = 0;

  /// The file systems that can be made here, sorted: the suffixes of mkfs.* in the system's program folders.
  virtual std::vector<std::string> supported() const = 0;
  /// Whether `fstype` is one of them, without reading the folders.
  virtual bool supports(const std::string& fstype) const = 0;
};

std::unique_ptr<Formatter> make_tool_formatter();

/// Cuts a label to what `fstype` can hold (ext 16 bytes, xfs 12, btrfs 255, vfat 11, ...), never inside a
/// UTF-8 character.
std::string fit_label(std::string_view label, std::string_view fstype);

}  // namespace vdvs::fsformat
