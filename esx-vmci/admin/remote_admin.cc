// The administrator's commands over the admin socket: connect, one frame out, one frame in. Blocking, because
// a command-line tool has nothing else to do; every wait has the one deadline.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <boost/json/serialize.hpp>
#include <cerrno>

#include "base/deadline.h"
#include "base/fd.h"
#include "base/json.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/protocol/frame.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;

Result<base::UniqueFd> connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorCode::kInvalid, "connect to '{}': a socket's path has at most {} characters", path,
                sizeof(address.sun_path) - 1);
  }
  path.copy(address.sun_path, path.size());
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return fail_errno(errno, "connect to '{}'", path);
  // A unix socket connects at once or says why not; EAGAIN is a full backlog.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return socket;
  const int why = errno;
  if (why == ENOENT || why == ECONNREFUSED)
    return fail(ErrorCode::kUnavailable, "connect to '{}': no service answers there", path);
  if (why == EAGAIN) return fail(ErrorCode::kLimit, "connect to '{}': the service is too busy", path);
  return fail_errno(why, "connect to '{}'", path);
}

class RemoteAdmin final : public Admin {
 public:
  RemoteAdmin(std::string path, base::Clock::duration time) : path_(std::move(path)), time_(time) {}

  Result<AdminOutput> run(const AdminCommand& command) override {
    const base::Deadline deadline = base::deadline_in(time_);
    ASSIGN_OR_RETURN(const std::string frame,
                     encode_frame(boost::json::serialize(to_json(command)), kMaxRequestBytes));
    ASSIGN_OR_RETURN(const base::UniqueFd socket, connect(path_));
    RETURN_IF_ERROR(send(socket, frame, deadline));
    ASSIGN_OR_RETURN(const std::string payload, receive(socket, deadline));
    ASSIGN_OR_RETURN(const boost::json::value reply, base::parse_json(payload));
    return admin_result(reply);
  }

 private:
  Result<void> wait(const base::UniqueFd& socket, short events, base::Deadline deadline) const {
    pollfd entry{socket.get(), events, 0};
    while (true) {
      const int count = ::poll(&entry, 1, base::poll_timeout_ms(deadline));
      if (count > 0) return {};
      if (count < 0 && errno != EINTR) return fail_errno(errno, "wait for '{}'", path_);
      if (count == 0 && base::has_passed(deadline))
        return std::unexpected(base::Error(ErrorCode::kTimeout,
                                           fmt::format("the service at '{}' has not answered in time", path_),
                                           "it goes on with the command; ask again for what it shows"));
    }
  }

  Result<void> send(const base::UniqueFd& socket, std::string_view bytes, base::Deadline deadline) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN) {
        RETURN_IF_ERROR(wait(socket, POLLOUT, deadline));
      } else if (errno != EINTR) {
        return fail_errno(errno, "send to '{}'", path_);
      }
    }
    return {};
  }

  Result<std::string> receive(const base::UniqueFd& socket, base::Deadline deadline) const {
    FrameDecoder decoder(kMaxReplyBytes);
    std::array<char, 64 * 1024> buffer;
    while (true) {
      ASSIGN_OR_RETURN(auto payload, decoder.next());
      if (payload) return std::move(*payload);
      const ssize_t count = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (count > 0) {
        decoder.feed({buffer.data(), static_cast<std::size_t>(count)});
      } else if (count == 0) {
        return std::unexpected(base::Error(
            ErrorCode::kIo, fmt::format("the service at '{}' closed the connection without an answer", path_),
            "its log says why; only root may ask"));
      } else if (errno == EAGAIN) {
        RETURN_IF_ERROR(wait(socket, POLLIN, deadline));
      } else if (errno != EINTR) {
        return fail_errno(errno, "receive from '{}'", path_);
      }
    }
  }

  const std::string path_;
  const base::Clock::duration time_;
};

}  // namespace

Result<bool> is_service_there(const std::string& socket_path) {
  auto socket = connect(socket_path);
  if (socket) return true;
  if (socket.error().code() == ErrorCode::kUnavailable) return false;
  if (socket.error().code() == ErrorCode::kLimit) return true;
  return std::unexpected(std::move(socket).error());
}

std::unique_ptr<Admin> make_remote_admin(std::string socket_path, base::Clock::duration request_time) {
  return std::make_unique<RemoteAdmin>(std::move(socket_path), request_time);
}

}  // namespace vdvs::esx
