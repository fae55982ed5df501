// vCenter, or one ESXi host, as the hypervisor: disks are put into running VMs by ReconfigVM_Task, and the
// server says who the VMs are and whether they run.
//
// Both are safe to repeat. What is done is decided by the VM's present configuration, never by what an answer
// that was lost may have said; each change carries the version of the configuration that it was decided on.
#pragma once

#include <memory>

#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/vm_directory.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

/// Does not connect yet. `session` must outlive it. Thread: any, side by side; one change at a time for each
/// VM. Beyond Hypervisor: attach and detach give kNotFound/success where there is no such VM, kInvalid where
/// two VMs have the uuid.
std::unique_ptr<Hypervisor> make_vsphere_hypervisor(VsphereSession& session);

/// VMs are identified by their certificates, whose common name is the VM's name or one of its uuids (or by
/// the socket that was given to them). Contexts of vsock belong to one host's kernel and name no VM here.
/// `watch` is a session of its own for watch_power, since a question for changes keeps its connection. It and
/// `session` must outlive the directory. Its thread ends with it.
std::unique_ptr<VmDirectory> make_vsphere_vm_directory(VsphereSession& session, VsphereSession& watch);

}  // namespace vdvs::esx
