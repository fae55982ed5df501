#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/service/fair_queue.h"
#include "esx-vmci/service/guest_server.h"
#include "esx-vmci/service/log_limiter.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::Result;

constexpr std::string_view kDeclined = "Service is being stopped: operation declined!";
constexpr std::string_view kNoHypervisor =
    "Service is presently unavailable, ensure the ESXi Host Agent is running on this host";
constexpr std::string_view kMakeItKnown =
    "the administrator of the service makes a machine known to it (docs/service.md, \"What happens to a "
    "request\")";
/// A VMCI stream's queue: an original client takes a reply with one recv, so it should fit.
constexpr std::size_t kVmciQueueBytes = 256 * 1024;
/// A VM may be renamed, or move to another datastore, while its connection lives.
constexpr std::chrono::seconds kIdentityLife{60};

/// Whose share of the pool a peer uses. The processes of one VM are one guest.
std::string share_of(const Peer& peer) {
  switch (peer.kind) {
    case Peer::Kind::kVsock:
      return fmt::format("cid {}", peer.cid);
    case Peer::Kind::kUnix:
      return peer.assigned_vm.empty() ? fmt::format("uid {}", peer.uid)
                                      : fmt::format("vm {}", peer.assigned_vm);
    case Peer::Kind::kTls:
      return fmt::format("certificate {}", peer.certificate);
  }
  return {};
}

/// Answered from what the service has in memory or in small files: worth no other thread, as a rule.
bool is_short(const Request& request) {
  const auto command = find_command(request.command);
  return command == Command::kVersion || command == Command::kGet || command == Command::kList;
}

std::string encode(const std::optional<std::uint64_t>& id, const json::value& body) {
  std::string payload = id ? encode_enveloped(*id, body) : encode_reply(body);
  if (!id && payload.size() > kVmciQueueBytes) payload = encode_reply(body, true);
  if (payload.size() < kMaxReplyBytes) return payload;
  const json::value too_long =
      error_body({ErrorCode::kLimit,
                  fmt::format("the reply has {} bytes, the most is {}", payload.size(), kMaxReplyBytes)},
                 true);
  return id ? encode_enveloped(*id, too_long) : encode_reply(too_long);
}

/// Who asks, and since when that is known.
struct Identity {
  Vm vm;
  base::Clock::time_point found;
};

/// What came out of a request's work on the pool.
struct Outcome {
  std::string payload;
  std::optional<Identity> identity;
  std::optional<base::Error> refusal;  ///< The peer is nobody's VM: it is told so, and the connection closed.
};

/// A request on its way through the pool, and who waits for it.
struct Task {
  Peer peer;
  Request request;
  std::optional<Identity> identity;
  /// Nobody waits any more. What has not begun then need not: the guest asks again, if it still wants it.
  std::shared_ptr<const std::atomic<bool>> is_gone;
  Outcome outcome;
};

/// One connection: it reads (unless it is at its bound), has requests in the pool, and writes replies, all at
/// once. `is_last`: nothing more is read; it closes when everything is answered.
struct Session {
  std::unique_ptr<Channel> channel;
  std::string share;
  std::optional<Identity> identity;
  std::size_t working = 0;  ///< Requests in the pool.
  std::size_t writing = 0;  ///< Replies on their way.
  std::size_t counted = 0;  ///< Those replies that a stop waits for.
  bool is_reading = false;
  base::Deadline read_until;  ///< While it is reading.
  bool is_last = false;
  bool has_asked = false;
  /// It sends ids, so it reads answers for as long as it is there: its end of the connection is its end.
  bool is_ours = false;
  std::shared_ptr<std::atomic<bool>> is_gone = std::make_shared<std::atomic<bool>>(false);
};

class AsioGuestServer final : public GuestServer {
 public:
  AsioGuestServer(FairQueue& pool, std::vector<std::unique_ptr<Listener>> listeners,
                  const RequestHandler& handler, VmDirectory& vms, GuestServerOptions options)
      : pool_(pool), handler_(handler), vms_(vms), options_(options), listeners_(std::move(listeners)) {}

  ~AsioGuestServer() override {
    is_stopping_ = true;  // what waits in the pool is declined
    for (const auto& listener : listeners_) listener->stop();
    for (auto& [id, session] : sessions_) session.channel->close();
    pool_.drain();
  }

  void start() override {
    for (const auto& listener : listeners_) {
      listener->start([this](std::unique_ptr<Channel> channel) { accept(std::move(channel)); });
    }
  }

  void stop(std::function<void()> drained) override {
    is_stopping_ = true;
    drained_ = std::move(drained);
    finish_stop_if_drained();
  }

  GuestServerCounters counters() const override {
    return {.requests = requests_,
            .malformed_frames = malformed_frames_,
            .timed_out = timed_out_,
            .refused_vms = refused_vms_,
            .refused_limit = refused_limit_,
            .declined = declined_,
            .abandoned = abandoned_,
            .connections = connections_};
  }

 private:
  using SessionId = std::uint64_t;

  /// For handlers that may outlive this server or the session: `work` runs while both are there.
  auto on_session(SessionId id, auto work) {
    return [this, alive = std::weak_ptr(alive_), id, work = std::move(work)](auto&&... results) mutable {
      if (alive.expired()) return;
      const auto found = sessions_.find(id);
      if (found != sessions_.end()) work(found->second, std::forward<decltype(results)>(results)...);
    };
  }

  void accept(std::unique_ptr<Channel> channel) {
    const SessionId id = next_id_++;
    Session& session = sessions_[id];
    session.share = share_of(channel->peer());
    session.channel = std::move(channel);
    ++connections_;
    read(id, session);
  }

  void close(SessionId id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;
    replies_ -= found->second.counted;
    *found->second.is_gone = true;
    found->second.channel->close();
    sessions_.erase(found);
    --connections_;
    finish_stop_if_drained();
  }

  void read(SessionId id, Session& session) {
    const bool is_full = session.working + session.writing >= options_.max_in_flight_per_channel;
    if (session.is_reading || session.is_last || is_full) return;
    session.is_reading = true;
    const auto patience = session.has_asked ? options_.idle_time : options_.first_frame_time;
    session.read_until = base::deadline_in(patience);
    session.channel->read(session.read_until,
                          on_session(id, [this, id](Session& live, Result<std::string> frame) {
                            live.is_reading = false;
                            if (frame) {
                              take_request(id, live, std::move(*frame));
                            } else {
                              take_read_error(id, live, frame.error());
                            }
                          }));
  }

  void take_read_error(SessionId id, Session& session, const base::Error& error);
  void take_request(SessionId id, Session& session, const std::string& payload);
  void take_outcome(SessionId id, Session& session, Outcome outcome);
  void work(Task& task);
  Outcome answer(const Task& task);
  void write(SessionId id, Session& session, std::string payload, bool is_counted);
  void close_or_read(SessionId id, Session& session);
  void decline(SessionId id, Session& session, const std::optional<std::uint64_t>& request,
               const base::Error& error);

  void finish_stop_if_drained() {
    if (!drained_ || working_ > 0 || replies_ > 0) return;
    for (const auto& listener : listeners_) listener->stop();
    auto drained = std::exchange(drained_, {});
    while (!sessions_.empty()) close(sessions_.begin()->first);
    drained();
  }

  FairQueue& pool_;
  const RequestHandler& handler_;
  VmDirectory& vms_;
  const GuestServerOptions options_;
  const std::vector<std::unique_ptr<Listener>> listeners_;
  std::unordered_map<SessionId, Session> sessions_;
  SessionId next_id_ = 1;
  std::size_t working_ = 0;  ///< Requests in the pool, of all sessions and of those that are gone.
  std::size_t replies_ = 0;  ///< Replies on their way that a stop waits for.
  std::function<void()> drained_;
  LogLimiter malformed_log_;
  LogLimiter refused_log_;
  LogLimiter limit_log_;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<std::uint64_t> requests_ = 0, malformed_frames_ = 0, timed_out_ = 0, refused_vms_ = 0,
                             refused_limit_ = 0, declined_ = 0, abandoned_ = 0, connections_ = 0;
  /// Shared, so that a handler can see that its server is gone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

void AsioGuestServer::take_read_error(SessionId id, Session& session, const base::Error& error) {
  const bool is_busy = session.working + session.writing > 0;
  switch (error.code()) {
    case ErrorCode::kTimeout:
      // An earlier one is of a reply that it does not take.
      if (is_busy && base::has_passed(session.read_until)) return read(id, session);  // it waits for us
      ++timed_out_;
      return close(id);
    case ErrorCode::kInvalid:
    case ErrorCode::kLimit:
      ++malformed_frames_;
      if (const auto line = malformed_log_.next()) {
        base::log::warn("dropped a guest that does not speak our frames",
                        {{"peer", session.channel->peer().text()},
                         {"cause", error.text()},
                         {"not_shown", line->not_shown}});
      }
      return close(id);
    default:
      if (!is_busy || session.is_ours) return close(id);
      session.is_last = true;  // it may have closed only its own half, and wait for the answers
  }
}

// A request's work holds its bytes and its JSON; the latter is some multiple of the former.
void AsioGuestServer::take_request(SessionId id, Session& session, const std::string& payload) {
  ++requests_;
  session.has_asked = true;
  Result<Request> request = decode_request(payload);
  if (!request) {
    session.is_last = true;
    return write(id, session, encode({}, error_body(request.error(), false)), false);
  }
  if (!request->id) session.is_last = true;
  if (is_stopping_) {
    ++declined_;
    return decline(id, session, request->id, {ErrorCode::kUnavailable, std::string(kDeclined)});
  }
  const std::optional<std::uint64_t> request_id = request->id;
  if (request_id) session.is_ours = true;
  // Who asks must be found out first; that may take its time.
  const bool is_known = session.identity.has_value();
  auto task = std::make_shared<Task>(Task{.peer = session.channel->peer(),
                                          .request = std::move(*request),
                                          .identity = session.identity,
                                          .is_gone = session.is_gone,
                                          .outcome = {}});
  auto take_done = [this, alive = std::weak_ptr(alive_), id, task] {
    if (alive.expired()) return;
    --working_;
    if (const auto found = sessions_.find(id); found != sessions_.end())
      take_outcome(id, found->second, std::move(task->outcome));
    finish_stop_if_drained();
  };
  auto posted = pool_.post({.key = session.share,
                            .bytes = payload.size(),
                            .run = [this, task] { work(*task); },
                            .done = std::move(take_done),
                            .is_short = is_known && is_short(task->request)});
  if (!posted) {
    ++refused_limit_;
    if (const auto line = limit_log_.next()) {
      base::log::warn("refused a guest's request", {{"peer", session.channel->peer().text()},
                                                    {"cause", posted.error().text()},
                                                    {"not_shown", line->not_shown}});
    }
    return decline(id, session, request_id, posted.error());
  }
  ++working_;
  ++session.working;
  read(id, session);
}

/// Thread: the pool's.
void AsioGuestServer::work(Task& task) {
  static std::atomic<std::uint64_t> next_request = 1;
  const base::log::RequestScope scope(fmt::format("g{}", next_request++));
  if (*task.is_gone) {
    ++abandoned_;
    return base::log::info("not done: the guest has gone",
                           {{"command", task.request.command}, {"name", task.request.name}});
  }
  task.outcome = answer(task);
}

Outcome AsioGuestServer::answer(const Task& task) {
  const Request& request = task.request;
  auto decline = [&](const base::Error& error, std::optional<base::Error> refusal = {}) {
    return Outcome{.payload = encode(request.id, error_body(error, request.wants_details)),
                   .identity = {},
                   .refusal = std::move(refusal)};
  };
  if (is_stopping_) {
    ++declined_;
    return decline({ErrorCode::kUnavailable, std::string(kDeclined)});
  }
  std::optional<Identity> identity = task.identity;
  if (!identity || base::Clock::now() - identity->found > kIdentityLife) {
    auto vm = vms_.identify(task.peer);
    if (!vm && vm.error().code() == ErrorCode::kDenied)
      return decline({ErrorCode::kDenied, vm.error().message(), std::string(kMakeItKnown)}, vm.error());
    if (!vm) {
      base::log::warn("cannot tell who asks", {{"peer", task.peer.text()}, {"cause", vm.error().text()}});
      return decline({ErrorCode::kUnavailable, std::string(kNoHypervisor), vm.error().message()});
    }
    identity = Identity{std::move(*vm), base::Clock::now()};
  }
  std::string payload = encode(request.id, handler_.answer(identity->vm, request));
  return {.payload = std::move(payload), .identity = std::move(identity), .refusal = {}};
}

void AsioGuestServer::take_outcome(SessionId id, Session& session, Outcome outcome) {
  --session.working;
  session.identity = std::move(outcome.identity);
  if (outcome.refusal) {
    ++refused_vms_;
    session.is_last = true;
    if (const auto line = refused_log_.next()) {
      base::log::warn("refused a peer that is no VM of ours", {{"peer", session.channel->peer().text()},
                                                               {"cause", outcome.refusal->text()},
                                                               {"not_shown", line->not_shown}});
    }
  }
  write(id, session, std::move(outcome.payload), true);
}

void AsioGuestServer::decline(SessionId id, Session& session, const std::optional<std::uint64_t>& request,
                              const base::Error& error) {
  // Only a peer that knows the extension sends an id, and it takes the further members.
  write(id, session, encode(request, error_body(error, request.has_value())), false);
}

void AsioGuestServer::write(SessionId id, Session& session, std::string payload, bool is_counted) {
  ++session.writing;
  if (is_counted) {
    ++session.counted;
    ++replies_;
  }
  session.channel->write(std::move(payload), base::deadline_in(options_.write_time),
                         on_session(id, [this, id, is_counted](Session& live, Result<void> sent) {
                           --live.writing;
                           if (is_counted) {
                             --live.counted;
                             --replies_;
                           }
                           if (sent) return close_or_read(id, live);
                           if (sent.error().code() == ErrorCode::kTimeout) ++timed_out_;
                           if (sent.error().code() == ErrorCode::kLimit) ++refused_limit_;
                           close(id);
                         }));
  read(id, session);
}

void AsioGuestServer::close_or_read(SessionId id, Session& session) {
  if (session.is_last && session.working + session.writing == 0) return close(id);
  read(id, session);
  finish_stop_if_drained();
}

}  // namespace

FairQueueLimits pool_limits(const GuestServerOptions& options) {
  return {.threads = options.threads,
          // So few threads, too, are not one guest's.
          .max_running_per_key = std::clamp<std::size_t>(options.threads / 2, 1, options.max_running_per_vm),
          .max_waiting_per_key = options.max_waiting_per_vm,
          .max_waiting_bytes_per_key = options.max_waiting_bytes_per_vm};
}

std::unique_ptr<GuestServer> make_guest_server(FairQueue& pool,
                                               std::vector<std::unique_ptr<Listener>> listeners,
                                               const RequestHandler& handler, VmDirectory& vms,
                                               GuestServerOptions options) {
  return std::make_unique<AsioGuestServer>(pool, std::move(listeners), handler, vms, options);
}

}  // namespace vdvs::esx
