// A VM that is off keeps no disks: they are taken out of it, so that others can have them at once and it does
// not find them when it starts again.
#pragma once

#include <functional>

#include "esx-vmci/service/request_pipeline.h"

namespace vdvs::esx {

/// Takes all disks out of `vm`, of whatever group and datastore. Blocks. Errors are logged; the disks that
/// failed are tried again at the VM's next change, and at an attach of another VM.
void release_disks_of(const Vm& vm, const ServiceParts& parts);

/// Watches from now on: each VM that is or goes off is released; suspended ones keep theirs.
void release_disks_at_power_off(const ServiceParts& parts);

}  // namespace vdvs::esx
