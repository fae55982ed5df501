// The engine's list of containers is decoded from any bytes without harm, and every mount that it yields was
// there.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mountd/engine.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto mounts = vdvs::mountd::decode_container_list(text);
  if (mounts && mounts->size() > size) __builtin_trap();
  return 0;
}
