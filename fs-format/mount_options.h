// The text that a user gives as mount options, taken apart for the kernel's new mount interface: flags of
// this mount (mount_setattr(2)), and parameters of the superblock, which fsconfig(2) takes one by one. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::fsformat {

/// "data=writeback", or "sync" without a value.
struct SuperblockParameter {
  std::string key;
  std::optional<std::string> value;
  bool operator==(const SuperblockParameter&) const = default;
};

struct MountOptions {
  std::uint64_t attributes = 0;  ///< MOUNT_ATTR_*.
  bool is_read_only = false;
  std::vector<SuperblockParameter> parameters;  ///< In the user's order.

  bool has(std::string_view key) const;
};

inline constexpr std::size_t kMaxMountOptionsBytes = 4096;
/// fsconfig(2) refuses more, in a key as in a value.
inline constexpr std::size_t kMaxParameterBytes = 255;

/// Splits at commas outside double quotes (context="a,b"). Of contradicting flags the last wins, as with
/// mount(8). `must_be_read_only`: the volume's own access; "rw" contradicts it.
///
/// Errors: kInvalid, naming the option, for what is not a new mount (remount, bind, move, shared, ...), what
/// is for fstab or mount(8) alone (user, loop, offset), what names another device (logdev, journal_path,
/// device), and errors=panic, with which one volume's damage would stop the whole host. What only the file
/// system knows is left to the kernel.
base::Result<MountOptions> parse_mount_options(std::string_view text, bool must_be_read_only);

}  // namespace vdvs::fsformat
