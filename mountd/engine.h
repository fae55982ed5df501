// What the Docker engine on this host says about containers, asked over its own socket. The engine may be down, slow or restarting: that is an
// answer of its own, and nothing is ever unmounted because of it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace vdvs::mountd {

/// A mount of one of our volumes in a container that is running, paused or restarting.
struct ContainerMount {
  std::string volume;     ///< As Docker knows it: short or qualified.
  std::string driver;
  std::string source;     ///< The host's path.
  std::string container;  ///< Its name, without the slash.
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Blocking, for a pool thread. Errors: kUnavailable, kTimeout.
  virtual base::Result<std::vector<ContainerMount>> running_mounts(base::Deadline deadline) = 0;
};

/// Tells when it is time to compare our counts with the engine's containers. Owns: a thread, or asynchronous work on a loop.
class EngineWatch {
 public:
  virtual ~EngineWatch() = default;
};

std::unique_ptr<Engine> make_docker_engine(std::string socket_path);

}  // namespace vdvs::mountd
