// The QEMU hypervisor against real QEMU processes: the contract, and what it promises beyond. What a guest's
// kernel has a part in is in tests/vm.
#include "esx-vmci/hypervisor/hypervisor_qemu.h"

#include <fcntl.h>
#include <sys/file.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/fault.h"
#include "esx-vmci/hypervisor/hypervisor_qemu_machine.h"
#include "tests/esx-vmci/hypervisor/qemu_process.h"
#include "tests/esx-vmci/hypervisor_contract.h"

namespace vdvs::esx::testing {
namespace {

using base::ScsiAddress;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

/// Two machines that run.
class QemuWorld : public HypervisorWorld {
 public:
  QemuWorld() {
    machine_one.start();
    machine_two.start();
    restart_service();
  }
  ~QemuWorld() override { (void)base::set_faults(""); }
  /// As a service that was killed and started again: nothing is known any more.
  void restart_service() { restart_service({{machine_one.config(), machine_two.config()}}); }
  void restart_service(QemuConfig config) {
    hypervisor_.reset();
    hypervisor_ = make_qemu_hypervisor(std::move(config));
  }

  QemuHypervisor& hypervisor() override { return *hypervisor_; }
  std::string folder() const override { return folder_.path(); }
  Disk make_disk(const std::string& name, std::string_view beginning) override {
    Disk disk{.descriptor_path = folder() + "/" + name + ".vmdk",
              .extent_path = folder() + "/" + name + "-flat.vmdk",
              .uuid = fmt::format("6000c29{:025x}", ++last_uuid_)};
    disk.size_bytes = 1 << 20;
    write_text(disk.extent_path, beginning);
    EXPECT_EQ(::truncate(disk.extent_path.c_str(), static_cast<off_t>(disk.size_bytes)), 0);
    return disk;
  }
  /// The file behind the device that QEMU has at that place.
  std::string read_beginning(const base::DiskAddress& where, std::size_t bytes) override {
    const ScsiAddress& address = std::get<ScsiAddress>(where);
    for (const auto& [file, device] : machine_one.devices()) {
      if (machine_one.property(device, "scsi-id").to_number<unsigned>() != address.unit) continue;
      if (machine_one.property(device, "serial").as_string() != address.disk_uuid) continue;
      return read_text(file).substr(0, bytes);
    }
    return "no device is there";
  }

 private:
  TemporaryFolder folder_;
  std::uint64_t last_uuid_ = 0;

 public:
  QemuProcess machine_one{folder_.path(), one};
  QemuProcess machine_two{folder_.path(), two};

 private:
  std::unique_ptr<QemuHypervisor> hypervisor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Qemu, HypervisorContract, QemuWorld);

class QemuHypervisorTest : public ::testing::Test {
 protected:
  QemuWorld world_;
  Disk disk_ = world_.make_disk("db", "");
  QemuHypervisor& hypervisor() { return world_.hypervisor(); }
  ScsiAddress attach(const Disk& disk) {
    auto address = hypervisor().attach(world_.one, disk);
    EXPECT_OK(address);
    return address ? std::get<ScsiAddress>(*address) : ScsiAddress();
  }
  /// Whether another process may have the extent for itself now.
  bool can_lock_elsewhere() {
    return in_child([&] {
             const int fd = ::open(disk_.extent_path.c_str(), O_RDWR);
             struct flock range = {};
             range.l_type = F_WRLCK;
             return ::fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : 1;
           }) == 0;
  }
};

TEST_F(QemuHypervisorTest, TheDiskSitsOnAPvscsiControllerBehindTheFirstRootPortAndIsNamedByItsUuid) {
  const ScsiAddress address = attach(disk_);
  EXPECT_EQ(address.disk_uuid, disk_.uuid);
  EXPECT_EQ(address.unit, 0u);
  EXPECT_EQ(address.pci_slot, 1u);
  EXPECT_EQ(address.pci_bus, "1.0");
  const auto devices = world_.machine_one.devices();
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices.begin()->first, disk_.extent_path);
  const std::string& device = devices.begin()->second;
  EXPECT_EQ(world_.machine_one.property(device, "serial").as_string(), disk_.uuid.c_str());
  EXPECT_EQ(world_.machine_one.property(device, "wwn").to_number<std::uint64_t>(), wwn_of(disk_.uuid));
  EXPECT_EQ(world_.machine_one.property("/machine/peripheral/vdvs-scsi0", "type").as_string(), "pvscsi");
}

TEST_F(QemuHypervisorTest, AControllerHasFifteenDisksAndTheSixteenthGetsAnother) {
  std::vector<unsigned> units;
  for (int i = 0; i < 15; ++i) units.push_back(attach(world_.make_disk(fmt::format("d{}", i), "")).unit);
  EXPECT_THAT(units, ElementsAre(0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15));
  const ScsiAddress sixteenth = attach(disk_);
  EXPECT_EQ(sixteenth.unit, 0u);
  EXPECT_EQ(sixteenth.pci_slot, 2u);
}

TEST_F(QemuHypervisorTest, TheLowestUnitThatIsFreeIsTakenAgain) {
  const Disk other = world_.make_disk("other", "");
  attach(disk_);
  attach(other);
  ASSERT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_EQ(attach(world_.make_disk("third", "")).unit, 0u);
}

TEST_F(QemuHypervisorTest, SixtyDisksFitAndTheNextIsRefusedWithTheReason) {
  for (int i = 0; i < 60; ++i) attach(world_.make_disk(fmt::format("d{}", i), ""));
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_LIMIT");
  EXPECT_THAT(message_of(refused), HasSubstr("4 PVSCSI controllers have 15 disks each"));
  EXPECT_OK(hypervisor().attach(world_.two, disk_));
}

TEST_F(QemuHypervisorTest, WithoutAFreeRootPortARefusalSaysWhatToDo) {
  QemuProcess bare(world_.folder(), {"11111111-aaaa-4bbb-8ccc-000000000003", "bare"}, 0);
  bare.start();
  auto service = make_qemu_hypervisor({{bare.config()}});
  auto refused = service->attach(bare.vm(), disk_);
  EXPECT_EQ(code_of(refused), "E_LIMIT");
  EXPECT_THAT(refused.error().text(), HasSubstr("pcie-root-port"));
}

TEST_F(QemuHypervisorTest, AnAttachedDiskIsLockedAgainstEveryProcess) {
  ASSERT_TRUE(can_lock_elsewhere());
  attach(disk_);
  EXPECT_FALSE(can_lock_elsewhere());
  ASSERT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_TRUE(can_lock_elsewhere());
  EXPECT_THAT(world_.machine_one.open_files(), IsEmpty());
}

TEST_F(QemuHypervisorTest, ADiskThatAnotherProcessHasLockedIsBusyAndLeftAlone) {
  auto holder = base::open_file(disk_.extent_path, O_RDWR);
  ASSERT_OK(holder);
  ASSERT_EQ(::flock(holder->get(), LOCK_EX), 0);
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("another host or process"));
  EXPECT_THAT(world_.machine_one.open_files(), IsEmpty());
}

TEST_F(QemuHypervisorTest, ARefusalNamesTheMachineThatHasTheDisk) {
  ASSERT_OK(hypervisor().attach(world_.two, disk_));
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("web-2"));
}

TEST_F(QemuHypervisorTest, ADiskOfAVmThatIsNotKnownHereIsBusy) {
  ASSERT_OK(hypervisor().attach(world_.two, disk_));
  world_.restart_service({{world_.machine_one.config()}});
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("a virtual machine that this service does not know"));
}

TEST_F(QemuHypervisorTest, AFrozenMachineKeepsItsDisksAndHoldsUpNobodyElse) {
  attach(disk_);
  world_.machine_one.freeze();
  EXPECT_OK(hypervisor().attach(world_.two, world_.make_disk("other", "")));
  auto found = hypervisor().find(disk_);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->vm_uuid, world_.one.uuid);
  auto refused = hypervisor().attach(world_.two, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("web-1"));
  world_.machine_one.thaw();
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_OK(hypervisor().attach(world_.two, disk_));
}

TEST_F(QemuHypervisorTest, AKilledMachineHasNothingAndItsDisksAreFreeAtOnce) {
  attach(disk_);
  world_.machine_one.kill();
  EXPECT_OK(hypervisor().attach(world_.two, disk_));
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_EQ(hypervisor().find(disk_)->value().vm_uuid, world_.two.uuid);
  EXPECT_EQ(code_of(hypervisor().attach(world_.one, world_.make_disk("x", ""))), "E_UNAVAILABLE");
}

TEST_F(QemuHypervisorTest, AMachineThatStartsAgainIsFoundAgain) {
  attach(disk_);
  world_.machine_one.kill();
  world_.machine_one.start();
  EXPECT_EQ(hypervisor().find(disk_)->has_value(), false);
  EXPECT_EQ(attach(disk_).unit, 0u);
}

TEST_F(QemuHypervisorTest, ADiskIsFoundAgainByAServiceThatWasRestarted) {
  const ScsiAddress before = attach(disk_);
  world_.restart_service();
  auto found = hypervisor().find(disk_);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ(std::get<ScsiAddress>((*found)->address), before);
  EXPECT_EQ(attach(disk_), before);
}

TEST_F(QemuHypervisorTest, AnAttachThatEndedInTheMiddleIsFinishedByTheNext) {
  ASSERT_OK(base::set_faults("qemu.node.after=fail:1"));
  EXPECT_FALSE(hypervisor().attach(world_.one, disk_));
  EXPECT_EQ(hypervisor().find(disk_)->has_value(), false);
  EXPECT_EQ(attach(disk_).unit, 0u);
  EXPECT_THAT(world_.machine_one.open_files(), ElementsAre(disk_.extent_path));
}

TEST_F(QemuHypervisorTest, AnAttachThatEndedInTheMiddleIsUndoneByADetach) {
  ASSERT_OK(base::set_faults("qemu.node.after=fail:1"));
  EXPECT_FALSE(hypervisor().attach(world_.one, disk_));
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_THAT(world_.machine_one.open_files(), IsEmpty());
}

TEST_F(QemuHypervisorTest, ADetachThatEndedInTheMiddleIsFinishedByTheNext) {
  attach(disk_);
  ASSERT_OK(base::set_faults("qemu.unplug.after=fail:1"));
  EXPECT_FALSE(hypervisor().detach(world_.one, disk_));
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_THAT(world_.machine_one.open_files(), IsEmpty());
  EXPECT_OK(hypervisor().attach(world_.two, disk_));
}

TEST_F(QemuHypervisorTest, WhatWasHalfPluggedDoesNotKeepOthersFromTheDisk) {
  ASSERT_OK(base::set_faults("qemu.node.after=fail:1"));
  EXPECT_FALSE(hypervisor().attach(world_.one, disk_));
  EXPECT_OK(hypervisor().attach(world_.two, disk_));
}

TEST_F(QemuHypervisorTest, ADiskThatSomebodyElsePluggedIsBusyAndNotTakenOut) {
  world_.machine_one.monitor().run(
      "blockdev-add", {{"driver", "file"}, {"node-name", "foreign"}, {"filename", disk_.extent_path}});
  auto refused = hypervisor().attach(world_.one, disk_);
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("this service did not attach"));
  EXPECT_OK(hypervisor().detach(world_.one, disk_));
  EXPECT_THAT(world_.machine_one.open_files(), ElementsAre(disk_.extent_path));
}

TEST_F(QemuHypervisorTest, TwoDisksWithOneUuidAreNotTakenForEachOther) {
  Disk copy = world_.make_disk("copy", "");
  copy.uuid = disk_.uuid;
  attach(disk_);
  EXPECT_FALSE(hypervisor().attach(world_.one, copy));
  EXPECT_EQ(hypervisor().find(copy)->has_value(), false);
  EXPECT_OK(hypervisor().detach(world_.one, copy));
  EXPECT_TRUE(hypervisor().find(disk_)->has_value());
}

TEST_F(QemuHypervisorTest, AReadOnlyDiskIsReadOnlyForTheMachine) {
  disk_.is_read_only = true;
  attach(disk_);
  const auto blocks = world_.machine_one.monitor().run("query-block");
  ASSERT_EQ(blocks.get_array().size(), 1u);
  EXPECT_EQ(blocks.get_array()[0].at("inserted").at("ro"), boost::json::value(true));
}

TEST_F(QemuHypervisorTest, AProcessThatIsAnotherVmGetsNoDisks) {
  QemuVm wrong = world_.machine_one.config();
  wrong.vm.uuid = "11111111-aaaa-4bbb-8ccc-0000000000ff";
  world_.machine_one.kill();
  world_.machine_one.start();
  auto service = make_qemu_hypervisor({{wrong}});
  EXPECT_TRUE(soon([&] {
    return message_of(service->attach(wrong.vm, disk_)).find("is the VM with uuid") != std::string::npos;
  }));
  EXPECT_THAT(world_.machine_one.open_files(), IsEmpty());
}

TEST_F(QemuHypervisorTest, AVmOfNobodyIsDeniedAndHasNothingToDetach) {
  const Vm stranger{"11111111-aaaa-4bbb-8ccc-0000000000ee", "stranger"};
  EXPECT_EQ(code_of(hypervisor().attach(stranger, disk_)), "E_DENIED");
  EXPECT_OK(hypervisor().detach(stranger, disk_));
}

TEST_F(QemuHypervisorTest, SideBySideAttachesOfOneMachineEachGetAPlaceOfTheirOwn) {
  std::vector<Disk> disks;
  for (int i = 0; i < 20; ++i) disks.push_back(world_.make_disk(fmt::format("d{}", i), ""));
  std::vector<base::Result<base::DiskAddress>> addresses(disks.size(), base::DiskAddress(ScsiAddress{}));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    threads.emplace_back([&, i] { addresses[i] = hypervisor().attach(world_.one, disks[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::pair<std::string, unsigned>> places;
  for (const auto& address : addresses) {
    ASSERT_OK(address);
    const ScsiAddress& scsi = std::get<ScsiAddress>(*address);
    places.emplace(scsi.pci_bus, scsi.unit);
  }
  EXPECT_THAT(places, SizeIs(disks.size()));
}

TEST_F(QemuHypervisorTest, OneDiskForTwoMachinesAtOnceGoesToOneOfThem) {
  for (int round = 0; round < 10; ++round) {
    base::Result<base::DiskAddress> first, second;
    std::thread other([&] { first = hypervisor().attach(world_.one, disk_); });
    second = hypervisor().attach(world_.two, disk_);
    other.join();
    EXPECT_NE(first.has_value(), second.has_value()) << message_of(first) << message_of(second);
    ASSERT_OK(hypervisor().detach(world_.one, disk_));
    ASSERT_OK(hypervisor().detach(world_.two, disk_));
  }
}

/// Collects what watch_power tells.
class PowerLog {
 public:
  std::function<void(const VmState&)> watcher() {
    return [this](const VmState& state) {
      std::lock_guard lock(mutex_);
      told_.push_back(fmt::format("{} {}", state.vm.name, power_state_name(state.power)));
      changed_.notify_all();
    };
  }
  bool waits_for(const std::string& what) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1),
                             [&] { return std::ranges::find(told_, what) != told_.end(); });
  }
  void clear() {
    std::lock_guard lock(mutex_);
    told_.clear();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> told_;
};

TEST_F(QemuHypervisorTest, ThePowerOfEachMachineIsToldAtTheStartAndAfterEachChange) {
  PowerLog log;
  world_.machine_two.kill();
  world_.restart_service();
  hypervisor().watch_power(log.watcher());
  EXPECT_TRUE(log.waits_for("web-1 suspended"));  // its processors do not run yet
  EXPECT_TRUE(log.waits_for("web-2 off"));
  world_.machine_one.monitor().run("cont");
  EXPECT_TRUE(log.waits_for("web-1 on"));
  log.clear();
  world_.machine_one.monitor().run("stop");
  EXPECT_TRUE(log.waits_for("web-1 suspended"));
  world_.machine_two.start();
  EXPECT_TRUE(log.waits_for("web-2 suspended"));
  world_.machine_one.kill();
  EXPECT_TRUE(log.waits_for("web-1 off"));
  EXPECT_EQ(hypervisor().find_vm("web-1")->power, PowerState::kOff);
}

TEST_F(QemuHypervisorTest, WhatAnEarlierServiceLeftOpenIsClosedBeforeTheMachineIsTold) {
  ASSERT_OK(base::set_faults("qemu.node.after=fail:1"));
  EXPECT_FALSE(hypervisor().attach(world_.one, disk_));
  const Disk used = world_.make_disk("used", "");
  attach(used);
  ASSERT_THAT(world_.machine_one.open_files(), UnorderedElementsAre(disk_.extent_path, used.extent_path));
  PowerLog log;
  world_.restart_service();
  hypervisor().watch_power(log.watcher());
  ASSERT_TRUE(log.waits_for("web-1 suspended"));
  EXPECT_THAT(world_.machine_one.open_files(), ElementsAre(used.extent_path));
}

TEST_F(QemuHypervisorTest, AMachineIsIdentifiedByItsContextItsCertificateOrItsSocket) {
  QemuVm vm = world_.machine_one.config();
  vm.cid = 7;
  vm.certificate = "cert-1";
  auto service = make_qemu_hypervisor({{vm}});
  Peer peer{.kind = Peer::Kind::kVsock};
  peer.cid = 7;
  EXPECT_EQ(service->identify(peer)->uuid, vm.vm.uuid);
  peer.cid = 8;
  EXPECT_EQ(code_of(service->identify(peer)), "E_DENIED");
  peer = {.kind = Peer::Kind::kTls};
  peer.certificate = "cert-1";
  EXPECT_EQ(service->identify(peer)->uuid, vm.vm.uuid);
  peer.certificate = "web-1";
  EXPECT_EQ(code_of(service->identify(peer)), "E_DENIED");
  peer = {.kind = Peer::Kind::kUnix};
  EXPECT_EQ(code_of(service->identify(peer)), "E_DENIED") << "a socket that is given to no VM";
  peer.assigned_vm = "web-1";
  EXPECT_EQ(service->identify(peer)->uuid, vm.vm.uuid);
}

}  // namespace
}  // namespace vdvs::esx::testing
