// vmdkopsd before a vCenter, with nothing but its configuration file: guests call it over unix sockets that
// were given to their VMs, and their disks are in the simulator's VMs.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <thread>

#include "esx-vmci/client/client.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "tests/esx-vmci/control_plane_contract.h"
#include "tests/vsphere/vsphere_world.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A vmdkopsd with a configuration in `folder`, ended with this.
class ServiceProcess {
 public:
  explicit ServiceProcess(std::string folder) : folder_(std::move(folder)) { start(); }
  ServiceProcess(const ServiceProcess&) = delete;
  ServiceProcess& operator=(const ServiceProcess&) = delete;
  ~ServiceProcess() { (void)end(SIGTERM); }

  void start() {
    const std::string config = folder_ + "/vmdkopsd.toml";
    const char* argv[] = {VDVS_VMDKOPSD, "--config", config.c_str(), nullptr};
    ASSERT_EQ(::posix_spawn(&process_, VDVS_VMDKOPSD, nullptr, nullptr, const_cast<char**>(argv), environ),
              0);
  }
  /// Its exit status, or 128 + the signal that ended it.
  int end(int signal) {
    if (process_ > 0) ::kill(process_, signal);
    return wait();
  }
  int wait() {
    int status = 0;
    if (process_ > 0) ::waitpid(std::exchange(process_, -1), &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  std::string log() const { return read_text(folder_ + "/log"); }

 private:
  std::string folder_;
  pid_t process_ = -1;
};

/// "host-a" and "host-b" are VMs of the simulator, and "ds" is its datastore.
class VsphereServiceWorld : public ControlPlaneWorld {
 public:
  VsphereServiceWorld() {
    vsphere_.simulator("rename LocalDS_1 ds");
    vsphere_.reconfigure("web-1", soap::tag("name", "host-a"));
    vsphere_.reconfigure("web-2", soap::tag("name", "host-b"));
    write_config("pass");
    service_ = std::make_unique<ServiceProcess>(folder_.path());
    one_ = plane("host-a");
    two_ = plane("host-b");
  }
  ~VsphereServiceWorld() override {
    one_.reset();
    two_.reset();
    service_.reset();
  }

  ControlPlane& one() override { return *one_; }
  ControlPlane& two() override { return *two_; }
  VsphereWorld& vsphere() { return vsphere_; }
  ServiceProcess& service() { return *service_; }

  void write_config(const std::string& password) {
    const std::string base = folder_.path();
    const VsphereConfig config = vsphere_.config();
    write_text(base + "/password", password + "\n");
    EXPECT_EQ(::chmod((base + "/password").c_str(), 0600), 0);
    write_text(
        base + "/vsphere.json",
        fmt::format(R"({{"url": "https://127.0.0.1:{}/sdk", "user": "user", "password_file": "{}/password",
                               "thumbprint": "{}", "datastores": ["ds"]}})",
                    config.server.port, base, config.server.thumbprint));
    write_text(
        base + "/vmdkopsd.toml",
        fmt::format("hypervisor = \"vsphere:{0}/vsphere.json\"\n"
                    "listen = [\"unix:{0}/host-a,vm=host-a\", \"unix:{0}/host-b,vm=host-b\"]\n"
                    "database = \"{0}/auth-db\"\nadmin-socket = \"{0}/admin\"\nstate-dir = \"{0}/state\"\n"
                    "audit-log = \"{0}/audit\"\nlog-file = \"{0}/log\"\n",
                    base));
  }
  std::unique_ptr<ControlPlane> plane(const std::string& vm) {
    ClientOptions options;
    options.endpoint = Endpoint::parse("unix:" + folder_.path() + "/" + vm).value();
    auto made = make_client_control_plane(std::move(options));
    EXPECT_OK(made);
    EXPECT_TRUE(soon([&] { return (*made)->list().has_value(); })) << service_->log();
    return std::move(*made);
  }
  /// The VMs that have a disk of ours.
  std::vector<std::string> holders() {
    std::vector<std::string> names;
    for (const VsphereHardware& hardware : vsphere_.hardware()) {
      for (const VsphereDisk& disk : hardware.disks) {
        if (disk.files.back().starts_with("[ds] dockvols/")) names.push_back(hardware.identity.name);
      }
    }
    return names;
  }

 private:
  VsphereWorld vsphere_;
  TemporaryFolder folder_;
  std::unique_ptr<ServiceProcess> service_;
  std::unique_ptr<ControlPlane> one_;
  std::unique_ptr<ControlPlane> two_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(VsphereService, ControlPlaneContract, VsphereServiceWorld);

class VsphereService : public ::testing::Test {
 protected:
  VsphereServiceWorld world_;

  void make(const std::string& volume) {
    ASSERT_OK(world_.one().create(name_of(volume), {{"size", "8mb"}}, {}));
  }
};

TEST_F(VsphereService, PutsADiskIntoTheVmThatAsks) {
  make("db");
  auto attached = world_.one().attach(name_of("db"));
  ASSERT_OK(attached);
  const auto& address = std::get<base::ScsiAddress>(*attached);
  EXPECT_EQ(address.disk_uuid.size(), 32u);
  EXPECT_EQ(address.pci_bus, "15.0");
  EXPECT_THAT(world_.holders(), ElementsAre("host-a"));
  ASSERT_OK(world_.one().detach(name_of("db")));
  EXPECT_TRUE(world_.holders().empty());
}

TEST_F(VsphereService, AVmThatGoesOffLosesItsDisksToWhoAsks) {
  make("db");
  ASSERT_OK(world_.one().attach(name_of("db")));
  EXPECT_EQ(code_of(world_.two().attach(name_of("db"))), "E_BUSY_ELSEWHERE");
  world_.vsphere().power("host-a", "PowerOffVM_Task");
  EXPECT_TRUE(soon([&] { return world_.holders().empty(); })) << "its disks stay in a vm that is off";
  EXPECT_OK(world_.two().attach(name_of("db")));
  EXPECT_THAT(world_.holders(), ElementsAre("host-b"));
}

TEST_F(VsphereService, StoragePoliciesAreTheServers) {
  const OptionMap known = {{"vsan-policy-name", "VVol No Requirements Policy"}};
  const OptionMap unknown = {{"vsan-policy-name", "gold"}};
  EXPECT_OK(world_.one().create(name_of("db"), known, {}));
  auto refused = world_.one().create(name_of("web"), unknown, {});
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(message_of(refused), HasSubstr("Policy gold does not exist. Available policies are: ["));
}

TEST_F(VsphereService, FinishesAnAttachInWhoseMiddleItWasKilled) {
  make("db");
  world_.vsphere().simulator("hold ReconfigVM_Task");
  std::thread attaching([&] { (void)world_.one().attach(name_of("db")); });
  world_.vsphere().await_held(1);
  EXPECT_EQ(world_.service().end(SIGKILL), 128 + SIGKILL);
  world_.vsphere().simulator("release");
  world_.service().start();
  attaching.join();
  EXPECT_OK(world_.one().attach(name_of("db")));
  EXPECT_THAT(world_.holders(), ElementsAre("host-a"));
  EXPECT_EQ(code_of(world_.two().attach(name_of("db"))), "E_BUSY_ELSEWHERE");
}

TEST_F(VsphereService, SaysThatTheServerIsAway) {
  make("db");
  world_.vsphere().fault("down");
  world_.vsphere().fault("drop");
  EXPECT_NE(code_of(world_.one().attach(name_of("db"))), "OK");
  world_.vsphere().fault("up");
  EXPECT_TRUE(soon([&] { return world_.one().attach(name_of("db")).has_value(); }));
  EXPECT_THAT(world_.holders(), ElementsAre("host-a"));
}

TEST_F(VsphereService, DoesNotServeWithAWrongPassword) {
  EXPECT_EQ(world_.service().end(SIGTERM), 0);
  world_.write_config("wrong");
  world_.service().start();
  EXPECT_EQ(world_.service().wait(), 1);
  EXPECT_THAT(world_.service().log(), HasSubstr("log in to '127.0.0.1' as 'user'"));
}

TEST_F(VsphereService, StopsAtOnceThoughItWatchesPower) { EXPECT_EQ(world_.service().end(SIGTERM), 0); }

}  // namespace
}  // namespace vdvs::esx::testing
