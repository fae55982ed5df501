// vmgroup vm add, rm, replace, ls.
#include "esx-vmci/admin/group_members.h"
#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// The group that a change is about: every VM that is in no other belongs to _DEFAULT, so that it has no
/// list.
Result<VmGroup> changeable_group(const AdminOptions& options, const Flags& flags) {
  RETURN_IF_ERROR(need_database(options));
  ASSIGN_OR_RETURN(VmGroup group, options.parts.tenancy.find_group(flag(flags, "name")));
  if (group.name == kDefaultGroupName)
    return std::unexpected(tenancy_error(TenancyError::kFeatureNotSupported, {group.name}));
  return group;
}

}  // namespace

Result<AdminOutput> vm_add(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const VmGroup group, changeable_group(options, flags));
  ASSIGN_OR_RETURN(const auto vms, resolve_vms(options.parts.vms, flag(flags, "vm-list")));
  RETURN_IF_ERROR(refuse_with_disks(options.parts, vms, "Cannot add VM to vmgroup"));
  RETURN_IF_ERROR(options.parts.tenancy.add_vms(group, vms));
  return text("vmgroup vm add succeeded");
}

Result<AdminOutput> vm_rm(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const VmGroup group, changeable_group(options, flags));
  ASSIGN_OR_RETURN(const auto members, options.parts.tenancy.members(group));
  ASSIGN_OR_RETURN(const auto vms, resolve_vms(options.parts.vms, flag(flags, "vm-list"), members));
  RETURN_IF_ERROR(refuse_with_disks(options.parts, vms, "Cannot complete vmgroup vm rm."));
  RETURN_IF_ERROR(options.parts.tenancy.remove_vms(group, vms));
  return text("vmgroup vm rm succeeded");
}

Result<AdminOutput> vm_replace(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const VmGroup group, changeable_group(options, flags));
  ASSIGN_OR_RETURN(const auto members, options.parts.tenancy.members(group));
  if (flag(flags, "vm-list").find_first_not_of(" ,") == std::string::npos)
    return std::unexpected(tenancy_error(TenancyError::kReplaceVmEmpty));
  ASSIGN_OR_RETURN(const auto vms, resolve_vms(options.parts.vms, flag(flags, "vm-list"), members));
  // Who stays may keep its disks.
  std::vector<Tenancy::Member> moving;
  for (const Tenancy::Member& vm : vms)
    if (!is_member(members, vm)) moving.push_back(vm);
  for (const Tenancy::Member& member : members)
    if (!is_member(vms, member)) moving.push_back(member);
  RETURN_IF_ERROR(refuse_with_disks(options.parts, moving, "Cannot complete vmgroup vm replace."));
  RETURN_IF_ERROR(options.parts.tenancy.replace_vms(group, vms));
  return text("vmgroup vm replace succeeded");
}

Result<AdminOutput> vm_ls(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const VmGroup group, options.parts.tenancy.find_group(flag(flags, "name")));
  if (group.name == kDefaultGroupName) {
    return fail(ErrorCode::kInvalid, "{} tenant contains all VMs which were not added to other tenants",
                kDefaultGroupName);
  }
  ASSIGN_OR_RETURN(const auto members, options.parts.tenancy.members(group));
  const std::vector<VmState> vms = known_vms(options.parts.vms);
  AdminOutput output{.columns = {"Uuid", "Name"}};
  for (const Tenancy::Member& member : members)
    output.rows.push_back({member.vm_uuid, member_name(vms, member)});
  return output;
}

}  // namespace vdvs::esx::admin
