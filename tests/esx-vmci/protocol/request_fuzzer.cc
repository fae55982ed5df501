// Any bytes are a request or an error, and a request is the same after being written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/protocol/json_text.h"
#include "esx-vmci/protocol/message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  auto request = decode_request(payload);
  if (!request) {
    VDVS_CHECK(request.error().code() == vdvs::base::ErrorCode::kInvalid &&
               !request.error().message().empty());
    (void)encode_reply(error_reply(request.error(), true));
    return 0;
  }
  auto again = decode_request(encode_request(*request));
  VDVS_CHECK(again.has_value() && *again == *request);
  (void)decode_init(request->options);
  return 0;
}
