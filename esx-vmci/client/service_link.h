// Requests to one service and their answers, whichever service it is and whatever becomes of the connection.
//
// The first connection asks `version`, with the members of our extension. A service of ours answers in an
// envelope: that connection is kept, and all requests go over it side by side, by "id". An original service
// answers bare: then every request has a connection of its own, at most kMaxOriginalConnections at once;
// after kAskAgain, and after any failure, it is asked again, since it may have been updated.
//
// A request whose transport failed is sent again: all operations are idempotent. It waits a little between
// its tries (kRetryWaits), and never beyond its deadline. What is refused before anything was sent is not
// tried again: a service that is away is said to be away at once.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>

#include "base/deadline.h"
#include "esx-vmci/client/client.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx {

inline constexpr std::array kRetryWaits = {std::chrono::milliseconds(50), std::chrono::milliseconds(250),
                                           std::chrono::milliseconds(700), std::chrono::milliseconds(1000),
                                           std::chrono::milliseconds(2000)};
/// Below the backlog of an original service, which is 128 for all its guests.
inline constexpr std::size_t kMaxOriginalConnections = 32;
inline constexpr base::Clock::duration kAskAgain = std::chrono::minutes(10);

struct Service {
  bool is_original = false;
  VersionReply version;
};

struct Answer {
  base::Result<boost::json::value> result;  ///< What the service says: a body, or its error.
  /// An earlier try of this request was lost on its way, and may have been done.
  bool was_repeated = false;
};

/// Thread: any, side by side. Each call waits until it has its answer, or its deadline passes.
class ServiceLink {
 public:
  virtual ~ServiceLink() = default;

  /// Which service there is, as last seen; connects where none was seen yet. Errors: as `ask`.
  virtual base::Result<Service> service(base::Deadline deadline) = 0;

  /// Errors: what kept the request from being answered, with the endpoint: kUnavailable; kTimeout (it was
  /// sent, and may be done); kDenied (certificates); kUnsupported (no vsock here); kLimit (the request is too
  /// long for this service).
  virtual base::Result<Answer> ask(Request request, base::Deadline deadline) = 0;
};

/// Owns: the connections, and no thread: of those who wait, one does the I/O of all (shared_loop.h). What
/// waits when it ends gets kUnavailable.
std::unique_ptr<ServiceLink> make_service_link(Endpoint endpoint, TlsFiles tls);

}  // namespace vdvs::esx
