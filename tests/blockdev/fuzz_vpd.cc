// Vital product data pages and wwids, as a disk (which may lie) sends them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "blockdev/scsi_disk.h"
#include "blockdev/scsi_identity.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::blockdev;
  const Bytes page(data, size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& id : {decode_vpd_serial(page), decode_vpd_naa(page), decode_wwid(text)}) {
    // An id is always in the form in which ids are compared.
    if (id && (id->empty() || *id != normal_id(*id))) std::abort();
  }
  const auto bridge = bridge_of(text);
  if (bridge && bridge->size() != std::string_view("0000:00:15.0").size()) std::abort();
  (void)parse_scsi_place(text);
  return 0;
}
