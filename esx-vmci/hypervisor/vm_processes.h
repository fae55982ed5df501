// VMs of this very kernel (containers, namespaces) as processes: each is on while one process of it, its pid
// 1, runs. A pid file names that process, as container managers write it.
//
// The kernel ends every process of a pid namespace before it tells of its pid 1's end, and their mounts end
// with them. So where "the process" is the pid 1 of a pid namespace, "off" means that nothing of the VM runs
// or writes any more. Where a pid is in doubt the VM counts as on: a disk that stays where it is can be freed
// by hand, one that two VMs write is lost.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/hypervisor/vm_directory.h"

namespace vdvs::esx {

struct VmPidFile {
  std::string vm;    ///< The VM's name.
  std::string path;  ///< Absolute. Its text is a pid of this process's pid namespace, and perhaps a newline.
};

/// Thread: any.
class VmProcesses {
 public:
  /// The VM's name, and what it is now.
  using Changed = std::function<void(const std::string& vm, PowerState power)>;

  virtual ~VmProcesses() = default;

  /// Looks now. On: its process runs, also where the pid file is gone meanwhile. Off: the process has ended,
  /// or there is no pid file. Unknown: the file does not say a pid. nullopt: not one of these VMs. A pid that
  /// ended and is another process's by now is told apart as long as this object has seen it alive.
  virtual std::optional<PowerState> power_of(std::string_view vm) = 0;

  /// As VmDirectory::watch_power: at once for each VM, then after each change. Off and on again in one moment
  /// may be told as one change. Once. `changed` runs in an order for each VM, side by side for several, and
  /// may block.
  virtual void watch(Changed changed) = 0;
};

/// Errors: kInvalid where a VM has two pid files; kNotFound where a pid file's folder is not there: it could
/// not be watched.
base::Result<std::unique_ptr<VmProcesses>> make_vm_processes(std::vector<VmPidFile> files);

}  // namespace vdvs::esx
