// The plugin server: one loop thread runs the sockets and the sessions. A handler's answers come back to it
// from any thread through the gate, which outlives the server, so that a late answer finds a closed gate and
// not freed memory.
#include <atomic>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/log.h"
#include "base/mutex.h"
#include "mountd/plugin_protocol.h"
#include "mountd/plugin_server.h"
#include "mountd/plugin_session.h"

namespace vdvs::mountd {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::local::stream_protocol;

/// A List of thousands of volumes goes out in one write, without waiting for the engine to read the first
/// part.
constexpr int kSendBufferBytes = 1024 * 1024;
/// How long accepting rests where descriptors or connections have run out and nothing says when there are
/// some again.
constexpr std::chrono::milliseconds kAcceptPause{500};

class AsioServer;

/// Owns: the way from any thread to the server, or to nobody once the server is gone.
class Gate : public std::enable_shared_from_this<Gate> {
 public:
  Gate(net::io_context& loop, AsioServer& server) : loop_(&loop), server_(&server) {}

  /// nullopt: the connection is dropped. Thread: any.
  void deliver(std::uint64_t session, std::optional<HttpReply> reply);
  /// Thread: the loop's.
  AsioServer* server() const { return server_; }
  void close() {
    server_ = nullptr;
    base::MutexLock lock(mutex_);
    loop_ = nullptr;
  }

 private:
  base::Mutex mutex_;
  net::io_context* loop_ GUARDED_BY(mutex_);
  AsioServer* server_;  // Only on the loop's thread.
};

/// One promised answer. Where the handler forgets it, as a drained pool does, the connection is dropped and
/// not left hanging.
class Answer {
 public:
  Answer(std::shared_ptr<Gate> gate, std::uint64_t session) : gate_(std::move(gate)), session_(session) {}
  ~Answer() {
    if (!is_given_.exchange(true)) gate_->deliver(session_, std::nullopt);
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  /// Encodes on the caller's thread: a List of thousands of volumes must not hold up the loop.
  void give(const PluginReply& reply) {
    VDVS_CHECK(!is_given_.exchange(true));
    gate_->deliver(session_, encode_reply(reply));
  }

 private:
  std::shared_ptr<Gate> gate_;
  std::uint64_t session_;
  std::atomic<bool> is_given_ = false;
};

/// A socket that is listened on.
struct Door {
  Listener listener;
  stream_protocol::acceptor acceptor;
  bool is_accepting = false;  ///< An accept is under way.
};

class AsioServer : public PluginServer, private SessionKeeper {
 public:
  AsioServer(net::io_context& loop, std::vector<Listener> listeners, PluginHandler& handler,
             ServerLimits limits);
  ~AsioServer() override;
  void serve_connection(base::UniqueFd connection, std::string driver) override;
  void stop() override;

  void deliver(std::uint64_t session, std::optional<HttpReply> reply);

 private:
  const ServerLimits& limits() const override { return limits_; }
  bool is_stopped() const override { return is_stopped_; }
  void handle(std::uint64_t session, PluginRequest request) override;
  void forget(std::uint64_t session) override;
  void accept(Door& door);
  void on_accept(Door& door, const error_code& error, stream_protocol::socket socket);
  void add_session(stream_protocol::socket socket, std::string driver);
  std::shared_ptr<PluginSession> find_droppable() const;
  void pause_accepting();
  void resume_accepting();

  net::io_context& loop_;
  PluginHandler& handler_;
  const ServerLimits limits_;
  std::shared_ptr<Gate> gate_;  // Shared with every Answer that is still out.
  std::vector<std::unique_ptr<Door>> doors_;
  std::unordered_map<std::uint64_t, std::shared_ptr<PluginSession>> sessions_;
  net::steady_timer pause_timer_;
  std::uint64_t last_session_ = 0;
  std::uint64_t last_request_ = 0;
  bool is_failing_ = false;  // The last accept failed, and that was logged.
  bool is_paused_ = false;
  bool is_stopped_ = false;
};

void Gate::deliver(std::uint64_t session, std::optional<HttpReply> reply) {
  base::MutexLock lock(mutex_);
  if (loop_ == nullptr) return;
  net::post(*loop_, [self = shared_from_this(), session, reply = std::move(reply)]() mutable {
    if (self->server_ != nullptr) self->server_->deliver(session, std::move(reply));
  });
}

AsioServer::AsioServer(net::io_context& loop, std::vector<Listener> listeners, PluginHandler& handler,
                       ServerLimits limits)
    : loop_(loop),
      handler_(handler),
      limits_(limits),
      gate_(std::make_shared<Gate>(loop, *this)),
      pause_timer_(loop) {
  for (Listener& listener : listeners) {
    auto door = std::make_unique<Door>(Door{std::move(listener), stream_protocol::acceptor(loop)});
    error_code error;
    door->acceptor.assign(stream_protocol(), door->listener.fd.release(), error);
    VDVS_CHECK(!error);
    doors_.push_back(std::move(door));
  }
  for (auto& door : doors_) accept(*door);
}

AsioServer::~AsioServer() {
  stop();
  gate_->close();
  auto sessions = std::move(sessions_);
  for (auto& [id, session] : sessions) session->shut();
}

void AsioServer::stop() {
  if (is_stopped_) return;
  is_stopped_ = true;
  pause_timer_.cancel();
  for (auto& door : doors_) {
    // The file goes first: a socket file that refuses makes the engine wait, a missing one is looked for
    // again.
    door->listener.file.remove();
    error_code ignored;
    door->acceptor.close(ignored);
  }
  std::vector<std::uint64_t> idle;
  for (auto& [id, session] : sessions_) {
    if (session->is_idle()) idle.push_back(id);
  }
  for (std::uint64_t id : idle) forget(id);
}

void AsioServer::accept(Door& door) {
  if (is_stopped_ || door.is_accepting) return;
  if (sessions_.size() >= limits_.max_connections && find_droppable() == nullptr) return pause_accepting();
  door.is_accepting = true;
  door.acceptor.async_accept([gate = gate_, &door](const error_code& error, stream_protocol::socket socket) {
    if (gate->server() != nullptr) gate->server()->on_accept(door, error, std::move(socket));
  });
}

void AsioServer::on_accept(Door& door, const error_code& error, stream_protocol::socket socket) {
  door.is_accepting = false;
  if (is_stopped_) return;
  if (!error) {
    is_failing_ = false;
    error_code ignored;  // a smaller buffer only takes more turns
    socket.set_option(stream_protocol::socket::send_buffer_size(kSendBufferBytes), ignored);
    add_session(std::move(socket), door.listener.driver);
    return accept(door);
  }
  if (error == net::error::connection_aborted || error == net::error::try_again) return accept(door);
  if (!is_failing_) {
    base::log::error("plugin socket cannot accept; trying again",
                     {{"driver", door.listener.driver}, {"error", error.message()}});
  }
  is_failing_ = true;
  pause_accepting();
}

void AsioServer::add_session(stream_protocol::socket socket, std::string driver) {
  if (sessions_.size() >= limits_.max_connections) {
    if (auto oldest = find_droppable())
      oldest->drop("another one needs its place: the limit of connections is reached");
  }
  auto session = make_http_session(*this, ++last_session_, std::move(socket), std::move(driver));
  sessions_.emplace(last_session_, session);
  session->start();
}

/// The connection that has been idle for longest, where that is long enough for a slow client to have sent
/// its request.
std::shared_ptr<PluginSession> AsioServer::find_droppable() const {
  const auto latest = base::Clock::now() - limits_.request_read_time;
  std::shared_ptr<PluginSession> oldest;
  for (const auto& [id, session] : sessions_) {
    if (!session->is_idle() || session->idle_since() > latest) continue;
    if (oldest == nullptr || session->idle_since() < oldest->idle_since()) oldest = session;
  }
  return oldest;
}

void AsioServer::pause_accepting() {
  if (is_paused_) return;
  is_paused_ = true;
  pause_timer_.expires_after(kAcceptPause);
  pause_timer_.async_wait([gate = gate_](const error_code& error) {
    if (!error && gate->server() != nullptr) gate->server()->resume_accepting();
  });
}

void AsioServer::resume_accepting() {
  if (!is_paused_) return;
  is_paused_ = false;
  for (auto& door : doors_) accept(*door);
}

void AsioServer::serve_connection(base::UniqueFd connection, std::string driver) {
  stream_protocol::socket socket(loop_);
  error_code error;
  socket.assign(stream_protocol(), connection.get(), error);
  if (error)
    return base::log::error("plugin connection cannot be served",
                            {{"driver", driver}, {"error", error.message()}});
  connection.release();
  add_session(std::move(socket), std::move(driver));
}

void AsioServer::handle(std::uint64_t session, PluginRequest request) {
  request.request_id = fmt::format("r{}", ++last_request_);
  auto answer = std::make_shared<Answer>(gate_, session);  // Shared: a std::function is copied.
  handler_.handle(std::move(request), [answer](const PluginReply& reply) { answer->give(reply); });
}

void AsioServer::deliver(std::uint64_t session, std::optional<HttpReply> reply) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  const std::shared_ptr<PluginSession> kept = found->second;  // It may end while it answers.
  kept->on_reply(std::move(reply));
}

void AsioServer::forget(std::uint64_t session) {
  auto node = sessions_.extract(session);
  if (node.empty()) return;
  node.mapped()->shut();
  if (is_paused_) {
    pause_timer_.cancel();
    resume_accepting();
  }
}

}  // namespace

std::unique_ptr<PluginServer> make_plugin_server(net::io_context& loop, std::vector<Listener> listeners,
                                                 PluginHandler& handler, ServerLimits limits) {
  return std::make_unique<AsioServer>(loop, std::move(listeners), handler, limits);
}

}  // namespace vdvs::mountd
