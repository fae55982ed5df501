// VMs and slots of the tests: which disk is in which VM, and which VM runs, is what the test says. Keeps no
// rule of a hypervisor but one: a disk is in one VM or in none.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/vm_directory.h"

namespace vdvs::esx::testing {

class FakeHypervisor final : public Hypervisor {
 public:
  base::Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) override {
    if (refusal) return std::unexpected(*refusal);
    const auto [entry, is_new] = holder_by_path.emplace(disk.extent_path, vm.uuid);
    if (!is_new && entry->second != vm.uuid)
      return base::fail(base::ErrorCode::kBusyElsewhere, "the file is locked");
    return base::ScsiAddress{.pci_slot = 160, .pci_bus = "15.0", .unit = 0};
  }
  base::Result<void> detach(const Vm& vm, const Disk& disk) override {
    if (refusal) return std::unexpected(*refusal);
    const auto entry = holder_by_path.find(disk.extent_path);
    if (entry != holder_by_path.end() && entry->second == vm.uuid) holder_by_path.erase(entry);
    return {};
  }
  base::Result<std::optional<Attachment>> find(const Disk& disk) override {
    const auto entry = holder_by_path.find(disk.extent_path);
    if (entry == holder_by_path.end()) return std::nullopt;
    return Attachment{.extent_path = entry->first, .vm_uuid = entry->second, .what = "slot 1", .address = {}};
  }
  base::Result<std::vector<Attachment>> attached_in(const std::string& place) override {
    std::vector<Attachment> found;
    for (const auto& [path, uuid] : holder_by_path) {
      if (std::filesystem::path(path).parent_path() == place)
        found.push_back({.extent_path = path, .vm_uuid = uuid, .what = "slot 1", .address = {}});
    }
    return found;
  }

  std::map<std::string, std::string> holder_by_path;
  std::optional<base::Error> refusal;  ///< Of every change.
};

class FakeVmDirectory final : public VmDirectory {
 public:
  base::Result<Vm> identify(const Peer& peer) override {
    return base::fail(base::ErrorCode::kDenied, "{} is nobody here", peer.text());
  }
  base::Result<std::vector<VmState>> vms() override { return states; }
  base::Result<VmState> find_vm(std::string_view name) override {
    for (const VmState& state : states) {
      if (state.vm.name == name || state.vm.uuid == name || state.vm.instance_uuid == name) return state;
    }
    return base::fail(base::ErrorCode::kNotFound, "Cannot find vm {}", name);
  }
  void watch_power(std::function<void(const VmState&)> changed) override { changed_ = std::move(changed); }

  void set_power(const std::string& name, PowerState power) {
    for (VmState& state : states) {
      if (state.vm.name == name) state.power = power;
    }
  }
  /// As a directory does after `set_power`, and for every VM at its start.
  void tell(const std::string& name) {
    if (auto state = find_vm(name)) changed_(*state);
  }
  void forget(const std::string& name) {
    std::erase_if(states, [&](const VmState& state) { return state.vm.name == name; });
  }

  std::vector<VmState> states;

 private:
  std::function<void(const VmState&)> changed_;
};

}  // namespace vdvs::esx::testing
