// What the files of this folder share: how a connected descriptor becomes a channel, on either side, over
// plain sockets (unix, vsock) and over TLS.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/fd.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {

using OnChannel = std::function<void(base::Result<std::unique_ptr<Channel>>)>;

/// A connection's place among those that a listener allows. Given back when the connection is closed.
class Slot {
 public:
  Slot() = default;
  explicit Slot(std::function<void()> give_back) : give_back_(std::move(give_back)) {}
  Slot(Slot&& other) noexcept : give_back_(std::exchange(other.give_back_, nullptr)) {}
  Slot& operator=(Slot&& other) noexcept {
    if (this != &other) {
      reset();
      give_back_ = std::exchange(other.give_back_, nullptr);
    }
    return *this;
  }
  ~Slot() { reset(); }
  void reset() {
    if (auto give_back = std::exchange(give_back_, nullptr)) give_back();
  }

 private:
  std::function<void()> give_back_;
};

/// What every channel knows, whatever carries its bytes.
struct ConnectionInfo {
  Peer peer;
  std::string name;  ///< In errors: the endpoint for a client, the peer for a service.
  std::size_t max_frame_bytes = kMaxReplyBytes;
  Slot slot{};
};

/// `fd` is connected and does not block. Errors: kIo.
base::Result<std::unique_ptr<Channel>> make_socket_channel(boost::asio::io_context& loop, base::UniqueFd fd,
                                                           ConnectionInfo info);

/// unix and vsock.
void connect_socket(boost::asio::io_context& loop, const Endpoint& endpoint, base::Deadline deadline,
                    OnChannel handler);

void connect_tls(boost::asio::io_context& loop, const Endpoint& endpoint, const TlsFiles& files,
                 base::Deadline deadline, OnChannel handler);

/// The service's side of TLS. Thread: the loop's.
class TlsGate {
 public:
  virtual ~TlsGate() = default;
  /// Shakes hands, and proves by its certificate who calls. Errors to the handler: kDenied, kTimeout.
  virtual void admit(base::UniqueFd fd, ConnectionInfo info, base::Deadline deadline, OnChannel handler) = 0;
};
/// Errors: kInvalid where the files are no certificate, key and authority that belong together.
base::Result<std::unique_ptr<TlsGate>> make_tls_gate(boost::asio::io_context& loop, const TlsFiles& files);

}  // namespace vdvs::esx
