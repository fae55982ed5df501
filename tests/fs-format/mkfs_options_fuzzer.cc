// mkfs options come from whoever may create a volume: whatever they are, mkfs gets one device, ours. Lines:
// the type, the label, then an argument each.
#include <cstddef>
#include <cstdint>

#include "fs-format/mkfs_command.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::fsformat;
  std::vector<std::string> lines(1);
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += static_cast<char>(data[i]);
    }
  }
  if (lines.size() < 2) return 0;
  const FormatRequest request = {
      .fstype = lines[0], .label = lines[1], .mkfs_options = {lines.begin() + 2, lines.end()}};
  const auto argv = make_mkfs_command(request, "/dev/loop7");
  if (!argv) return 0;
  VDVS_CHECK(argv->back() == "/dev/loop7");
  for (std::size_t i = 0; i + 1 < argv->size(); ++i) {
    // A volume's name may hold a slash here; the options may not.
    VDVS_CHECK((*argv)[i].find('/') == std::string::npos || request.label.find('/') != std::string::npos);
  }
  return 0;
}
