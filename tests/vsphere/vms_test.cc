// Who the VMs are and whether they run.
#include <condition_variable>
#include <map>
#include <mutex>

#include "esx-vmci/hypervisor/hypervisor_vsphere.h"
#include "tests/vsphere/vsphere_world.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kOne = "11111111-aaaa-4bbb-8ccc-000000000001";

Peer certificate(const std::string& name) {
  Peer peer;
  peer.kind = Peer::Kind::kTls;
  peer.certificate = name;
  return peer;
}

class VsphereDirectory : public ::testing::Test {
 protected:
  VsphereWorld world_;
  std::unique_ptr<VsphereSession> watch_ = world_.another_session();
  std::mutex mutex_;
  std::condition_variable told_;
  std::map<std::string, std::vector<PowerState>> history_;
  std::unique_ptr<VmDirectory> vms_ = make_vsphere_vm_directory(world_.session(), *watch_);

  void watch() {
    vms_->watch_power([this](const VmState& state) {
      const std::lock_guard lock(mutex_);
      history_[state.vm.name].push_back(state.power);
      told_.notify_all();
    });
  }
  /// Until what was told last of that VM is `power`.
  ::testing::AssertionResult await(const std::string& vm, PowerState power) {
    std::unique_lock lock(mutex_);
    const bool is_told = told_.wait_for(
        lock, std::chrono::minutes(1), [&] { return !history_[vm].empty() && history_[vm].back() == power; });
    return is_told ? ::testing::AssertionSuccess()
                   : ::testing::AssertionFailure() << vm << " is not " << power_state_name(power);
  }
};

TEST_F(VsphereDirectory, KnowsAVmByTheNameOrAUuidInItsCertificate) {
  const Vm vm = vms_->find_vm("web-1")->vm;
  EXPECT_EQ(vm.uuid, kOne);
  EXPECT_EQ(vm.name, "web-1");
  EXPECT_EQ(vm.datastore, "LocalDS_0");
  EXPECT_FALSE(vm.instance_uuid.empty());
  for (const std::string& name : {vm.name, vm.uuid, vm.instance_uuid}) {
    auto known = vms_->identify(certificate(name));
    ASSERT_OK(known);
    EXPECT_EQ(known->uuid, vm.uuid);
  }
}

TEST_F(VsphereDirectory, KnowsAVmByTheSocketThatWasGivenToIt) {
  Peer peer;
  peer.assigned_vm = "web-2";
  EXPECT_EQ(vms_->identify(peer).value().name, "web-2");
}

TEST_F(VsphereDirectory, DeniesWhoIsNoVm) {
  EXPECT_EQ(code_of(vms_->identify(certificate("stranger"))), "E_DENIED");
  EXPECT_EQ(code_of(vms_->identify(certificate(""))), "E_DENIED");
  EXPECT_EQ(code_of(vms_->identify(Peer{})), "E_DENIED");
  Peer context;
  context.kind = Peer::Kind::kVsock;
  context.cid = 5;
  context.assigned_vm = "web-1";
  EXPECT_EQ(code_of(vms_->identify(context)), "E_DENIED");
}

TEST_F(VsphereDirectory, NamesNobodyWhileTheServerIsAway) {
  world_.fault("down");
  EXPECT_EQ(code_of(vms_->identify(certificate("web-1"))), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(vms_->vms()), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(vms_->find_vm("web-1")), "E_UNAVAILABLE");
}

TEST_F(VsphereDirectory, RefusesACertificateThatTwoVmsAnswerTo) {
  world_.reconfigure("web-2", soap::tag("uuid", kOne));
  auto refused = vms_->identify(certificate(std::string(kOne)));
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(message_of(refused), HasSubstr("'web-1'"));
  EXPECT_THAT(message_of(refused), HasSubstr("'web-2'"));
}

TEST_F(VsphereDirectory, ListsVmsWithTheirPower) {
  world_.power("web-2", "PowerOffVM_Task");
  auto all = vms_->vms();
  ASSERT_OK(all);
  ASSERT_EQ(all->size(), 2u);
  for (const VmState& state : *all)
    EXPECT_EQ(state.power, state.vm.name == "web-2" ? PowerState::kOff : PowerState::kOn) << state.vm.name;
  EXPECT_EQ(code_of(vms_->find_vm("web-9")), "E_NOT_FOUND");
}

// ---- the watch ----

TEST_F(VsphereDirectory, TellsOfEveryVmAndThenOfEveryChange) {
  watch();
  EXPECT_TRUE(await("web-1", PowerState::kOn));
  EXPECT_TRUE(await("web-2", PowerState::kOn));
  world_.power("web-1", "PowerOffVM_Task");
  EXPECT_TRUE(await("web-1", PowerState::kOff));
  world_.power("web-1", "PowerOnVM_Task");
  EXPECT_TRUE(await("web-1", PowerState::kOn));
  world_.power("web-2", "SuspendVM_Task");
  EXPECT_TRUE(await("web-2", PowerState::kSuspended));
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(history_["web-1"], (std::vector{PowerState::kOn, PowerState::kOff, PowerState::kOn}));
}

TEST_F(VsphereDirectory, TellsWhatHappenedWhileTheServerWasAway) {
  watch();
  ASSERT_TRUE(await("web-1", PowerState::kOn));
  world_.fault("down");
  world_.fault("drop");
  world_.power("web-1", "PowerOffVM_Task");
  world_.fault("up");
  EXPECT_TRUE(await("web-1", PowerState::kOff));
  world_.power("web-1", "PowerOnVM_Task");  // and goes on
  EXPECT_TRUE(await("web-1", PowerState::kOn));
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(history_["web-2"].size(), 1u);  // nothing is told twice
}

TEST_F(VsphereDirectory, WatchesOnAfterTheSessionWasForgotten) {
  watch();
  ASSERT_TRUE(await("web-1", PowerState::kOn));
  world_.fault("expire");
  world_.fault("drop");
  world_.power("web-1", "PowerOffVM_Task");
  EXPECT_TRUE(await("web-1", PowerState::kOff));
}

TEST_F(VsphereDirectory, WatchesOnAfterGarbage) {
  world_.fault("garbage WaitForUpdatesEx 2");
  watch();
  EXPECT_TRUE(await("web-1", PowerState::kOn));
}

TEST_F(VsphereDirectory, AVmThatWasTakenFromTheInventoryIsNotKnownToBeOff) {
  watch();
  ASSERT_TRUE(await("web-2", PowerState::kOn));
  world_.power("web-2", "PowerOffVM_Task");
  ASSERT_TRUE(await("web-2", PowerState::kOff));
  ASSERT_OK(world_.direct().call("UnregisterVM", world_.vm_ref("web-2"), "", VsphereSession::Effect::kChanges,
                                 soon_enough()));
  EXPECT_TRUE(await("web-2", PowerState::kUnknown));
}

TEST_F(VsphereDirectory, EndsWhileAQuestionIsOpen) {
  watch();
  ASSERT_TRUE(await("web-1", PowerState::kOn));
  vms_.reset();  // must return
}

}  // namespace
}  // namespace vdvs::esx::testing
