// Where a service is, as users write it:
//   vsock:  vsock:1020  vsock:CID:PORT     default CID 2 (the host), port 1019; to listen: any CID
//   unix:/run/vdvs/vmdkops.sock            to listen also  unix:PATH,vm=NAME: whoever connects is that VM
//   tcp:HOST:PORT  tcp:[::1]:PORT          always with mutual TLS 1.3
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::uint32_t kVsockHostCid = 2;
inline constexpr std::uint32_t kDefaultPort = 1019;

struct Endpoint {
  enum class Kind { kVsock, kUnix, kTcp };
  Kind kind = Kind::kVsock;
  std::uint32_t cid = kVsockHostCid;
  std::uint32_t port = kDefaultPort;  ///< vsock and tcp.
  std::string host;                   ///< tcp.
  std::string path;                   ///< unix.
  std::string assigned_vm;            ///< unix, listening.

  /// Errors: kInvalid, with the three forms.
  static base::Result<Endpoint> parse(std::string_view text);
  std::string text() const;
  bool operator==(const Endpoint&) const = default;
};

/// Files of PEM; all three are needed for tcp.
struct TlsFiles {
  std::string authority;
  std::string certificate;
  std::string key;
};

}  // namespace vdvs::esx
