// A vCenter to test against: the API simulator of simulator/ with the fault proxy in front of it, both
// processes of the test's own, gone with it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "esx-vmci/hypervisor/hypervisor_vsphere.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "esx-vmci/hypervisor/vsphere_session.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

/// A program that says "ready PORT" and then answers lines, until its standard input is closed.
class Helper {
 public:
  explicit Helper(const std::vector<std::string>& argv);
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  int port() const { return port_; }
  /// Sends a line and reads the answer.
  std::string ask(const std::string& line);

 private:
  std::string read_line();

  pid_t process_ = -1;
  base::UniqueFd input_;
  base::UniqueFd output_;
  int port_ = 0;
};

/// Two VMs that are on, "web-1" and "web-2", with the uuids of the contract suite, and datastores LocalDS_0
/// and LocalDS_1 in the datacenter DC0.
class VsphereWorld {
 public:
  /// `flags`: of the simulator.
  explicit VsphereWorld(const std::vector<std::string>& flags = {});
  ~VsphereWorld();

  /// As a client behind the proxy would be configured.
  VsphereConfig config() const;
  VsphereSession& session() { return *session_; }
  /// Not through the proxy: for arranging and for looking.
  VsphereSession& direct() { return *direct_; }
  std::unique_ptr<VsphereSession> another_session() const;
  /// A command of fault_proxy.py; "ok", or a number.
  std::string fault(const std::string& command) { return proxy_->ask(command); }
  /// A command of the simulator.
  std::string simulator(const std::string& command) { return simulator_->ask(command); }
  /// Until the proxy has seen so many requests of that method.
  void await_count(const std::string& method, int count) {
    EXPECT_TRUE(soon([&] { return std::stoi(fault("count " + method)) >= count; }));
  }
  /// Until so many tasks are held.
  void await_held(int count) {
    EXPECT_TRUE(soon([&] { return simulator("held") == std::to_string(count); }));
  }
  std::string thumbprint(const std::string& certificate) const;
  std::string certificate_file(const std::string& certificate) const;

  /// VMs of the simulator in the order of their names. At the start they are on.
  std::vector<VmState> vms();
  std::vector<VsphereHardware> hardware();
  /// ReconfigVM_Task with these elements in its specification.
  void reconfigure(const std::string& vm, const std::string& specification);
  /// "PowerOnVM_Task", "PowerOffVM_Task", "SuspendVM_Task".
  void power(const std::string& vm, const std::string& method);
  soap::MoRef vm_ref(const std::string& name);

  /// A disk of 8 MiB in `folder()`, with these bytes at its beginning.
  Disk make_disk(const std::string& name, std::string_view beginning = {});
  std::string folder() const { return "[LocalDS_0] dockvols/11111111-1111-1111-1111-111111111111"; }
  /// A file of `folder()`; nullopt where there is none.
  std::optional<std::string> read_file(const std::string& name);
  void write_file(const std::string& name, std::string_view bytes);
  soap::MoRef datacenter();

 private:
  TemporaryFolder folder_;
  std::string datacenter_name_;
  std::unique_ptr<Helper> simulator_;
  std::unique_ptr<Helper> proxy_;
  std::unique_ptr<VsphereSession> direct_;
  std::unique_ptr<VsphereSession> session_;
};

base::Deadline soon_enough();

}  // namespace vdvs::esx::testing
