#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/checksum.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)vdvs::base::parse_json(text);
  (void)vdvs::base::open_checked_line(text);
  return 0;
}
