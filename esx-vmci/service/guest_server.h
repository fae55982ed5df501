// Serves guests: reads their frames on the loop, asks the pipeline on the pool, writes the replies. No
// guest can hold up another: each has a share of the pool (fair queue by VM), bounds on connections, requests
// in flight and bytes; who breaks one is dropped, alone, logged and counted.
//
// A request without "id" is the predecessor's: one reply, then the connection is closed. Requests with "id"
// may follow each other without waiting, and are answered in the order in which they are done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/deadline.h"
#include "esx-vmci/service/fair_queue.h"
#include "esx-vmci/service/request_pipeline.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {

struct GuestServerOptions {
  std::size_t threads = 16;
  /// So that 4 slow creates of one guest leave the others 12 threads. Never more than half of them.
  std::size_t max_running_per_vm = 4;
  std::size_t max_waiting_per_vm = 1024;                   ///< Beyond: kLimit to that guest.
  std::size_t max_waiting_bytes_per_vm = 4 * 1024 * 1024;  ///< Likewise.
  std::size_t max_in_flight_per_channel = 64;  ///< Beyond: its socket is not read until one is answered.
  base::Clock::duration idle_time = std::chrono::minutes(5);  ///< A kept connection without a request.
  base::Clock::duration first_frame_time = std::chrono::seconds(10);
  base::Clock::duration write_time = std::chrono::seconds(30);  ///< For the peer to take a reply.
};

struct GuestServerCounters {
  std::uint64_t requests = 0;
  std::uint64_t malformed_frames = 0;
  std::uint64_t timed_out = 0;  ///< Connections that asked nothing for too long, or did not take a reply.
  std::uint64_t refused_vms = 0;
  std::uint64_t refused_limit = 0;
  std::uint64_t declined = 0;     ///< Because the service was stopping.
  std::uint64_t abandoned = 0;    ///< Not begun when their guest went away, so not done.
  std::uint64_t connections = 0;  ///< Open now.
};

/// Thread: the loop's, but `counters`; destroyed there or after the loop has ended, which drains the pool.
/// Owns: the listeners, the connections.
class GuestServer {
 public:
  virtual ~GuestServer() = default;
  virtual void start() = 0;
  /// New requests, and those that have not begun, are answered "Service is being stopped: operation
  /// declined!"; calls `drained` when what runs is done and answered.
  virtual void stop(std::function<void()> drained) = 0;
  virtual GuestServerCounters counters() const = 0;  ///< Thread: any.
};

FairQueueLimits pool_limits(const GuestServerOptions& options);

/// `pool`, which runs the listeners' loop, `handler` and `vms` outlive the server.
std::unique_ptr<GuestServer> make_guest_server(FairQueue& pool,
                                               std::vector<std::unique_ptr<Listener>> listeners,
                                               const RequestHandler& handler, VmDirectory& vms,
                                               GuestServerOptions options);

}  // namespace vdvs::esx
