// Lines of /proc/<pid>/mountinfo: their mount points are names that any user of the machine may have chosen.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "blockdev/device_users.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto entry = vdvs::blockdev::decode_mountinfo_line(line);
  if (entry && (entry->mount_point.empty() || entry->mount_point.size() > size)) std::abort();
  return 0;
}
