// The door of TCP. Nothing is known of who knocks but an address, which proves nothing: the TLS gate behind
// it asks for a certificate.
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>

#include "esx-vmci/transport/door.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;
using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr int kBacklog = SOMAXCONN;

Result<tcp::endpoint> address_of(UniqueFd const& socket, bool is_peer) {
  tcp::endpoint endpoint;
  auto length = static_cast<socklen_t>(endpoint.capacity());
  const int failed = is_peer ? ::getpeername(socket.get(), endpoint.data(), &length)
                             : ::getsockname(socket.get(), endpoint.data(), &length);
  if (failed != 0) return fail_errno(errno, "ask for a socket's address");
  endpoint.resize(length);
  return endpoint;
}

class TcpDoor : public Door {
 public:
  TcpDoor(Endpoint endpoint, UniqueFd socket, std::unique_ptr<TlsGate> gate)
      : endpoint_(std::move(endpoint)), socket_(std::move(socket)), gate_(std::move(gate)) {}

  const UniqueFd& socket() const override { return socket_; }
  Endpoint endpoint() const override { return endpoint_; }

  std::expected<Caller, Refused> identify(const UniqueFd& connection) const override {
    auto address = address_of(connection, true);
    if (!address)
      return std::unexpected(Refused{Refusal::kCertificate, "unknown", "it was gone before it was seen"});
    Caller caller;
    caller.peer.kind = Peer::Kind::kTls;
    caller.key = address->address().to_string();
    caller.who = caller.key;
    return caller;
  }

  void admit(UniqueFd connection, ConnectionInfo info, base::Deadline deadline, OnChannel handler) override {
    gate_->admit(std::move(connection), std::move(info), deadline, std::move(handler));
  }

  void close() override { socket_.reset(); }

 private:
  const Endpoint endpoint_;
  UniqueFd socket_;
  const std::unique_ptr<TlsGate> gate_;
};

/// Blocks, where the host is a name: a service does this once, at its start.
Result<tcp::endpoint> resolve(boost::asio::io_context& loop, const Endpoint& endpoint) {
  error_code failure;
  const auto port = static_cast<std::uint16_t>(endpoint.port);
  if (endpoint.host == "*") return tcp::endpoint(tcp::v6(), port);
  const auto address = boost::asio::ip::make_address(endpoint.host, failure);
  if (!failure) return tcp::endpoint(address, port);
  const auto found =
      tcp::resolver(loop).resolve(endpoint.host, std::to_string(port), tcp::resolver::passive, failure);
  if (failure || found.empty())
    return fail(ErrorCode::kInvalid, "look up '{}': {}", endpoint.host, failure.message());
  return found.begin()->endpoint();
}

Result<UniqueFd> listen_at(const tcp::endpoint& address) {
  UniqueFd socket(::socket(address.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return fail_errno(errno, "make a socket");
  const int on = 1;
  const int off = 0;
  static_cast<void>(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  if (address.protocol() == tcp::v6() && address.address().is_unspecified())
    static_cast<void>(::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
  if (::bind(socket.get(), address.data(), static_cast<socklen_t>(address.size())) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    if (errno != EADDRINUSE) return fail_errno(errno, "bind");
    return std::unexpected(base::Error(ErrorCode::kExists, "another process listens there already",
                                       "stop it, or choose another port"));
  }
  return socket;
}

}  // namespace

Result<std::unique_ptr<Door>> open_tcp_door(boost::asio::io_context& loop, const Endpoint& endpoint,
                                            const TlsFiles& files) {
  ASSIGN_OR_RETURN(auto gate, make_tls_gate(loop, files));
  ASSIGN_OR_RETURN(const tcp::endpoint address, resolve(loop, endpoint));
  ASSIGN_OR_RETURN(UniqueFd socket, listen_at(address));
  ASSIGN_OR_RETURN(const tcp::endpoint bound, address_of(socket, false));
  Endpoint known = endpoint;
  known.port = bound.port();
  return std::make_unique<TcpDoor>(std::move(known), std::move(socket), std::move(gate));
}

}  // namespace vdvs::esx
