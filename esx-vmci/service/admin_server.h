// The administrator's socket: a unix socket that only root may use. One request a connection: a frame with
// {"cmd":"admin","verb":...,"flags":...} in, a frame with the output or the error out.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "esx-vmci/admin/admin.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {

/// Thread: the loop's; destroyed there or after the loop has ended, where it waits for the commands that run.
/// Owns: the listener, its connections, two threads.
class AdminServer {
 public:
  virtual ~AdminServer() = default;
  virtual void start() = 0;
  /// Takes no more commands.
  virtual void stop() = 0;
};

/// `loop` and `admin` outlive the server.
std::unique_ptr<AdminServer> make_admin_server(boost::asio::io_context& loop,
                                               std::unique_ptr<Listener> listener, Admin& admin);

}  // namespace vdvs::esx
