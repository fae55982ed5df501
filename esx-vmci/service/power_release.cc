#include "esx-vmci/service/power_release.h"

#include "base/log.h"

namespace vdvs::esx {

void release_disks_of(const Vm& vm, const ServiceParts& parts) {
  for (const Datastore& datastore : parts.datastores.all()) {
    const auto groups = parts.datastores.groups(datastore.name);
    if (!groups) {
      base::log::warn("cannot look for the disks of a VM that is off",
                      {{"vm", vm.name}, {"datastore", datastore.name}, {"cause", groups.error().text()}});
      continue;
    }
    for (const std::string& group : *groups) {
      const auto store = parts.datastores.store(datastore.name, {.uuid = group, .name = {}}, false);
      if (!store || *store == nullptr) continue;
      if (auto released = parts.operations.release_all(vm, **store); !released) {
        base::log::warn("a VM that is off keeps disks",
                        {{"vm", vm.name}, {"datastore", datastore.name}, {"cause", released.error().text()}});
      }
    }
  }
}

void release_disks_at_power_off(const ServiceParts& parts) {
  parts.vms.watch_power([parts](const VmState& state) {
    if (state.power == PowerState::kOff) release_disks_of(state.vm, parts);
  });
}

}  // namespace vdvs::esx
