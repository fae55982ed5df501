// Docker's volume plugin protocol over unix sockets: HTTP/1.1 POST with JSON bodies, one socket for each
// driver name.
//
// What dockerd does, and why the server is as it is: it calls Plugin.Activate without a time-out, so that is
// answered from the loop at once; it keeps connections open for ever, so an idle one is never closed from
// here first; it retries a broken request with an empty body, so that is an error of its own; a socket file
// that nobody listens on stalls every volume command of the host, so it is removed on the way out.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "mountd/plugin_handler.h"

namespace vdvs::mountd {

/// Owns: a socket file, removed at the end of its life if it still is the same one.
class SocketFile {
 public:
  SocketFile() = default;
  explicit SocketFile(std::string path);
  SocketFile(SocketFile&& other) noexcept
      : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_) {}
  SocketFile& operator=(SocketFile&& other) noexcept;
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile() { remove(); }

  const std::string& path() const { return path_; }
  void remove();

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct Listener {
  std::string driver;  ///< "vsphere"
  base::UniqueFd fd;   ///< Listening.
  SocketFile file;     ///< Empty for an inherited socket: its file is systemd's.
};

struct ListenOptions {
  std::string folder = "/run/docker/plugins";
  std::vector<std::string> drivers;
  std::string group = "root";  ///< Name or number of the group that may connect (mode 0660).
};

/// Takes over systemd's sockets (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = driver names), makes the others; a
/// stale socket file is replaced, a live one refused. Errors: kInUse where another process listens there.
base::Result<std::vector<Listener>> open_listeners(const ListenOptions& options);

struct ServerLimits {
  std::size_t max_header_bytes = 16 * 1024;
  std::size_t max_body_bytes = 1024 * 1024;
  /// At the limit the connection that has been idle for longest makes room; where none has been idle for
  /// `request_read_time`, new ones wait in the socket's queue.
  std::size_t max_connections = 1024;
  std::chrono::milliseconds request_read_time{10'000};  ///< From a request's first byte to its last.
  std::chrono::milliseconds reply_write_time{30'000};
};

/// Thread: the loop's, or the one that owns the loop while it does not run; destruction too. An answer may
/// come from any thread at any time, also after the server and the loop are gone.
class PluginServer {
 public:
  virtual ~PluginServer() = default;
  /// Stops accepting and removes the socket files; requests that have begun are still answered, and run() of
  /// the loop does not return for want of work before they are.
  virtual void stop() = 0;
  /// Serves a connected unix stream socket that was accepted elsewhere, like one of `driver`'s.
  virtual void serve_connection(base::UniqueFd connection, std::string driver) = 0;
};

/// Serves on `loop`, which the caller runs (one thread). `handler` outlives the server.
std::unique_ptr<PluginServer> make_plugin_server(boost::asio::io_context& loop,
                                                 std::vector<Listener> listeners, PluginHandler& handler,
                                                 ServerLimits limits = {});

}  // namespace vdvs::mountd
