// Serves while the rest starts: Docker calls Plugin.Activate without a time-out, and a socket that does not answer blocks every volume
// command of the host. So the server runs from the first moment, and requests that need the volumes wait here until they are known. A datastore that
// hangs holds up its own volumes, not the engine.
#pragma once

#include <vector>

#include "mountd/plugin_handler.h"

namespace vdvs::mountd {

/// Requests that wait at the most; further ones get no answer, which the engine takes for a reason to try again.
inline constexpr std::size_t kMaxWaitingRequests = 4096;

/// Thread: the loop's.
class StartupGate : public PluginHandler {
 public:
  void handle(PluginRequest request, Respond respond) override;
  /// Passes on what waits, in order, and everything from now on. `handler` outlives the gate.
  void open(PluginHandler& handler);

 private:
  struct Waiting {
    PluginRequest request;
    Respond respond;
  };
  PluginHandler* handler_ = nullptr;
  std::vector<Waiting> waiting_;
};

}  // namespace vdvs::mountd
