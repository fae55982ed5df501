// Fault points: named places at which a test can make the program fail, wait or die. The crash tests walk through all of them.
//
//   VDVS_FAULTS="mount.attach.before=kill"          die by SIGKILL there
//   VDVS_FAULTS="format.mkfs.after=fail"            the step returns E_IO
//   VDVS_FAULTS="remove.before=block:/tmp/gate"     wait until that file exists
//   VDVS_FAULTS="a.before=fail:2,b.after=kill"      several; ":N" of fail is how often
//
// Read once from the environment. Without the variable a fault point costs one load of a pointer.
#pragma once

#include <string_view>

#include "base/error.h"

namespace vdvs::base {

/// Passes the fault point `name`. Error: kIo where the environment asks for a failure here.
/// Thread: any.
Result<void> fault_point(std::string_view name);

/// Replaces what the environment said (for tests in the same process). Errors: an entry that cannot be read.
Result<void> set_faults(std::string_view text);

}  // namespace vdvs::base
