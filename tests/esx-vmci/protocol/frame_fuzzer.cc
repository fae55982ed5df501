// Any bytes are frames or an error, and the same ones however they are split. The first byte says how.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "esx-vmci/protocol/frame.h"

namespace {

std::vector<std::string> decode_all(std::string_view bytes, std::size_t piece) {
  vdvs::esx::FrameDecoder decoder(4096);
  std::vector<std::string> found;
  while (true) {
    auto payload = decoder.next();
    if (!payload) {
      found.push_back("error " + payload.error().text());
      return found;
    }
    if (*payload) {
      found.push_back(**payload);
    } else if (bytes.empty()) {
      found.push_back(decoder.is_between_frames() ? "end" : "cut");
      return found;
    } else {
      decoder.feed(bytes.substr(0, piece));
      bytes.remove_prefix(std::min(piece, bytes.size()));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = decode_all(bytes, size);
  VDVS_CHECK(whole == decode_all(bytes, 1u + data[0]));
  std::string again;
  for (const std::string& payload : whole) {
    if (&payload == &whole.back()) break;  // how it ended
    VDVS_CHECK(payload.find('\0') == std::string::npos);
    again += *vdvs::esx::encode_frame(payload, 4096);
  }
  VDVS_CHECK(bytes.starts_with(again));
  return 0;
}
