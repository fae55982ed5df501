#include "esx-vmci/peer.h"

#include <fmt/format.h>

namespace vdvs::esx {

std::string Peer::text() const {
  switch (kind) {
    case Kind::kVsock:
      return fmt::format("vsock cid {}", cid);
    case Kind::kUnix:
      return assigned_vm.empty()
                 ? fmt::format("unix uid {} (pid {})", uid, pid)
                 : fmt::format("unix socket of vm '{}' (uid {}, pid {})", assigned_vm, uid, pid);
    case Kind::kTls:
      return fmt::format("certificate '{}'", certificate);
  }
  return {};
}

}  // namespace vdvs::esx
