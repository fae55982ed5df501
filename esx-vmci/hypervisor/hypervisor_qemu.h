// VMs that are QEMU processes of this machine: disks are hot-plugged by QMP onto PVSCSI controllers, and the
// processes' coming and going is the VMs' power.
#pragma once

#include <chrono>
#include <memory>

#include "base/error.h"
#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/qemu_config.h"
#include "esx-vmci/hypervisor/vm_directory.h"

namespace vdvs::esx {

class QemuHypervisor : public Hypervisor, public VmDirectory {};

/// Connects to the monitors of all VMs, soon, and again for ever; a VM that does not run is off. It must have
/// each monitor for itself. Every call ends within kQemuOperationTime.
/// Thread: any. Owns: a thread for the monitors, and threads for what is told of the VMs' power.
std::unique_ptr<QemuHypervisor> make_qemu_hypervisor(QemuConfig config);

/// Below the patience of a guest (20 s), so that it gets the reason and not just silence.
inline constexpr std::chrono::seconds kQemuOperationTime{12};

}  // namespace vdvs::esx
