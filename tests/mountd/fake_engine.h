// An engine that behaves as no engine should: a unix socket and a script for each connection.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::mountd {

/// One accepted connection as the script of a test sees it.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  /// The request's head. Empty where the client closed first.
  std::string read_request() {
    std::string head;
    char byte = 0;
    while (!head.ends_with("\r\n\r\n")) {
      if (::read(fd_, &byte, 1) != 1) return {};
      head += byte;
    }
    return head;
  }
  /// False once the client has gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t put = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }
  void reply(std::string_view body, std::string_view status = "200 OK") {
    send(fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body));
  }
  bool send_chunk(std::string_view bytes) { return send(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes)); }
  /// Until the client, or the end of the test, closes the connection.
  void wait_for_close() {
    char byte = 0;
    while (::read(fd_, &byte, 1) > 0) {
    }
  }

 private:
  int fd_;
};

/// Listens on a unix socket; runs the script for each connection on a thread of its own.
class FakeServer {
 public:
  using Script = std::function<void(Peer&)>;

  explicit FakeServer(Script script) : script_(std::move(script)) {
    char pattern[] = "/tmp/vdvs-engine-test.XXXXXX";
    folder_ = ::mkdtemp(pattern);
  }
  ~FakeServer() {
    stop();
    std::filesystem::remove_all(folder_);
  }

  std::string path() const { return folder_ + "/docker.sock"; }

  FakeServer& start() {
    listener_ = base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    VDVS_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    VDVS_CHECK(::listen(listener_.get(), 16) == 0);
    acceptor_ = std::thread([this] { accept_all(); });
    return *this;
  }

  /// Ends every connection, as the death of an engine does; leaves the socket file.
  void stop() {
    if (!acceptor_.joinable()) return;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    listener_.reset();
    end_connections();
    for (auto& thread : sessions_) thread.join();
    sessions_.clear();
    connections_.clear();
  }

  void end_connections() {
    std::lock_guard lock(mutex_);
    for (auto& connection : connections_) ::shutdown(connection.get(), SHUT_RDWR);
  }

 private:
  void accept_all() {
    for (;;) {
      int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::lock_guard lock(mutex_);
      connections_.emplace_back(fd);
      sessions_.emplace_back([this, fd] {
        Peer peer(fd);
        script_(peer);
        ::shutdown(fd, SHUT_RDWR);
      });
    }
  }

  Script script_;
  std::string folder_;
  base::UniqueFd listener_;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<base::UniqueFd> connections_;
  std::vector<std::thread> sessions_;
};

inline std::string die_event(std::string_view id) {
  return fmt::format(
             R"({{"status":"die","id":"{0}","Type":"container","Action":"die","Actor":{{"ID":"{0}","Attributes":{{}}}}}})",
             id) +
         "\n";
}

/// Lets a script go on when the test says so.
class Gate {
 public:
  void open() {
    {
      std::lock_guard lock(mutex_);
      is_open_ = true;
    }
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = false;
};

}  // namespace vdvs::mountd
