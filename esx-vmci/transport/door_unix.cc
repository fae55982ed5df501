// A unix socket as a door. Its file's owner, group and modes say who may come in; the kernel enforces them
// when a peer connects, and they are looked at again here, since a process may have passed its descriptor on.
//
// A client never meets a socket file that refuses it: the socket is bound and listened on under a hidden
// name, and only then renamed. A file whose service is gone is replaced; one that somebody answers is not.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "esx-vmci/transport/door.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr unsigned kSocketMode = 0660;
constexpr int kBacklog = SOMAXCONN;
/// A long listing goes out in one write, without waiting for its reader.
constexpr int kSendBufferBytes = 1024 * 1024;
constexpr std::size_t kMaxGroups = 65536;  ///< NGROUPS_MAX

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

Result<UniqueFd> make_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return fail_errno(errno, "make a socket");
  return fd;
}

/// Errors: kExists where something else has the name, or somebody listens.
Result<void> check_replaceable(const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "look at '{}'", path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return std::unexpected(base::Error(
        ErrorCode::kExists, fmt::format("'{}' is something that is not a socket", path), "move it away"));
  }
  ASSIGN_OR_RETURN(UniqueFd probe, make_socket());
  const sockaddr_un address = address_of(path);
  const bool is_answered =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN || errno == EPROTOTYPE;
  if (!is_answered && (errno == ECONNREFUSED || errno == ENOENT)) return {};
  if (!is_answered) return fail_errno(errno, "connect to '{}' to see whether it is in use", path);
  return std::unexpected(base::Error(ErrorCode::kExists, "another process listens there already",
                                     "stop it, or choose another path"));
}

/// Owns: the file of a listening socket; removes it unless another has taken its place.
class SocketFile {
 public:
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    struct stat status = {};
    if (::lstat(path_.c_str(), &status) == 0) identity_ = {status.st_dev, status.st_ino};
  }
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile() { remove(); }
  void remove() {
    struct stat now = {};
    if (path_.empty() || ::lstat(path_.c_str(), &now) != 0) return;
    if (identity_ == std::pair(now.st_dev, now.st_ino)) ::unlink(path_.c_str());
    path_.clear();
  }

 private:
  std::string path_;
  std::pair<dev_t, ino_t> identity_;
};

bool is_in_group(const UniqueFd& connection, gid_t main_group, gid_t wanted) {
  if (main_group == wanted) return true;
  std::vector<gid_t> groups(64);
  auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) {
    if (errno != ERANGE || length > kMaxGroups * sizeof(gid_t)) return false;
    groups.resize(length / sizeof(gid_t));
    if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) return false;
  }
  groups.resize(length / sizeof(gid_t));
  return std::ranges::find(groups, wanted) != groups.end();
}

class UnixDoor : public Door {
 public:
  UnixDoor(boost::asio::io_context& loop, Endpoint endpoint, UniqueFd socket)
      : loop_(loop), endpoint_(std::move(endpoint)), socket_(std::move(socket)), file_(endpoint_.path) {}

  const UniqueFd& socket() const override { return socket_; }
  Endpoint endpoint() const override { return endpoint_; }

  std::expected<Caller, Refused> identify(const UniqueFd& connection) const override {
    ucred credentials = {};
    socklen_t length = sizeof credentials;
    if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
      return std::unexpected(Refused{Refusal::kCredentials, "unknown", "the kernel does not say who it is"});
    Caller caller;
    caller.peer = {.kind = Peer::Kind::kUnix,
                   .uid = credentials.uid,
                   .pid = credentials.pid,
                   .assigned_vm = endpoint_.assigned_vm};
    caller.who = caller.peer.text();
    caller.key = endpoint_.assigned_vm.empty() ? std::to_string(credentials.pid) : endpoint_.assigned_vm;
    if (!is_allowed(connection, credentials)) {
      return std::unexpected(Refused{Refusal::kCredentials, caller.who,
                                     "it is neither root nor of the group that may use the socket"});
    }
    return caller;
  }

  void admit(UniqueFd connection, ConnectionInfo info, base::Deadline, OnChannel handler) override {
    // A smaller buffer only takes more turns.
    static_cast<void>(
        ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof kSendBufferBytes));
    auto channel = make_socket_channel(loop_, std::move(connection), std::move(info));
    boost::asio::post(loop_, [handler = std::move(handler), channel = std::move(channel)]() mutable {
      handler(std::move(channel));
    });
  }

  void close() override {
    file_.remove();  // First: a missing file is looked for again, one that refuses makes clients wait.
    socket_.reset();
  }

 private:
  bool is_allowed(const UniqueFd& connection, const ucred& credentials) const {
    if (credentials.uid == 0 || credentials.uid == ::geteuid()) return true;
    struct stat file = {};
    if (::lstat(endpoint_.path.c_str(), &file) != 0) return false;
    return (file.st_mode & S_IWGRP) != 0 && is_in_group(connection, credentials.gid, file.st_gid);
  }

  boost::asio::io_context& loop_;
  const Endpoint endpoint_;
  UniqueFd socket_;
  SocketFile file_;
};

Result<UniqueFd> lock_folder(const std::string& folder) {
  ASSIGN_OR_RETURN(UniqueFd fd, base::open_file(folder, O_RDONLY | O_DIRECTORY));
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock '{}'", folder);
  }
  return fd;
}

/// As long as `path`, so that the limit of its length is the same.
std::string hidden_name(const std::string& path) {
  const std::filesystem::path whole(path);
  std::string name = whole.filename().string();
  name.front() = '.';
  name.back() = '~';
  return (whole.parent_path() / name).string();
}

}  // namespace

Result<std::unique_ptr<Door>> open_unix_door(boost::asio::io_context& loop, const Endpoint& endpoint) {
  const std::filesystem::path path(endpoint.path);
  if (path.filename().string().size() < 2)
    return base::fail(ErrorCode::kInvalid, "the file's name has less than two characters");
  RETURN_IF_ERROR(base::make_folders(path.parent_path().string()));
  ASSIGN_OR_RETURN(UniqueFd lock, lock_folder(path.parent_path().string()));
  const std::string hidden = hidden_name(endpoint.path);
  RETURN_IF_ERROR(check_replaceable(endpoint.path));
  RETURN_IF_ERROR(check_replaceable(hidden));
  if (::unlink(hidden.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove '{}'", hidden);
  ASSIGN_OR_RETURN(UniqueFd socket, make_socket());
  const sockaddr_un address = address_of(hidden);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, "bind '{}'", hidden);
  auto publish = [&]() -> Result<void> {
    if (::chmod(hidden.c_str(), kSocketMode) != 0) return fail_errno(errno, "chmod '{}'", hidden);
    if (::listen(socket.get(), kBacklog) != 0) return fail_errno(errno, "listen");
    if (::rename(hidden.c_str(), endpoint.path.c_str()) != 0) return fail_errno(errno, "rename '{}'", hidden);
    return {};
  };
  if (auto published = publish(); !published) {
    ::unlink(hidden.c_str());
    return std::unexpected(std::move(published).error());
  }
  return std::make_unique<UnixDoor>(loop, endpoint, std::move(socket));
}

}  // namespace vdvs::esx
