// Whole frames between two processes, whatever lies between: vsock, a unix socket, or TCP with mutual TLS.
// One interface, so that the service and the client are the same over all three.
//
// Everything is asynchronous on one Boost.Asio loop; handlers run on the loop's thread and never inside the
// call that set them. Every wait has a deadline. A channel that was closed, or has failed, gives its error to
// every handler that waits.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/deadline.h"
#include "base/error.h"
#include "esx-vmci/peer.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

/// Thread: the loop's. Owns: the connection.
class Channel {
 public:
  using OnFrame = std::function<void(base::Result<std::string>)>;
  using OnSent = std::function<void(base::Result<void>)>;

  virtual ~Channel() = default;
  virtual const Peer& peer() const = 0;
  /// The next payload, without its NUL. One read at a time. Errors: kUnavailable (closed between frames, cut
  /// inside one, reset), kTimeout, kInvalid and kLimit (the peer does not speak our frames; the channel is
  /// closed).
  virtual void read(base::Deadline deadline, OnFrame handler) = 0;
  /// Frames `payload` and sends it in one write. Writes are queued in order; a queue of more than
  /// kMaxQueuedBytes is kLimit, and the channel is closed.
  virtual void write(std::string payload, base::Deadline deadline, OnSent handler) = 0;
  /// What waits gets kUnavailable. A write that has begun is not waited for: close in its handler.
  virtual void close() = 0;
};

inline constexpr std::size_t kMaxQueuedBytes = 32 * 1024 * 1024;

struct TransportLimits {
  std::size_t max_request_bytes =
      64 * 1024;                       ///< For a listener's channels; for a client's it is the reply's.
  std::size_t max_connections = 4096;  ///< In all; a further one is accepted and closed, and counted.
  std::size_t max_connections_per_peer = 1200;
  base::Clock::duration handshake_time = std::chrono::seconds(10);
};

/// What was refused before a request was read, since the start. Thread: any.
struct TransportCounters {
  std::uint64_t accepted = 0;
  std::uint64_t refused_port = 0;         ///< vsock: a source port of 1024 or more.
  std::uint64_t refused_credentials = 0;  ///< unix: not root, nor of the allowed group.
  std::uint64_t refused_certificate =
      0;  ///< tcp: no certificate, a wrong or an expired one, or the handshake failed otherwise.
  std::uint64_t refused_limit = 0;
};

/// Thread: the loop's, but `counters`.
class Listener {
 public:
  virtual ~Listener() = default;
  /// Calls `accept` with each connection whose peer is proven. Goes on whatever a peer does; when descriptors
  /// run out it waits for one.
  virtual void start(std::function<void(std::unique_ptr<Channel>)> accept) = 0;
  virtual void stop() = 0;
  /// As bound: a tcp port 0 is the one that the kernel chose.
  virtual Endpoint endpoint() const = 0;
  virtual TransportCounters counters() const = 0;
};

/// Errors: kUnavailable and kUnsupported (no vsock here), kDenied, kExists (somebody listens), kInvalid (TLS
/// files).
base::Result<std::unique_ptr<Listener>> make_listener(boost::asio::io_context& loop, const Endpoint& endpoint,
                                                      const TlsFiles& tls, const TransportLimits& limits);

/// Errors to the handler: kUnavailable with the endpoint and what to do, kTimeout, kDenied (certificates).
void connect(boost::asio::io_context& loop, const Endpoint& endpoint, const TlsFiles& tls,
             base::Deadline deadline, std::function<void(base::Result<std::unique_ptr<Channel>>)> handler);

}  // namespace vdvs::esx
