// What a QEMU, or whoever sits at its socket, may send: cut at any place, with anything in it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/hypervisor/qemu_view.h"
#include "esx-vmci/hypervisor/qmp.h"

namespace {

/// Whatever decodes must also be readable as a list of nodes and of devices.
void decode(std::string_view line) {
  const auto message = vdvs::esx::decode_qmp(line);
  if (!message || message->kind != vdvs::esx::QmpMessage::Kind::kAnswer || !message->result) return;
  (void)vdvs::esx::decode_disks(*message->result, *message->result);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  vdvs::esx::QmpLines lines;
  const std::size_t cut = size > 0 ? data[0] % size : 0;
  for (const std::string_view part : {bytes.substr(0, cut), bytes.substr(cut)}) {
    lines.feed(part);
    for (auto line = lines.next(); line && *line; line = lines.next()) decode(**line);
  }
  return 0;
}
