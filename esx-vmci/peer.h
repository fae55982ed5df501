// Who is at the other end of a connection, as the transport proves it and never as a message says.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace vdvs::esx {

struct Peer {
  enum class Kind { kVsock, kUnix, kTls };
  Kind kind = Kind::kUnix;
  std::uint32_t cid = 0;   ///< kVsock: the VM's context id; on ESXi the cartel id (SO_VMCI_PEER_HOST_VM_ID).
  std::uint32_t port = 0;  ///< kVsock: below 1024, which is the proof that the guest's root calls.
  uid_t uid = 0;           ///< kUnix: SO_PEERCRED.
  pid_t pid = 0;           ///< kUnix.
  std::string
      assigned_vm;  ///< The VM to which the listening socket was given ("unix:PATH,vm=NAME"); or empty.
  std::string
      certificate;  ///< kTls: the subject's common name of the verified certificate, which names the VM.

  /// "vsock cid 5", "unix uid 0 (pid 812)", "certificate 'web-1'".
  std::string text() const;
  bool operator==(const Peer&) const = default;
};

}  // namespace vdvs::esx
