// A listening socket, and how it is seen who knocks. The listener (listener_socket.cc) is the same behind all
// of them.
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "esx-vmci/transport/connection.h"

namespace vdvs::esx {

enum class Refusal { kPort, kCredentials, kCertificate, kLimit };

struct Refused {
  Refusal reason;
  std::string who;
  std::string cause;
};

struct Caller {
  Peer peer;
  std::string key;  ///< Whose connections are counted together.
  std::string who;  ///< For logs, before there is a proven peer.
};

/// Owns: the listening socket, and its file where it has one.
class Door {
 public:
  virtual ~Door() = default;
  virtual const base::UniqueFd& socket() const = 0;
  virtual Endpoint endpoint() const = 0;
  /// Who is at the other end of an accepted connection, as far as the kernel knows.
  virtual std::expected<Caller, Refused> identify(const base::UniqueFd& connection) const = 0;
  /// Makes the channel, after whatever handshake there is. Never calls `handler` from within.
  virtual void admit(base::UniqueFd connection, ConnectionInfo info, base::Deadline deadline,
                     OnChannel handler) = 0;
  virtual void close() = 0;
};

base::Result<std::unique_ptr<Door>> open_unix_door(boost::asio::io_context& loop, const Endpoint& endpoint);
base::Result<std::unique_ptr<Door>> open_vsock_door(boost::asio::io_context& loop, const Endpoint& endpoint);
base::Result<std::unique_ptr<Door>> open_tcp_door(boost::asio::io_context& loop, const Endpoint& endpoint,
                                                  const TlsFiles& files);

}  // namespace vdvs::esx
