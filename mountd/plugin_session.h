// One connection of the plugin server: HTTP/1.1 in, HTTP/1.1 out, one request at a time. The server keeps
// sessions and knows no HTTP; a session knows neither the sockets that are listened on nor its fellows.
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "mountd/plugin_handler.h"
#include "mountd/plugin_protocol.h"
#include "mountd/plugin_server.h"

namespace vdvs::mountd {

/// Who keeps a session. Thread: the loop's.
class SessionKeeper {
 public:
  virtual ~SessionKeeper() = default;
  virtual const ServerLimits& limits() const = 0;
  /// Nothing new is begun any more.
  virtual bool is_stopped() const = 0;
  /// The keeper answers with PluginSession::on_reply, later and once.
  virtual void handle(std::uint64_t session, PluginRequest request) = 0;
  /// The session is over: the keeper calls its shut() and lets it go.
  virtual void forget(std::uint64_t session) = 0;
};

/// Thread: the loop's. After shut() the keeper may go.
class PluginSession {
 public:
  virtual ~PluginSession() = default;
  virtual void start() = 0;
  /// The answer to the request at hand; nullopt drops the connection.
  virtual void on_reply(std::optional<HttpReply> reply) = 0;
  virtual void shut() = 0;
  /// Logs the reason and ends the session.
  virtual void drop(std::string_view reason) = 0;
  /// Nothing of a request has come yet.
  virtual bool is_idle() const = 0;
  virtual base::Clock::time_point idle_since() const = 0;
};

/// Shared: the loop's pending operations hold a session until they have come back.
std::shared_ptr<PluginSession> make_http_session(SessionKeeper& keeper, std::uint64_t id,
                                                 boost::asio::local::stream_protocol::socket socket,
                                                 std::string driver);

}  // namespace vdvs::mountd
