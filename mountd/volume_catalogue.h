// What this host knows of the volumes, on its own disk, for the time when the control plane does not answer: Docker forgets a
// volume for any error of Get, so Get needs an answer always. It also remembers which file system belongs on which disk.
//
// The file is a log: one checked line (base/checksum.h) for each change. A line that was cut or damaged is skipped and reported; the rest stands. It
// is a memory, not the truth, and fills itself again from the control plane.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::mountd {

struct CatalogueRecord {
  std::string name;       ///< Qualified: "db@datastore".
  std::string disk_uuid;  ///< Empty: only the name is known, from a listing.
  std::string fs_uuid;
  std::uint64_t size_bytes = 0;
  std::string created;
  std::string created_by;
  std::string driver;     ///< The old driver name, where the volume was made under it; empty otherwise.
  esx::OptionMap options;
  bool operator==(const CatalogueRecord&) const = default;
};

/// One line of the log: a record, or the name of one that is gone.
struct CatalogueEntry {
  CatalogueRecord record;
  bool is_erased = false;
};
std::string encode_entry(const CatalogueEntry& entry);
base::Result<CatalogueEntry> decode_entry(std::string_view text);

class VolumeCatalogue {
 public:
  /// Errors: the file cannot be made or written. Damage is logged, not an error.
  static base::Result<std::unique_ptr<VolumeCatalogue>> open(const std::string& path);

  // Nothing is written where nothing changes. Thread: any.
  /// Written when it returns, durable after the next `sync`: an answer to the engine need not wait for the disk, since the control plane knows
  /// the volume too.
  base::Result<void> put(const CatalogueRecord& record);
  base::Result<void> sync();
  // Durable before they return.
  base::Result<void> erase(const std::string& name);
  /// Makes the set of names that of a complete listing: new ones are added by name, missing ones erased.
  base::Result<void> keep_only(const std::vector<std::string>& names);

  std::optional<CatalogueRecord> find(const std::string& name) const;
  /// A record whose volume part is `short_name`, on `datastore` if that is not empty.
  std::optional<CatalogueRecord> find_short(const std::string& short_name, const std::string& datastore) const;
  std::vector<std::string> names() const;
  /// Name and driver of the volumes that were made under another driver than the main one: few, or none.
  std::map<std::string, std::string> other_drivers() const;

 private:
  explicit VolumeCatalogue(std::string path) : path_(std::move(path)) {}
  base::Result<void> load() REQUIRES(mutex_);
  base::Result<void> compact() REQUIRES(mutex_);
  enum class Durability { kNow, kAtSync };
  base::Result<void> append(std::string_view lines, Durability durability) REQUIRES(mutex_);

  const std::string path_;
  mutable base::Mutex mutex_;
  base::UniqueFd log_ GUARDED_BY(mutex_);  ///< The same file from `open` on.
  bool is_synced_ GUARDED_BY(mutex_) = true;
  std::map<std::string, CatalogueRecord> records_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::mountd
