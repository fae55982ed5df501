// Real QEMU processes without an operating system in them: enough for everything that QEMU itself decides.
// The processors do not run (-S) until a test lets them.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "esx-vmci/hypervisor/qemu_config.h"
#include "esx-vmci/hypervisor/qemu_view.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

inline constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";

/// The test's own monitor, which shares no code with ours above the JSON parser.
class TestMonitor {
 public:
  explicit TestMonitor(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    socket_ = base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    is_open_ = soon([&] {
      return ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    });
    if (is_open_) (void)line();
    if (is_open_) (void)run("qmp_capabilities");
  }

  /// The member "return" of the answer; null where it is an error.
  boost::json::value run(const std::string& command, const boost::json::object& arguments = {}) {
    const std::string text =
        boost::json::serialize(boost::json::object{{"execute", command}, {"arguments", arguments}}) + "\n";
    if (::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return nullptr;
    for (;;) {
      const auto message = base::parse_json(line());
      if (!message || !message->is_object()) return nullptr;
      const boost::json::object& object = message->get_object();
      if (object.contains("error")) ADD_FAILURE() << command << ": " << boost::json::serialize(object);
      if (object.contains("error")) return nullptr;
      if (const auto* answer = object.if_contains("return")) return *answer;
    }
  }

 private:
  std::string line() {
    for (;;) {
      const std::size_t end = left_.find('\n');
      if (end != std::string::npos) {
        std::string found = left_.substr(0, end);
        left_.erase(0, end + 1);
        return found;
      }
      char bytes[65536];
      const ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, 0);
      if (count <= 0) return {};
      left_.append(bytes, static_cast<std::size_t>(count));
    }
  }

  base::UniqueFd socket_;
  bool is_open_ = false;
  std::string left_;
};

/// Owns: the process, which also ends with this one.
class QemuProcess {
 public:
  /// Its sockets are <folder>/<name>.qmp and <name>.test.
  QemuProcess(const std::string& folder, Vm vm, int ports = 4)
      : vm_(std::move(vm)), base_(folder + "/" + vm_.name), ports_(ports) {}
  QemuProcess(const QemuProcess&) = delete;
  QemuProcess& operator=(const QemuProcess&) = delete;
  ~QemuProcess() { kill(); }

  QemuVm config() const { return {.vm = vm_, .qmp_path = base_ + ".qmp", .certificate = vm_.name}; }
  const Vm& vm() const { return vm_; }

  void start() {
    for (const char* end : {".qmp", ".test"}) ::unlink((base_ + end).c_str());
    std::vector<std::string> argv{kQemu,      "-nodefaults", "-no-user-config", "-display", "none",
                                  "-machine", "q35",         "-accel",          "tcg",      "-m",
                                  "32",       "-S",          "-name",           vm_.name,   "-uuid",
                                  vm_.uuid};
    for (const char* end : {".qmp", ".test"}) {
      argv.emplace_back("-qmp");
      argv.push_back(fmt::format("unix:{}{},server=on,wait=off", base_, end));
    }
    for (int port = 1; port <= ports_; ++port) {
      argv.emplace_back("-device");
      argv.push_back(fmt::format("pcie-root-port,id=port{0},chassis={0},slot={0}", port));
    }
    std::vector<char*> words;
    for (std::string& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() == parent) ::execv(kQemu, words.data());
      ::_exit(127);
    }
    monitor_ = std::make_unique<TestMonitor>(base_ + ".test");
  }

  /// The plug is pulled; returns when the process is gone.
  void kill() {
    monitor_.reset();
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  void freeze() { ::kill(pid_, SIGSTOP); }
  void thaw() { ::kill(pid_, SIGCONT); }

  TestMonitor& monitor() { return *monitor_; }

  /// What it has open with driver "file".
  std::vector<std::string> open_files() {
    std::vector<std::string> files;
    const auto nodes = monitor().run("query-named-block-nodes", {{"flat", true}});
    if (!nodes.is_array()) return files;
    for (const auto& node : nodes.get_array()) {
      if (base::find_string(node.get_object(), "drv") == "file")
        files.push_back(base::find_string(node.get_object(), "file").value_or(""));
    }
    return files;
  }

  /// The devices that the service has plugged: QOM paths, by the file behind each.
  std::map<std::string, std::string> devices() {
    std::map<std::string, std::string> files;  // by key
    const auto nodes = monitor().run("query-named-block-nodes", {{"flat", true}});
    const auto blocks = monitor().run("query-block");
    if (!nodes.is_array() || !blocks.is_array()) return {};
    for (const auto& node : nodes.get_array()) {
      const std::string name = base::find_string(node.get_object(), "node-name").value_or("");
      if (name.starts_with(kFileNodePrefix))
        files[name.substr(kFileNodePrefix.size())] =
            base::find_string(node.get_object(), "file").value_or("");
    }
    std::map<std::string, std::string> found;
    for (const auto& block : blocks.get_array()) {
      const std::string device = base::find_string(block.get_object(), "qdev").value_or("");
      const std::string id = device.substr(device.rfind('/') + 1);
      if (id.starts_with(kDiskPrefix)) found[files[id.substr(kDiskPrefix.size())]] = device;
    }
    return found;
  }

  boost::json::value property(const std::string& path, const std::string& name) {
    return monitor().run("qom-get", {{"path", path}, {"property", name}});
  }

 private:
  const Vm vm_;
  const std::string base_;
  const int ports_;
  pid_t pid_ = 0;
  std::unique_ptr<TestMonitor> monitor_;
};

}  // namespace vdvs::esx::testing
