// The engine's list of containers and its events are decoded from any bytes without harm, and what goes on
// into a URL is plain.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mountd/engine.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto mounts = vdvs::mountd::decode_container_list(text);
  if (mounts && mounts->size() > size) __builtin_trap();
  auto id = vdvs::mountd::decode_container_event(text);
  if (id && id->find_first_of("/?% ") != std::string::npos) __builtin_trap();
  return 0;
}
