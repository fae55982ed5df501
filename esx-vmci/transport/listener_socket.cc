// Accepts connections at a door, counts them, and passes on those whose peer is proven. Nothing that a peer
// does ends it: refused ones are closed without a word (the predecessor's way), counted, and logged so far as
// a flood of them does not fill the disk.
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <unordered_map>

#include "base/log.h"
#include "esx-vmci/transport/door.h"

namespace vdvs::esx {
namespace {

namespace net = boost::asio;
using base::ErrorCode;
using base::Result;
using base::UniqueFd;
using boost::system::error_code;

/// So that a flood of connections does not keep the loop from its other work.
constexpr int kAcceptsPerTurn = 32;
/// Where descriptors run out and none of ours is in use, nothing says when there are some again.
constexpr std::chrono::milliseconds kAcceptPause{500};
constexpr double kLoggedRefusalsAtOnce = 10;
constexpr double kLoggedRefusalsPerSecond = 0.2;

/// At most so many lines, and how many were left out.
class LogBudget {
 public:
  /// nullopt: say nothing. Else the number of lines that were left out before this one.
  std::optional<std::uint64_t> spend() {
    const base::Deadline now = base::Clock::now();
    const double seconds = std::chrono::duration<double>(now - filled_).count();
    left_ = std::min(kLoggedRefusalsAtOnce, left_ + seconds * kLoggedRefusalsPerSecond);
    filled_ = now;
    if (left_ < 1) {
      ++left_out_;
      return std::nullopt;
    }
    left_ -= 1;
    return std::exchange(left_out_, 0);
  }

 private:
  double left_ = kLoggedRefusalsAtOnce;
  base::Deadline filled_ = base::Clock::now();
  std::uint64_t left_out_ = 0;
};

/// Read from any thread, written by the loop's.
struct Counters {
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> refused[4] = {};
  std::uint64_t of(Refusal reason) const { return refused[static_cast<std::size_t>(reason)]; }
  void count(Refusal reason) { ++refused[static_cast<std::size_t>(reason)]; }
};

class ListenerCore : public std::enable_shared_from_this<ListenerCore> {
 public:
  ListenerCore(net::io_context& loop, std::unique_ptr<Door> door, const TransportLimits& limits)
      : loop_(loop), door_(std::move(door)), limits_(limits), ear_(loop), pause_(loop) {}

  void start(std::function<void(std::unique_ptr<Channel>)> accept) {
    VDVS_CHECK(!accept_ && !is_stopped_);
    accept_ = std::move(accept);
    error_code failure;
    ear_.assign(door_->socket().get(), failure);
    VDVS_CHECK(!failure);
    listen();
  }

  void stop() {
    if (std::exchange(is_stopped_, true)) return;
    pause_.cancel();
    if (ear_.is_open()) static_cast<void>(ear_.release());  // The door owns the descriptor.
    door_->close();
    accept_ = nullptr;
  }

  Endpoint endpoint() const { return door_->endpoint(); }

  TransportCounters counters() const {
    return {.accepted = counters_.accepted,
            .refused_port = counters_.of(Refusal::kPort),
            .refused_credentials = counters_.of(Refusal::kCredentials),
            .refused_certificate = counters_.of(Refusal::kCertificate),
            .refused_limit = counters_.of(Refusal::kLimit)};
  }

 private:
  void listen() {
    ear_.async_wait(net::posix::stream_descriptor::wait_read,
                    [self = shared_from_this()](const error_code& failure) {
                      if (!failure) self->accept_some();
                    });
  }

  void accept_some() {
    for (int turn = 0; turn < kAcceptsPerTurn && !is_stopped_; ++turn) {
      UniqueFd connection(::accept4(door_->socket().get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (connection.is_open()) {
        is_failing_ = false;
        take(std::move(connection));
        continue;
      }
      if (errno == EAGAIN) break;
      if (is_of_the_connection(errno)) continue;
      return rest(errno);
    }
    if (!is_stopped_) listen();
  }

  /// accept(2) gives the new connection's own troubles as if they were the listener's.
  static bool is_of_the_connection(int errnum) {
    return errnum == EINTR || errnum == ECONNABORTED || errnum == EPROTO || errnum == EPERM ||
           errnum == ENETDOWN || errnum == ENOPROTOOPT || errnum == EHOSTDOWN || errnum == ENONET ||
           errnum == EHOSTUNREACH || errnum == EOPNOTSUPP || errnum == ENETUNREACH;
  }

  /// Until one of our connections ends, or for a while.
  void rest(int errnum) {
    if (!std::exchange(is_failing_, true)) {
      base::log::error("cannot accept connections; trying again when one ends",
                       {{"endpoint", door_->endpoint().text()},
                        {"error", error_code(errnum, boost::system::generic_category()).message()}});
    }
    is_resting_ = true;
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([self = shared_from_this()](const error_code& failure) {
      if (!failure) self->go_on();
    });
  }

  void go_on() {
    if (is_stopped_ || !std::exchange(is_resting_, false)) return;
    pause_.cancel();
    listen();
  }

  void take(UniqueFd connection) {
    std::expected<Caller, Refused> caller = door_->identify(connection);
    if (!caller) return refuse(caller.error());
    if (open_ >= limits_.max_connections) {
      return refuse({Refusal::kLimit, caller->who,
                     fmt::format("{} connections are open, as many as are allowed", open_)});
    }
    const auto of_peer = by_peer_.find(caller->key);
    if (of_peer != by_peer_.end() && of_peer->second >= limits_.max_connections_per_peer) {
      return refuse({Refusal::kLimit, caller->who,
                     fmt::format("it has {} connections, as many as one peer may have", of_peer->second)});
    }
    ++open_;
    ++by_peer_[caller->key];
    Slot slot([weak = weak_from_this(), key = caller->key] {
      if (auto self = weak.lock()) self->free_slot(key);
    });
    std::string name = caller->who;
    door_->admit(std::move(connection),
                 {.peer = std::move(caller->peer),
                  .name = name,
                  .max_frame_bytes = limits_.max_request_bytes,
                  .slot = std::move(slot)},
                 base::deadline_in(limits_.handshake_time),
                 [weak = weak_from_this(), name](Result<std::unique_ptr<Channel>> channel) {
                   if (auto self = weak.lock()) self->pass_on(name, std::move(channel));
                 });
  }

  void pass_on(const std::string& who, Result<std::unique_ptr<Channel>> channel) {
    if (is_stopped_) return;
    if (!channel) return refuse({Refusal::kCertificate, who, channel.error().message()});
    ++counters_.accepted;
    const auto accept = accept_;  // It may stop us, and so forget itself.
    accept(std::move(*channel));
  }

  void free_slot(const std::string& key) {
    --open_;
    const auto of_peer = by_peer_.find(key);
    if (--of_peer->second == 0) by_peer_.erase(of_peer);
    // From the loop: the descriptor is closed only after its slot is given back.
    if (is_resting_) net::post(loop_, [self = shared_from_this()] { self->go_on(); });
  }

  void refuse(const Refused& refused) {
    counters_.count(refused.reason);
    const auto left_out = budgets_[static_cast<std::size_t>(refused.reason)].spend();
    if (!left_out) return;
    base::log::warn("connection refused", {{"endpoint", door_->endpoint().text()},
                                           {"peer", refused.who},
                                           {"cause", refused.cause},
                                           {"not_logged_before", *left_out}});
  }

  net::io_context& loop_;
  const std::unique_ptr<Door> door_;
  const TransportLimits limits_;
  net::posix::stream_descriptor ear_;
  net::steady_timer pause_;
  std::function<void(std::unique_ptr<Channel>)> accept_;
  std::size_t open_ = 0;
  std::unordered_map<std::string, std::size_t> by_peer_;
  Counters counters_;
  LogBudget budgets_[4];
  bool is_resting_ = false;
  bool is_failing_ = false;
  bool is_stopped_ = false;
};

class SocketListener : public Listener {
 public:
  SocketListener(net::io_context& loop, std::unique_ptr<Door> door, const TransportLimits& limits)
      : core_(std::make_shared<ListenerCore>(loop, std::move(door), limits)) {}
  ~SocketListener() override { core_->stop(); }

  void start(std::function<void(std::unique_ptr<Channel>)> accept) override {
    core_->start(std::move(accept));
  }
  void stop() override { core_->stop(); }
  Endpoint endpoint() const override { return core_->endpoint(); }
  TransportCounters counters() const override { return core_->counters(); }

 private:
  std::shared_ptr<ListenerCore> core_;  // Shared with the operations that the loop has of it.
};

Result<std::unique_ptr<Door>> open_door(net::io_context& loop, const Endpoint& endpoint,
                                        const TlsFiles& tls) {
  switch (endpoint.kind) {
    case Endpoint::Kind::kVsock:
      return open_vsock_door(loop, endpoint);
    case Endpoint::Kind::kUnix:
      return open_unix_door(loop, endpoint);
    case Endpoint::Kind::kTcp:
      return open_tcp_door(loop, endpoint, tls);
  }
  std::abort();
}

}  // namespace

Result<std::unique_ptr<Listener>> make_listener(net::io_context& loop, const Endpoint& endpoint,
                                                const TlsFiles& tls, const TransportLimits& limits) {
  auto door = open_door(loop, endpoint, tls);
  if (!door)
    return std::unexpected(std::move(door).error().within(fmt::format("listen on '{}'", endpoint.text())));
  return std::make_unique<SocketListener>(loop, std::move(*door), limits);
}

}  // namespace vdvs::esx
