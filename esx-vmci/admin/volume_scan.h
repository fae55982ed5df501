// All volumes of all groups on all datastores: what the administrator sees and guests do not.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx::admin {

struct ScannedVolume {
  Datastore datastore;
  Group group;  ///< Without a name where the group is gone.
  DiskStore* store = nullptr;
  std::string volume;
  std::optional<VolumeInfo> info;  ///< Absent where it cannot be read; a note says why.

  Place place() const { return {store, volume}; }
  /// "db@ds1 of vmgroup g1".
  std::string text() const;
};

struct ScanWish {
  std::string group_glob = "*";  ///< As of a file name; groups that are gone are "N/A".
  std::string group_uuid;        ///< Where not empty: this group alone.
  bool with_info = true;         ///< Otherwise only the names.
};

struct Scan {
  std::vector<ScannedVolume> volumes;  ///< By datastore, group and name.
  std::vector<std::string> notes;      ///< What could not be looked at, and why.
};

/// Errors: kUnavailable and so on of the database. A datastore or a volume that cannot be read is a note.
base::Result<Scan> scan_volumes(const ServiceParts& parts, const ScanWish& wish);

/// One volume by "db@ds" or "db" (on whichever datastore), and its group's name or uuid (empty: whichever has
/// it). Errors: kNotFound; kInvalid where several fit, with their names; 2 (kTenantNotExist).
base::Result<ScannedVolume> find_volume(const ServiceParts& parts, std::string_view name,
                                        std::string_view group);

/// Whether `vm` has a disk of whatever group attached. Errors: where a datastore does not say.
base::Result<bool> has_disks(const ServiceParts& parts, const Vm& vm);

}  // namespace vdvs::esx::admin
