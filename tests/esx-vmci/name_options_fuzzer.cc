// The first line is a volume's name, each following one an option ("size=1gb"). A valid name is a plain file
// name; options never differ from themselves.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/datastore/sidecar.h"
#include "esx-vmci/service/embedded.h"
#include "esx-vmci/volume_name.h"
#include "esx-vmci/volume_options.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto take_line = [&text] {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
  };
  const std::string_view first = take_line();
  (void)parse_datastore_folder(first);
  if (auto name = VolumeName::parse(first)) {
    VDVS_CHECK(name->text() == first);
    VDVS_CHECK(name->volume().find_first_of(std::string_view("/\\\"\0\n", 5)) == std::string::npos);
    VDVS_CHECK(!name->volume().empty() && name->volume() != "." && name->volume() != "..");
    VDVS_CHECK(sidecar_file_name(name->volume()).size() <= 255);
    VDVS_CHECK(find_sidecar_name(sidecars_line(sidecar_file_name(name->volume())), name->volume()) ==
               sidecar_file_name(name->volume()));
  }
  OptionMap given;
  while (!text.empty()) {
    const std::string_view line = take_line();
    const std::size_t equals = std::min(line.find('='), line.size());
    given[std::string(line.substr(0, equals))] = line.substr(std::min(equals + 1, line.size()));
  }
  if (auto options = VolumeOptions::parse(given)) {
    VDVS_CHECK(options->size_bytes >= (1u << 20) && options->size_bytes <= kMaxDiskBytes);
    VDVS_CHECK(options->fstype.find('/') == std::string::npos);
  }
  VDVS_CHECK(differences(given, given).empty());
  return 0;
}
