// Any bytes are a sidecar or none; a sidecar keeps its content through a rewrite, in whole blocks. The same
// bytes as a descriptor's sidecar line never name a file that is not the volume's.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/datastore/sidecar.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto name = find_sidecar_name(text, "vol")) {
    VDVS_CHECK(name->starts_with("vol-") && name->ends_with(".vmfd") && name->find('/') == std::string::npos);
  }
  auto sidecar = decode_sidecar(text);
  if (!sidecar) return 0;
  auto encoded = encode_sidecar(*sidecar);
  if (!encoded) return 0;
  VDVS_CHECK(encoded->size() % kSidecarBlockBytes == 0 && encoded->back() == '\n');
  auto again = decode_sidecar(*encoded);
  VDVS_CHECK(again.has_value() && again->options == sidecar->options &&
             again->attached == sidecar->attached && again->created == sidecar->created &&
             again->created_by == sidecar->created_by && again->init == sidecar->init &&
             again->fs_uuid == sidecar->fs_uuid);
  return 0;
}
