// The control plane of another process or host, over the wire. For mountd it is the same as the embedded one.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

struct ClientOptions {
  Endpoint endpoint;
  TlsFiles tls;
  /// Every call ends after this long at the latest: below Docker's patience. A thick create that takes longer
  /// is found done by the retry.
  std::chrono::milliseconds request_time{20'000};
  /// Where an original service keeps no record of the first formatting, this file does ("init" states by
  /// volume). Empty: only memory.
  std::string state_file;
};

/// Connects at the first request, not before, and again whenever it must; a service that is away is
/// kUnavailable, at once when the connection is refused. Sends `version` first on each new connection: an
/// original service answers only once a connection and has no capabilities, so each request then has a
/// connection of its own. Retries only what failed before or in transport: every operation is idempotent.
/// Thread: any number of calls side by side. Owns: one I/O thread.
base::Result<std::unique_ptr<ControlPlane>> make_client_control_plane(ClientOptions options);

}  // namespace vdvs::esx
