// The options of a volume, as the user gives them to `docker volume create -o`, checked. One table of options
// serves parsing, the list in error texts, comparison and docs/options.md.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::esx {

/// What the user wrote: option name to value.
using OptionMap = std::map<std::string, std::string>;

inline constexpr std::uint64_t kDefaultSizeBytes = 100ull << 20;

enum class DiskFormat { kThin, kZeroedThick, kEagerZeroedThick };
std::string_view disk_format_name(DiskFormat format);

struct VolumeOptions {
  std::uint64_t size_bytes = kDefaultSizeBytes;
  std::string fstype = "ext4";
  DiskFormat disk_format = DiskFormat::kThin;
  bool is_read_only = false;  ///< access=read-only
  std::string attach_as = "independent_persistent";
  std::string clone_from;                 ///< Empty: not a clone.
  std::string policy = "[VSAN default]";  ///< vsan-policy-name
  // Ours:
  std::vector<std::string> mkfs_options;  ///< mkfsopts: split at spaces.
  std::string mount_options;              ///< mountopts: comma-separated, as for mount -o.
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<mode_t> mode;  ///< Octal, at most 07777.
  bool format_now = false;     ///< format=now (default: format=lazy)

  /// The checked form of `given`; absent options have their defaults. Texts are the predecessor's for the
  /// options it had. Errors: kInvalid. Whether mkfs.<fstype> exists is not asked here: that is the host's to
  /// know.
  static base::Result<VolumeOptions> parse(const OptionMap& given);
};

/// "10gb" -> bytes. Digits and one of mb, gb, tb in any case, at least 1mb, at most kMaxDiskBytes.
inline constexpr std::uint64_t kMaxDiskBytes = 62ull << 40;  ///< VMFS: a VMDK holds at most 62 TB.
base::Result<std::uint64_t> parse_size(std::string_view text);

/// What `asked` would have other than what stands in `stored`, one "option 'size': it is 10gb, you asked for
/// 20gb" each; empty where they agree. Only options that the user gave count; values are compared by meaning
/// (1024mb is 1gb).
std::vector<std::string> differences(const OptionMap& stored, const OptionMap& asked);

}  // namespace vdvs::esx
