// The volume driver: takes the plugin's requests, runs each in the strand of its volume, answers in time, and does what no request asks
// for: lingering detaches, recovery after a start, and comparing the mount counts with the engine's containers.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "mountd/engine.h"
#include "mountd/plugin_handler.h"
#include "mountd/volume_keeper.h"

namespace vdvs::mountd {

struct ManagerOptions {
  std::string main_driver = "vsphere";  ///< Other driver names list only the volumes that were made under them.
  std::chrono::milliseconds detach_linger{3000};
  std::size_t threads = 16;
  /// A change is answered by then, done or not; the work goes on, and the engine's next try finds it done.
  std::chrono::milliseconds answer_time{25'000};
  /// Get and List are answered from memory by then.
  std::chrono::milliseconds query_time{2'000};
};

class VolumeManager : public PluginHandler {
 public:
  /// `loop` is run by the caller, on one thread. `engine` may be null: then there is no engine to ask. Both, and the keeper, outlive the manager.
  static std::unique_ptr<VolumeManager> make(boost::asio::io_context& loop, VolumeKeeper& keeper, Engine* engine,
                                             ManagerOptions options);

  /// Recovery, in the background: requests are served meanwhile. Thread: the loop's.
  virtual void start() = 0;
  /// The engine has come, or a container has ended: compares the counts with its containers. Thread: the loop's.
  virtual void reconcile() = 0;
  /// Takes no more work and returns when what runs has ended. Mounts stay. Thread: any but the loop's.
  virtual void drain() = 0;
};

}  // namespace vdvs::mountd
