#include "esx-vmci/tenancy/schema.h"

#include <array>

#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr std::int64_t kMajor = 1;
constexpr std::int64_t kMinor = 2;
constexpr std::int64_t kVmodlMajor = 1;
constexpr std::int64_t kVmodlMinor = 0;
constexpr std::string_view kLegacyDefaultUrl = "_DEFAULT_URL";

constexpr std::array kTables = {
    "CREATE TABLE tenants(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, description TEXT, "
    "default_datastore_url TEXT)",
    "CREATE TABLE vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL, vm_name TEXT, FOREIGN "
    "KEY(tenant_id) REFERENCES tenants(id))",
    "CREATE TABLE privileges(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, allow_create INTEGER, "
    "max_volume_size INTEGER, usage_quota INTEGER, PRIMARY KEY(tenant_id, datastore_url), FOREIGN "
    "KEY(tenant_id) REFERENCES tenants(id))",
    "CREATE TABLE volumes(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, volume_name TEXT, "
    "volume_size INTEGER, PRIMARY KEY(tenant_id, datastore_url, volume_name), FOREIGN KEY(tenant_id) "
    "REFERENCES tenants(id))",
    "CREATE TABLE versions(id INTEGER PRIMARY KEY NOT NULL, major_ver INTEGER NOT NULL, minor_ver INTEGER "
    "NOT "
    "NULL, vmodl_major_ver INTEGER NOT NULL, vmodl_minor_ver INTEGER NOT NULL)",
};

/// Reading each column that we use: fails where one is not there.
constexpr std::array kColumnChecks = {
    "SELECT id, name, description, default_datastore_url FROM tenants LIMIT 1",
    "SELECT vm_id, tenant_id, vm_name FROM vms LIMIT 1",
    "SELECT tenant_id, datastore_url, allow_create, max_volume_size, usage_quota FROM privileges LIMIT 1",
    "SELECT tenant_id, datastore_url, volume_name, volume_size FROM volumes LIMIT 1",
};

struct Version {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  bool operator==(const Version&) const = default;
};

Result<Version> read_version(SqliteFile& file, const std::string& path) {
  ASSIGN_OR_RETURN(const auto rows, file.rows("SELECT major_ver, minor_ver FROM versions WHERE id=0"));
  if (rows.empty()) {
    return std::unexpected(
        Error(ErrorCode::kCorrupt,
              fmt::format("DB access error at {}: {}", path, db_mode_text(DbMode::kBrokenLink)),
              "the table 'versions' has no row: bring a copy of the file back"));
  }
  return Version{rows.front().integer(0), rows.front().integer(1)};
}

/// 1.1 had no names of VMs, could leave a group without a default datastore, and gave _DEFAULT its rights by
/// another url. The names stay empty until somebody who knows the VMs gives them (Tenancy::name_members).
Result<void> upgrade_from_1_1(SqliteFile& file) {
  ASSIGN_OR_RETURN(const auto columns,
                   file.rows("SELECT 1 FROM pragma_table_info('vms') WHERE name='vm_name'"));
  if (columns.empty()) RETURN_IF_ERROR(file.run("ALTER TABLE vms ADD COLUMN vm_name TEXT"));
  RETURN_IF_ERROR(
      file.run("UPDATE tenants SET default_datastore_url=?1 WHERE default_datastore_url IS NULL OR "
               "default_datastore_url IN ('', ?2)",
               {std::string(kVmDatastoreUrl), std::string(kLegacyDefaultUrl)}));
  RETURN_IF_ERROR(
      file.run("INSERT OR IGNORE INTO privileges (tenant_id, datastore_url, allow_create, max_volume_size, "
               "usage_quota) "
               "SELECT id, default_datastore_url, 1, 0, 0 FROM tenants"));
  ASSIGN_OR_RETURN(const auto defaults,
                   file.rows("SELECT id FROM tenants WHERE name=?1", {std::string(kDefaultGroupName)}));
  for (const SqlRow& group : defaults) {
    RETURN_IF_ERROR(add_full_privilege(file, group.text(0), kAllDatastoresUrl));
    RETURN_IF_ERROR(file.run("DELETE FROM privileges WHERE tenant_id=?1 AND datastore_url=?2",
                             {group.text(0), std::string(kLegacyDefaultUrl)}));
  }
  RETURN_IF_ERROR(file.run(
      "UPDATE versions SET major_ver=?1, minor_ver=?2, vmodl_major_ver=?3, vmodl_minor_ver=?4 WHERE id=0",
      {kMajor, kMinor, kVmodlMajor, kVmodlMinor}));
  return {};
}

}  // namespace

Result<void> add_full_privilege(SqliteFile& file, const std::string& group_uuid,
                                std::string_view datastore_url) {
  RETURN_IF_ERROR(
      file.run("INSERT OR IGNORE INTO privileges (tenant_id, datastore_url, allow_create, max_volume_size, "
               "usage_quota) "
               "VALUES(?1, ?2, 1, 0, 0)",
               {group_uuid, std::string(datastore_url)}));
  return {};
}

Result<void> make_schema(SqliteFile& file) {
  for (const char* table : kTables) RETURN_IF_ERROR(file.run(table));
  RETURN_IF_ERROR(
      file.run("INSERT INTO versions VALUES(0, ?1, ?2, ?3, ?4)", {kMajor, kMinor, kVmodlMajor, kVmodlMinor}));
  const std::string uuid(kDefaultGroupUuid);
  RETURN_IF_ERROR(file.run("INSERT INTO tenants VALUES(?1, ?2, 'This is a default vmgroup', ?3)",
                           {uuid, std::string(kDefaultGroupName), std::string(kVmDatastoreUrl)}));
  RETURN_IF_ERROR(add_full_privilege(file, uuid, kAllDatastoresUrl));
  return add_full_privilege(file, uuid, kVmDatastoreUrl);
}

Result<void> check_schema(SqliteFile& file, const std::string& path) {
  constexpr Version kCurrent{kMajor, kMinor};
  constexpr Version kUpgradable{1, 1};
  ASSIGN_OR_RETURN(Version version, read_version(file, path));
  if (version == kUpgradable) {
    const Result<void> upgraded = file.transaction([&]() -> Result<void> {
      ASSIGN_OR_RETURN(version, read_version(file, path));  // another service may have been faster
      if (version != kUpgradable) return {};
      version = kCurrent;
      return upgrade_from_1_1(file);
    });
    RETURN_IF_ERROR(upgraded);
  }
  if (version != kCurrent) {
    return base::fail(ErrorCode::kUnsupported,
                      "Upgrade is not supported for auth-db schema version {}.{} to {}.{}. Refer to VDVS "
                      "release versions",
                      version.major, version.minor, kMajor, kMinor);
  }
  for (const char* check : kColumnChecks) RETURN_IF_ERROR(file.rows(check));
  return {};
}

}  // namespace vdvs::esx
