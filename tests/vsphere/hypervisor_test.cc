// Disks in VMs of a vCenter: the contract of all hypervisors, and what this one promises beyond.
#include <thread>

#include "esx-vmci/hypervisor/hypervisor_vsphere.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "tests/esx-vmci/hypervisor_contract.h"
#include "tests/vsphere/vsphere_world.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class VsphereContractWorld : public HypervisorWorld {
 public:
  VsphereContractWorld() : hypervisor_(make_vsphere_hypervisor(world_.session())) {}

  Hypervisor& hypervisor() override { return *hypervisor_; }
  Disk make_disk(const std::string& name, std::string_view beginning) override {
    return world_.make_disk(name, beginning);
  }
  std::string folder() const override { return world_.folder(); }
  /// A guest finds the disk by its uuid; the simulator has no guests, so that its file is read.
  std::string read_beginning(const base::DiskAddress& address, std::size_t bytes) override {
    const auto& scsi = std::get<base::ScsiAddress>(address);
    for (const VsphereHardware& hardware : world_.hardware()) {
      for (const VsphereDisk& disk : hardware.disks) {
        if (disk.uuid != scsi.disk_uuid || disk.unit != scsi.unit) continue;
        std::string file = parse_datastore_path(disk.files.back()).value().file();
        file.replace(file.size() - 5, 5, "-flat.vmdk");
        return world_.read_file(file).value_or("").substr(0, bytes);
      }
    }
    return {};
  }

 private:
  VsphereWorld world_;
  std::unique_ptr<Hypervisor> hypervisor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Vsphere, HypervisorContract, VsphereContractWorld);

class VsphereHypervisor : public ::testing::Test {
 protected:
  const Vm one_{"11111111-aaaa-4bbb-8ccc-000000000001", "web-1"};
  const Vm two_{"11111111-aaaa-4bbb-8ccc-000000000002", "web-2"};
  VsphereWorld world_;
  std::unique_ptr<Hypervisor> hypervisor_ = make_vsphere_hypervisor(world_.session());

  base::ScsiAddress attach(const Disk& disk) {
    auto address = hypervisor_->attach(one_, disk);
    EXPECT_OK(address);
    return address ? std::get<base::ScsiAddress>(*address) : base::ScsiAddress();
  }
  VsphereHardware hardware(const std::string& vm) {
    for (VsphereHardware& hardware : world_.hardware()) {
      if (hardware.identity.name == vm) return std::move(hardware);
    }
    ADD_FAILURE() << "no vm " << vm;
    return {};
  }
  std::size_t attached() { return hypervisor_->attached_in(world_.folder()).value().size(); }
  void await_held() { world_.await_held(1); }
};

// ---- places ----

TEST_F(VsphereHypervisor, TellsTheUuidTheUnitAndThePlaceOnThePciBus) {
  const Disk disk = world_.make_disk("db");
  const base::ScsiAddress address = attach(disk);
  EXPECT_EQ(address.disk_uuid, disk.uuid);
  EXPECT_EQ(address.pci_slot, 160u);
  EXPECT_EQ(address.pci_bus, "15.0");
  EXPECT_EQ(address.unit, 1u);  // the VM's own disk is 0
}

TEST_F(VsphereHypervisor, MakesAControllerInTheSameChangeAsTheDiskThatNeedsIt) {
  for (int i = 0; i < 14; ++i) attach(world_.make_disk(fmt::format("d{}", i)));
  EXPECT_EQ(hardware("web-1").controllers.size(), 1u);
  const int before = std::stoi(world_.fault("count ReconfigVM_Task"));
  const base::ScsiAddress address = attach(world_.make_disk("next"));
  EXPECT_EQ(std::stoi(world_.fault("count ReconfigVM_Task")), before + 1);
  EXPECT_EQ(address.unit, 0u);
  EXPECT_EQ(address.pci_slot, 192u);
  EXPECT_EQ(address.pci_bus, "16.0");
  ASSERT_EQ(hardware("web-1").controllers.size(), 2u);
  EXPECT_EQ(hardware("web-1").controllers[1].bus, 1);
}

TEST_F(VsphereHypervisor, AttachesSideBySideToOneVm) {
  std::vector<Disk> disks;
  for (int i = 0; i < 8; ++i) disks.push_back(world_.make_disk(fmt::format("d{}", i)));
  std::vector<std::thread> threads;
  for (const Disk& disk : disks)
    threads.emplace_back([&, this] { EXPECT_OK(hypervisor_->attach(one_, disk)); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(attached(), 8u);
}

TEST_F(VsphereHypervisor, AttachesInTheModeThatWasAskedFor) {
  Disk disk = world_.make_disk("db");
  disk.mode = "persistent";
  attach(disk);
  const VsphereHardware there = hardware("web-1");
  ASSERT_NE(find_disk(there, disk), nullptr);
  EXPECT_EQ(find_disk(there, disk)->mode, "persistent");
}

TEST_F(VsphereHypervisor, DetachKeepsTheDisksFiles) {
  const Disk disk = world_.make_disk("db", "precious");
  attach(disk);
  ASSERT_OK(hypervisor_->detach(one_, disk));
  EXPECT_EQ(attached(), 0u);
  EXPECT_EQ(world_.read_file("db-flat.vmdk"), "precious");
}

// ---- whose a disk is ----

TEST_F(VsphereHypervisor, ADiskOfAVmThatIsOffStaysItsOwnUntilItIsDetached) {
  const Disk disk = world_.make_disk("db");
  attach(disk);
  world_.power("web-1", "PowerOffVM_Task");
  auto refused = hypervisor_->attach(two_, disk);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("of vm 'web-1'"));
  ASSERT_OK(hypervisor_->detach(one_, disk));
  EXPECT_OK(hypervisor_->attach(two_, disk));
}

TEST_F(VsphereHypervisor, ALockThatOnlyTheHostSeesIsRespected) {
  const Disk disk = world_.make_disk("db");
  world_.simulator("fail ReconfigVM_Task FileLocked");
  EXPECT_EQ(code_of(hypervisor_->attach(one_, disk)), "E_BUSY_ELSEWHERE");
  EXPECT_EQ(attached(), 0u);
}

TEST_F(VsphereHypervisor, RefusesTwoVmsOfOneBiosUuidByTheirNames) {
  world_.reconfigure("web-2", soap::tag("uuid", one_.uuid));
  auto refused = hypervisor_->attach(one_, world_.make_disk("db"));
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(message_of(refused),
              AllOf(HasSubstr("2 VMs have this BIOS uuid"), HasSubstr("'web-1'"), HasSubstr("'web-2'")));
  EXPECT_EQ(attached(), 0u);
}

TEST_F(VsphereHypervisor, TellsTwoVmsOfOneBiosUuidApartByTheirInstanceUuids) {
  Vm two = world_.vms().at(1).vm;
  ASSERT_EQ(two.name, "web-2");
  world_.reconfigure("web-2", soap::tag("uuid", one_.uuid));
  two.uuid = one_.uuid;
  const Disk disk = world_.make_disk("db");
  ASSERT_OK(hypervisor_->attach(two, disk));
  EXPECT_NE(find_disk(hardware("web-2"), disk), nullptr);
}

TEST_F(VsphereHypervisor, AVmThatIsNotThereHasNoDisks) {
  const Vm nobody{"11111111-aaaa-4bbb-8ccc-00000000ffff", "gone"};
  const Disk disk = world_.make_disk("db");
  EXPECT_OK(hypervisor_->detach(nobody, disk));
  auto refused = hypervisor_->attach(nobody, disk);
  EXPECT_EQ(code_of(refused), "E_NOT_FOUND");
  EXPECT_EQ(message_of(refused),
            "Failed to find VM object for gone (bios 11111111-aaaa-4bbb-8ccc-00000000ffff vc None)");
}

TEST_F(VsphereHypervisor, ADiskThatIsNotThereIsNotAttached) {
  Disk disk = world_.make_disk("db");
  disk.descriptor_path = world_.folder() + "/other.vmdk";
  disk.uuid.clear();
  EXPECT_EQ(code_of(hypervisor_->attach(one_, disk)), "E_NOT_FOUND");
}

// ---- faults ----

TEST_F(VsphereHypervisor, AttachesOnceWhereTheAnswerWasLost) {
  const Disk disk = world_.make_disk("db");
  world_.fault("cut-after ReconfigVM_Task 1");
  attach(disk);
  EXPECT_EQ(world_.fault("count ReconfigVM_Task"), "1");
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, AttachesAgainWhereTheRequestWasLost) {
  const Disk disk = world_.make_disk("db");
  world_.fault("cut-before ReconfigVM_Task 2");
  attach(disk);
  EXPECT_EQ(world_.fault("count ReconfigVM_Task"), "3");
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, WaitsForTheTaskWhoseAnswerWasLost) {
  const Disk disk = world_.make_disk("db");
  world_.simulator("hold ReconfigVM_Task");
  world_.fault("cut-after ReconfigVM_Task 1");
  std::thread attaching([&] { attach(disk); });
  await_held();
  world_.await_count("WaitForUpdatesEx", 2);
  world_.simulator("release");
  attaching.join();
  EXPECT_EQ(world_.fault("count ReconfigVM_Task"), "1");
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, FinishesAnAttachWhoseConnectionWasCutInTheMiddleOfTheTask) {
  const Disk disk = world_.make_disk("db");
  world_.simulator("hold ReconfigVM_Task");
  std::thread attaching([&] { attach(disk); });
  await_held();
  world_.await_count("WaitForUpdatesEx", 2);  // the present state is known, and a change is waited for
  world_.fault("expire");
  world_.fault("drop");
  world_.await_count("WaitForUpdatesEx", 6);  // with a collector of the new session
  world_.simulator("release");
  attaching.join();
  EXPECT_EQ(world_.fault("count ReconfigVM_Task"), "1");
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, DetachesOnceWhereTheAnswerWasLost) {
  const Disk disk = world_.make_disk("db");
  attach(disk);
  world_.fault("cut-after ReconfigVM_Task 1");
  EXPECT_OK(hypervisor_->detach(one_, disk));
  EXPECT_EQ(world_.fault("count ReconfigVM_Task"), "2");
  EXPECT_EQ(attached(), 0u);
}

TEST_F(VsphereHypervisor, DecidesAgainWhereTheVmWasChangedMeanwhile) {
  const Disk disk = world_.make_disk("db");
  world_.simulator("hold ReconfigVM_Task");
  std::thread attaching([&] { attach(disk); });
  await_held();
  // Somebody else's change comes first: it is not held, and takes the version that ours was decided on.
  std::thread changing([&] { world_.reconfigure("web-1", soap::tag("annotation", "changed")); });
  world_.await_held(2);
  world_.simulator("release");
  attaching.join();
  changing.join();
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, SaysWhichDiskATaskFailedFor) {
  const Disk disk = world_.make_disk("db");
  world_.simulator("fail ReconfigVM_Task GenericVmConfigFault");
  auto failed = hypervisor_->attach(one_, disk);
  EXPECT_EQ(code_of(failed), "E_IO");
  EXPECT_THAT(message_of(failed), AllOf(HasSubstr("attach '[LocalDS_0] dockvols/"), HasSubstr("db.vmdk'"),
                                        HasSubstr("GenericVmConfigFault")));
  attach(disk);
  world_.simulator("fail ReconfigVM_Task GenericVmConfigFault");
  auto kept = hypervisor_->detach(one_, disk);
  EXPECT_EQ(code_of(kept), "E_IO");
  EXPECT_THAT(message_of(kept), HasSubstr("Failed to detach [LocalDS_0] dockvols/"));
  EXPECT_EQ(attached(), 1u);
}

TEST_F(VsphereHypervisor, ServesAfterAnExpiredSession) {
  const Disk disk = world_.make_disk("db");
  attach(disk);
  world_.fault("expire");
  EXPECT_TRUE(hypervisor_->find(disk).value().has_value());
  world_.fault("expire");
  EXPECT_OK(hypervisor_->detach(one_, disk));
  EXPECT_THAT(hypervisor_->attached_in(world_.folder()).value(), IsEmpty());
}

TEST_F(VsphereHypervisor, ItIsNotKnownWhoHasADiskWhileTheServerIsAway) {
  const Disk disk = world_.make_disk("db");
  world_.fault("down");
  EXPECT_EQ(code_of(hypervisor_->find(disk)), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(hypervisor_->attached_in(world_.folder())), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(hypervisor_->detach(one_, disk)), "E_UNAVAILABLE");
}

TEST(VsphereEsxHost, AttachesAndDetaches) {
  VsphereWorld world({"-esx", "-ds", "2"});
  auto hypervisor = make_vsphere_hypervisor(world.session());
  const Vm vm{"11111111-aaaa-4bbb-8ccc-000000000001", "web-1"};
  const Disk disk = world.make_disk("db");
  ASSERT_OK(hypervisor->attach(vm, disk));
  EXPECT_EQ(hypervisor->find(disk).value()->vm_uuid, vm.uuid);
  EXPECT_OK(hypervisor->detach(vm, disk));
}

}  // namespace
}  // namespace vdvs::esx::testing
