#include "esx-vmci/tenancy/privilege_rows.h"

#include <algorithm>
#include <map>

#include "esx-vmci/tenancy/group_rows.h"

namespace vdvs::esx {
namespace {

using base::Result;

/// Far beyond every datastore, and far from where sums of sizes overflow.
constexpr std::uint64_t kMaxStoredMb = std::uint64_t{1} << 50;

std::unexpected<base::Error> refuse(TenancyError error,
                                    std::initializer_list<std::string_view> arguments = {}) {
  return std::unexpected(tenancy_error(error, arguments));
}

/// A negative limit, which only other programs can have written, lets nothing through: 0 would be no limit.
std::uint64_t limit_of(std::int64_t stored) { return stored < 0 ? 1 : static_cast<std::uint64_t>(stored); }

Privilege privilege_of(const SqlRow& row) {
  return Privilege{.datastore_url = row.text(0),
                   .allow_create = row.integer(1) != 0,
                   .max_volume_mb = limit_of(row.integer(2)),
                   .usage_quota_mb = limit_of(row.integer(3))};
}

/// As the administrator writes it.
std::string_view shown(std::string_view url) {
  if (url == kVmDatastoreUrl) return "_VM_DS";
  if (url == kAllDatastoresUrl) return "_ALL_DS";
  return url;
}

Result<std::int64_t> stored_mb(std::uint64_t size_mb) {
  if (size_mb > kMaxStoredMb) return refuse(TenancyError::kVolumeSizeInvalid);
  return static_cast<std::int64_t>(size_mb);
}

Result<void> validate_limits(const Privilege& privilege) {
  RETURN_IF_ERROR(stored_mb(privilege.max_volume_mb));
  RETURN_IF_ERROR(stored_mb(privilege.usage_quota_mb));
  if (privilege.usage_quota_mb != 0 && privilege.max_volume_mb > privilege.usage_quota_mb) {
    return refuse(TenancyError::kPrivilegeInvalidVolumeSize,
                  {std::to_string(privilege.max_volume_mb), std::to_string(privilege.usage_quota_mb)});
  }
  return {};
}

Result<std::optional<Privilege>> find_privilege(SqliteFile& file, const std::string& group_uuid,
                                                std::string_view url) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT datastore_url, allow_create, max_volume_size, usage_quota FROM privileges "
                "WHERE tenant_id=?1 AND datastore_url=?2",
                {group_uuid, std::string(url)}));
  if (rows.empty()) return std::nullopt;
  return privilege_of(rows.front());
}

}  // namespace

Result<Privilege> read_allowed(SqliteFile& file, const PlaceOfVolume& place, Access access) {
  // All the rows that could count in one statement, the one that does first.
  const std::string vm_row = place.url == place.vm_url ? std::string(kVmDatastoreUrl) : place.url;
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT datastore_url, allow_create, max_volume_size, usage_quota FROM privileges "
                "WHERE tenant_id=?1 AND datastore_url IN (?2, ?3, ?4) "
                "ORDER BY CASE datastore_url WHEN ?2 THEN 0 WHEN ?3 THEN 1 ELSE 2 END LIMIT 1",
                {place.group_uuid, place.url, vm_row, std::string(kAllDatastoresUrl)}));
  if (rows.empty()) return refuse(TenancyError::kPrivilegeNoPrivilege);
  Privilege privilege = privilege_of(rows.front());
  switch (access) {
    case Access::kGet:
    case Access::kMount:
      break;
    case Access::kCreate:
      if (!privilege.allow_create) return refuse(TenancyError::kPrivilegeNoCreatePrivilege);
      break;
    case Access::kRemove:
      if (!privilege.allow_create) return refuse(TenancyError::kPrivilegeNoDeletePrivilege);
      break;
  }
  return privilege;
}

Result<ReservedRow> reserve_volume(SqliteFile& file, const PlaceOfVolume& place, const std::string& volume,
                                   std::uint64_t size_mb) {
  ASSIGN_OR_RETURN(const Privilege privilege, read_allowed(file, place, Access::kCreate));
  ASSIGN_OR_RETURN(const std::int64_t size, stored_mb(size_mb));
  if (privilege.max_volume_mb != 0 && size_mb > privilege.max_volume_mb)
    return refuse(TenancyError::kPrivilegeMaxVolExceed);
  if (privilege.usage_quota_mb != 0) {
    // Without the volume's own row: it may have been made before, or an interrupted create has left it.
    ASSIGN_OR_RETURN(const auto used,
                     file.rows("SELECT SUM(volume_size) FROM volumes WHERE tenant_id=?1 AND datastore_url=?2 "
                               "AND volume_name IS NOT ?3",
                               {place.group_uuid, place.real_url(), volume}));
    const auto used_mb = static_cast<std::uint64_t>(std::max<std::int64_t>(0, used.front().integer(0)));
    if (used_mb > privilege.usage_quota_mb || size_mb > privilege.usage_quota_mb - used_mb)
      return refuse(TenancyError::kPrivilegeUsageQuotaExceed);
  }
  ReservedRow row;
  ASSIGN_OR_RETURN(const auto before,
                   file.rows("SELECT volume_size FROM volumes WHERE tenant_id=?1 AND datastore_url=?2 AND "
                             "volume_name=?3",
                             {place.group_uuid, place.real_url(), volume}));
  if (!before.empty()) row.size_before_mb = before.front().integer(0);
  // A new row with an id (62 random bits) that no row had before, also where there was one: that is how a
  // create that has lost a race knows, when it gives back, that the row is not its any more, and a remove
  // that the volume was made again.
  RETURN_IF_ERROR(
      file.run("INSERT OR REPLACE INTO volumes(rowid, tenant_id, datastore_url, volume_name, volume_size) "
               "VALUES(random() & 0x3fffffffffffffff, ?1, ?2, ?3, ?4)",
               {place.group_uuid, place.real_url(), volume, size}));
  row.row_id = file.last_insert_id();
  return row;
}

Result<void> give_volume_back(SqliteFile& file, const ReservedRow& row, const std::string& volume) {
  if (row.size_before_mb) {
    RETURN_IF_ERROR(file.run("UPDATE volumes SET volume_size=?3 WHERE rowid=?1 AND volume_name=?2",
                             {row.row_id, volume, *row.size_before_mb}));
  } else {
    RETURN_IF_ERROR(file.run("DELETE FROM volumes WHERE rowid=?1 AND volume_name=?2", {row.row_id, volume}));
  }
  return {};
}

Result<std::optional<std::int64_t>> find_volume_row(SqliteFile& file, const PlaceOfVolume& place,
                                                    const std::string& volume) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT rowid FROM volumes WHERE tenant_id=?1 AND datastore_url=?2 AND volume_name=?3",
                {place.group_uuid, place.real_url(), volume}));
  if (rows.empty()) return std::nullopt;
  return rows.front().integer(0);
}

Result<void> keep_volume(SqliteFile& file, const PlaceOfVolume& place, const std::string& volume,
                         std::uint64_t size_mb) {
  ASSIGN_OR_RETURN(const std::int64_t size, stored_mb(size_mb));
  RETURN_IF_ERROR(
      file.run("INSERT OR IGNORE INTO volumes (tenant_id, datastore_url, volume_name, volume_size) "
               "VALUES(?1, ?2, ?3, ?4)",
               {place.group_uuid, place.real_url(), volume, size}));
  return {};
}

Result<void> delete_volume_row(SqliteFile& file, const PlaceOfVolume& place, const std::string& volume,
                               std::int64_t row_id) {
  RETURN_IF_ERROR(
      file.run("DELETE FROM volumes WHERE rowid=?4 AND tenant_id=?1 AND datastore_url=?2 AND volume_name=?3",
               {place.group_uuid, place.real_url(), volume, row_id}));
  return {};
}

Result<void> match_volumes(SqliteFile& file, const PlaceOfVolume& place,
                           const std::vector<Tenancy::StoredVolume>& volumes,
                           const std::vector<std::string>& keep) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT volume_name, volume_size FROM volumes WHERE tenant_id=?1 AND datastore_url=?2",
                {place.group_uuid, place.real_url()}));
  std::map<std::string, std::int64_t> recorded;
  for (const SqlRow& row : rows) recorded[row.text(0)] = row.integer(1);
  const auto is_kept = [&keep](const std::string& name) {
    return std::ranges::find(keep, name) != keep.end();
  };
  for (const Tenancy::StoredVolume& volume : volumes) {
    if (is_kept(volume.name)) continue;
    const auto found = recorded.find(volume.name);
    const bool is_recorded = found != recorded.end();
    const std::int64_t recorded_mb = is_recorded ? found->second : 0;
    if (is_recorded) recorded.erase(found);
    if (!volume.size_mb) continue;  // whoever makes it has reserved, and keeps or gives back
    ASSIGN_OR_RETURN(const std::int64_t size, stored_mb(*volume.size_mb));
    if (is_recorded && recorded_mb == size) continue;
    RETURN_IF_ERROR(
        file.run("INSERT OR REPLACE INTO volumes (tenant_id, datastore_url, volume_name, volume_size) "
                 "VALUES(?1, ?2, ?3, ?4)",
                 {place.group_uuid, place.real_url(), volume.name, size}));
  }
  for (const auto& [name, size] : recorded) {
    if (is_kept(name)) continue;
    RETURN_IF_ERROR(file.run("DELETE FROM volumes WHERE tenant_id=?1 AND datastore_url=?2 AND volume_name=?3",
                             {place.group_uuid, place.real_url(), name}));
  }
  return {};
}

Result<std::vector<std::pair<std::string, std::uint64_t>>> read_usage(SqliteFile& file,
                                                                      const VmGroup& group) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT datastore_url, SUM(volume_size) FROM volumes WHERE tenant_id=?1 GROUP BY "
                "datastore_url ORDER BY datastore_url",
                {group.uuid}));
  std::vector<std::pair<std::string, std::uint64_t>> usage;
  for (const SqlRow& row : rows)
    usage.emplace_back(row.text(0), static_cast<std::uint64_t>(std::max<std::int64_t>(0, row.integer(1))));
  return usage;
}

Result<std::vector<Privilege>> read_privileges(SqliteFile& file, const VmGroup& group) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT datastore_url, allow_create, max_volume_size, usage_quota FROM privileges "
                "WHERE tenant_id=?1 ORDER BY datastore_url",
                {group.uuid}));
  std::vector<Privilege> privileges;
  for (const SqlRow& row : rows) privileges.push_back(privilege_of(row));
  return privileges;
}

Result<void> insert_privilege(SqliteFile& file, const VmGroup& group, const Privilege& privilege) {
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  if (privilege.datastore_url.empty()) return refuse(TenancyError::kDsNotExist, {"''"});
  RETURN_IF_ERROR(validate_limits(privilege));
  ASSIGN_OR_RETURN(const auto found, find_privilege(file, current.uuid, privilege.datastore_url));
  if (found)
    return refuse(TenancyError::kPrivilegeAlreadyExist, {current.name, shown(privilege.datastore_url)});
  RETURN_IF_ERROR(file.run(
      "INSERT INTO privileges (tenant_id, datastore_url, allow_create, max_volume_size, usage_quota) "
      "VALUES(?1, ?2, ?3, ?4, ?5)",
      {current.uuid, privilege.datastore_url, std::int64_t{privilege.allow_create},
       static_cast<std::int64_t>(privilege.max_volume_mb),
       static_cast<std::int64_t>(privilege.usage_quota_mb)}));
  return {};
}

Result<void> change_privilege_row(SqliteFile& file, const VmGroup& group, std::string_view url,
                                  const Tenancy::PrivilegeChange& change) {
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  ASSIGN_OR_RETURN(auto privilege, find_privilege(file, current.uuid, url));
  if (!privilege) return refuse(TenancyError::kPrivilegeNotFound, {current.name, shown(url)});
  privilege->allow_create = change.allow_create.value_or(privilege->allow_create);
  privilege->max_volume_mb = change.max_volume_mb.value_or(privilege->max_volume_mb);
  privilege->usage_quota_mb = change.usage_quota_mb.value_or(privilege->usage_quota_mb);
  RETURN_IF_ERROR(validate_limits(*privilege));
  RETURN_IF_ERROR(file.run(
      "UPDATE privileges SET allow_create=?3, max_volume_size=?4, usage_quota=?5 WHERE tenant_id=?1 AND "
      "datastore_url=?2",
      {current.uuid, std::string(url), std::int64_t{privilege->allow_create},
       static_cast<std::int64_t>(privilege->max_volume_mb),
       static_cast<std::int64_t>(privilege->usage_quota_mb)}));
  return {};
}

Result<void> delete_privilege(SqliteFile& file, const VmGroup& group, std::string_view url) {
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  if (url == current.default_datastore_url) return refuse(TenancyError::kPrivilegeRemoveNotAllowed);
  ASSIGN_OR_RETURN(const auto changed,
                   file.run("DELETE FROM privileges WHERE tenant_id=?1 AND datastore_url=?2",
                            {current.uuid, std::string(url)}));
  if (changed == 0) return refuse(TenancyError::kPrivilegeNotFound, {current.name, shown(url)});
  return {};
}

}  // namespace vdvs::esx
