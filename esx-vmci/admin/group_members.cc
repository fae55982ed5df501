#include "esx-vmci/admin/group_members.h"

#include <algorithm>
#include <optional>

#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/volume_scan.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::Result;

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> items;
  while (true) {
    std::string_view item = list.substr(0, list.find(','));
    const std::size_t length = item.size();
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (!item.empty()) items.emplace_back(item);
    if (length == list.size()) return items;
    list.remove_prefix(length + 1);
  }
}

/// nullopt: there is no such VM.
Result<std::optional<Tenancy::Member>> find_vm(VmDirectory& directory, const std::string& name,
                                               const std::vector<Tenancy::Member>& members) {
  auto state = directory.find_vm(name);
  if (state) return Tenancy::Member{state->vm.uuid, state->vm.name};
  const auto gone = std::ranges::find_if(members, [&](const Tenancy::Member& member) {
    return member.vm_name == name || equals_ignoring_case(member.vm_uuid, name);
  });
  if (gone != members.end()) return *gone;
  if (state.error().code() == ErrorCode::kNotFound) return std::nullopt;
  return std::unexpected(std::move(state).error());
}

}  // namespace

bool is_member(const std::vector<Tenancy::Member>& members, const Tenancy::Member& vm) {
  return std::ranges::any_of(members, [&](const Tenancy::Member& member) {
    return equals_ignoring_case(member.vm_uuid, vm.vm_uuid);
  });
}

Result<std::vector<Tenancy::Member>> resolve_vms(VmDirectory& directory, std::string_view list,
                                                 const std::vector<Tenancy::Member>& members) {
  const std::vector<std::string> names = split_list(list);
  if (names.empty()) return std::unexpected(tenancy_error(TenancyError::kVmListEmpty));
  std::vector<Tenancy::Member> vms;
  std::vector<std::string> unknown;
  std::vector<std::string> duplicates;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(auto vm, find_vm(directory, name, members));
    if (!vm)
      unknown.push_back(name);
    else if (is_member(vms, *vm))
      duplicates.push_back(name);
    else
      vms.push_back(std::move(*vm));
  }
  if (!unknown.empty())
    return std::unexpected(tenancy_error(TenancyError::kVmNotFound, {join(unknown, ",")}));
  if (!duplicates.empty())
    return std::unexpected(tenancy_error(TenancyError::kVmDuplicate, {join(duplicates, ",")}));
  return vms;
}

Result<void> refuse_with_disks(const ServiceParts& parts, const std::vector<Tenancy::Member>& vms,
                               std::string_view attempt) {
  for (const Tenancy::Member& member : vms) {
    Vm vm{.uuid = member.vm_uuid, .name = member.vm_name};
    if (auto state = parts.vms.find_vm(member.vm_uuid)) vm = std::move(state->vm);
    ASSIGN_OR_RETURN(const bool is_busy, has_disks(parts, vm));
    if (!is_busy) continue;
    const base::Error error = tenancy_error(TenancyError::kVmWithMountedVolumes, {member.vm_name});
    return std::unexpected(
        base::Error(error.code(), fmt::format("{} {}", attempt, error.message()), error.remedy()));
  }
  return {};
}

std::vector<VmState> known_vms(VmDirectory& directory) {
  return directory.vms().value_or(std::vector<VmState>());
}

std::string member_name(const std::vector<VmState>& vms, const Tenancy::Member& member) {
  const auto now = std::ranges::find_if(
      vms, [&](const VmState& state) { return equals_ignoring_case(state.vm.uuid, member.vm_uuid); });
  if (now != vms.end()) return now->vm.name;
  return member.vm_name.empty() ? std::string(kNotAvailable) : member.vm_name;
}

}  // namespace vdvs::esx::admin
