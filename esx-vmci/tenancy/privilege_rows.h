// Rights and the room that volumes take, as rows (reference, 3.11). Every function runs in the caller's
// transaction; nothing here begins or ends one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "esx-vmci/tenancy/sqlite_file.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {

/// What a request is about: kVmDatastoreUrl in `url` stands for the VM's own datastore.
struct PlaceOfVolume {
  std::string group_uuid;
  std::string url;
  std::string vm_url;
  /// Where the volume really is, which is what rows of volumes name.
  const std::string& real_url() const { return url == kVmDatastoreUrl ? vm_url : url; }
};

base::Result<Privilege> read_allowed(SqliteFile& file, const PlaceOfVolume& place, Access access);

/// A row of `volumes` that stands for a volume in the making.
struct ReservedRow {
  std::int64_t row_id = 0;
  std::optional<std::int64_t> size_before_mb;  ///< There was a row of that volume already.
};
base::Result<ReservedRow> reserve_volume(SqliteFile& file, const PlaceOfVolume& place,
                                         const std::string& volume, std::uint64_t size_mb);
/// Only the reservation itself is taken back, never a row that somebody has written after it.
base::Result<void> give_volume_back(SqliteFile& file, const ReservedRow& row, const std::string& volume);
base::Result<std::optional<std::int64_t>> find_volume_row(SqliteFile& file, const PlaceOfVolume& place,
                                                          const std::string& volume);
/// Writes the row again if it is gone.
base::Result<void> keep_volume(SqliteFile& file, const PlaceOfVolume& place, const std::string& volume,
                               std::uint64_t size_mb);
/// Where it is still the row with that id.
base::Result<void> delete_volume_row(SqliteFile& file, const PlaceOfVolume& place, const std::string& volume,
                                     std::int64_t row_id);
/// `keep`: volumes that are being made now in this process, whose rows stay.
base::Result<void> match_volumes(SqliteFile& file, const PlaceOfVolume& place,
                                 const std::vector<Tenancy::StoredVolume>& volumes,
                                 const std::vector<std::string>& keep);
base::Result<std::vector<std::pair<std::string, std::uint64_t>>> read_usage(SqliteFile& file,
                                                                            const VmGroup& group);

base::Result<std::vector<Privilege>> read_privileges(SqliteFile& file, const VmGroup& group);
base::Result<void> insert_privilege(SqliteFile& file, const VmGroup& group, const Privilege& privilege);
base::Result<void> change_privilege_row(SqliteFile& file, const VmGroup& group, std::string_view url,
                                        const Tenancy::PrivilegeChange& change);
base::Result<void> delete_privilege(SqliteFile& file, const VmGroup& group, std::string_view url);

}  // namespace vdvs::esx
