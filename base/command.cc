#include "base/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

namespace vdvs::base {
namespace {

constexpr std::array<const char*, 4> kProgramFolders = {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"};

// The part that runs in the child, on the parent's memory (vfork): system calls only.
[[noreturn]] void become(const char* program, char* const* argv, char* const* environment, int output, int null,
                         int inherited_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (inherited_fd >= 0) ::fcntl(inherited_fd, F_SETFD, 0);
  ::dup2(null, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(program, argv, environment);
  ::_exit(127);
}

// noinline: a vfork child must not come back into a frame that it has already left.
[[gnu::noinline]] pid_t spawn(const char* program, char* const* argv, char* const* environment, int output, int null,
                              int inherited_fd) {
  pid_t child = ::vfork();
  if (child == 0) become(program, argv, environment, output, null, inherited_fd);
  return child;
}

int exit_status_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

int reap(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return exit_status_of(status);
}

}  // namespace

Result<std::string> find_program(std::string_view name) {
  if (name.find('/') != std::string_view::npos) {
    std::string path(name);
    if (::access(path.c_str(), X_OK) == 0) return path;
    return fail_errno(errno, "run '{}'", path);
  }
  for (const char* folder : kProgramFolders) {
    std::string path = folder + std::string(name);
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return fail(ErrorCode::kNotFound, "run '{}': no such program in /usr/sbin, /usr/bin, /sbin or /bin", name);
}

Result<CommandOutcome> run_command(const std::vector<std::string>& argv, const CommandOptions& options) {
  VDVS_CHECK(!argv.empty());
  ASSIGN_OR_RETURN(std::string program, find_program(argv[0]));
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::array<const char*, 3> environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", nullptr};

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "run '{}': pipe", argv[0]);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  ASSIGN_OR_RETURN(UniqueFd null, open_file("/dev/null", O_RDONLY));

  pid_t child = spawn(program.c_str(), arguments.data(), const_cast<char* const*>(environment.data()), write_end.get(),
                      null.get(), options.inherited_fd);
  if (child < 0) return fail_errno(errno, "run '{}': fork", argv[0]);
  write_end.reset();
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));

  CommandOutcome outcome;
  std::array<pollfd, 2> waits = {pollfd{read_end.get(), POLLIN, 0}, pollfd{process.get(), POLLIN, 0}};
  bool is_open = true;
  for (;;) {
    int ready = ::poll(waits.data(), waits.size(), poll_timeout_ms(options.deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0 && !has_passed(options.deadline)) continue;
    if (ready <= 0) {
      ::kill(child, SIGKILL);
      reap(child);
      return fail(ErrorCode::kTimeout, "run '{}': killed at its deadline; it had printed: {}", argv[0], outcome.output);
    }
    if (is_open && waits[0].revents != 0) {
      char buffer[4096];
      ssize_t got = ::read(read_end.get(), buffer, sizeof buffer);
      if (got > 0) {
        std::string_view piece(buffer, static_cast<std::size_t>(got));
        if (options.on_output) options.on_output(piece);
        outcome.output.append(piece.substr(0, options.max_output_bytes - outcome.output.size()));
        continue;
      }
      is_open = false;
      waits[0].fd = -1;
    }
    // Ends with the program, not with the pipe: a daemon that it left behind may hold the pipe for ever.
    if (waits[1].revents != 0) {
      outcome.exit_status = reap(child);
      return outcome;
    }
  }
}

}  // namespace vdvs::base
