// Serves guests: reads their frames on the loop, asks the pipeline on a bounded pool, writes the replies. No
// guest can hold up another: each has a share of the pool (fair queue by VM), bounds on connections, requests
// in flight and bytes; who breaks one is dropped, alone, logged and counted.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "esx-vmci/service/request_pipeline.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {

struct GuestServerOptions {
  std::size_t threads = 16;
  std::size_t max_running_per_vm = 4;  ///< So that 4 slow creates of one guest leave the others 12 threads.
  std::size_t max_waiting_per_vm = 1024;                      ///< Beyond: kLimit to that guest.
  base::Clock::duration idle_time = std::chrono::minutes(5);  ///< A kept connection without a request.
  base::Clock::duration first_frame_time = std::chrono::seconds(10);
};

struct GuestServerCounters {
  std::uint64_t requests = 0;
  std::uint64_t malformed_frames = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t refused_vms = 0;
  std::uint64_t refused_limit = 0;
  std::uint64_t connections = 0;  ///< Open now.
};

class GuestServer {
 public:
  virtual ~GuestServer() = default;
  virtual void start() = 0;
  /// New requests are answered "Service is being stopped: operation declined!"; calls `drained` when what
  /// runs is done and answered.
  virtual void stop(std::function<void()> drained) = 0;
  virtual GuestServerCounters counters() const = 0;  ///< Thread: any.
};

std::unique_ptr<GuestServer> make_guest_server(boost::asio::io_context& loop,
                                               std::vector<std::unique_ptr<Listener>> listeners,
                                               const RequestPipeline& pipeline, VmDirectory& vms,
                                               GuestServerOptions options);

}  // namespace vdvs::esx
