// /proc/self/mountinfo holds paths that containers choose.
#include <cstddef>
#include <cstdint>

#include "fs-format/mounter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const auto& mount : vdvs::fsformat::parse_mountinfo({reinterpret_cast<const char*>(data), size})) {
    VDVS_CHECK(!mount.target.empty() && !mount.fstype.empty());
  }
  return 0;
}
