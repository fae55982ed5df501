// Any bytes are a descriptor or an error; a descriptor reads back what it prints, and never names a file
// elsewhere.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/datastore/vmdk_descriptor.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  auto descriptor = parse_descriptor({reinterpret_cast<const char*>(data), size});
  if (!descriptor) return 0;
  VDVS_CHECK(descriptor->extent.find('/') == std::string::npos && descriptor->extent != "..");
  VDVS_CHECK(descriptor->size_bytes > 0 && descriptor->size_bytes % kSectorBytes == 0);
  const std::string printed = print_descriptor(*descriptor);
  if (printed.size() > kMaxDescriptorBytes) return 0;
  auto again = parse_descriptor(printed);
  VDVS_CHECK(again.has_value() && *again == *descriptor);
  return 0;
}
