// The disks of one datastore, as files: descriptor, extent, sidecar. Makes, finds, copies and removes them so
// that a crash at any point leaves a disk that is there or one that is not, and proof of which.
//
// The proof is a name. A disk exists when "<vol>.vmdk" does. Its making begins with "<vol>.vmdk.creating",
// its removal with a rename to
// "<vol>.vmdk.removing"; each is durable before anything else changes and goes last. Whatever lies beside
// such a file, without a
// "<vol>.vmdk", is garbage and is taken away at start and by the next create. An extent without any of the
// three is somebody's data: it is never written to and never deleted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/datastore/extent.h"
#include "esx-vmci/datastore/sidecar.h"
#include "esx-vmci/datastore/vmdk_descriptor.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx {

/// A disk as its files say.
struct StoredDisk {
  std::string volume;
  VmdkDescriptor descriptor;
  std::string sidecar_name;
  Sidecar sidecar;
  bool has_sidecar = false;  ///< There is one, and it can be read.
};

/// What a new disk is to be.
struct NewDisk {
  ExtentShape shape{};
  Sidecar sidecar{};
};

class DiskStore {
 public:
  /// Makes the folders that are missing. `is_shared`: other hosts may use it at the same time, whatever its
  /// file system.
  static base::Result<std::unique_ptr<DiskStore>> open(std::string name, const std::string& path,
                                                       bool is_shared);

  const std::string& name() const { return name_; }
  const VolumeFolder& folder() const { return folder_; }
  /// Whether hosts beyond this kernel may use the datastore: the file system is not known to be a local one.
  bool is_shared() const { return is_shared_; }

  /// The name of a volume's extent, and back.
  static std::string extent_name(std::string_view volume);
  static std::optional<std::string> volume_of_extent(std::string_view file);

  /// Qualified names, sorted. From memory while the folder has not changed. Thread: any.
  base::Result<std::vector<VolumeName>> list() EXCLUDES(mutex_);

  /// Errors: kNotFound; kUnsupported, kCorrupt with the reason why the disk cannot be used.
  base::Result<StoredDisk> load(std::string_view volume) const;
  /// Opens the extent and checks that it is all there. `flags` as for open(2).
  base::Result<base::UniqueFd> open_extent(const StoredDisk& disk, int flags) const;
  /// lstat of the extent, checked as above.
  base::Result<struct stat> look_at_extent(const StoredDisk& disk) const;

  // The rest needs the volume's lock (folder().lock(volume)).

  /// Finishes or takes away what an interrupted create or remove of this volume has left.
  base::Result<void> settle(const std::string& volume) const;
  enum class Durability { kNow, kSoon };
  /// Writes the sidecar; durable before it returns, or (kSoon) when the kernel gets to it.
  base::Result<void> save(StoredDisk& disk, Durability durability = Durability::kNow) const;
  /// `source`: open for reading, to be copied; nullptr for a blank disk. Errors: kExists, kForeignData (an
  /// extent is there that is not ours).
  base::Result<void> create(const std::string& volume, const NewDisk& wish, const base::UniqueFd* source,
                            const Progress& progress) const;
  /// Errors: kBusyElsewhere where somebody has the extent locked.
  base::Result<void> remove(const StoredDisk& disk) const;
  base::Result<void> blank(const StoredDisk& disk) const;

  /// Takes away what interrupted creates and removes have left; nothing that somebody is working on. Takes
  /// the locks itself.
  base::Result<void> clean_up() const;

 private:
  DiskStore(std::string name, VolumeFolder folder, bool is_shared)
      : name_(std::move(name)), folder_(std::move(folder)), is_shared_(is_shared) {}

  struct Listing {
    struct timespec modified = {};
    struct timespec changed = {};
    bool is_settled = false;  ///< The folder had been quiet for long enough when it was read.
    std::vector<VolumeName> volumes;
  };

  base::Result<std::string> read_text(const std::string& name, std::size_t max_bytes) const;
  base::Result<void> read_sidecar(StoredDisk& disk) const;
  base::Result<Listing> read_listing() const;
  base::Result<base::UniqueFd> write_new_file(const std::string& name, std::string_view content) const;
  base::Result<void> make_files(const std::string& volume, const NewDisk& wish, const base::UniqueFd* source,
                                const Progress& progress, bool& has_extent) const;
  base::Result<void> erase_parts(const std::string& volume, const std::string& sidecar_name) const;

  const std::string name_;
  const VolumeFolder folder_;
  const bool is_shared_;
  base::Mutex mutex_;  ///< For the cached listing only; nothing is locked while it is held.
  std::optional<Listing> listing_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::esx
