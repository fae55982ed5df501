// The HTTP session on Boost.Beast, whose parser and serializer are driven by hand: the usual request arrives
// whole in one read and its reply leaves in one write, and then no timer is ever set.
//
// A session is a state machine:
//   idle      nothing of a request has come; no timer runs, so an idle connection costs no wake-up
//   reading   some bytes have come; the rest must follow within request_read_time
//   handling  the handler has it; nothing is read, so pipelined requests wait in the socket and are answered
//   in order writing   the reply goes out, within reply_write_time where it does not fit the socket at once
//   draining  a request was refused half-read: its rest is read and dropped for a while, so that the client
//   gets to the reply closed    operations that still come back find this and do nothing
#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <optional>

#include "base/log.h"
#include "mountd/plugin_session.h"

namespace vdvs::mountd {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using net::local::stream_protocol;

constexpr std::size_t kReadBytes = 8 * 1024;
constexpr std::size_t kMaxDrainedBytes = 16 * 1024 * 1024;

/// Who has connected; 0 where the kernel does not say, as from another pid namespace.
int peer_pid(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

enum class State { kIdle, kReading, kHandling, kWriting, kDraining, kClosed };

/// Shared: the loop's pending operations keep it until they have come back.
class Session : public PluginSession, public std::enable_shared_from_this<Session> {
 public:
  Session(SessionKeeper& keeper, std::uint64_t id, stream_protocol::socket socket, std::string driver)
      : keeper_(keeper),
        id_(id),
        driver_(std::move(driver)),
        socket_(std::move(socket)),
        timer_(socket_.get_executor()) {}

  void start() override;
  void on_reply(std::optional<HttpReply> reply) override;
  /// From the server alone: it forgets the session first.
  void shut() override;
  void drop(std::string_view reason) override;

  bool is_idle() const override { return state_ == State::kIdle; }
  base::Clock::time_point idle_since() const override { return idle_since_; }

 private:
  using Parser = http::request_parser<http::string_body>;

  void await_request();
  void read();
  void on_read(const error_code& error, std::size_t bytes);
  void parse();
  void send_continue_if_expected();
  void dispatch(http::request<http::string_body> request);
  void dispatch_call(Method method, std::string_view body);
  void refuse_unreadable(const error_code& error);
  void answer(HttpReply reply);
  void on_written(const error_code& error);
  void drain();
  void arm(std::chrono::milliseconds time);
  void disarm();
  void on_timer();
  void end();

  SessionKeeper& keeper_;  // Alive while the state is not kClosed.
  std::uint64_t id_;
  std::string driver_;
  stream_protocol::socket socket_;
  net::steady_timer timer_;
  State state_ = State::kIdle;
  base::Clock::time_point idle_since_;
  std::optional<base::Deadline> deadline_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::optional<http::response<http::string_body>> response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
  std::optional<net::executor_work_guard<stream_protocol::socket::executor_type>>
      pending_;  // run() goes on until it is answered.
  std::size_t drained_bytes_ = 0;
  unsigned http_version_ = 11;
  bool is_keep_alive_ = true;
  bool is_refused_ = false;
  bool is_head_ = false;
  bool has_continued_ = false;
};

void Session::start() {
  error_code error;
  socket_.non_blocking(true, error);
  if (error) return end();
  await_request();
}

void Session::await_request() {
  parser_.emplace();
  parser_->eager(true);
  parser_->header_limit(static_cast<std::uint32_t>(keeper_.limits().max_header_bytes));
  parser_->body_limit(keeper_.limits().max_body_bytes);
  has_continued_ = false;
  state_ = State::kIdle;
  idle_since_ = base::Clock::now();
  if (buffer_.size() == 0) return read();
  // The next request came with the last one. It waits its turn in the loop: one connection must not keep the
  // others waiting.
  state_ = State::kReading;
  net::post(socket_.get_executor(), [self = shared_from_this()] { self->parse(); });
}

void Session::read() {
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](const error_code& error, std::size_t bytes) {
                            self->on_read(error, bytes);
                          });
}

void Session::on_read(const error_code& error, std::size_t bytes) {
  if (state_ == State::kClosed) return;
  if (error) return end();
  if (state_ == State::kDraining) {
    drained_bytes_ += bytes;
    return drained_bytes_ > kMaxDrainedBytes ? end() : drain();
  }
  buffer_.commit(bytes);
  state_ = State::kReading;
  parse();
}

void Session::parse() {
  if (state_ == State::kClosed) return;
  error_code error;
  while (!error && !parser_->is_done()) {
    if (buffer_.size() == 0) {
      error = http::error::need_more;
    } else {
      buffer_.consume(parser_->put(buffer_.data(), error));
    }
  }
  if (!error) {
    disarm();
    return dispatch(parser_->release());
  }
  if (error != http::error::need_more) return refuse_unreadable(error);
  if (buffer_.size() > keeper_.limits().max_header_bytes) return refuse_unreadable(http::error::header_limit);
  if (!deadline_) arm(keeper_.limits().request_read_time);
  if (parser_->is_header_done()) send_continue_if_expected();
  if (state_ != State::kClosed) read();
}

void Session::send_continue_if_expected() {
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (has_continued_ || parser_->get().version() < 11) return;
  if (!boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) return;
  has_continued_ = true;
  error_code error;
  net::write(socket_, net::buffer(kContinue), error);  // Nothing else is in the socket's buffer: it fits.
  if (error) end();
}

/// A request that breaks HTTP or a limit. What follows it cannot be told from its rest, so the connection
/// ends with the reply.
void Session::refuse_unreadable(const error_code& error) {
  disarm();
  const ServerLimits& limits = keeper_.limits();
  is_keep_alive_ = false;
  is_refused_ = true;
  http_version_ = 11;
  unsigned status = 400;
  base::Error refusal(base::ErrorCode::kInvalid, "read a request: not HTTP/1 (" + error.message() + ")");
  if (error == http::error::header_limit) {
    status = 431;
    refusal = {base::ErrorCode::kLimit,
               fmt::format("read a request: the header has more than {} bytes", limits.max_header_bytes)};
  } else if (error == http::error::body_limit) {
    status = 413;
    refusal = {base::ErrorCode::kLimit,
               fmt::format("read a request: the body has more than {} bytes", limits.max_body_bytes)};
  }
  base::log::warn("plugin request refused",
                  {{"driver", driver_}, {"status", status}, {"error", refusal.message()}});
  answer(encode_refusal(status, refusal));
}

void Session::dispatch(http::request<http::string_body> request) {
  http_version_ = request.version();
  is_keep_alive_ = request.keep_alive();
  is_head_ = request.method() == http::verb::head;
  const std::string_view path(request.target().data(), request.target().size());
  const auto endpoint = find_endpoint(path);
  if (!endpoint) return answer(encode_refusal(404, unknown_endpoint(path)));
  if (request.method() != http::verb::post) {
    return answer(encode_refusal(
        405, {base::ErrorCode::kInvalid, fmt::format("serve '{}': the method must be POST", path)}));
  }
  if (std::holds_alternative<Activate>(*endpoint)) return answer(encode_activation());
  dispatch_call(std::get<Method>(*endpoint), request.body());
}

void Session::dispatch_call(Method method, std::string_view body) {
  if (is_better_dropped(method, body))
    return drop("Get without a body: the engine's retry after a broken connection");
  auto call = decode_request(method, body);
  if (!call) {
    base::log::warn("plugin request refused",
                    {{"driver", driver_}, {"status", 400}, {"error", call.error().message()}});
    return answer(encode_refusal(400, call.error()));
  }
  call->driver = driver_;
  call->peer_pid = peer_pid(socket_.native_handle());
  state_ = State::kHandling;
  pending_.emplace(socket_.get_executor());
  keeper_.handle(id_, std::move(*call));
}

void Session::on_reply(std::optional<HttpReply> reply) {
  VDVS_CHECK(state_ == State::kHandling);
  pending_.reset();
  if (!reply) return end();
  answer(std::move(*reply));
}

void Session::answer(HttpReply reply) {
  state_ = State::kWriting;
  if (keeper_.is_stopped()) is_keep_alive_ = false;
  response_.emplace(static_cast<http::status>(reply.status), http_version_);
  response_->set(http::field::content_type, kPluginContentType);
  if (reply.status == 405) response_->set(http::field::allow, "POST");
  response_->keep_alive(is_keep_alive_);
  response_->content_length(reply.body.size());
  if (!is_head_) response_->body() = std::move(reply.body);
  serializer_.emplace(*response_);
  // Most replies fit the socket at once: then no timer is set, and nothing wakes the loop later.
  error_code error;
  http::write(socket_, *serializer_, error);
  if (error != net::error::would_block) return on_written(error);
  arm(keeper_.limits().reply_write_time);
  http::async_write(
      socket_, *serializer_,
      [self = shared_from_this()](const error_code& result, std::size_t) { self->on_written(result); });
}

void Session::on_written(const error_code& error) {
  if (state_ == State::kClosed) return;
  disarm();
  serializer_.reset();
  response_.reset();
  if (error) return end();
  if (is_refused_) {
    error_code ignored;
    socket_.shutdown(stream_protocol::socket::shutdown_send, ignored);
    state_ = State::kDraining;
    arm(keeper_.limits().request_read_time);
    return drain();
  }
  if (!is_keep_alive_ || keeper_.is_stopped()) return end();
  await_request();
}

void Session::drain() {
  buffer_.clear();
  read();
}

void Session::arm(std::chrono::milliseconds time) {
  deadline_ = base::deadline_in(time);
  timer_.expires_at(*deadline_);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error) self->on_timer();
  });
}

void Session::disarm() {
  if (!deadline_) return;
  deadline_.reset();
  timer_.cancel();
}

void Session::on_timer() {
  if (state_ == State::kClosed || !deadline_ || !base::has_passed(*deadline_)) return;
  if (state_ == State::kDraining) return end();
  drop(state_ == State::kReading ? "the request did not come in time" : "the reply was not read in time");
}

void Session::drop(std::string_view reason) {
  base::log::warn("plugin connection dropped", {{"driver", driver_}, {"reason", reason}});
  end();
}

/// The last reference may go with this.
void Session::end() { keeper_.forget(id_); }

void Session::shut() {
  state_ = State::kClosed;
  disarm();
  pending_.reset();
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace

std::shared_ptr<PluginSession> make_http_session(SessionKeeper& keeper, std::uint64_t id,
                                                 stream_protocol::socket socket, std::string driver) {
  return std::make_shared<Session>(keeper, id, std::move(socket), std::move(driver));
}

}  // namespace vdvs::mountd
