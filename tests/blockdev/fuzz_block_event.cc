// The properties of a uevent as they come over the wire: KEY=VALUE, separated by NUL.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "blockdev/block_event.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<vdvs::blockdev::EventProperty> properties;
  while (!text.empty()) {
    const auto record = text.substr(0, text.find('\0'));
    const auto equals = record.find('=');
    const auto value = equals == std::string_view::npos ? std::string_view() : record.substr(equals + 1);
    properties.push_back({record.substr(0, equals), value});
    text.remove_prefix(std::min(text.size(), record.size() + 1));
  }
  const auto event = vdvs::blockdev::decode_block_event(properties);
  if (event && event->name.empty()) std::abort();
  return 0;
}
