// By pidfds, which stay with their process whatever becomes of its number, and inotify on the folders of the
// pid files, which tells of new ones.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/strands.h"
#include "esx-vmci/hypervisor/vm_processes.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr std::size_t kMaxPidFileBytes = 64;
constexpr std::size_t kPowerThreads = 4;

/// Which writing of a pid file it is.
struct FileVersion {
  dev_t device = 0;
  ino_t inode = 0;
  std::int64_t changed_ns = 0;
  bool operator==(const FileVersion&) const = default;
};

struct PidFileContent {
  pid_t pid = 0;  ///< 0: it says none.
  FileVersion version;
};

/// nullopt: there is none. Errors: what keeps it from being read.
Result<std::optional<PidFileContent>> read_pid_file(const std::string& path) {
  auto file = base::open_file(path, O_RDONLY | O_NONBLOCK);
  if (!file && file.error().code() == ErrorCode::kNotFound) return std::nullopt;
  if (!file) return std::unexpected(std::move(file).error());
  struct stat info;
  if (::fstat(file->get(), &info) != 0) return fail_errno(errno, "stat '{}'", path);
  if (!S_ISREG(info.st_mode)) return fail(ErrorCode::kInvalid, "'{}' is not a regular file", path);
  PidFileContent content;
  content.version = {info.st_dev, info.st_ino, info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec};
  ASSIGN_OR_RETURN(std::string text, base::read_all(*file, kMaxPidFileBytes, path));
  while (text.ends_with('\n')) text.pop_back();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), content.pid);
  if (error != std::errc() || end != text.data() + text.size() || content.pid <= 0) content.pid = 0;
  return content;
}

bool has_ended(const UniqueFd& process) {
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) > 0;
}

struct Machine {
  VmPidFile file;
  UniqueFd process{};                    ///< A pidfd; none while it is off.
  std::optional<FileVersion> version{};  ///< The pid file that named `process`, or the process before it.
  std::optional<PowerState> told{};
};

/// Whose process is looked for where none is known to run.
PowerState look_for_process(Machine& machine) {
  const auto content = read_pid_file(machine.file.path);
  if (!content) return PowerState::kUnknown;
  if (!*content) return PowerState::kOff;
  if ((*content)->pid == 0) return PowerState::kUnknown;
  if ((*content)->version == machine.version) return PowerState::kOff;  // that one has ended
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, (*content)->pid, 0)));
  // EINVAL and ENOENT: the number is a thread's of another process.
  if (!process.is_open() && errno != ESRCH && errno != EINVAL && errno != ENOENT) return PowerState::kUnknown;
  machine.version = (*content)->version;
  if (!process.is_open() || has_ended(process)) return PowerState::kOff;
  machine.process = std::move(process);
  return PowerState::kOn;
}

PowerState look_at(Machine& machine) {
  if (machine.process.is_open() && !has_ended(machine.process)) return PowerState::kOn;
  machine.process.reset();
  return look_for_process(machine);
}

class PidfdProcesses final : public VmProcesses {
 public:
  PidfdProcesses(std::vector<Machine> machines, UniqueFd folders, UniqueFd stop)
      : machines_(std::move(machines)),
        folders_(std::move(folders)),
        stop_(std::move(stop)),
        strands_("vm-power", kPowerThreads) {}
  PidfdProcesses(const PidfdProcesses&) = delete;
  PidfdProcesses& operator=(const PidfdProcesses&) = delete;
  ~PidfdProcesses() override {
    if (thread_.joinable()) {
      ::eventfd_write(stop_.get(), 1);
      thread_.join();
    }
    strands_.drain();
  }

  std::optional<PowerState> power_of(std::string_view vm) override EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    const auto found = std::ranges::find_if(machines_, [&](const Machine& one) { return one.file.vm == vm; });
    if (found == machines_.end()) return std::nullopt;
    return look_at(*found);
  }

  void watch(Changed changed) override {
    changed_ = std::move(changed);
    thread_ = std::thread([this] { run(); });
    ::pthread_setname_np(thread_.native_handle(), "vm-watch");
  }

 private:
  void run() {
    for (;;) {
      const std::vector<UniqueFd> processes = look_and_tell();
      std::vector<pollfd> polled{{stop_.get(), POLLIN, 0}, {folders_.get(), POLLIN, 0}};
      for (const UniqueFd& process : processes) polled.push_back({process.get(), POLLIN, 0});
      if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
      if (polled[0].revents != 0) return;
      char events[4096];
      while (::read(folders_.get(), events, sizeof events) > 0) {
      }
    }
  }

  /// Duplicates of the pidfds of all that run: who looks may close his.
  std::vector<UniqueFd> look_and_tell() EXCLUDES(mutex_) {
    std::vector<UniqueFd> processes;
    std::vector<std::string> news;
    {
      base::MutexLock lock(mutex_);
      for (Machine& machine : machines_) {
        const PowerState power = look_at(machine);
        if (power != std::exchange(machine.told, power)) news.push_back(machine.file.vm);
        if (machine.process.is_open())
          processes.emplace_back(::fcntl(machine.process.get(), F_DUPFD_CLOEXEC, 0));
      }
    }
    for (const std::string& vm : news) strands_.post(vm, [this, vm] { tell(vm); });
    return processes;
  }

  /// What it is by now: an "off" that is no longer true would take disks from a VM that has just started.
  void tell(const std::string& vm) {
    const PowerState power = power_of(vm).value_or(PowerState::kUnknown);
    base::log::info("power of a VM", {{"vm", vm}, {"power", power_state_name(power)}});
    changed_(vm, power);
  }

  base::Mutex mutex_;
  std::vector<Machine> machines_ GUARDED_BY(mutex_);
  const UniqueFd folders_;  ///< inotify
  const UniqueFd stop_;     ///< eventfd
  Changed changed_;         ///< Set before the thread begins.
  base::Strands strands_;
  std::thread thread_;
};

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<std::unique_ptr<VmProcesses>> make_vm_processes(std::vector<VmPidFile> files) {
  UniqueFd folders(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!folders.is_open()) return fail_errno(errno, "watch pid files");
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.is_open()) return fail_errno(errno, "watch pid files: make an eventfd");
  std::vector<Machine> machines;
  std::set<std::string> names;
  for (VmPidFile& file : files) {
    if (!names.insert(file.vm).second) return fail(ErrorCode::kInvalid, "vm '{}' has two pid files", file.vm);
    const std::string folder = folder_of(file.path);
    if (::inotify_add_watch(folders.get(), folder.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR) < 0)
      return fail_errno(errno, "watch folder '{}' for the pid file of vm '{}'", folder, file.vm);
    machines.push_back({.file = std::move(file)});
  }
  return std::make_unique<PidfdProcesses>(std::move(machines), std::move(folders), std::move(stop));
}

}  // namespace vdvs::esx
