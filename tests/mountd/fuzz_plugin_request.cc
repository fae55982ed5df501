// Request bodies: the first byte chooses the method, the rest is the body. What is decoded goes back out as a
// reply, which must be JSON.
#include <boost/json/parse.hpp>
#include <cstddef>
#include <cstdint>

#include "mountd/plugin_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::mountd;
  if (size == 0) return 0;
  const auto method = static_cast<Method>(data[0] % (static_cast<int>(Method::kCapabilities) + 1));
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto request = decode_request(method, body);
  PluginReply reply = Done{};
  if (!request) {
    reply = std::unexpected(request.error());
  } else {
    // The raw bytes too: names on a datastore need not be UTF-8.
    VolumeView view{.name = request->name, .mount_point = std::string(body), .created_at = request->mount_id};
    for (const auto& [key, value] : request->options) view.status[key] = value;
    reply = std::move(view);
  }
  const auto encoded = encode_reply(reply);
  VDVS_CHECK(encoded.has_value());
  boost::system::error_code error;
  boost::json::parse(encoded->body, error);
  VDVS_CHECK(!error);
  return 0;
}
