// Mount options come from whoever may create a volume.
#include <sys/mount.h>

#include <cstddef>
#include <cstdint>

#include "fs-format/mount_options.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::fsformat;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (bool is_read_only : {false, true}) {
    const auto options = parse_mount_options(text, is_read_only);
    if (!options) continue;
    VDVS_CHECK(options->is_read_only || !is_read_only);
    VDVS_CHECK(options->is_read_only == ((options->attributes & MOUNT_ATTR_RDONLY) != 0));
    VDVS_CHECK(!options->has("source") && !options->has("remount"));
    for (const auto& parameter : options->parameters) VDVS_CHECK(parameter.key.size() <= kMaxParameterBytes);
  }
  return 0;
}
