#include "esx-vmci/transport/endpoint.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <charconv>
#include <optional>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::string_view kAssignment = ",vm=";
constexpr std::size_t kMaxUnixPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::size_t kMaxHostBytes = 253;  ///< RFC 1035, without the last dot.
constexpr std::uint32_t kMaxTcpPort = 65535;

std::unexpected<base::Error> refuse(std::string_view text, std::string_view cause) {
  return std::unexpected(base::Error(ErrorCode::kInvalid, fmt::format("read endpoint '{}': {}", text, cause),
                                     "write vsock:[[CID:]PORT], unix:/PATH or tcp:HOST:PORT"));
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool has_control_or_space(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '\x7f') return true;
  }
  return false;
}

Result<Endpoint> parse_vsock(std::string_view text, std::string_view rest) {
  Endpoint endpoint{.kind = Endpoint::Kind::kVsock};
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    const auto cid = parse_number(rest.substr(0, colon));
    if (!cid) return refuse(text, "the CID is not a number");
    endpoint.cid = *cid;
    rest.remove_prefix(colon + 1);
    if (rest.empty()) return refuse(text, "no port follows the CID");
  }
  if (rest.empty()) return endpoint;
  const auto port = parse_number(rest);
  if (!port || *port == 0) return refuse(text, "the port is not a number above 0");
  endpoint.port = *port;
  return endpoint;
}

Result<Endpoint> parse_unix(std::string_view text, std::string_view rest) {
  Endpoint endpoint{.kind = Endpoint::Kind::kUnix};
  if (const std::size_t at = rest.rfind(kAssignment); at != std::string_view::npos) {
    endpoint.assigned_vm = rest.substr(at + kAssignment.size());
    rest = rest.substr(0, at);
    if (endpoint.assigned_vm.empty()) return refuse(text, "no name of a VM follows ',vm='");
  }
  if (!rest.starts_with('/')) return refuse(text, "the path does not begin with '/'");
  if (rest.find('\0') != std::string_view::npos) return refuse(text, "there is a NUL in the path");
  if (rest.size() > kMaxUnixPathBytes) {
    return refuse(text, fmt::format("the path has {} bytes, a unix socket's has at most {}", rest.size(),
                                    kMaxUnixPathBytes));
  }
  endpoint.path = rest;
  return endpoint;
}

Result<Endpoint> parse_tcp(std::string_view text, std::string_view rest) {
  Endpoint endpoint{.kind = Endpoint::Kind::kTcp};
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return refuse(text, "no port");
  std::string_view host = rest.substr(0, colon);
  const auto port = parse_number(rest.substr(colon + 1));
  if (!port || *port > kMaxTcpPort) return refuse(text, "the port is not a number up to 65535");
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
    if (host.find_first_of("[]") != std::string_view::npos)
      return refuse(text, "there is a bracket within the brackets");
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return refuse(text, "an IPv6 address stands in brackets");
  }
  if (host.empty() || host.size() > kMaxHostBytes || has_control_or_space(host))
    return refuse(text, "the host is not a name or an address");
  endpoint.host = host;
  endpoint.port = *port;
  return endpoint;
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (kind == "vsock") return parse_vsock(text, rest);
  if (kind == "unix") return parse_unix(text, rest);
  if (kind == "tcp") return parse_tcp(text, rest);
  return refuse(text, "it begins with none of vsock:, unix:, tcp:");
}

std::string Endpoint::text() const {
  switch (kind) {
    case Kind::kVsock:
      return fmt::format("vsock:{}:{}", cid, port);
    case Kind::kUnix:
      return assigned_vm.empty() ? "unix:" + path
                                 : fmt::format("unix:{}{}{}", path, kAssignment, assigned_vm);
    case Kind::kTcp:
      return host.find(':') == std::string::npos ? fmt::format("tcp:{}:{}", host, port)
                                                 : fmt::format("tcp:[{}]:{}", host, port);
  }
  return {};
}

}  // namespace vdvs::esx
