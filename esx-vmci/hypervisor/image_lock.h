// Who may have an extent open, across programs. QEMU locks bytes of an image file with open file description
// locks (F_OFD_SETLK; block/file-posix.c: byte 100 + n for each permission that it has, 200 + n for each that
// it does not share), from the moment it opens the image until it closes it. Loop devices hold flock(2),
// and whoever copies or removes a disk both kinds (datastore/disk_store_folder.cc).
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/deadline.h"
#include "base/error.h"
#include "base/fd.h"

namespace vdvs::esx {

enum class ImageUser {
  kNobody,
  kQemu,   ///< Some QEMU process, of this host or (on a network file system) of another.
  kOther,  ///< Somebody who copies it, removes it, or has it as a loop device.
};

/// What the locks say now. Errors: kNotFound, kDenied, kIo, ...
base::Result<ImageUser> look_at_image(const std::string& extent_path);

/// Keeps loop devices, copies and removals away from an extent while it is being handed to QEMU, whose own
/// lock comes later. What is just being let go is waited for, until the deadline.
/// Owns: an open extent with flock(LOCK_EX).
class ImageClaim {
 public:
  /// Errors: kBusyElsewhere; kNotFound, kUnsupported (not a regular file), kCorrupt (shorter than
  /// `size_bytes`).
  static base::Result<ImageClaim> take(const std::string& extent_path, std::uint64_t size_bytes,
                                       base::Deadline deadline);

 private:
  explicit ImageClaim(base::UniqueFd extent) : extent_(std::move(extent)) {}
  base::UniqueFd extent_;
};

}  // namespace vdvs::esx
