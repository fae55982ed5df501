// Docker's volume plugin protocol over unix sockets: HTTP/1.1 POST with JSON bodies, one socket for each driver name.
//
// What dockerd does, and why the server is as it is: it calls Plugin.Activate without a time-out, so that is answered from the loop at once; it keeps connections
// open for ever, so an idle one is never closed from here first; it retries a broken request with an empty body, so that is an error of its own; a socket
// file that nobody listens on stalls every volume command of the host, so it is removed on the way out.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "mountd/plugin_handler.h"

namespace vdvs::mountd {

struct Listener {
  std::string driver;   ///< "vsphere"
  std::string path;     ///< The socket file; empty for an inherited socket of unknown path.
  base::UniqueFd fd;    ///< Listening.
  bool is_inherited = false;  ///< From systemd: the file is left in place at the end.
};

struct ListenOptions {
  std::string folder = "/run/docker/plugins";
  std::vector<std::string> drivers;
  std::string group = "root";  ///< Name or number of the group that may connect (mode 0660).
};

/// Takes over systemd's sockets (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = driver names), makes the others; a stale socket file is replaced, a live one refused.
/// Errors: kInUse where another process listens there.
base::Result<std::vector<Listener>> open_listeners(const ListenOptions& options);

struct ServerLimits {
  std::size_t max_header_bytes = 16 * 1024;
  std::size_t max_body_bytes = 1024 * 1024;
  std::size_t max_connections = 1024;
  std::chrono::milliseconds request_read_time{10'000};  ///< From a request's first byte to its last.
  std::chrono::milliseconds reply_write_time{30'000};
};

class PluginServer {
 public:
  virtual ~PluginServer() = default;
  /// Stops accepting and removes the socket files; requests that run are still answered. Thread: the loop's.
  virtual void stop() = 0;
};

/// Serves on `loop`, which the caller runs (one thread). `handler` outlives the server.
std::unique_ptr<PluginServer> make_plugin_server(boost::asio::io_context& loop, std::vector<Listener> listeners,
                                                 PluginHandler& handler, ServerLimits limits = {});

}  // namespace vdvs::mountd
