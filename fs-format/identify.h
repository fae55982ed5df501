// The look at an open disk that Prober and Formatter share: signatures only, no locks.
#pragma once

#include <string>
#include <variant>

#include "base/error.h"
#include "base/fd.h"
#include "fs-format/prober.h"

namespace vdvs::fsformat {

/// No signature that libblkid knows. Not a proof: a Blank also needs the lock and the zeros.
struct NoSignature {};

/// Reads `fd`, the open node. A signature with a bad checksum counts as one. Never writes.
base::Result<std::variant<NoSignature, FileSystem, Foreign>> identify(const base::UniqueFd& fd,
                                                                      const std::string& node);

}  // namespace vdvs::fsformat
