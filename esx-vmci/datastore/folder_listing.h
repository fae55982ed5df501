// Which volumes a folder holds, as often as it is asked for: Docker lists before and after nearly everything.
//
// While the folder's times stand, the answer is the last one. Otherwise its names are read again, and only
// what is new among them is looked at: a name that is where it was, with the inode that it had, is the
// descriptor that it was. (That a descriptor is overwritten in place with something larger is not seen here,
// as it would not be with the folder's times; reading that disk says what is wrong with it.)
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/volume_name.h"

namespace vdvs::esx {

inline constexpr std::string_view kDescriptorEnding = ".vmdk";

/// The volume of "<vol><ending>", where that can be one.
std::optional<std::string> volume_of(std::string_view file, std::string_view ending);

/// Thread: any.
class FolderListing {
 public:
  /// `is_shared`: other hosts change the folder, by clocks of theirs.
  FolderListing(std::string datastore, bool is_shared)
      : datastore_(std::move(datastore)), is_shared_(is_shared) {}

  /// Qualified names, sorted; all of them, or an error.
  base::Result<std::vector<VolumeName>> volumes(const VolumeFolder& folder) EXCLUDES(mutex_);

 private:
  struct Known {
    VolumeName name;
    ino_t inode = 0;
    std::uint64_t seen_in = 0;  ///< The reading in which it was there last.
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Times {
    std::int64_t modified = 0;
    std::int64_t changed = 0;
    bool operator==(const Times&) const = default;
  };

  base::Result<void> read(const VolumeFolder& folder) REQUIRES(mutex_);
  base::Result<void> add(const VolumeFolder& folder, const std::string& file, ino_t inode,
                         std::vector<const Known*>& fresh) REQUIRES(mutex_);

  const std::string datastore_;
  const bool is_shared_;
  base::Mutex mutex_;  ///< While the folder is read: who asks meanwhile would read the same.
  std::unordered_map<std::string, Known, Hash, std::equal_to<>> known_ GUARDED_BY(mutex_);  ///< By file.
  std::vector<const Known*> sorted_ GUARDED_BY(mutex_);
  std::uint64_t reading_ GUARDED_BY(mutex_) = 0;
  std::optional<Times> settled_ GUARDED_BY(mutex_);  ///< The folder had been quiet when it was read.
};

}  // namespace vdvs::esx
