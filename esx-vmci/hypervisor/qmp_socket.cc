// A monitor over its unix socket. All its state belongs to the loop's thread; `send` posts there.
//
// The connection is made with connect(2) itself: on a unix socket it never is "in progress", and only its own
// errors say what this is about. ENOENT and ECONNREFUSED mean that the process is not there; EAGAIN (its
// queue is full) and everything else mean that it may be.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <future>
#include <map>
#include <utility>

#include "base/fd.h"
#include "esx-vmci/hypervisor/qmp.h"

namespace vdvs::esx {
namespace {

namespace asio = boost::asio;
using base::ErrorCode;
using base::fail;
using base::Result;
using boost::system::error_code;
using Socket = asio::local::stream_protocol::socket;

constexpr std::chrono::milliseconds kFirstPause{20};
constexpr std::chrono::milliseconds kLongestPause{1000};
/// Until then the greeting comes, or somebody else has the monitor.
constexpr std::chrono::seconds kGreetingTime{3};
constexpr std::size_t kReadBytes = 64 * 1024;

/// connect(2), which for a unix socket is done at once. Errors: with the errno.
Result<base::UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kInvalid, "connect to '{}': the path is too long for a socket", path);
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return base::fail_errno(errno, "make a socket for '{}'", path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::fail_errno(errno, "connect to '{}'", path);
  return fd;
}

class SocketMonitor final : public QmpMonitor {
 public:
  SocketMonitor(asio::io_context& loop, std::string path, QmpObserver observer)
      : loop_(loop), path_(std::move(path)), observer_(std::move(observer)), socket_(loop), timer_(loop) {}

  void start() override {
    asio::post(loop_, [this] { connect(); });
  }

  void send(std::vector<QmpCommand> commands, base::Deadline deadline,
            std::function<void(Answers)> done) override {
    asio::post(loop_, [this, commands = std::move(commands), deadline, done = std::move(done)]() mutable {
      accept_batch(std::move(commands), deadline, std::move(done));
    });
  }

 private:
  /// Some commands that were sent together.
  struct Batch {
    Batch(asio::io_context& loop, std::size_t size)
        : answers(size, fail(ErrorCode::kUnavailable, "not answered")), open(size), timer(loop) {}
    Answers answers;
    std::size_t open;  ///< Not yet answered.
    std::function<void(Answers)> done;
    asio::steady_timer timer;
  };
  struct Waiting {
    std::shared_ptr<Batch> batch;  // shared by the commands of the batch and its timer
    std::size_t index;
  };

  void accept_batch(std::vector<QmpCommand> commands, base::Deadline deadline,
                    std::function<void(Answers)> done);
  void expire(const std::shared_ptr<Batch>& batch);
  void settle(std::uint64_t id, Result<boost::json::value> result);
  void fail_all(const base::Error& error);

  void connect();
  void connected(base::UniqueFd fd);
  void retry();
  void drop(const std::string& reason);
  void read();
  void take(std::string_view bytes);
  void take_message(QmpMessage message);
  void write(std::string bytes);
  void write_next();
  void set_link(QmpLink link, const std::string& reason);

  asio::io_context& loop_;
  const std::string path_;
  const QmpObserver observer_;
  Socket socket_;
  asio::steady_timer timer_;      ///< For the next try, or for the greeting.
  std::uint64_t connection_ = 0;  ///< Which one: handlers of an earlier one do nothing.
  bool is_connected_ = false;     ///< There is a socket; perhaps no greeting yet.
  QmpLink link_ = QmpLink::kConnecting;
  std::string reason_ = "it was not asked yet";
  std::chrono::milliseconds pause_{0};
  QmpLines lines_;
  std::array<char, kReadBytes> chunk_;
  std::deque<std::string> output_;  ///< The first is being written.
  std::string held_;                ///< Commands that wait for the connection.
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, Waiting> waiting_;
};

void SocketMonitor::accept_batch(std::vector<QmpCommand> commands, base::Deadline deadline,
                                 std::function<void(Answers)> done) {
  auto batch = std::make_shared<Batch>(loop_, commands.size());
  batch->done = std::move(done);
  if (commands.empty()) return batch->done({});
  if (link_ == QmpLink::kGone) connect();  // it may have been started a moment ago
  auto refuse = [&](ErrorCode code, const std::string& why) {
    for (auto& answer : batch->answers) answer = fail(code, "{}", why);
    batch->done(std::move(batch->answers));
  };
  if (link_ == QmpLink::kGone) return refuse(ErrorCode::kUnavailable, reason_);
  if (waiting_.size() + commands.size() > kMaxQmpWaiting)
    return refuse(ErrorCode::kLimit,
                  fmt::format("ask '{}': {} commands wait for an answer already", path_, waiting_.size()));
  std::string bytes;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    waiting_[++last_id_] = {batch, i};
    bytes += encode_qmp(commands[i], last_id_);
  }
  batch->timer.expires_at(deadline);
  batch->timer.async_wait([this, batch](error_code error) {
    if (!error) expire(batch);
  });
  if (link_ == QmpLink::kUp) {
    write(std::move(bytes));
  } else {
    held_ += bytes;
  }
}

void SocketMonitor::expire(const std::shared_ptr<Batch>& batch) {
  std::vector<std::uint64_t> late;
  for (const auto& [id, waiting] : waiting_) {
    if (waiting.batch == batch) late.push_back(id);
  }
  const std::string why = link_ == QmpLink::kUp ? "no answer in time" : reason_;
  const ErrorCode code = link_ == QmpLink::kUp ? ErrorCode::kTimeout : ErrorCode::kUnavailable;
  for (const std::uint64_t id : late) settle(id, fail(code, "ask '{}': {}", path_, why));
}

void SocketMonitor::settle(std::uint64_t id, Result<boost::json::value> result) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;  // its deadline has passed
  const auto [batch, index] = std::move(found->second);
  waiting_.erase(found);
  batch->answers[index] = std::move(result);
  if (--batch->open > 0) return;
  batch->timer.cancel();
  batch->done(std::move(batch->answers));
}

void SocketMonitor::fail_all(const base::Error& error) {
  held_.clear();
  while (!waiting_.empty()) settle(waiting_.begin()->first, std::unexpected(error));
}

void SocketMonitor::connect() {
  if (is_connected_) return;
  auto fd = connect_to(path_);
  if (fd) return connected(std::move(*fd));
  const int cause = fd.error().system_errno();
  if (cause == ENOENT || cause == ECONNREFUSED) {
    set_link(QmpLink::kGone, fd.error().message());
    fail_all(base::Error(ErrorCode::kUnavailable, fd.error().message()));
  } else {
    set_link(QmpLink::kSilent, fd.error().message());
  }
  retry();
}

void SocketMonitor::retry() {
  timer_.expires_after(pause_);
  pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  timer_.async_wait([this](error_code error) {
    if (!error) connect();
  });
}

void SocketMonitor::connected(base::UniqueFd fd) {
  error_code error;
  socket_.assign(asio::local::stream_protocol(), fd.release(), error);
  VDVS_CHECK(!error);
  is_connected_ = true;
  ++connection_;
  lines_ = {};
  output_.clear();
  set_link(QmpLink::kConnecting, fmt::format("'{}' does not greet yet", path_));
  timer_.expires_after(kGreetingTime);
  timer_.async_wait([this, connection = connection_](error_code wait_error) {
    if (wait_error || connection != connection_ || link_ == QmpLink::kUp) return;
    set_link(
        QmpLink::kSilent,
        fmt::format("'{}' does not greet: another program uses this monitor, or QEMU is stopped", path_));
  });
  read();
}

/// The connection is of no use any more. Whether the process is, the next try says.
void SocketMonitor::drop(const std::string& reason) {
  error_code ignored;
  socket_.close(ignored);
  is_connected_ = false;
  ++connection_;
  if (link_ == QmpLink::kUp) pause_ = std::chrono::milliseconds(0);
  set_link(QmpLink::kConnecting, reason);
  fail_all(base::Error(ErrorCode::kUnavailable, reason));
  retry();
}

void SocketMonitor::read() {
  socket_.async_read_some(asio::buffer(chunk_),
                          [this, connection = connection_](error_code error, std::size_t size) {
                            if (connection != connection_) return;
                            if (error) return drop(fmt::format("'{}': {}", path_, error.message()));
                            take({chunk_.data(), size});
                            if (connection == connection_) read();
                          });
}

void SocketMonitor::take(std::string_view bytes) {
  lines_.feed(bytes);
  const std::uint64_t connection = connection_;
  while (connection == connection_) {
    auto line = lines_.next();
    if (!line) return drop(fmt::format("'{}': {}", path_, line.error().message()));
    if (!*line) return;
    auto message = decode_qmp(**line);
    if (!message) return drop(fmt::format("'{}': {}", path_, message.error().message()));
    take_message(std::move(*message));
  }
}

void SocketMonitor::take_message(QmpMessage message) {
  switch (message.kind) {
    case QmpMessage::Kind::kGreeting:
      return write(encode_qmp({.name = "qmp_capabilities"}, 0));
    case QmpMessage::Kind::kEvent:
      if (observer_.event) observer_.event(message.event);
      return;
    case QmpMessage::Kind::kAnswer:
      break;
  }
  if (link_ != QmpLink::kUp) {  // to qmp_capabilities
    if (!message.result) return drop(fmt::format("'{}': {}", path_, message.result.error().message()));
    timer_.cancel();
    pause_ = std::chrono::milliseconds(0);
    set_link(QmpLink::kUp, "connected");
    if (!held_.empty()) write(std::exchange(held_, {}));
    return;
  }
  if (message.id) settle(*message.id, std::move(message.result));
}

void SocketMonitor::write(std::string bytes) {
  output_.push_back(std::move(bytes));
  if (output_.size() == 1) write_next();
}

void SocketMonitor::write_next() {
  asio::async_write(socket_, asio::buffer(output_.front()),
                    [this, connection = connection_](error_code error, std::size_t) {
                      if (connection != connection_) return;
                      if (error) return drop(fmt::format("'{}': {}", path_, error.message()));
                      output_.pop_front();
                      if (!output_.empty()) write_next();
                    });
}

void SocketMonitor::set_link(QmpLink link, const std::string& reason) {
  reason_ = reason;
  if (std::exchange(link_, link) == link) return;
  if (observer_.link_changed) observer_.link_changed(link, reason);
}

}  // namespace

QmpMonitor::Answers QmpMonitor::run_all(std::vector<QmpCommand> commands, base::Deadline deadline) {
  std::promise<Answers> answers;
  auto answered = answers.get_future();
  send(std::move(commands), deadline, [&answers](Answers got) { answers.set_value(std::move(got)); });
  return answered.get();
}

Result<boost::json::value> QmpMonitor::run(QmpCommand command, base::Deadline deadline) {
  std::vector<QmpCommand> one;
  one.push_back(std::move(command));
  return std::move(run_all(std::move(one), deadline).front());
}

std::unique_ptr<QmpMonitor> make_qmp_monitor(asio::io_context& loop, std::string socket_path,
                                             QmpObserver observer) {
  return std::make_unique<SocketMonitor>(loop, std::move(socket_path), std::move(observer));
}

}  // namespace vdvs::esx
