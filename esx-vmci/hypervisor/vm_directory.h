// The virtual machines that a hypervisor runs: who they are, and whether they run.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/peer.h"

namespace vdvs::esx {

enum class PowerState { kOn, kOff, kSuspended, kUnknown };
std::string_view power_state_name(PowerState state);

struct VmState {
  Vm vm;
  PowerState power = PowerState::kUnknown;
};

class VmDirectory {
 public:
  virtual ~VmDirectory() = default;

  /// The VM behind a connection. Errors: kDenied where the peer is no VM that is known here; kUnavailable
  /// where the hypervisor does not say now.
  virtual base::Result<Vm> identify(const Peer& peer) = 0;
  virtual base::Result<std::vector<VmState>> vms() = 0;
  /// By uuid, instance uuid or name. Errors: kNotFound; kInvalid where two have that name.
  virtual base::Result<VmState> find_vm(std::string_view name_or_uuid) = 0;

  /// Calls `changed` for every VM once, soon, and then after each change of its power; what happened while
  /// the hypervisor was not reachable is told when it is again. Never gives up. Once. Thread: `changed` runs
  /// on a thread of the implementation's, and may block.
  virtual void watch_power(std::function<void(const VmState&)> changed) = 0;
};

class VmProcesses;

/// VMs that run on this very kernel, so that they can only be told apart by their sockets:
/// "unix:PATH,vm=NAME" is NAME; everybody else is `host`. A VM that has no entry in `vms` is made up from its
/// name. Always on.
std::unique_ptr<VmDirectory> make_local_vm_directory(Vm host, std::vector<Vm> vms);
/// The same, where `processes` says which of them are on; a VM that it does not know, and `host`, always is.
std::unique_ptr<VmDirectory> make_local_vm_directory(Vm host, std::vector<Vm> vms,
                                                     std::unique_ptr<VmProcesses> processes);

}  // namespace vdvs::esx
