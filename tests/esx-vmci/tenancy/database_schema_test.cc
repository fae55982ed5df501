// One file format for the predecessor and for us: what we make is what it made, and we open what it made.
#include <algorithm>
#include <cctype>

#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

class DatabaseSchema : public TenancyTest {
 protected:
  void make(int minor, const std::string& content) { sql(predecessor_schema(minor) + content); }
  std::string columns(const std::string& table) {
    return sql(
        "select group_concat(name || ' ' || type || ' ' || \"notnull\" || ' ' || pk, ', ') from "
        "pragma_table_info('" +
        table + "')");
  }
};

const std::string kDefaultUuid = "11111111-1111-1111-1111-111111111111";
const std::string kDefaultRow = "insert into tenants values('" + kDefaultUuid +
                                "', '_DEFAULT', 'This is a default vmgroup', '_VM_DS://');";

TEST_F(DatabaseSchema, IsThePredecessorsColumnForColumn) {
  init();
  std::vector<std::string> ours;
  for (const char* table : {"tenants", "vms", "privileges", "volumes", "versions"})
    ours.push_back(columns(table));
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  make(2, "");
  std::vector<std::string> theirs;
  for (const char* table : {"tenants", "vms", "privileges", "volumes", "versions"})
    theirs.push_back(columns(table));
  EXPECT_EQ(ours, theirs);
}

TEST_F(DatabaseSchema, BeginsWithTheDefaultGroup) {
  init();
  EXPECT_EQ(sql("select * from versions"), "0|1|2|1|0\n");
  EXPECT_EQ(sql("select * from tenants"), kDefaultUuid + "|_DEFAULT|This is a default vmgroup|_VM_DS://\n");
  EXPECT_EQ(sql("select * from privileges"),
            kDefaultUuid + "|_ALL_DS://|1|0|0\n" + kDefaultUuid + "|_VM_DS://|1|0|0\n");
  EXPECT_EQ(sql("select count(*) from vms"), "0\n");
  EXPECT_EQ(sql("select count(*) from volumes"), "0\n");
}

TEST_F(DatabaseSchema, HasARollbackJournalSinceItMayLieOnNfs) {
  init();
  EXPECT_EQ(sql("pragma journal_mode"), "delete\n");
  EXPECT_OK(tenancy_->groups());
  EXPECT_FALSE(std::filesystem::exists(path_ + "-wal"));
}

TEST_F(DatabaseSchema, ThatSomebodyHasMadeAWalIsTakenBack) {
  init();
  EXPECT_EQ(sql("pragma journal_mode=wal"), "wal\n");
  make_group("g1");
  EXPECT_EQ(sql("pragma journal_mode"), "delete\n");
}

TEST_F(DatabaseSchema, OfThePredecessorIsUsedAsItIs) {
  make(2, kDefaultRow + "insert into privileges values('" + kDefaultUuid +
              "', '_ALL_DS://', 1, 0, 0);"
              "insert into tenants values('u1', 'g1', NULL, 'ds:///vmfs/volumes/one/');"
              "insert into vms values('" +
              kWeb.vm_uuid +
              "', 'u1', 'web');"
              "insert into privileges values('u1', 'ds:///vmfs/volumes/one/', 1, 500, 1000);"
              "insert into volumes values('u1', 'ds:///vmfs/volumes/one/', 'old', 900);");
  const auto group = tenancy_->group_of(kWeb.vm_uuid, "web");
  ASSERT_OK(group);
  EXPECT_EQ(group->name, "g1");
  EXPECT_EQ(message_of(make_volume(*group, kDs1, "new", 101)),
            "The total volume size exceeds the usage quota");
  EXPECT_OK(make_volume(*group, kDs1, "new", 100));
  EXPECT_EQ(sql("select volume_name, volume_size from volumes"), "old|900\nnew|100\n");
}

TEST_F(DatabaseSchema, OfVersion11IsUpgraded) {
  make(1, kDefaultRow + "insert into privileges values('" + kDefaultUuid +
              "', '_DEFAULT_URL', 1, 0, 0);"
              "insert into tenants values('u1', 'g1', '', '');"
              "insert into tenants values('u2', 'g2', '', 'ds:///vmfs/volumes/two/');"
              "insert into privileges values('u2', 'ds:///vmfs/volumes/two/', 0, 5, 6);"
              "insert into vms values('" +
              kWeb.vm_uuid + "', 'u1');");
  EXPECT_EQ(group_name_of(kWeb.vm_uuid), "g1");
  EXPECT_EQ(sql("select * from versions"), "0|1|2|1|0\n");
  EXPECT_EQ(sql("select * from vms"), kWeb.vm_uuid + "|u1|\n");
  EXPECT_EQ(sql("select name, default_datastore_url from tenants order by name"),
            "_DEFAULT|_VM_DS://\ng1|_VM_DS://\ng2|ds:///vmfs/volumes/two/\n");
  EXPECT_EQ(sql("select * from privileges order by 1, 2"), kDefaultUuid + "|_ALL_DS://|1|0|0\n" +
                                                               kDefaultUuid +
                                                               "|_VM_DS://|1|0|0\n"
                                                               "u1|_VM_DS://|1|0|0\n"
                                                               "u2|ds:///vmfs/volumes/two/|0|5|6\n");
}

TEST_F(DatabaseSchema, OfVersion11GetsTheNamesOfItsVmsFromWhoKnowsThem) {
  make(1, kDefaultRow + "insert into tenants values('u1', 'g1', '', '');" + "insert into vms values('" +
              kWeb.vm_uuid + "', 'u1'); insert into vms values('" + kDb.vm_uuid + "', 'u1');");
  std::string other_case = kWeb.vm_uuid;
  std::ranges::transform(other_case, other_case.begin(), [](unsigned char c) { return std::toupper(c); });
  ASSERT_OK(tenancy_->name_members({{other_case, "web"}, kLog}));
  EXPECT_EQ(sql("select vm_id, vm_name from vms order by vm_name desc"),
            kWeb.vm_uuid + "|web\n" + kDb.vm_uuid + "|\n");
  ASSERT_OK(tenancy_->name_members({{kWeb.vm_uuid, "renamed"}}));
  EXPECT_EQ(sql("select vm_name from vms where vm_id='" + kWeb.vm_uuid + "'"), "web\n")
      << "a name that was stored stays";
}

TEST_F(DatabaseSchema, OfAnUnknownVersionIsRefusedAndLeftAlone) {
  for (const int minor : {0, 3}) {
    ::unlink(path_.c_str());
    make(minor, kDefaultRow);
    const std::string before = read_text(path_);
    const auto refused = tenancy_->groups();
    EXPECT_EQ(message_of(refused),
              fmt::format("Upgrade is not supported for auth-db schema version 1.{} to 1.2. "
                          "Refer to VDVS release versions",
                          minor));
    EXPECT_EQ(code_of(refused), "E_UNSUPPORTED");
    EXPECT_EQ(read_text(path_), before);
  }
}

TEST_F(DatabaseSchema, OfOthersKeepsTheirTablesAndColumns) {
  make(2, kDefaultRow +
              "create table ours_only(x); insert into ours_only values(42);"
              "alter table tenants add column color text default 'red';");
  EXPECT_OK(tenancy_->groups());
  EXPECT_OK(tenancy_->update_group(default_group(), {.description = "changed"}));
  make_group("g1");
  EXPECT_EQ(sql("select * from ours_only"), "42\n");
  EXPECT_EQ(sql("select description, color from tenants order by name"), "changed|red\n|red\n");
}

TEST_F(DatabaseSchema, WithRowsThatBreakItsForeignKeysIsStillUsed) {
  make(2, kDefaultRow +
              "insert into vms values('x', 'gone', 'x'); insert into volumes values('gone', 'u', 'v', 1);");
  EXPECT_OK(tenancy_->groups());
  const VmGroup group = make_group("g1", {kWeb});
  EXPECT_OK(tenancy_->remove_group(group, true));
  EXPECT_EQ(sql("select count(*) from vms"), "1\n");
}

TEST_F(DatabaseSchema, EnforcesItsForeignKeysInOurTransactions) {
  init();
  const VmGroup nobody{.uuid = "no-such", .name = "ghost", .description = {}, .default_datastore_url = {}};
  EXPECT_FALSE(tenancy_->add_vms(nobody, {kWeb}));
  EXPECT_FALSE(tenancy_->reconcile_volumes(nobody, kDs1, {{"v", 1}}));
  EXPECT_EQ(sql("select count(*) from volumes"), "0\n");
}

}  // namespace
}  // namespace vdvs::esx::testing
