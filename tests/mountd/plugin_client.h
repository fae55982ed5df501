// A plugin server that runs for a test, a handler that the test tells what to answer, and a client that
// speaks raw bytes over the real socket, so that it can be slow, cut, or wrong.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <stdexcept>
#include <thread>

#include "base/deadline.h"
#include "base/mutex.h"
#include "mountd/plugin_server.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {

/// No test waits this long: it is there so that a bug ends the test.
inline constexpr std::chrono::seconds kGiveUp{30};

/// Answers at once by what `answer` says, or keeps the Respond for the test to call.
class FakeHandler : public PluginHandler {
 public:
  using Answer = std::function<PluginReply(const PluginRequest&)>;

  void answer_with(Answer answer) {
    base::MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }
  /// From now on requests are kept.
  void hold() { answer_with(nullptr); }

  void handle(PluginRequest request, Respond respond) override {
    Answer answer;
    {
      base::MutexLock lock(mutex_);
      seen_.push_back(request);
      answer = answer_;
      if (!answer) held_.emplace_back(std::move(request), std::move(respond));
      changed_.notify_all();
    }
    if (answer) respond(answer(request));
  }

  /// The next request that was held, when it has come.
  std::pair<PluginRequest, Respond> take_held() {
    base::MutexLock lock(mutex_);
    const auto deadline = base::deadline_in(kGiveUp);
    while (held_.empty()) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout)
        throw std::runtime_error("no request has come");
    }
    auto first = std::move(held_.front());
    held_.pop_front();
    return first;
  }

  std::vector<PluginRequest> seen() {
    base::MutexLock lock(mutex_);
    return seen_;
  }

 private:
  base::Mutex mutex_;
  base::ConditionVariable changed_;
  Answer answer_ GUARDED_BY(mutex_) = [](const PluginRequest&) { return Done{}; };
  std::vector<PluginRequest> seen_ GUARDED_BY(mutex_);
  std::deque<std::pair<PluginRequest, Respond>> held_ GUARDED_BY(mutex_);
};

struct ReceivedReply {
  unsigned status = 0;
  std::string head;
  std::string body;
};

/// Owns: one end of a connection.
class RawClient {
 public:
  explicit RawClient(const std::string& path)
      : RawClient(base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), path) {}
  RawClient(base::UniqueFd fd, const std::string& path) : fd_(std::move(fd)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const bool is_connected =
        ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    connect_error_ = is_connected ? 0 : errno;
  }

  bool is_connected() const { return connect_error_ == 0; }
  int connect_error() const { return connect_error_; }

  /// False where the server has closed meanwhile.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }
  void end_sending() { ::shutdown(fd_.get(), SHUT_WR); }

  /// One reply by its Content-Length; status 0 where the connection ended instead.
  ReceivedReply receive() {
    ReceivedReply reply;
    std::size_t head_end = std::string::npos;
    while ((head_end = bytes_.find("\r\n\r\n")) == std::string::npos) {
      if (!read_more()) return {};
    }
    reply.head = bytes_.substr(0, head_end + 2);
    bytes_.erase(0, head_end + 4);
    reply.status = static_cast<unsigned>(std::stoul(reply.head.substr(reply.head.find(' ') + 1, 3)));
    if (reply.status == 100) return reply;
    const std::size_t length_at = reply.head.find("Content-Length: ");
    const std::size_t length = std::stoul(reply.head.substr(length_at + 16));
    while (bytes_.size() < length) {
      if (!read_more()) return {};
    }
    reply.body = bytes_.substr(0, length);
    bytes_.erase(0, length);
    return reply;
  }

  /// Waits, without reading, until the server has closed its end.
  bool is_hung_up_on() {
    pollfd wanted = {.fd = fd_.get(), .events = 0, .revents = 0};
    return ::poll(&wanted, 1, base::poll_timeout_ms(base::deadline_in(kGiveUp))) == 1 &&
           (wanted.revents & POLLHUP) != 0;
  }

  /// True when the server ends the connection with nothing more to say.
  bool is_ended() { return bytes_.empty() && !read_more(); }

 private:
  bool read_more() {
    pollfd wanted = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wanted, 1, base::poll_timeout_ms(base::deadline_in(kGiveUp))) != 1) {
      ADD_FAILURE() << "nothing comes from the server";
      return false;
    }
    char buffer[65536];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    bytes_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }

  base::UniqueFd fd_;
  int connect_error_ = 0;
  std::string bytes_;
};

/// As dockerd writes it: no Content-Type, its Accept header, the dummy host.
inline std::string post(std::string_view path, std::string_view body, std::string_view more_headers = {}) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: "
      "{}\r\n"
      "Accept: application/vnd.docker.plugins.v1.2+json\r\n{}\r\n{}",
      path, body.size(), more_headers, body);
}

/// Owns: a server for "vsphere" and its loop on a thread.
class RunningServer {
 public:
  explicit RunningServer(ServerLimits limits = {}) : work_(boost::asio::make_work_guard(loop_)) {
    auto listeners = open_listeners({.folder = folder_.path(), .drivers = {"vsphere"}});
    EXPECT_TRUE(listeners) << listeners.error().text();
    server_ = make_plugin_server(loop_, std::move(*listeners), handler, limits);
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~RunningServer() {
    on_loop([this] { server_.reset(); });
    work_.reset();
    thread_.join();
  }

  void on_loop(std::function<void()> work) {
    std::promise<void> done;
    boost::asio::post(loop_, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  void stop() {
    on_loop([this] { server_->stop(); });
  }
  void destroy() {
    on_loop([this] { server_.reset(); });
  }
  PluginServer& server() { return *server_; }

  std::string socket() const { return folder_.path() + "/vsphere.sock"; }
  RawClient connect() const { return RawClient(socket()); }

  FakeHandler handler;

 private:
  tests::TemporaryFolder folder_;
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unique_ptr<PluginServer> server_;
  std::thread thread_;
};

}  // namespace vdvs::mountd
