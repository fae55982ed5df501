// The first line is what "volume set" is given, the second a size, the rest a boot script.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/admin/local_sh.h"
#include "esx-vmci/admin/sizes.h"
#include "esx-vmci/admin/volume_settings.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto take_line = [&text] {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
  };
  if (const auto settings = esx::admin::parse_volume_settings(take_line())) {
    VDVS_CHECK(!settings->empty() && settings->size() <= 2);
    for (const auto& [name, value] : *settings) VDVS_CHECK(name == "access" || name == "attach-as");
  }
  if (const auto mb = esx::admin::parse_limit_mb(take_line()))
    VDVS_CHECK(!esx::admin::limit_text(*mb).empty());
  // A block that was put in is taken out without a trace, but for a line end that the script did not have.
  const auto block = esx::local_sh_block("/etc/link", "/vmfs/volumes/ds/db");
  const auto without = esx::with_local_sh_block(text, "");
  VDVS_CHECK(block.has_value());
  if (!without || without->find(esx::kLocalShTag) != std::string::npos) return 0;
  const auto with = esx::with_local_sh_block(*without, *block);
  VDVS_CHECK(with.has_value() && with->find(*block) != std::string::npos);
  const auto back = esx::with_local_sh_block(*with, "");
  VDVS_CHECK(back.has_value() && (*back == *without || *back == *without + "\n"));
  return 0;
}
