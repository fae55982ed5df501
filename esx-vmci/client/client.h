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
  /// What an original service keeps no record of, this file does: the first formatting, our own options, what
  /// is attached. Empty: only memory.
  std::string state_file;
  /// This host's display name as its hypervisor has it: an original service names holders by that alone.
  /// Empty: learned at the first attach.
  std::string vm_name;
};

/// Connects at the first request, not before, and again whenever it must; a service that is away is
/// kUnavailable, at once when the connection is refused. An original service answers only once a connection
/// and has no capabilities: each request then has a connection of its own. Retries only what failed in
/// transport: every operation is idempotent (service_link.h). Errors: kInvalid; those of reading the state
/// file. Thread: any number of calls side by side. Owns: its connections; calls have ended before it ends.
base::Result<std::unique_ptr<ControlPlane>> make_client_control_plane(ClientOptions options);

}  // namespace vdvs::esx
