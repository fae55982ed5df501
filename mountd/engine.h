// What the Docker engine on this host says about containers, asked over its own socket. The engine may be
// down, slow or restarting: that is an answer of its own, and nothing is ever unmounted because of it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace vdvs::mountd {

/// A mount of a volume in a container of this engine, whatever the container does.
struct ContainerMount {
  std::string volume;  ///< As Docker knows it: short or qualified.
  std::string driver;
  std::string source;     ///< The host's path.
  std::string container;  ///< Its name, without the slash.
  bool is_running = false;  ///< Running, paused or restarting.
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Blocking, for a pool thread. Errors: kUnavailable, kTimeout.
  virtual base::Result<std::vector<ContainerMount>> container_mounts(base::Deadline deadline) = 0;
};

/// Called on the loop's thread.
struct EngineEvents {
  /// The engine answers, for the first time or again: it may have lost Unmounts.
  std::function<void()> on_connected;
  /// A container has died, and container_mounts() no longer shows it as running (unless it is being restarted).
  std::function<void()> on_container_end;
};

/// Tells when it is time to compare our counts with the engine's containers: holds one /events request open.
/// Wakes only for events while the engine is up; looks for it with growing pauses (at most 30 s) while it is
/// down. Destroy it on the loop's thread.
class EngineWatch {
 public:
  virtual ~EngineWatch() = default;
};

/// The volumes in the reply of `GET /containers/json`; mounts of other types (bind, tmpfs) are left out, and
/// telling our drivers from others is the caller's. Pure. Errors: kInvalid where it is not that reply: half a
/// list would be worse than none.
base::Result<std::vector<ContainerMount>> decode_container_list(std::string_view json);

/// The container's id in one line of `GET /events`. Pure. nullopt where it is no event of a container.
std::optional<std::string> decode_container_event(std::string_view line);

std::unique_ptr<Engine> make_docker_engine(std::string socket_path);
std::unique_ptr<EngineWatch> make_engine_watch(boost::asio::io_context& loop, std::string socket_path,
                                               EngineEvents events);

}  // namespace vdvs::mountd
