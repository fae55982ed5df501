// The plugin's sockets: taken over from systemd, or made here. A client never meets a socket file that
// refuses it: the socket is bound and listened on under a hidden name, and only then renamed to the one that
// the engine looks for. The lock on the folder keeps two services that start at once from replacing each
// other's sockets.
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "mountd/plugin_server.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr int kFirstInheritedFd = 3;  ///< sd_listen_fds(3), SD_LISTEN_FDS_START.
constexpr int kMaxInheritedFds = 64;
constexpr std::string_view kSuffix = ".sock";
constexpr std::size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::size_t kMaxDriverBytes = 64;

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool contains(const std::vector<std::string>& list, std::string_view value) {
  return std::ranges::find(list, value) != list.end();
}

bool has_driver(const std::vector<Listener>& listeners, std::string_view driver) {
  return std::ranges::find(listeners, driver, &Listener::driver) != listeners.end();
}

Result<void> check_driver_name(std::string_view driver) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  if (!driver.empty() && driver.size() <= kMaxDriverBytes && driver.front() != '.' && driver.front() != '-' &&
      driver.find_first_not_of(kAllowed) == std::string_view::npos) {
    return {};
  }
  return fail(ErrorCode::kInvalid,
              "serve driver '{}': a driver's name has 1 to {} letters, digits, '_', '-' or '.', and begins "
              "with a letter or digit",
              driver.substr(0, kMaxDriverBytes), kMaxDriverBytes);
}

Result<gid_t> find_group(const std::string& group) {
  if (auto number = parse_number<gid_t>(group)) return *number;
  std::vector<char> buffer(16 * 1024);
  struct group entry = {};
  struct group* found = nullptr;
  int error = 0;
  while ((error = ::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found)) == ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (error != 0) return fail_errno(error, "look up group '{}'", group);
  if (found == nullptr) {
    return std::unexpected(base::Error(ErrorCode::kNotFound,
                                       fmt::format("look up group '{}': no such group", group),
                                       "make it with groupadd, or name another with --group"));
  }
  return found->gr_gid;
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), kMaxPathBytes));
  return address;
}

Result<UniqueFd> make_socket(const std::string& path, int flags) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.is_open()) return fail_errno(errno, "make a socket for '{}'", path);
  return fd;
}

/// "process 812 (mountd)": who listens at the other end.
std::string describe_peer(const UniqueFd& socket) {
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return "another process";
  auto name = base::read_line_file(fmt::format("/proc/{}/comm", peer.pid));
  return name ? fmt::format("process {} ({})", peer.pid, *name) : fmt::format("process {}", peer.pid);
}

/// Makes sure that `path` may be replaced. Errors: kInUse, kExists.
Result<void> check_replaceable(const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "look at '{}'", path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return std::unexpected(base::Error(
        ErrorCode::kExists, fmt::format("listen on '{}': something that is not a socket has this name", path),
        "move it away"));
  }
  ASSIGN_OR_RETURN(auto probe, make_socket(path, SOCK_NONBLOCK));
  const sockaddr_un address = address_of(path);
  const bool is_connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const int error = is_connected ? 0 : errno;
  if (error == ECONNREFUSED || error == ENOENT) return {};
  if (is_connected || error == EAGAIN || error == EPROTOTYPE) {
    const std::string holder = is_connected ? describe_peer(probe) : "another process";
    return std::unexpected(base::Error(ErrorCode::kInUse,
                                       fmt::format("listen on '{}': {} listens there", path, holder),
                                       "stop it, or serve another name with --driver"));
  }
  return fail_errno(error, "connect to '{}' to see whether it is in use", path);
}

Result<UniqueFd> lock_folder(const std::string& folder) {
  ASSIGN_OR_RETURN(auto fd, base::open_file(folder, O_RDONLY | O_DIRECTORY));
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock '{}'", folder);
  }
  return fd;
}

/// With the folder locked.
Result<Listener> make_listener(const std::string& folder, const std::string& driver, gid_t group) {
  // As long as the final name, so that the limit is the same. The engine reads neither hidden names nor this
  // suffix.
  const std::string hidden = fmt::format("{}/.{}.new", folder, driver);
  const std::string path = fmt::format("{}/{}{}", folder, driver, kSuffix);
  if (path.size() > kMaxPathBytes) {
    return fail(ErrorCode::kLimit, "listen on '{}': the path has {} bytes, a unix socket's has at most {}",
                path, path.size(), kMaxPathBytes);
  }
  RETURN_IF_ERROR(check_replaceable(path));
  RETURN_IF_ERROR(check_replaceable(hidden));
  if (::unlink(hidden.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove '{}'", hidden);
  ASSIGN_OR_RETURN(auto fd, make_socket(path, SOCK_NONBLOCK));
  const sockaddr_un address = address_of(hidden);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, "bind '{}'", hidden);
  auto publish = [&]() -> Result<void> {
    if (::chown(hidden.c_str(), static_cast<uid_t>(-1), group) != 0)
      return fail_errno(errno, "chown '{}'", hidden);
    if (::chmod(hidden.c_str(), 0660) != 0) return fail_errno(errno, "chmod '{}'", hidden);
    if (::listen(fd.get(), SOMAXCONN) != 0) return fail_errno(errno, "listen on '{}'", hidden);
    if (::rename(hidden.c_str(), path.c_str()) != 0)
      return fail_errno(errno, "rename '{}' to '{}'", hidden, path);
    return {};
  };
  auto published = publish();
  if (!published) {
    ::unlink(hidden.c_str());
    return std::unexpected(std::move(published).error());
  }
  return Listener{.driver = driver, .fd = std::move(fd), .file = SocketFile(path)};
}

std::string socket_path(int fd) {
  sockaddr_un address = {};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
  if (address.sun_family != AF_UNIX || length <= offsetof(sockaddr_un, sun_path)) return {};
  std::string_view path(address.sun_path, std::min<std::size_t>(length - offsetof(sockaddr_un, sun_path),
                                                                sizeof address.sun_path));
  return std::string(path.substr(0, path.find('\0')));
}

Result<void> check_listening(int fd) {
  struct Expected {
    int option;
    int value;
    std::string_view what;
  };
  constexpr Expected kExpected[] = {{SO_DOMAIN, AF_UNIX, "a unix socket"},
                                    {SO_TYPE, SOCK_STREAM, "a stream socket"},
                                    {SO_ACCEPTCONN, 1, "a listening socket"}};
  for (const Expected& expected : kExpected) {
    int value = 0;
    socklen_t length = sizeof value;
    if (::getsockopt(fd, SOL_SOCKET, expected.option, &value, &length) != 0 || value != expected.value) {
      return fail(ErrorCode::kInvalid, "take over descriptor {} (LISTEN_FDS): it is not {}", fd,
                  expected.what);
    }
  }
  return {};
}

/// Which driver an inherited socket is for: by its name (FileDescriptorName=), by its path, or because there
/// is no choice.
Result<std::string> driver_of(int fd, std::string_view name, const std::string& path,
                              const std::vector<std::string>& drivers, int count) {
  if (contains(drivers, name)) return std::string(name);
  if (const std::string file = std::filesystem::path(path).filename(); file.ends_with(kSuffix)) {
    const std::string stem = file.substr(0, file.size() - kSuffix.size());
    if (contains(drivers, stem)) return stem;
  }
  if (count == 1 && drivers.size() == 1) return drivers.front();
  return std::unexpected(base::Error(
      ErrorCode::kInvalid,
      fmt::format(
          "take over descriptor {} (LISTEN_FDS): neither its name '{}' nor its path '{}' is that of a driver",
          fd, name, path),
      fmt::format("set FileDescriptorName= in the socket unit to one of {}", fmt::join(drivers, ", "))));
}

std::string_view take_first(std::string_view& list, char separator) {
  const std::size_t end = list.find(separator);
  const std::string_view first = list.substr(0, end);
  list = end == std::string_view::npos ? std::string_view() : list.substr(end + 1);
  return first;
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

Result<std::vector<Listener>> take_inherited(const std::vector<std::string>& drivers) {
  std::vector<Listener> listeners;
  if (parse_number<pid_t>(environment("LISTEN_PID")) != ::getpid()) return listeners;
  const int count = parse_number<int>(environment("LISTEN_FDS")).value_or(0);
  if (count < 0 || count > kMaxInheritedFds) {
    return fail(ErrorCode::kLimit, "take over sockets: LISTEN_FDS is {}, at most {} are taken", count,
                kMaxInheritedFds);
  }
  const std::string all_names(environment("LISTEN_FDNAMES"));
  std::string_view names = all_names;
  for (int fd = kFirstInheritedFd; fd < kFirstInheritedFd + count; ++fd) {
    RETURN_IF_ERROR(check_listening(fd));
    UniqueFd owned(fd);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return fail_errno(errno, "take over descriptor {}", fd);
    const std::string path = socket_path(fd);
    ASSIGN_OR_RETURN(auto driver, driver_of(fd, take_first(names, ':'), path, drivers, count));
    listeners.push_back({.driver = std::move(driver), .fd = std::move(owned), .file = {}});
  }
  // They are ours alone: a program that we start must not take them for its own.
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return listeners;
}

}  // namespace

SocketFile::SocketFile(std::string path) : path_(std::move(path)) {
  struct stat status = {};
  if (::lstat(path_.c_str(), &status) != 0) return;
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

SocketFile& SocketFile::operator=(SocketFile&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::exchange(other.path_, {});
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

void SocketFile::remove() {
  if (path_.empty()) return;
  struct stat now = {};
  const bool is_same = ::lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_;
  if (is_same) ::unlink(path_.c_str());
  path_.clear();
}

Result<std::vector<Listener>> open_listeners(const ListenOptions& options) {
  for (const std::string& driver : options.drivers) RETURN_IF_ERROR(check_driver_name(driver));
  if (options.drivers.empty())
    return fail(ErrorCode::kInvalid, "open the plugin's sockets: no driver is named");
  ASSIGN_OR_RETURN(auto listeners, take_inherited(options.drivers));
  std::vector<std::string> missing;
  for (const std::string& driver : options.drivers) {
    if (!has_driver(listeners, driver) && !contains(missing, driver)) missing.push_back(driver);
  }
  if (missing.empty()) return listeners;
  ASSIGN_OR_RETURN(const gid_t group, find_group(options.group));
  RETURN_IF_ERROR(base::make_folders(options.folder));
  ASSIGN_OR_RETURN(auto lock, lock_folder(options.folder));
  for (const std::string& driver : missing) {
    ASSIGN_OR_RETURN(auto listener, make_listener(options.folder, driver, group));
    listeners.push_back(std::move(listener));
  }
  return listeners;
}

}  // namespace vdvs::mountd
