// What the tests of tenancy share: a database of their own, looked at from outside with the sqlite3 command.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "esx-vmci/tenancy/tenancy.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

inline constexpr std::string_view kDs1 = "ds:///vmfs/volumes/one/";
inline constexpr std::string_view kDs2 = "ds:///vmfs/volumes/two/";
inline const Tenancy::Member kWeb{"564dac12-b1a0-f735-0df3-bceb00b30340", "web"};
inline const Tenancy::Member kDb{"564d0000-0000-0000-0000-000000000002", "db"};
inline const Tenancy::Member kLog{"564d0000-0000-0000-0000-000000000003", "log"};

/// The predecessor's tables, as it made them. `version` 1: before VMs had names.
inline std::string predecessor_schema(int minor) {
  return "create table tenants(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, description TEXT, "
         "default_datastore_url TEXT);"
         "create table vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL" +
         std::string(minor == 1 ? "" : ", vm_name TEXT") +
         ", FOREIGN KEY(tenant_id) REFERENCES tenants(id));"
         "create table privileges(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, allow_create "
         "INTEGER, "
         "max_volume_size INTEGER, usage_quota INTEGER, PRIMARY KEY(tenant_id, datastore_url), FOREIGN "
         "KEY(tenant_id) REFERENCES tenants(id));"
         "create table volumes(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, volume_name TEXT, "
         "volume_size INTEGER, PRIMARY KEY(tenant_id, datastore_url, volume_name), FOREIGN KEY(tenant_id) "
         "REFERENCES tenants(id));"
         "create table versions(id INTEGER PRIMARY KEY NOT NULL, major_ver INTEGER NOT NULL, minor_ver "
         "INTEGER "
         "NOT NULL, vmodl_major_ver INTEGER NOT NULL, vmodl_minor_ver INTEGER NOT NULL);"
         "insert into versions values(0, 1, " +
         std::to_string(minor) + ", 1, 0);";
}

class TenancyTest : public ::testing::Test {
 protected:
  TenancyTest() : path_(folder_.path() + "/auth-db"), tenancy_(make_sqlite_tenancy(path_)) {}

  void init() { ASSERT_OK(init_local_database(path_, false)); }

  /// The rows that a statement gives, by the sqlite3 command: "a|b\n".
  std::string sql(const std::string& statement) const { return run({"sqlite3", path_, statement}); }

  VmGroup make_group(std::string_view name, const std::vector<Tenancy::Member>& vms = {},
                     std::string_view url = kVmDatastoreUrl) {
    auto group = tenancy_->create_group(name, "", url, vms);
    EXPECT_OK(group);
    return group ? *group : VmGroup{};
  }
  VmGroup default_group() {
    auto group = tenancy_->find_group("_DEFAULT");
    EXPECT_OK(group);
    return group ? *group : VmGroup{};
  }
  std::string group_name_of(std::string_view vm_uuid) {
    auto group = tenancy_->group_of(vm_uuid, "vm");
    return group ? group->name : group.error().message();
  }
  /// Reserves and keeps.
  base::Result<void> make_volume(const VmGroup& group, std::string_view url, std::string_view volume,
                                 std::uint64_t size_mb, std::string_view vm_url = kDs1) {
    auto reservation = tenancy_->reserve(group, url, vm_url, volume, size_mb);
    if (!reservation) return std::unexpected(reservation.error());
    reservation->keep();
    return {};
  }
  void limit(const VmGroup& group, std::string_view url, std::uint64_t max_mb, std::uint64_t quota_mb) {
    EXPECT_OK(tenancy_->change_privilege(group, url, {.max_volume_mb = max_mb, .usage_quota_mb = quota_mb}));
  }

  TemporaryFolder folder_;
  const std::string path_;
  std::unique_ptr<Tenancy> tenancy_;
};

}  // namespace vdvs::esx::testing
