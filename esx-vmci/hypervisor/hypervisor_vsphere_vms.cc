#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;
using soap::MoRef;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

PowerState power_of(const std::string& power, const std::string& connection) {
  if (!connection.empty() && connection != "connected") return PowerState::kUnknown;
  if (power == "poweredOn") return PowerState::kOn;
  if (power == "poweredOff") return PowerState::kOff;
  if (power == "suspended") return PowerState::kSuspended;
  return PowerState::kUnknown;
}

std::unexpected<base::Error> ambiguous(std::string_view uuid, const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += fmt::format("{}'{}'", list.empty() ? "" : ", ", name);
  return std::unexpected(
      base::Error(ErrorCode::kInvalid,
                  fmt::format("find vm '{}': {} VMs have this BIOS uuid ({})", uuid, names.size(), list),
                  "give each of them a uuid of its own (uuid.bios in its configuration), or use the instance "
                  "uuid in its certificate"));
}

/// One of those with the uuid, or none: where the server lacks the search for all, all VMs are read.
Result<std::vector<MoRef>> search(VsphereSession& session, std::string_view uuid, bool is_instance,
                                  Deadline deadline) {
  ASSIGN_OR_RETURN(const VsphereRoots roots, session.roots(deadline));
  const std::string arguments = soap::tag("uuid", lower(std::string(uuid))) +
                                soap::tag_bool("vmSearch", true) +
                                soap::tag_bool("instanceUuid", is_instance);
  auto reply =
      session.call("FindAllByUuid", roots.search_index, arguments, VsphereSession::Effect::kReads, deadline);
  if (!reply && is_instance && reply.error().code() == ErrorCode::kUnsupported)
    reply =
        session.call("FindByUuid", roots.search_index, arguments, VsphereSession::Effect::kReads, deadline);
  if (!reply && reply.error().code() != ErrorCode::kUnsupported)
    return std::unexpected(std::move(reply).error());
  std::vector<MoRef> refs;
  if (reply) {
    for (const Element* ref : reply->all("returnval")) refs.push_back(ref->ref());
    return refs;
  }
  ASSIGN_OR_RETURN(const auto vms, read_vms(session, deadline));
  for (const VsphereVm& vm : vms) {
    if (equals_ignoring_case(vm.state.vm.uuid, uuid)) refs.push_back(vm.ref);
  }
  return refs;
}

}  // namespace

std::vector<std::string> vm_properties() {
  return {"name",
          "config.uuid",
          "config.instanceUuid",
          "config.files.vmPathName",
          "config.template",
          "runtime.powerState",
          "runtime.connectionState"};
}

VsphereVm decode_vm(const VsphereObject& object) {
  VsphereVm vm{.ref = object.ref,
               .state = {.vm = {.uuid = object.text("config.uuid"),
                                .name = object.text("name"),
                                .instance_uuid = object.text("config.instanceUuid")},
                         .power = power_of(object.text("runtime.powerState"),
                                           object.text("runtime.connectionState"))}};
  if (auto home = parse_datastore_path(object.text("config.files.vmPathName")))
    vm.state.vm.datastore = home->datastore;
  return vm;
}

Result<std::vector<VsphereVm>> read_vms(VsphereSession& session, Deadline deadline) {
  ASSIGN_OR_RETURN(const auto objects, session.read_all("VirtualMachine", vm_properties(), deadline));
  std::vector<VsphereVm> vms;
  for (const VsphereObject& object : objects) {
    if (object.text("config.template") != "true") vms.push_back(decode_vm(object));
  }
  return vms;
}

Result<MoRef> find_vm_ref(VsphereSession& session, const Vm& vm, Deadline deadline) {
  if (!vm.instance_uuid.empty()) {
    ASSIGN_OR_RETURN(const auto refs, search(session, vm.instance_uuid, true, deadline));
    if (refs.size() == 1) return refs.front();
  }
  ASSIGN_OR_RETURN(const auto refs, search(session, vm.uuid, false, deadline));
  if (refs.size() == 1) return refs.front();
  if (refs.empty()) {
    return fail(ErrorCode::kNotFound, "Failed to find VM object for {} (bios {} vc {})", vm.name, vm.uuid,
                vm.instance_uuid.empty() ? "None" : vm.instance_uuid);
  }
  std::vector<std::string> names;
  for (const MoRef& ref : refs) {
    auto object = session.read(ref, {"name"}, deadline);
    names.push_back(object ? object->text("name") : ref.value);
  }
  return ambiguous(vm.uuid, names);
}

Result<VsphereVm> choose_vm(const std::vector<VsphereVm>& vms, std::string_view name_or_uuid) {
  const auto with = [&](auto&& is_it) {
    std::vector<VsphereVm> found;
    std::ranges::copy_if(vms, std::back_inserter(found), is_it);
    return found;
  };
  const auto by_instance = with([&](const VsphereVm& vm) {
    return !vm.state.vm.instance_uuid.empty() &&
           equals_ignoring_case(vm.state.vm.instance_uuid, name_or_uuid);
  });
  if (by_instance.size() == 1) return by_instance.front();
  const auto by_uuid =
      with([&](const VsphereVm& vm) { return equals_ignoring_case(vm.state.vm.uuid, name_or_uuid); });
  if (by_uuid.size() == 1) return by_uuid.front();
  if (by_uuid.size() > 1) {
    std::vector<std::string> names;
    for (const VsphereVm& vm : by_uuid) names.push_back(vm.state.vm.name);
    return ambiguous(name_or_uuid, names);
  }
  const auto by_name = with([&](const VsphereVm& vm) { return vm.state.vm.name == name_or_uuid; });
  if (by_name.size() == 1) return by_name.front();
  if (by_name.empty()) return fail(ErrorCode::kNotFound, "Cannot find vm {}", name_or_uuid);
  return std::unexpected(base::Error(
      ErrorCode::kInvalid, fmt::format("find vm '{}': {} VMs have this name", name_or_uuid, by_name.size()),
      "use its uuid, or rename the others"));
}

}  // namespace vdvs::esx
