#include "mountd/host_state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace vdvs::mountd {

using base::ErrorCode;
using base::Result;

Result<base::UniqueFd> lock_state(const std::string& state_dir) {
  RETURN_IF_ERROR(base::make_folders(state_dir));
  const std::string path = state_dir + "/lock";
  ASSIGN_OR_RETURN(auto fd, base::open_file(path, O_RDWR | O_CREAT, 0600));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return base::fail_errno(errno, "lock '{}'", path);
    const std::string pid = base::read_line_file(path).value_or("?");
    return std::unexpected(base::Error(ErrorCode::kInUse,
                                       fmt::format("start on state '{}': another mountd, pid {}, works on it", state_dir, pid),
                                       "stop that one first, or give this one a --state-dir of its own"));
  }
  if (::ftruncate(fd.get(), 0) != 0) return base::fail_errno(errno, "truncate '{}'", path);
  RETURN_IF_ERROR(base::write_all_at(fd, fmt::format("{}\n", ::getpid()), 0, path));
  return fd;
}

Result<std::string> load_host_id(const std::string& state_dir, const std::string& machine_id_path) {
  const std::string machine = base::read_line_file(machine_id_path).value_or("");
  const std::string path = state_dir + "/host-id";
  if (auto text = base::read_line_file(path)) {
    const std::size_t line_end = text->find('\n');
    const bool is_this_machine = line_end != std::string::npos && text->substr(line_end + 1) == "machine " + machine;
    if (is_this_machine && line_end > 0) return text->substr(0, line_end);
  }
  ASSIGN_OR_RETURN(std::string id, base::read_line_file("/proc/sys/kernel/random/uuid"));
  RETURN_IF_ERROR(base::replace_file_durably(path, fmt::format("{}\nmachine {}\n", id, machine)));
  return id;
}

Result<std::string> read_boot_id() { return base::read_line_file("/proc/sys/kernel/random/boot_id"); }

std::string system_host_name() {
  constexpr std::size_t kMaxHostNameBytes = 256;
  std::array<char, kMaxHostNameBytes> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

}  // namespace vdvs::mountd
