// vmgroup create, update, rm, ls.
#include <algorithm>

#include "esx-vmci/admin/group_members.h"
#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/volume_scan.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::Result;

Result<std::string> default_datastore_url(const AdminOptions& options, const std::string& name) {
  ASSIGN_OR_RETURN(std::string url, url_of(options.parts.datastores, name));
  if (url == kAllDatastoresUrl) return std::unexpected(tenancy_error(TenancyError::kDsDefaultCannotUseAllDs));
  return url;
}

/// "['a', 'b']", as the predecessor printed a list.
std::string list_text(std::string_view list) {
  std::string result = "['";
  for (const char c : list) {
    if (c == ',')
      result += "', '";
    else if (c != ' ')
      result += c;
  }
  return result + "']";
}

/// All the group's volumes, or an error: what is not seen could be lost. Errors also where one is attached.
Result<std::vector<ScannedVolume>> removable_volumes(const AdminOptions& options, const VmGroup& group) {
  ASSIGN_OR_RETURN(Scan scan, scan_volumes(options.parts, {.group_uuid = group.uuid}));
  if (!scan.notes.empty()) {
    return std::unexpected(base::Error(
        ErrorCode::kUnavailable,
        fmt::format("Cannot tell which volumes vmgroup {} has: {}", group.name, join(scan.notes, "; ")),
        "remove the vmgroup when all datastores can be read"));
  }
  return std::move(scan.volumes);
}

Result<void> remove_volumes(const AdminOptions& options, const VmGroup& group,
                            const std::vector<ScannedVolume>& volumes) {
  for (const ScannedVolume& volume : volumes) {
    if (!volume.info || !volume.info->holder) continue;
    return std::unexpected(
        base::Error(ErrorCode::kInUse,
                    fmt::format("Failed to remove volume {}, in use by VM = {}.", volume.volume,
                                volume.info->holder->name.empty() ? volume.info->holder->uuid
                                                                  : volume.info->holder->name),
                    "stop its container first; no volume has been removed"));
  }
  for (const ScannedVolume& volume : volumes) {
    ASSIGN_OR_RETURN(const auto row,
                     options.parts.tenancy.row_of_volume(group, volume.datastore.url, volume.volume));
    auto removed = options.parts.operations.remove(Vm{.uuid = {}, .name = "administrator"}, volume.place());
    if (!removed)
      return std::unexpected(std::move(removed).error().within(fmt::format("remove {}", volume.text())));
    RETURN_IF_ERROR(options.parts.tenancy.forget_volume(group, volume.datastore.url, volume.volume, row));
  }
  return {};
}

}  // namespace

Result<AdminOutput> group_create(const AdminOptions& options, const Flags& flags) {
  const std::string& name = flag(flags, "name");
  const std::optional<std::string> vm_list = find_flag(flags, "vm-list");
  RETURN_IF_ERROR(need_database(options));
  if (name == kDefaultGroupName && vm_list)
    return std::unexpected(tenancy_error(TenancyError::kInvalidArgument, {list_text(*vm_list)}));
  ASSIGN_OR_RETURN(const std::string url, default_datastore_url(options, flag(flags, "default-datastore")));
  std::vector<Tenancy::Member> vms;
  if (vm_list) {
    ASSIGN_OR_RETURN(vms, resolve_vms(options.parts.vms, *vm_list));
    RETURN_IF_ERROR(refuse_with_disks(options.parts, vms, "Cannot add VM to vmgroup"));
  }
  RETURN_IF_ERROR(
      options.parts.tenancy.create_group(name, find_flag(flags, "description").value_or(""), url, vms));
  const std::string created = fmt::format("vmgroup '{}' is created.", name);
  if (name == kDefaultGroupName) return text(created);
  return text(created + " Do not forget to run 'vmgroup vm add' to add vm to vmgroup.");
}

Result<AdminOutput> group_update(const AdminOptions& options, const Flags& flags) {
  RETURN_IF_ERROR(need_database(options));
  ASSIGN_OR_RETURN(const VmGroup group, options.parts.tenancy.find_group(flag(flags, "name")));
  Tenancy::GroupChange change{.name = find_flag(flags, "new-name"),
                              .description = find_flag(flags, "description")};
  if (const auto datastore = find_flag(flags, "default-datastore")) {
    ASSIGN_OR_RETURN(change.default_datastore_url, default_datastore_url(options, *datastore));
  }
  if (!change.name && !change.description && !change.default_datastore_url) {
    return std::unexpected(base::Error(ErrorCode::kInvalid,
                                       fmt::format("update vmgroup '{}': nothing to change", group.name),
                                       "give --new-name, --description or --default-datastore"));
  }
  RETURN_IF_ERROR(options.parts.tenancy.update_group(group, change));
  if (change.name && *change.name != group.name) {
    // Only the links that people look at have the name: the group is renamed even where one cannot be.
    const auto renamed = options.parts.datastores.rename_group({group.uuid, group.name}, *change.name);
    if (!renamed) {
      AdminOutput output = text("vmgroup modify succeeded");
      output.lines.push_back(
          fmt::format("Warning: a link still has the old name: {}", renamed.error().message()));
      return output;
    }
  }
  return text("vmgroup modify succeeded");
}

Result<AdminOutput> group_rm(const AdminOptions& options, const Flags& flags) {
  const bool is_forced = has_flag(flags, "force");
  RETURN_IF_ERROR(need_database(options));
  ASSIGN_OR_RETURN(const VmGroup group, options.parts.tenancy.find_group(flag(flags, "name")));
  ASSIGN_OR_RETURN(const auto members, options.parts.tenancy.members(group));
  if (!members.empty() && !is_forced)
    return std::unexpected(tenancy_error(TenancyError::kTenantNotEmpty, {group.name}));
  // The volumes of _DEFAULT stay for whoever makes it again: its uuid is always the same.
  const bool removes_volumes = has_flag(flags, "remove-volumes");
  const bool may_keep_volumes = group.name == kDefaultGroupName && !removes_volumes;
  if (!may_keep_volumes) {
    ASSIGN_OR_RETURN(const auto volumes, removable_volumes(options, group));
    if (!volumes.empty() && !removes_volumes) {
      return std::unexpected(tenancy_error(
          TenancyError::kInternalError,
          {"The vmgroup has volumes in it, these must be removed/migrated before deleting the vmgroup."}));
    }
    RETURN_IF_ERROR(remove_volumes(options, group, volumes));
  }
  RETURN_IF_ERROR(options.parts.tenancy.remove_group(group, is_forced));
  AdminOutput output =
      text(removes_volumes ? "All Volumes will be removed. vmgroup rm succeeded" : "vmgroup rm succeeded");
  if (may_keep_volumes) return output;
  // A volume that was made since stays, and so does its folder: "volume ls" shows it with vmgroup N/A.
  const auto removed = options.parts.datastores.remove_group({group.uuid, group.name});
  if (!removed) output.lines.push_back("Warning: the vmgroup's folder stays: " + removed.error().message());
  return output;
}

Result<AdminOutput> group_ls(const AdminOptions& options, const Flags&) {
  ASSIGN_OR_RETURN(const std::vector<VmGroup> groups, options.parts.tenancy.groups());
  const std::vector<VmState> vms = known_vms(options.parts.vms);
  AdminOutput output{.columns = {"Uuid", "Name", "Description", "Default_datastore", "VM_list"}};
  for (const VmGroup& group : groups) {
    ASSIGN_OR_RETURN(const auto members, options.parts.tenancy.members(group));
    std::vector<std::string> names;
    for (const Tenancy::Member& member : members) names.push_back(member_name(vms, member));
    output.rows.push_back({group.uuid, group.name, group.description,
                           name_of(options.parts.datastores, group.default_datastore_url), join(names, ",")});
  }
  return output;
}

}  // namespace vdvs::esx::admin
