// HTTPS to one server, for SOAP and for the files of datastores: connections are kept and reused, every
// request has a deadline, and the server is always verified: by the thumbprint of its certificate, by an
// authority's file, or by the system's authorities.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace vdvs::esx::soap {

struct HttpsServer {
  std::string host;
  std::uint16_t port = 443;
  /// SHA-256 (64 hex digits) or SHA-1 (40) of the server's certificate; colons and case do not matter. Then
  /// neither its issuer nor its name counts.
  std::string thumbprint{};
  std::string ca_file{};  ///< PEM. Empty: the system's authorities.
};

struct HttpRequest {
  std::string method = "POST";
  std::string target = "/sdk";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::size_t max_reply_bytes = std::size_t{1} << 20;
};

struct HttpReply {
  unsigned status = 0;
  std::string body;
  std::vector<std::string> cookies;  ///< Each Set-Cookie as it came.
};

/// Thread: any, side by side: each request has a connection for itself.
class HttpsClient {
 public:
  virtual ~HttpsClient() = default;
  /// Any status is a reply. Errors: kUnavailable (no connection, or it was cut: the server may have done what
  /// was asked), kTimeout (the same), kDenied (the server is not the one that was configured), kLimit,
  /// kCorrupt.
  virtual base::Result<HttpReply> send(const HttpRequest& request, base::Deadline deadline) = 0;
  /// Requests that run now fail with kUnavailable, and all later ones.
  virtual void stop() = 0;
};

/// Errors: kInvalid: the thumbprint or the authority's file cannot be read.
base::Result<std::unique_ptr<HttpsClient>> make_https_client(HttpsServer server);

/// 40 or 64 lower-case hex digits without colons, or kInvalid.
base::Result<std::string> normalize_thumbprint(std::string_view text);

}  // namespace vdvs::esx::soap
