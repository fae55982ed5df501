// Any bytes are a reply or an error; every body is read or refused; what was read survives being written.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/protocol/message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  auto reply = decode_reply(payload);
  if (!reply) return 0;
  auto result = result_of(reply->body);
  if (!result) {
    VDVS_CHECK(!result.error().message().empty());
    auto again = result_of(error_reply(result.error(), true));
    VDVS_CHECK(!again && again.error().code() == result.error().code());
  }
  if (auto address = decode_attach(reply->body)) {
    auto again = decode_attach(encode_attach(*address, true));
    VDVS_CHECK(again.has_value() && *again == *address);
  }
  const auto asked = VolumeName::parse("db");
  if (auto info = decode_info(reply->body, *asked)) {
    VDVS_CHECK(info->name.is_qualified());
    auto again = decode_info(encode_info(*info, true), *asked);
    VDVS_CHECK(again.has_value() && again->name == info->name && again->options == info->options &&
               again->init == info->init && again->size_bytes == info->size_bytes &&
               again->address == info->address && again->is_attached_here == info->is_attached_here);
  }
  if (auto names = decode_list(reply->body)) {
    auto again = decode_list(encode_list(*names));
    VDVS_CHECK(again.has_value() && *again == *names);
  }
  if (auto attached = decode_attached(reply->body)) {
    auto again = decode_attached(encode_attached(*attached));
    VDVS_CHECK(again.has_value() && again->volumes == attached->volumes &&
               again->default_datastore == attached->default_datastore);
  }
  (void)decode_version(reply->body);
  return 0;
}
