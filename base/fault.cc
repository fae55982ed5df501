#include "base/fault.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"

namespace vdvs::base {
namespace {

enum class Action { kKill, kFail, kBlock };

struct Fault {
  std::string name;
  Action action;
  int times_left;
  std::string gate;
};

Mutex faults_mutex;
std::vector<Fault> faults GUARDED_BY(faults_mutex);
std::atomic<bool> is_armed = false;

Result<Fault> parse_fault(std::string_view entry) {
  std::size_t equals = entry.find('=');
  if (equals == std::string_view::npos) return fail(ErrorCode::kInvalid, "fault '{}': no '='", entry);
  Fault fault{std::string(entry.substr(0, equals)), Action::kFail, -1, {}};
  std::string_view action = entry.substr(equals + 1);
  std::string_view argument;
  if (std::size_t colon = action.find(':'); colon != std::string_view::npos) {
    argument = action.substr(colon + 1);
    action = action.substr(0, colon);
  }
  if (action == "kill") {
    fault.action = Action::kKill;
  } else if (action == "fail") {
    if (!argument.empty()) std::from_chars(argument.data(), argument.data() + argument.size(), fault.times_left);
  } else if (action == "block" && !argument.empty()) {
    fault.action = Action::kBlock;
    fault.gate = argument;
  } else {
    return fail(ErrorCode::kInvalid, "fault '{}': not kill, fail[:N] or block:FILE", entry);
  }
  return fault;
}

void wait_for_file(const std::string& gate) {
  UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  ::inotify_add_watch(watch.get(), std::filesystem::path(gate).parent_path().c_str(), IN_CREATE | IN_MOVED_TO);
  while (::access(gate.c_str(), F_OK) != 0) {
    char events[4096];
    if (::read(watch.get(), events, sizeof events) < 0) return;
  }
}

void read_environment() {
  const char* text = std::getenv("VDVS_FAULTS");
  if (text == nullptr) return;
  if (auto set = set_faults(text); !set) {
    log::error("VDVS_FAULTS is ignored", {{"cause", set.error().text()}});
  }
}

}  // namespace

Result<void> set_faults(std::string_view text) {
  std::vector<Fault> parsed;
  while (!text.empty()) {
    std::size_t comma = text.find(',');
    ASSIGN_OR_RETURN(Fault fault, parse_fault(text.substr(0, comma)));
    parsed.push_back(std::move(fault));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  MutexLock lock(faults_mutex);
  faults = std::move(parsed);
  is_armed = !faults.empty();
  return {};
}

Result<void> fault_point(std::string_view name) {
  [[maybe_unused]] static const bool is_read = (read_environment(), true);
  if (!is_armed.load(std::memory_order_relaxed)) return {};
  std::string gate;
  {
    MutexLock lock(faults_mutex);
    for (Fault& fault : faults) {
      if (fault.name != name || fault.times_left == 0) continue;
      if (fault.action == Action::kKill) ::kill(::getpid(), SIGKILL);
      if (fault.action == Action::kFail) {
        if (fault.times_left > 0) --fault.times_left;
        return fail(ErrorCode::kIo, "fault point '{}': failed on request", name);
      }
      gate = fault.gate;
    }
  }
  if (!gate.empty()) wait_for_file(gate);
  return {};
}

}  // namespace vdvs::base
