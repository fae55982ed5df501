// A guest of the tests: one blocking connection to a unix socket, over which it sends what it likes, byte by
// byte if need be. It knows frames and nothing else.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx::testing {

class RawGuest {
 public:
  explicit RawGuest(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    // Only so that a broken service ends the test: nothing here is measured.
    timeval patience{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int result = 0;
    // A full backlog is EAGAIN only for sockets that do not block; this one waits.
    do {
      result = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    } while (result != 0 && errno == EINTR);
    EXPECT_EQ(result, 0) << path << ": " << std::strerror(errno);
  }

  /// False where the other side has closed.
  bool send_bytes(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  bool send_payload(std::string_view payload) const {
    auto frame = encode_frame(payload, kMaxReplyBytes);
    EXPECT_TRUE(frame.has_value());
    return frame && send_bytes(*frame);
  }
  bool send(const Request& request) const { return send_payload(encode_request(request)); }
  void close_own_half() const { ::shutdown(socket_.get(), SHUT_WR); }

  /// The next payload; nullopt where the other side has closed.
  std::optional<std::string> receive() {
    for (;;) {
      auto payload = decoder_.next();
      EXPECT_TRUE(payload.has_value());
      if (!payload) return std::nullopt;
      if (*payload) return **payload;
      char buffer[65536];
      const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
      if (count < 0 && errno == EINTR) continue;
      EXPECT_FALSE(count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) << "no answer for a minute";
      if (count <= 0) return std::nullopt;
      decoder_.feed({buffer, static_cast<std::size_t>(count)});
    }
  }
  /// The next payload, read as JSON; null where there is none.
  boost::json::value receive_json() {
    auto payload = receive();
    EXPECT_TRUE(payload.has_value());
    return payload ? boost::json::parse(*payload) : boost::json::value();
  }
  boost::json::value ask(const Request& request) {
    EXPECT_TRUE(send(request));
    return receive_json();
  }
  /// Some bytes have come.
  bool receive_some() const {
    char byte = 0;
    return ::recv(socket_.get(), &byte, 1, 0) == 1;
  }
  bool is_closed() { return !receive().has_value(); }

 private:
  base::UniqueFd socket_;
  FrameDecoder decoder_{kMaxReplyBytes};
};

inline Request request_of(std::string command, std::string name = {}, OptionMap options = {}) {
  Request request;
  request.command = std::move(command);
  request.name = std::move(name);
  request.options = std::move(options);
  request.version = kProtocolVersion;
  return request;
}

inline Request numbered(std::uint64_t id, Request request) {
  request.id = id;
  return request;
}

}  // namespace vdvs::esx::testing
