// VMs that are processes of this kernel, or this host itself: they are told apart by the sockets that were
// given to them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "esx-vmci/hypervisor/vm_directory.h"
#include "esx-vmci/hypervisor/vm_processes.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

class LocalVmDirectory final : public VmDirectory {
 public:
  LocalVmDirectory(Vm host, std::vector<Vm> vms, std::unique_ptr<VmProcesses> processes)
      : host_(std::move(host)), vms_(std::move(vms)), processes_(std::move(processes)) {}

  Result<Vm> identify(const Peer& peer) override {
    switch (peer.kind) {
      case Peer::Kind::kUnix:
        return peer.assigned_vm.empty() ? host_ : known_or_new(peer.assigned_vm);
      case Peer::Kind::kTls:
        return known_or_new(peer.certificate);
      case Peer::Kind::kVsock:
        return fail(ErrorCode::kDenied, "identify {}: loop devices are of this machine, which no other has",
                    peer.text());
    }
    return host_;
  }

  Result<std::vector<VmState>> vms() override {
    std::vector<VmState> states{{host_, PowerState::kOn}};
    for (const Vm& vm : vms_) states.push_back({vm, power_of(vm)});
    return states;
  }

  Result<VmState> find_vm(std::string_view name_or_uuid) override {
    if (is_named(host_, name_or_uuid)) return VmState{host_, PowerState::kOn};
    auto found = std::ranges::find_if(vms_, [&](const Vm& vm) { return is_named(vm, name_or_uuid); });
    if (found == vms_.end()) return fail(ErrorCode::kNotFound, "Cannot find vm {}", name_or_uuid);
    return VmState{*found, power_of(*found)};
  }

  void watch_power(std::function<void(const VmState&)> changed) override {
    if (!processes_) return;  // they are always on
    processes_->watch([this, changed = std::move(changed)](const std::string& name, PowerState power) {
      changed({known_or_new(name), power});
    });
  }

 private:
  static bool is_named(const Vm& vm, std::string_view text) {
    return vm.name == text || vm.uuid == text || (!vm.instance_uuid.empty() && vm.instance_uuid == text);
  }

  Vm known_or_new(const std::string& name) const {
    auto found = std::ranges::find_if(vms_, [&](const Vm& vm) { return is_named(vm, name); });
    return found != vms_.end() ? *found : Vm{.uuid = name, .name = name};
  }

  PowerState power_of(const Vm& vm) const {
    return processes_ ? processes_->power_of(vm.name).value_or(PowerState::kOn) : PowerState::kOn;
  }

  const Vm host_;
  const std::vector<Vm> vms_;
  const std::unique_ptr<VmProcesses> processes_;  ///< Or nullptr. Ends first: it calls the rest.
};

}  // namespace

std::string_view power_state_name(PowerState state) {
  switch (state) {
    case PowerState::kOn:
      return "on";
    case PowerState::kOff:
      return "off";
    case PowerState::kSuspended:
      return "suspended";
    case PowerState::kUnknown:
      return "unknown";
  }
  return {};
}

std::unique_ptr<VmDirectory> make_local_vm_directory(Vm host, std::vector<Vm> vms) {
  return make_local_vm_directory(std::move(host), std::move(vms), nullptr);
}

std::unique_ptr<VmDirectory> make_local_vm_directory(Vm host, std::vector<Vm> vms,
                                                     std::unique_ptr<VmProcesses> processes) {
  return std::make_unique<LocalVmDirectory>(std::move(host), std::move(vms), std::move(processes));
}

}  // namespace vdvs::esx
