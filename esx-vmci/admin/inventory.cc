// datastore ls, vm ls: what the other commands can be given. The predecessor has neither; completion needs
// them.
#include "esx-vmci/admin/group_members.h"
#include "esx-vmci/admin/handlers.h"

namespace vdvs::esx::admin {

using base::Result;

Result<AdminOutput> datastore_ls(const AdminOptions& options, const Flags&) {
  AdminOutput output{.columns = {"Datastore", "Type", "Url", "State"}};
  for (const Datastore& datastore : options.parts.datastores.all()) {
    const auto groups = options.parts.datastores.groups(datastore.name);
    output.rows.push_back({datastore.name, datastore.type, datastore.url, groups ? "available" : "away"});
    if (!groups) output.lines.push_back(groups.error().text());
  }
  return output;
}

Result<AdminOutput> directory_ls(const AdminOptions& options, const Flags&) {
  ASSIGN_OR_RETURN(const std::vector<VmState> vms, options.parts.vms.vms());
  AdminOutput output{.columns = {"Uuid", "Name", "Power", "VMGroup"}};
  for (const VmState& state : vms) {
    const auto group = options.parts.tenancy.group_of(state.vm.uuid, state.vm.name);
    output.rows.push_back({state.vm.uuid, state.vm.name, std::string(power_state_name(state.power)),
                           group ? group->name : std::string(kNotAvailable)});
  }
  return output;
}

}  // namespace vdvs::esx::admin
