// The state files: the bytes as they are, and, so that the fuzzer gets past the checksum, the bytes as the text of a good line.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/checksum.h"
#include "mountd/mount_holders.h"
#include "mountd/volume_catalogue.h"
#include "mountd/volume_status.h"

namespace {

void decode(std::string_view text) {
  using namespace vdvs::mountd;
  if (auto entry = decode_entry(text)) {
    std::string again = encode_entry(*entry);
    again.pop_back();
    if (decode_entry(again)->record != entry->record) __builtin_trap();
    (void)status_of(entry->record, "fuzz");
    (void)rfc3339_of_asctime(entry->record.created);
  }
  if (auto holders = decode_holders(text)) {
    if (encode_holders(*decode_holders(encode_holders(*holders))) != encode_holders(*holders)) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  decode(bytes);
  if (bytes.find('\n') == std::string_view::npos) {
    std::string line = vdvs::base::checked_line(bytes);
    line.pop_back();
    decode(line);
  }
  return 0;
}
