// The VM sockets' door. The peer's context id is its identity, and nobody but the hypervisor can choose it;
// that the caller is its guest's root is seen by its source port.
#include <boost/asio/post.hpp>
#include <cerrno>

#include "base/log.h"
#include "esx-vmci/transport/door.h"
#include "esx-vmci/transport/vsock.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr int kBacklog = 128;  ///< As the predecessor's.
/// ESXi: the option that gives the caller's cartel id, which names the VM.
constexpr int kOptionPeerVm = 3;
/// A reply fits whole into the peer's queue, since an original client reads it with one recv.
constexpr std::uint64_t kBufferBytes = 1024 * 1024;

class VsockDoor : public Door {
 public:
  VsockDoor(boost::asio::io_context& loop, Endpoint endpoint, int family, UniqueFd socket)
      : loop_(loop), endpoint_(std::move(endpoint)), family_(family), socket_(std::move(socket)) {}

  const UniqueFd& socket() const override { return socket_; }
  Endpoint endpoint() const override { return endpoint_; }

  std::expected<Caller, Refused> identify(const UniqueFd& connection) const override {
    sockaddr_vm address = {};
    socklen_t length = sizeof address;
    if (::getpeername(connection.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
      return std::unexpected(Refused{Refusal::kPort, "unknown", "the kernel does not say who it is"});
    Caller caller;
    caller.peer = {.kind = Peer::Kind::kVsock, .cid = address.svm_cid, .port = address.svm_port};
    if (family_ != kLinuxVsockFamily) caller.peer.cid = cartel_of(connection, address.svm_cid);
    caller.who = caller.peer.text();
    caller.key = std::to_string(caller.peer.cid);
    if (address.svm_port > kLastPrivilegedPort) {
      return std::unexpected(Refused{
          Refusal::kPort, caller.who,
          fmt::format("Client with non privileged port attempted a request (port {})", address.svm_port)});
    }
    return caller;
  }

  void admit(UniqueFd connection, ConnectionInfo info, base::Deadline, OnChannel handler) override {
    auto channel = make_socket_channel(loop_, std::move(connection), std::move(info));
    boost::asio::post(loop_, [handler = std::move(handler), channel = std::move(channel)]() mutable {
      handler(std::move(channel));
    });
  }

  void close() override { socket_.reset(); }

 private:
  std::uint32_t cartel_of(const UniqueFd& connection, std::uint32_t cid) const {
    std::uint32_t cartel = 0;
    socklen_t length = sizeof cartel;
    if (::getsockopt(connection.get(), family_, kOptionPeerVm, &cartel, &length) == 0) return cartel;
    base::log::warn("the hypervisor does not say which VM calls; going by its context id",
                    {{"cid", cid}, {"errno", errno}});
    return cid;
  }

  boost::asio::io_context& loop_;
  const Endpoint endpoint_;
  const int family_;
  UniqueFd socket_;
};

/// Best effort: connections inherit it.
void enlarge_buffers(const UniqueFd& socket, int family) {
  for (const int option : {SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE})
    static_cast<void>(::setsockopt(socket.get(), family, option, &kBufferBytes, sizeof kBufferBytes));
}

}  // namespace

Result<std::unique_ptr<Door>> open_vsock_door(boost::asio::io_context& loop, const Endpoint& endpoint) {
  ASSIGN_OR_RETURN(const int family, vsock_family());
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return fail_errno(errno, "make a socket");
  enlarge_buffers(socket, family);
  const sockaddr_vm address = vsock_address(family, VMADDR_CID_ANY, endpoint.port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EADDRINUSE) return fail_errno(errno, "bind port {}", endpoint.port);
    return std::unexpected(base::Error(ErrorCode::kExists, "another process listens there already",
                                       "stop it, or choose another port"));
  }
  if (::listen(socket.get(), kBacklog) != 0) return fail_errno(errno, "listen");
  return std::make_unique<VsockDoor>(loop, endpoint, family, std::move(socket));
}

}  // namespace vdvs::esx
