// Whether VMs of this kernel run, by real processes and real pid files.
#include "esx-vmci/hypervisor/vm_processes.h"

#include <signal.h>
#include <sys/prctl.h>

#include <future>
#include <queue>

#include "base/mutex.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

/// A process that does nothing until it is killed.
class Process {
 public:
  Process() : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() { end(); }

  pid_t pid() const { return pid_; }
  void kill() const { ::kill(pid_, SIGKILL); }  // a zombie until the end
  void end() {
    if (pid_ <= 0) return;
    kill();
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

/// What was told, in its order.
class News {
 public:
  VmProcesses::Changed listener() {
    return [this](const std::string& vm, PowerState power) {
      base::MutexLock lock(mutex_);
      news_.emplace(vm, power);
      came_.notify_one();
    };
  }
  std::pair<std::string, PowerState> next() {
    base::MutexLock lock(mutex_);
    while (news_.empty()) came_.wait(mutex_);
    auto first = news_.front();
    news_.pop();
    return first;
  }

 private:
  base::Mutex mutex_;
  base::ConditionVariable came_;
  std::queue<std::pair<std::string, PowerState>> news_ GUARDED_BY(mutex_);
};

class VmProcessesTest : public ::testing::Test {
 protected:
  std::string path(const std::string& vm = "web") const { return folder_.path() + "/" + vm + ".pid"; }
  void write(const std::string& text, const std::string& vm = "web") const {
    std::filesystem::remove(path(vm));
    testing::write_text(path(vm), text);
  }
  std::unique_ptr<VmProcesses> open(std::vector<std::string> vms = {"web"}) const {
    std::vector<VmPidFile> files;
    for (const std::string& vm : vms) files.push_back({vm, path(vm)});
    auto processes = make_vm_processes(std::move(files));
    EXPECT_OK(processes);
    return std::move(*processes);
  }

  tests::TemporaryFolder folder_;
};

TEST_F(VmProcessesTest, AVmIsOnWhileItsProcessRuns) {
  const auto processes = open();
  EXPECT_EQ(processes->power_of("web"), PowerState::kOff) << "without a pid file";
  Process process;
  write(std::to_string(process.pid()) + "\n");
  EXPECT_EQ(processes->power_of("web"), PowerState::kOn);
  process.kill();
  ::siginfo_t ended;
  ::waitid(P_PID, static_cast<id_t>(process.pid()), &ended, WEXITED | WNOWAIT);
  EXPECT_EQ(processes->power_of("web"), PowerState::kOff) << "a zombie does not run";
  process.end();
  EXPECT_EQ(processes->power_of("web"), PowerState::kOff);
  EXPECT_EQ(processes->power_of("db"), std::nullopt);
}

TEST_F(VmProcessesTest, AVmWhosePidFileIsGoneIsOnUntilItsProcessEnds) {
  const auto processes = open();
  Process process;
  write(std::to_string(process.pid()));
  EXPECT_EQ(processes->power_of("web"), PowerState::kOn);
  std::filesystem::remove(path());
  EXPECT_EQ(processes->power_of("web"), PowerState::kOn);
  process.end();
  EXPECT_EQ(processes->power_of("web"), PowerState::kOff);
}

TEST_F(VmProcessesTest, APidFileOfAnEndedProcessDoesNotTurnItOnAgainByItsNumber) {
  const auto processes = open();
  Process process;
  write(std::to_string(process.pid()));
  EXPECT_EQ(processes->power_of("web"), PowerState::kOn);
  process.end();
  // As if the number had been given to another: the same writing of the file names a process that runs.
  const int file = ::open(path().c_str(), O_WRONLY);
  struct stat before;
  ASSERT_EQ(::fstat(file, &before), 0);
  const std::string mine = std::to_string(::getpid());
  ASSERT_EQ(::ftruncate(file, 0), 0);
  ASSERT_EQ(::pwrite(file, mine.data(), mine.size(), 0), static_cast<ssize_t>(mine.size()));
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::futimens(file, times), 0);
  ::close(file);
  EXPECT_EQ(processes->power_of("web"), PowerState::kOff);
  write(mine);
  EXPECT_EQ(processes->power_of("web"), PowerState::kOn) << "a new writing counts";
}

TEST_F(VmProcessesTest, APidFileThatSaysNoPidLeavesThePowerUnknown) {
  const auto processes = open();
  for (const char* text : {"", "web", "-1", "0", "12 13", "99999999999999999999"}) {
    write(text);
    EXPECT_EQ(processes->power_of("web"), PowerState::kUnknown) << "'" << text << "'";
  }
  write(std::string(100, '1'));
  EXPECT_EQ(processes->power_of("web"), PowerState::kUnknown);
}

TEST_F(VmProcessesTest, TellsOfEachVmAtOnceAndThenOfEachChange) {
  Process web;
  write(std::to_string(web.pid()));
  News news;
  const auto processes = open({"web", "db"});
  processes->watch(news.listener());
  std::map<std::string, PowerState> first{news.next(), news.next()};
  EXPECT_EQ(first, (std::map<std::string, PowerState>{{"web", PowerState::kOn}, {"db", PowerState::kOff}}));
  web.end();
  EXPECT_EQ(news.next(), std::pair(std::string("web"), PowerState::kOff));
  Process db;
  write(std::to_string(db.pid()), "db");
  EXPECT_EQ(news.next(), std::pair(std::string("db"), PowerState::kOn));
  db.kill();  // a zombie is off
  EXPECT_EQ(news.next(), std::pair(std::string("db"), PowerState::kOff));
}

TEST_F(VmProcessesTest, RefusesWhatItCouldNotWatch) {
  auto refused = make_vm_processes({{"web", folder_.path() + "/missing/web.pid"}});
  EXPECT_EQ(testing::code_of(refused), "E_NOT_FOUND");
  refused = make_vm_processes({{"web", path()}, {"web", path("db")}});
  EXPECT_EQ(testing::message_of(refused), "vm 'web' has two pid files");
}

TEST_F(VmProcessesTest, TheDirectoryOfThisKernelsVmsSaysIt) {
  Process web;
  write(std::to_string(web.pid()));
  News news;
  auto directory = make_local_vm_directory({.uuid = "host-uuid", .name = "host"},
                                           {{.uuid = "web", .name = "web"}, {.uuid = "log", .name = "log"}},
                                           open({"web"}));
  EXPECT_EQ(directory->find_vm("web")->power, PowerState::kOn);
  directory->watch_power([&](const VmState& state) { news.listener()(state.vm.uuid, state.power); });
  EXPECT_EQ(news.next(), std::pair(std::string("web"), PowerState::kOn));
  web.end();
  EXPECT_EQ(news.next(), std::pair(std::string("web"), PowerState::kOff));
  EXPECT_EQ(directory->find_vm("web")->power, PowerState::kOff);
  EXPECT_EQ(directory->find_vm("log")->power, PowerState::kOn) << "without a pid file";
  EXPECT_EQ(directory->find_vm("host")->power, PowerState::kOn);
}

}  // namespace
}  // namespace vdvs::esx
