#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "esx-vmci/client/service_link.h"
#include "esx-vmci/client/shared_loop.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using base::Clock;
using base::Deadline;
using base::Error;
using base::ErrorCode;
using base::fail;
using base::Result;

/// For the question who is there, and for giving a request to the kernel.
constexpr Clock::duration kMeetTime = std::chrono::seconds(10);
constexpr Clock::duration kWriteTime = std::chrono::seconds(20);
constexpr std::uint64_t kHelloId = 0;

/// One request on its way. Shared, because its timers and its tries end in any order.
struct Call {
  Call(asio::io_context& loop, std::optional<Request> request_in, Deadline deadline_in)
      : request(std::move(request_in)), deadline(deadline_in), deadline_timer(loop), retry_timer(loop) {}

  std::optional<Request> request;  ///< Without one: only the meeting is waited for.
  const Deadline deadline;
  std::optional<Result<Answer>> answer;
  SharedLoop::Waiter waiter;
  /// Until there is an answer: whoever reads that may outlive the loop.
  std::optional<asio::steady_timer> deadline_timer;
  std::optional<asio::steady_timer> retry_timer;
  std::uint64_t id = 0;       ///< Of its last try, to a service of ours.
  Clock::time_point sent_at;  ///< Of its last try.
  std::size_t failures = 0;
  bool was_met = false;  ///< Somebody was there: what fails now may pass.
  bool was_sent = false;
  bool was_lost = false;  ///< A try may have been done without an answer.
  bool is_done = false;
  std::optional<Error> last_failure;
};
using CallPtr = std::shared_ptr<Call>;

/// A request to an original service, with the connection that is its own.
struct Exchange {
  CallPtr call;
  std::unique_ptr<Channel> channel;
};

enum class Mode { kUnmet, kMeeting, kOurs, kOriginal };

/// All but `service`, `ask` and the ends of its life run on the loop.
class AsioLink final : public ServiceLink {
 public:
  AsioLink(Endpoint endpoint, TlsFiles tls) : endpoint_(std::move(endpoint)), tls_(std::move(tls)) {}
  ~AsioLink() override;

  Result<Service> service(Deadline deadline) override;
  Result<Answer> ask(Request request, Deadline deadline) override {
    return wait_for(std::make_shared<Call>(loop_.context(), std::move(request), deadline));
  }

 private:
  Result<Answer> wait_for(const CallPtr& call);
  void start(const CallPtr& call);
  void pump();
  void on_deadline(const CallPtr& call);
  void finish(const CallPtr& call, Result<Answer> answer);
  void settle(const CallPtr& call, Result<json::value> result);
  void fail_try(const CallPtr& call, const Error& failure, bool may_be_done);

  void meet();
  void say_hello(std::unique_ptr<Channel> channel);
  void on_hello(const Result<std::string>& payload);
  void meet_service(bool is_original, VersionReply version);
  void fail_meeting(const Error& failure);

  void fly(const CallPtr& call);
  void read_next();
  void on_frame(const Result<std::string>& payload);
  void drop_channel(const Error& failure);

  void start_exchange(CallPtr call);
  void on_connected(std::list<Exchange>::iterator exchange, Result<std::unique_ptr<Channel>> channel);
  void on_exchanged(std::list<Exchange>::iterator exchange, const Result<std::string>& payload);
  void fail_exchange(std::list<Exchange>::iterator exchange, const Error& failure, bool may_be_done);

  Error unreadable(std::string_view what) const;

  const Endpoint endpoint_;
  const TlsFiles tls_;
  SharedLoop loop_;

  Mode mode_ = Mode::kUnmet;
  std::deque<CallPtr> queue_;         // wait for the meeting, or for a free connection to an original service
  std::unique_ptr<Channel> meeting_;  // while the mode is kMeeting
  std::unique_ptr<Channel> channel_;  // while it is kOurs
  Clock::time_point last_frame_at_;
  std::map<std::uint64_t, CallPtr> flying_;  // over channel_, by id
  std::uint64_t next_id_ = kHelloId + 1;
  std::list<Exchange> exchanges_;
  Clock::time_point met_at_;
  std::list<CallPtr> calls_;  // all that have no answer yet

  base::Mutex mutex_;
  std::optional<Service> service_ GUARDED_BY(mutex_);
};

// ---- from the callers' threads ----

Result<Service> AsioLink::service(Deadline deadline) {
  {
    base::MutexLock lock(mutex_);
    if (service_) return *service_;
  }
  auto met = wait_for(std::make_shared<Call>(loop_.context(), std::nullopt, deadline));
  if (!met) return std::unexpected(std::move(met).error());
  base::MutexLock lock(mutex_);
  VDVS_CHECK(service_.has_value());
  return *service_;
}

Result<Answer> AsioLink::wait_for(const CallPtr& call) {
  loop_.wait(call->waiter, [this, call] { start(call); });
  return std::move(*call->answer);
}

AsioLink::~AsioLink() {
  SharedLoop::Waiter waiter;
  loop_.wait(waiter, [&] {
    const Error ended(ErrorCode::kUnavailable,
                      fmt::format("ask '{}': this client is being closed", endpoint_.text()));
    for (const CallPtr& call : std::vector<CallPtr>(calls_.begin(), calls_.end())) {
      finish(call, std::unexpected(ended));
    }
    loop_.finish(waiter);
  });
}

// ---- calls ----

void AsioLink::start(const CallPtr& call) {
  calls_.push_back(call);
  call->deadline_timer->expires_at(call->deadline);
  call->deadline_timer->async_wait([this, call](const boost::system::error_code& error) {
    if (!error) on_deadline(call);
  });
  queue_.push_back(call);
  pump();
}

/// Sends what waits, as far as the mode allows.
void AsioLink::pump() {
  if (mode_ == Mode::kOriginal && Clock::now() - met_at_ > kAskAgain) mode_ = Mode::kUnmet;
  if (mode_ == Mode::kUnmet && !queue_.empty()) meet();
  while (!queue_.empty()) {
    if (mode_ == Mode::kMeeting || mode_ == Mode::kUnmet) return;
    if (mode_ == Mode::kOriginal && exchanges_.size() >= kMaxOriginalConnections) return;
    CallPtr call = std::move(queue_.front());
    queue_.pop_front();
    if (!call->request) {
      finish(call, Answer{.result = json::value(nullptr)});
    } else if (mode_ == Mode::kOurs) {
      fly(call);
    } else {
      start_exchange(std::move(call));
    }
  }
}

void AsioLink::finish(const CallPtr& call, Result<Answer> answer) {
  if (call->is_done) return;
  call->is_done = true;
  call->deadline_timer.reset();
  call->retry_timer.reset();
  flying_.erase(call->id);
  std::erase(queue_, call);
  std::erase(calls_, call);
  call->answer = std::move(answer);
  loop_.finish(call->waiter);
}

void AsioLink::on_deadline(const CallPtr& call) {
  if (call->is_done) return;
  const bool is_flying = flying_.contains(call->id) && flying_.at(call->id) == call;
  const std::string cause =
      call->last_failure ? fmt::format(" (before that: {})", call->last_failure->message()) : "";
  if (call->was_sent) {
    finish(call, fail(ErrorCode::kTimeout, "ask '{}': no answer in time{}", endpoint_.text(), cause));
  } else {
    finish(call, std::unexpected(
                     Error(ErrorCode::kUnavailable,
                           fmt::format("ask '{}': the service does not answer{}", endpoint_.text(), cause),
                           "look whether the service runs and answers there")));
  }
  // Not a word on this connection since the request went out: it may lead nowhere.
  if (is_flying && channel_ && last_frame_at_ < call->sent_at) {
    drop_channel(
        Error(ErrorCode::kTimeout, fmt::format("ask '{}': the connection is silent", endpoint_.text())));
  }
}

/// The service has answered.
void AsioLink::settle(const CallPtr& call, Result<json::value> result) {
  if (!result && is_declined(result.error())) return fail_try(call, result.error(), false);
  finish(call, Answer{.result = std::move(result), .was_repeated = call->was_lost});
}

/// A try came to nothing: the next one follows after a while, or the call has failed.
void AsioLink::fail_try(const CallPtr& call, const Error& failure, bool may_be_done) {
  if (call->is_done) return;
  call->was_lost = call->was_lost || may_be_done;
  call->last_failure = failure;
  const bool may_pass = failure.code() == ErrorCode::kUnavailable || failure.code() == ErrorCode::kTimeout ||
                        failure.code() == ErrorCode::kIo || may_be_done;
  const bool is_away = !call->was_met && failure.code() == ErrorCode::kUnavailable && !is_declined(failure);
  if (!may_pass || is_away) return finish(call, std::unexpected(failure));
  const std::size_t failures = call->failures++;
  if (failures >= kRetryWaits.size() || Clock::now() + kRetryWaits[failures] >= call->deadline) {
    const bool is_late = failure.code() == ErrorCode::kTimeout;
    return finish(
        call, std::unexpected(
                  Error(is_late ? ErrorCode::kTimeout : ErrorCode::kUnavailable,
                        fmt::format("{} ({} tries)", failure.message(), failures + 1),
                        failure.remedy().empty()
                            ? "look whether the service runs, and knows this VM: its log says whom it refuses"
                            : failure.remedy())));
  }
  call->retry_timer->expires_after(kRetryWaits[failures]);
  call->retry_timer->async_wait([this, call](const boost::system::error_code& error) {
    if (error || call->is_done) return;
    queue_.push_back(call);
    pump();
  });
}

Error AsioLink::unreadable(std::string_view what) const {
  return Error(ErrorCode::kUnavailable, fmt::format("ask '{}': {}", endpoint_.text(), what),
               "look which service listens there");
}

// ---- the meeting ----

void AsioLink::meet() {
  mode_ = Mode::kMeeting;
  connect(loop_.context(), endpoint_, tls_, base::deadline_in(kMeetTime),
          [this](Result<std::unique_ptr<Channel>> channel) {
            if (!channel) return fail_meeting(channel.error());
            say_hello(std::move(*channel));
          });
}

void AsioLink::say_hello(std::unique_ptr<Channel> channel) {
  meeting_ = std::move(channel);
  const Request hello{.command = std::string(command_name(Command::kVersion)),
                      .name = {},
                      .options = {},
                      .version = kProtocolVersion,
                      .id = kHelloId,
                      .wants_details = true};
  const Deadline deadline = base::deadline_in(kMeetTime);
  meeting_->write(encode_request(hello), deadline,
                  [](const Result<void>&) {});  // a failure shows in the read
  meeting_->read(deadline, [this](const Result<std::string>& payload) { on_hello(payload); });
}

void AsioLink::on_hello(const Result<std::string>& payload) {
  if (!payload) return fail_meeting(payload.error());
  auto reply = decode_reply(*payload);
  if (!reply) return fail_meeting(unreadable(reply.error().message()));
  auto body = result_of(reply->body);
  if (!body && is_declined(body.error())) return fail_meeting(body.error());
  if (!reply->id) {
    // An original service. An old one does not know the command; its answers to requests say what is wrong.
    auto version =
        body ? decode_version(*body) : Result<VersionReply>(VersionReply{.version = "", .capabilities = {}});
    return meet_service(true, VersionReply{.version = version ? version->version : "", .capabilities = {}});
  }
  if (!body) return fail_meeting(body.error());
  auto version = decode_version(*body);
  if (!version) return fail_meeting(unreadable(version.error().message()));
  meet_service(false, std::move(*version));
}

void AsioLink::meet_service(bool is_original, VersionReply version) {
  met_at_ = last_frame_at_ = Clock::now();
  std::unique_ptr<Channel> channel = std::move(meeting_);
  base::log::info("control plane found", {{"endpoint", endpoint_.text()},
                                          {"version", version.version},
                                          {"kind", is_original ? "original" : "vdvs"}});
  {
    base::MutexLock lock(mutex_);
    service_ = Service{.is_original = is_original, .version = std::move(version)};
  }
  mode_ = is_original ? Mode::kOriginal : Mode::kOurs;
  if (!is_original) {
    channel_ = std::move(channel);
    read_next();
  }
  pump();
}

void AsioLink::fail_meeting(const Error& failure) {
  const bool was_there = meeting_ != nullptr;
  meeting_.reset();
  mode_ = Mode::kUnmet;
  for (const CallPtr& call : std::exchange(queue_, {})) {
    call->was_met = call->was_met || was_there;
    fail_try(call, failure, false);
  }
}

// ---- a service of ours ----

void AsioLink::fly(const CallPtr& call) {
  flying_.erase(call->id);
  call->id = next_id_++;
  call->request->id = call->id;
  std::string text = encode_request(*call->request);
  if (text.size() + 1 > kMaxRequestBytes) {
    return finish(call, fail(ErrorCode::kLimit, "ask '{}': the request has {} bytes (max is {})",
                             endpoint_.text(), text.size() + 1, kMaxRequestBytes));
  }
  call->was_met = call->was_sent = true;
  call->sent_at = Clock::now();
  flying_.emplace(call->id, call);
  // A failure of the write closes the channel, which the read then says.
  channel_->write(std::move(text), base::deadline_in(kWriteTime), [](const Result<void>&) {});
}

void AsioLink::read_next() {
  channel_->read(Deadline::max(), [this](const Result<std::string>& payload) { on_frame(payload); });
}

void AsioLink::on_frame(const Result<std::string>& payload) {
  if (!payload) return drop_channel(payload.error());
  auto reply = decode_reply(*payload);
  if (!reply) return drop_channel(unreadable(reply.error().message()));
  if (!reply->id) return drop_channel(unreadable("an answer without the number of its request"));
  last_frame_at_ = Clock::now();
  read_next();
  // One that is not found was answered too late for its caller.
  if (auto found = flying_.find(*reply->id); found != flying_.end()) {
    const CallPtr call = found->second;
    flying_.erase(found);
    settle(call, result_of(reply->body));
  }
}

void AsioLink::drop_channel(const Error& failure) {
  channel_.reset();
  mode_ = Mode::kUnmet;
  const Error lost(ErrorCode::kUnavailable, failure.message(), failure.remedy());
  for (const auto& [id, call] : std::exchange(flying_, {})) fail_try(call, lost, true);
  pump();
}

// ---- an original service ----

void AsioLink::start_exchange(CallPtr call) {
  call->request->id.reset();
  call->request->wants_details = false;
  const std::size_t bytes = encode_request(*call->request).size() + 1;
  if (bytes > kMaxOriginalRequestBytes) {
    return finish(
        call, fail(ErrorCode::kLimit, "ask '{}': the request has {} bytes, and this service takes {} at most",
                   endpoint_.text(), bytes, kMaxOriginalRequestBytes));
  }
  const auto exchange =
      exchanges_.insert(exchanges_.end(), Exchange{.call = std::move(call), .channel = nullptr});
  connect(loop_.context(), endpoint_, tls_, exchange->call->deadline,
          [this, exchange](Result<std::unique_ptr<Channel>> channel) {
            on_connected(exchange, std::move(channel));
          });
}

void AsioLink::on_connected(std::list<Exchange>::iterator exchange,
                            Result<std::unique_ptr<Channel>> channel) {
  if (!channel) return fail_exchange(exchange, channel.error(), false);
  Call& call = *exchange->call;
  if (call.is_done) {
    exchanges_.erase(exchange);
    return pump();
  }
  exchange->channel = std::move(*channel);
  call.was_met = call.was_sent = true;
  call.sent_at = Clock::now();
  exchange->channel->write(encode_request(*call.request), call.deadline, [](const Result<void>&) {});
  exchange->channel->read(call.deadline, [this, exchange](const Result<std::string>& payload) {
    on_exchanged(exchange, payload);
  });
}

void AsioLink::on_exchanged(std::list<Exchange>::iterator exchange, const Result<std::string>& payload) {
  if (!payload) return fail_exchange(exchange, payload.error(), true);
  auto reply = decode_reply(*payload);
  if (!reply) return fail_exchange(exchange, unreadable(reply.error().message()), true);
  const CallPtr call = exchange->call;
  exchanges_.erase(exchange);
  settle(call, result_of(reply->body));
  pump();
}

void AsioLink::fail_exchange(std::list<Exchange>::iterator exchange, const Error& failure, bool may_be_done) {
  const CallPtr call = exchange->call;
  exchanges_.erase(exchange);
  if (mode_ == Mode::kOriginal) mode_ = Mode::kUnmet;  // perhaps it is being replaced by another one
  fail_try(call, failure, may_be_done);
  pump();
}

}  // namespace

std::unique_ptr<ServiceLink> make_service_link(Endpoint endpoint, TlsFiles tls) {
  return std::make_unique<AsioLink>(std::move(endpoint), std::move(tls));
}

}  // namespace vdvs::esx
