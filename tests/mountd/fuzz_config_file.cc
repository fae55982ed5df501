// Config files of both formats: any bytes give settings or an error.
#include <cstddef>
#include <cstdint>

#include "mountd/config_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::mountd;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto content = parse_config_file(text)) {
    for (const FileSetting& setting : content->settings)
      VDVS_CHECK(!setting.key.empty() && setting.line >= 1);
  } else {
    VDVS_CHECK(content.error().message().starts_with("line "));
  }
  if (auto content = parse_predecessor_config_file(text)) {
    for (const FileSetting& setting : content->settings) VDVS_CHECK(setting.values.size() == 1);
  }
  return 0;
}
