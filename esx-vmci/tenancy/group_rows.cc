#include "esx-vmci/tenancy/group_rows.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/tenancy/schema.h"

namespace vdvs::esx {
namespace {

using base::Result;

constexpr std::string_view kNamePattern = "[a-zA-Z0-9_][a-zA-Z0-9_.-]*";

std::unexpected<base::Error> refuse(TenancyError error,
                                    std::initializer_list<std::string_view> arguments = {}) {
  return std::unexpected(tenancy_error(error, arguments));
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return result;
}

bool is_default(const VmGroup& group) {
  return group.uuid == kDefaultGroupUuid || group.name == kDefaultGroupName;
}

std::string_view shown(const Tenancy::Member& vm) { return vm.vm_name.empty() ? vm.vm_uuid : vm.vm_name; }

/// "['web-1', 'web-2']"
std::string list_of(const Members& vms) {
  std::string text = "[";
  for (const Tenancy::Member& vm : vms) text += fmt::format("{}'{}'", text.size() > 1 ? ", " : "", shown(vm));
  return text + "]";
}

VmGroup group_of(const SqlRow& row) {
  return VmGroup{.uuid = row.text(0),
                 .name = row.text(1),
                 .description = row.text(2),
                 .default_datastore_url = row.text(3)};
}

/// A random uuid (RFC 4122, version 4).
std::string new_uuid() {
  std::array<unsigned char, 16> bytes{};
  VDVS_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

/// Characters of UTF-8.
std::size_t count_chars(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

Result<void> validate_description(std::string_view description) {
  if (count_chars(description) > kMaxGroupDescriptionChars)
    return refuse(TenancyError::kTenantDescriptionTooLong, {description});
  return {};
}

Result<void> validate_default_datastore(std::string_view url) {
  if (url == kAllDatastoresUrl) return refuse(TenancyError::kDsDefaultCannotUseAllDs);
  if (url.empty()) return refuse(TenancyError::kDsDefaultNameInvalid, {"''"});
  return {};
}

Result<void> refuse_taken_name(SqliteFile& file, const std::string& name) {
  ASSIGN_OR_RETURN(const auto rows, file.rows("SELECT 1 FROM tenants WHERE name=?1", {name}));
  if (!rows.empty()) return refuse(TenancyError::kTenantAlreadyExist, {name});
  return {};
}

Result<void> refuse_duplicates(const Members& vms) {
  std::set<std::string> seen;
  for (const Tenancy::Member& vm : vms) {
    if (!seen.insert(lower(vm.vm_uuid)).second) return refuse(TenancyError::kVmDuplicate, {list_of(vms)});
  }
  return {};
}

struct Membership {
  std::string group_uuid;
  std::string group_name;
};

/// Who is in which group, by the uuid in small letters.
Result<std::map<std::string, Membership>> read_memberships(SqliteFile& file) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT v.vm_id, v.tenant_id, t.name FROM vms v LEFT JOIN tenants t ON t.id=v.tenant_id"));
  std::map<std::string, Membership> memberships;
  for (const SqlRow& row : rows) memberships[lower(row.text(0))] = {row.text(1), row.text(2)};
  return memberships;
}

/// Which of the rules of adding a VM: to its own group again, or to a second one.
Result<void> refuse_members_of_groups(SqliteFile& file, const VmGroup& group, const Members& vms,
                                      bool may_be_in_this_one) {
  ASSIGN_OR_RETURN(const auto memberships, read_memberships(file));
  for (const Tenancy::Member& vm : vms) {
    if (vm.vm_uuid.empty()) return refuse(TenancyError::kVmNotFound, {shown(vm)});
    const auto found = memberships.find(lower(vm.vm_uuid));
    if (found == memberships.end()) continue;
    if (found->second.group_uuid != group.uuid)
      return refuse(TenancyError::kVmInAnotherTenant, {shown(vm), found->second.group_name});
    if (!may_be_in_this_one) return refuse(TenancyError::kVmAlreadyInTenant, {shown(vm), group.name});
  }
  return {};
}

Result<void> write_members(SqliteFile& file, const VmGroup& group, const Members& vms) {
  for (const Tenancy::Member& vm : vms) {
    RETURN_IF_ERROR(file.run("INSERT INTO vms (vm_id, tenant_id, vm_name) VALUES(?1, ?2, ?3)",
                             {lower(vm.vm_uuid), group.uuid, vm.vm_name}));
  }
  return {};
}

Result<void> refuse_default_group(const VmGroup& group) {
  if (is_default(group)) return refuse(TenancyError::kFeatureNotSupported, {kDefaultGroupName});
  return {};
}

Result<void> rename_group(SqliteFile& file, const VmGroup& group, const std::string& name) {
  if (name == group.name) return {};
  if (is_default(group)) {
    return refuse(TenancyError::kTenantNameInvalid,
                  {kDefaultGroupName, "rename of vmgroups other than _DEFAULT"});
  }
  RETURN_IF_ERROR(validate_group_name(name));
  RETURN_IF_ERROR(refuse_taken_name(file, name));
  // The name stands for the fixed uuid, which a renamed group does not have.
  if (name == kDefaultGroupName)
    return refuse(TenancyError::kTenantNameInvalid, {name, "a name other than _DEFAULT"});
  RETURN_IF_ERROR(file.run("UPDATE tenants SET name=?2 WHERE id=?1", {group.uuid, name}));
  return {};
}

}  // namespace

Result<void> validate_group_name(std::string_view name) {
  if (name.empty()) return refuse(TenancyError::kTenantNameEmpty);
  if (count_chars(name) > kMaxGroupNameChars) return refuse(TenancyError::kTenantNameTooLong, {name});
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool is_valid = is_word(name.front()) &&
                        std::ranges::all_of(name, [&](char c) { return is_word(c) || c == '.' || c == '-'; });
  if (!is_valid) return refuse(TenancyError::kTenantNameInvalid, {name, kNamePattern});
  return {};
}

Result<std::vector<VmGroup>> read_groups(SqliteFile& file) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT id, name, description, default_datastore_url FROM tenants ORDER BY name"));
  std::vector<VmGroup> groups;
  for (const SqlRow& row : rows) groups.push_back(group_of(row));
  return groups;
}

Result<VmGroup> read_group(SqliteFile& file, std::string_view name) {
  ASSIGN_OR_RETURN(const auto rows,
                   file.rows("SELECT id, name, description, default_datastore_url FROM tenants WHERE name=?1",
                             {std::string(name)}));
  if (rows.empty()) return refuse(TenancyError::kTenantNotExist, {name});
  return group_of(rows.front());
}

Result<VmGroup> refresh_group(SqliteFile& file, const VmGroup& group) {
  ASSIGN_OR_RETURN(const auto rows,
                   file.rows("SELECT id, name, description, default_datastore_url FROM tenants WHERE id=?1",
                             {group.uuid}));
  if (rows.empty()) return refuse(TenancyError::kTenantNotExist, {group.name});
  return group_of(rows.front());
}

Result<VmGroup> read_group_of(SqliteFile& file, std::string_view vm_uuid, std::string_view vm_name) {
  // By index in the spellings that occur; the other ones by a scan, before a VM counts as a member of none.
  // One statement, so that a VM that is just moved is never seen in neither.
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows(
          "SELECT id, name, description, default_datastore_url FROM tenants WHERE id=COALESCE("
          "(SELECT v.tenant_id FROM vms v JOIN tenants t ON t.id=v.tenant_id WHERE v.vm_id IN (?1, ?2) LIMIT "
          "1),"
          "(SELECT v.tenant_id FROM vms v JOIN tenants t ON t.id=v.tenant_id WHERE v.vm_id=?1 COLLATE NOCASE "
          "LIMIT 1),"
          "(SELECT id FROM tenants WHERE name=?3))",
          {lower(vm_uuid), upper(vm_uuid), std::string(kDefaultGroupName)}));
  if (rows.empty()) return refuse(TenancyError::kVmNotBelongToTenant, {vm_name.empty() ? vm_uuid : vm_name});
  return group_of(rows.front());
}

Result<Members> read_members(SqliteFile& file, const VmGroup& group) {
  ASSIGN_OR_RETURN(
      const auto rows,
      file.rows("SELECT vm_id, vm_name FROM vms WHERE tenant_id=?1 ORDER BY vm_name, vm_id", {group.uuid}));
  Members members;
  for (const SqlRow& row : rows) members.push_back({row.text(0), row.text(1)});
  return members;
}

Result<VmGroup> insert_group(SqliteFile& file, VmGroup group, const Members& vms) {
  RETURN_IF_ERROR(validate_group_name(group.name));
  RETURN_IF_ERROR(validate_description(group.description));
  RETURN_IF_ERROR(validate_default_datastore(group.default_datastore_url));
  const bool is_default_group = group.name == kDefaultGroupName;
  if (is_default_group && !vms.empty()) return refuse(TenancyError::kInvalidArgument, {list_of(vms)});
  RETURN_IF_ERROR(refuse_taken_name(file, group.name));
  RETURN_IF_ERROR(refuse_duplicates(vms));
  group.uuid = is_default_group ? std::string(kDefaultGroupUuid) : new_uuid();
  RETURN_IF_ERROR(refuse_members_of_groups(file, group, vms, false));
  RETURN_IF_ERROR(
      file.run("INSERT INTO tenants (id, name, description, default_datastore_url) VALUES(?1, ?2, ?3, ?4)",
               {group.uuid, group.name, group.description, group.default_datastore_url}));
  RETURN_IF_ERROR(write_members(file, group, vms));
  RETURN_IF_ERROR(add_full_privilege(file, group.uuid, group.default_datastore_url));
  return group;
}

Result<VmGroup> change_group(SqliteFile& file, const VmGroup& group, const Tenancy::GroupChange& change) {
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  if (change.name) RETURN_IF_ERROR(rename_group(file, current, *change.name));
  if (change.description) {
    RETURN_IF_ERROR(validate_description(*change.description));
    RETURN_IF_ERROR(
        file.run("UPDATE tenants SET description=?2 WHERE id=?1", {group.uuid, *change.description}));
  }
  if (change.default_datastore_url) {
    RETURN_IF_ERROR(validate_default_datastore(*change.default_datastore_url));
    RETURN_IF_ERROR(file.run("UPDATE tenants SET default_datastore_url=?2 WHERE id=?1",
                             {group.uuid, *change.default_datastore_url}));
    RETURN_IF_ERROR(add_full_privilege(file, group.uuid, *change.default_datastore_url));
  }
  return refresh_group(file, group);
}

Result<void> delete_group(SqliteFile& file, const VmGroup& group, bool even_with_members) {
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  ASSIGN_OR_RETURN(const Members members, read_members(file, current));
  if (!members.empty() && !even_with_members) return refuse(TenancyError::kTenantNotEmpty, {current.name});
  for (const char* table : {"DELETE FROM vms WHERE tenant_id=?1", "DELETE FROM privileges WHERE tenant_id=?1",
                            "DELETE FROM volumes WHERE tenant_id=?1", "DELETE FROM tenants WHERE id=?1"}) {
    RETURN_IF_ERROR(file.run(table, {current.uuid}));
  }
  return {};
}

Result<void> insert_members(SqliteFile& file, const VmGroup& group, const Members& vms) {
  RETURN_IF_ERROR(refuse_default_group(group));
  if (vms.empty()) return refuse(TenancyError::kVmListEmpty);
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  RETURN_IF_ERROR(refuse_duplicates(vms));
  RETURN_IF_ERROR(refuse_members_of_groups(file, current, vms, false));
  return write_members(file, current, vms);
}

Result<void> delete_members(SqliteFile& file, const VmGroup& group, const Members& vms) {
  RETURN_IF_ERROR(refuse_default_group(group));
  if (vms.empty()) return refuse(TenancyError::kVmListEmpty);
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  RETURN_IF_ERROR(refuse_duplicates(vms));
  for (const Tenancy::Member& vm : vms) {
    ASSIGN_OR_RETURN(const auto changed,
                     file.run("DELETE FROM vms WHERE tenant_id=?1 AND vm_id=?2 COLLATE NOCASE",
                              {current.uuid, vm.vm_uuid}));
    if (changed == 0) return refuse(TenancyError::kVmNotInTenant, {shown(vm), current.name});
  }
  return {};
}

Result<void> replace_members(SqliteFile& file, const VmGroup& group, const Members& vms) {
  RETURN_IF_ERROR(refuse_default_group(group));
  if (vms.empty()) return refuse(TenancyError::kReplaceVmEmpty);
  ASSIGN_OR_RETURN(const VmGroup current, refresh_group(file, group));
  RETURN_IF_ERROR(refuse_duplicates(vms));
  RETURN_IF_ERROR(refuse_members_of_groups(file, current, vms, true));
  RETURN_IF_ERROR(file.run("DELETE FROM vms WHERE tenant_id=?1", {current.uuid}));
  return write_members(file, current, vms);
}

Result<bool> has_nameless_members(SqliteFile& file) {
  ASSIGN_OR_RETURN(const auto rows,
                   file.rows("SELECT 1 FROM vms WHERE vm_name IS NULL OR vm_name='' LIMIT 1"));
  return !rows.empty();
}

Result<void> write_missing_names(SqliteFile& file, const Members& known) {
  for (const Tenancy::Member& vm : known) {
    if (vm.vm_name.empty()) continue;
    RETURN_IF_ERROR(file.run(
        "UPDATE vms SET vm_name=?2 WHERE vm_id=?1 COLLATE NOCASE AND (vm_name IS NULL OR vm_name='')",
        {vm.vm_uuid, vm.vm_name}));
  }
  return {};
}

}  // namespace vdvs::esx
