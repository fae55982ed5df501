// Channels over unix and vsock sockets, and how a client makes them.
#include <sys/un.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <cerrno>
#include <cstring>

#include "esx-vmci/transport/stream_channel.h"
#include "esx-vmci/transport/vsock.h"

namespace vdvs::esx {
namespace {

namespace net = boost::asio;
using base::ErrorCode;
using base::fail;
using base::Result;
using base::UniqueFd;
using boost::system::error_code;
using Socket = net::generic::stream_protocol::socket;

/// How soon a unix socket is tried again whose queue of connections is full: the kernel tells nobody when
/// there is room.
constexpr std::chrono::milliseconds kFullQueuePause{5};
constexpr const char* kIsItRunning = "see whether the service runs there ('systemctl status vmdkopsd')";

struct SocketKind {
  static bool is_end(const error_code& failure) { return failure == net::error::eof; }
  static ErrorCode code_of(const error_code&) { return ErrorCode::kUnavailable; }
  static std::string remedy_of(const error_code&) { return {}; }
  static void close(Socket& socket) {
    error_code ignored;  // It is gone either way.
    socket.close(ignored);
  }
};

base::Error connect_error(const Endpoint& endpoint, int errnum) {
  const std::string what = fmt::format("connect to '{}': {}", endpoint.text(),
                                       error_code(errnum, boost::system::generic_category()).message());
  switch (errnum) {
    case EACCES:
    case EPERM:
      return {ErrorCode::kDenied, what, "run this program as root"};
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ENODEV:
      return {ErrorCode::kUnavailable, what, kIsItRunning};
    default:
      return {ErrorCode::kUnavailable, what};
  }
}

/// A connection on its way. Lives in the handlers of its own timer and socket.
class Connecting : public std::enable_shared_from_this<Connecting> {
 public:
  Connecting(net::io_context& loop, Endpoint endpoint, base::Deadline deadline, OnChannel handler)
      : loop_(loop),
        endpoint_(std::move(endpoint)),
        deadline_(deadline),
        handler_(std::move(handler)),
        timer_(loop),
        pause_(loop),
        socket_(loop) {}

  void start() {
    timer_.expires_at(deadline_);
    timer_.async_wait([self = shared_from_this()](const error_code& failure) {
      if (!failure)
        self->finish(base::Error(ErrorCode::kTimeout,
                                 fmt::format("connect to '{}': no answer in time", self->endpoint_.text()),
                                 kIsItRunning));
    });
    if (endpoint_.kind == Endpoint::Kind::kUnix) return connect_unix();
    connect_vsock();
  }

 private:
  void connect_unix() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.is_open()) return finish_later(connect_error(endpoint_, errno));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, endpoint_.path.data(),
                std::min(endpoint_.path.size(), sizeof address.sun_path - 1));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      return finish_later(std::move(fd));
    if (errno != EAGAIN) return finish_later(connect_error(endpoint_, errno));
    pause_.expires_after(kFullQueuePause);
    pause_.async_wait([self = shared_from_this()](const error_code& failure) {
      if (!failure) self->connect_unix();
    });
  }

  void connect_vsock() {
    Result<int> family = vsock_family();
    if (!family) return finish_later(family.error());
    UniqueFd fd(::socket(*family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.is_open()) return finish_later(connect_error(endpoint_, errno));
    Result<void> bound = bind_privileged_port([&](std::uint32_t port) {
      const sockaddr_vm source = vsock_address(*family, VMADDR_CID_ANY, port);
      return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0 ? 0 : errno;
    });
    if (!bound)
      return finish_later(std::move(bound).error().within(fmt::format("connect to '{}'", endpoint_.text())));
    error_code failure;
    socket_.assign(net::generic::stream_protocol(*family, 0), fd.get(), failure);
    if (failure) return finish_later(connect_error(endpoint_, failure.value()));
    static_cast<void>(fd.release());
    const sockaddr_vm address = vsock_address(*family, endpoint_.cid, endpoint_.port);
    socket_.async_connect(net::generic::stream_protocol::endpoint(&address, sizeof address),
                          [self = shared_from_this()](const error_code& refused) {
                            if (refused) return self->finish(connect_error(self->endpoint_, refused.value()));
                            self->finish(UniqueFd(self->socket_.release()));
                          });
  }

  void finish_later(Result<UniqueFd> outcome) {
    net::post(loop_, [self = shared_from_this(), outcome = std::move(outcome)]() mutable {
      self->finish(std::move(outcome));
    });
  }
  void finish_later(base::Error failure) {
    finish_later(Result<UniqueFd>(std::unexpected(std::move(failure))));
  }
  void finish(base::Error failure) { finish(Result<UniqueFd>(std::unexpected(std::move(failure)))); }

  void finish(Result<UniqueFd> outcome) {
    if (!handler_) return;  // The deadline came first.
    timer_.cancel();
    pause_.cancel();
    error_code ignored;
    socket_.close(ignored);
    OnChannel handler = std::exchange(handler_, nullptr);
    if (!outcome) return handler(std::unexpected(std::move(outcome).error()));
    ConnectionInfo info{.peer = peer(*outcome), .name = endpoint_.text()};
    handler(make_socket_channel(loop_, std::move(*outcome), std::move(info)));
  }

  Peer peer(const UniqueFd& fd) const {
    Peer peer;
    peer.kind = endpoint_.kind == Endpoint::Kind::kUnix ? Peer::Kind::kUnix : Peer::Kind::kVsock;
    if (peer.kind == Peer::Kind::kVsock) {
      peer.cid = endpoint_.cid;
      peer.port = endpoint_.port;
      return peer;
    }
    ucred credentials = {};
    socklen_t length = sizeof credentials;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0) {
      peer.uid = credentials.uid;
      peer.pid = credentials.pid;
    }
    return peer;
  }

  net::io_context& loop_;
  const Endpoint endpoint_;
  const base::Deadline deadline_;
  OnChannel handler_;
  net::steady_timer timer_;
  net::steady_timer pause_;
  Socket socket_;
};

}  // namespace

Result<std::unique_ptr<Channel>> make_socket_channel(net::io_context& loop, UniqueFd fd,
                                                     ConnectionInfo info) {
  int family = 0;
  socklen_t length = sizeof family;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &length) != 0)
    return base::fail_errno(errno, "use connection '{}'", info.name);
  Socket socket(loop);
  error_code failure;
  socket.assign(net::generic::stream_protocol(family, 0), fd.get(), failure);
  if (failure) return fail(ErrorCode::kIo, "use connection '{}': {}", info.name, failure.message());
  static_cast<void>(fd.release());
  return std::make_unique<StreamChannel<Socket, SocketKind>>(loop, std::move(socket), std::move(info));
}

void connect_socket(net::io_context& loop, const Endpoint& endpoint, base::Deadline deadline,
                    OnChannel handler) {
  std::make_shared<Connecting>(loop, endpoint, deadline, std::move(handler))->start();
}

void connect(net::io_context& loop, const Endpoint& endpoint, const TlsFiles& tls, base::Deadline deadline,
             OnChannel handler) {
  switch (endpoint.kind) {
    case Endpoint::Kind::kVsock:
    case Endpoint::Kind::kUnix:
      return connect_socket(loop, endpoint, deadline, std::move(handler));
    case Endpoint::Kind::kTcp:
      return connect_tls(loop, endpoint, tls, deadline, std::move(handler));
  }
}

}  // namespace vdvs::esx
