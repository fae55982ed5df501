// The name of a volume: "db" or "db@datastore". A VolumeName is valid or does not exist.
//
// Rules and texts are the predecessor's (split at the last '@', at most 100 characters each, no '/' or '\',
// no "-NNNNNN" ending, because such files are snapshots), and ours where it lost data or lied: the empty
// name, control characters, ".", "..", names that end in
// "-flat", "-delta", "-ctk" or "-digest" (the extent of "foo" would be the descriptor of "foo-flat"), and
// ".vmdk" inside a name.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxVolumeNameChars = 100;
inline constexpr std::size_t kMaxDatastoreNameChars = 100;
/// A file name has 255 bytes at most (NAME_MAX), of which ours take "-<16 hex>.vmfd" and ".creating".
inline constexpr std::size_t kMaxVolumeNameBytes = 220;

class VolumeName {
 public:
  /// Errors: kInvalid, with the predecessor's text where it had one.
  static base::Result<VolumeName> parse(std::string_view text);

  const std::string& volume() const { return volume_; }
  /// Empty for a short name.
  const std::string& datastore() const { return datastore_; }
  bool is_qualified() const { return !datastore_.empty(); }
  /// "db" or "db@datastore", as it was given.
  std::string text() const;
  /// The same volume on a named datastore.
  VolumeName on(std::string_view datastore) const;

  auto operator<=>(const VolumeName&) const = default;

 private:
  VolumeName(std::string volume, std::string datastore)
      : volume_(std::move(volume)), datastore_(std::move(datastore)) {}
  std::string volume_;
  std::string datastore_;
};

}  // namespace vdvs::esx
