// Whose a disk is when its VM is off, gone, unreachable or on another host: when it may be attached
// elsewhere, what is released when a VM goes off, and what an administrator can force.
#include "base/fault.h"
#include "esx-vmci/fault_points.h"
#include "esx-vmci/service/power_release.h"
#include "tests/esx-vmci/service/fake_machines.h"
#include "tests/esx-vmci/service/service_fixture.h"

namespace vdvs::esx {
namespace {

using testing::code_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;

/// "web" and "db" of this hypervisor, on one datastore.
class Takeover : public ::testing::Test {
 protected:
  Takeover() : Takeover(false) {}
  explicit Takeover(bool is_shared) {
    std::filesystem::create_directory(path());
    auto datastores =
        make_folder_datastores({{.name = "ds1", .path = path(), .is_shared = is_shared}}, false);
    EXPECT_OK(datastores);
    datastores_ = std::move(*datastores);
    auto store = datastores_->store("ds1", group(), true);
    EXPECT_OK(store);
    store_ = *store;
    for (const char* name : {"web", "db"}) vms_.states.push_back({vm(name), PowerState::kOn});
    make("vol");
  }

  std::string path() const { return folder_.path() + "/ds1"; }
  static Group group() { return {std::string(kDefaultGroupUuid), std::string(kDefaultGroupName)}; }
  static Vm vm(const std::string& name) {
    return {.uuid = "bios-of-" + name, .name = name, .instance_uuid = "instance-of-" + name};
  }
  Place place(const std::string& volume = "vol") const { return {store_, volume}; }
  void make(const std::string& volume) {
    const OptionMap options{{"size", "2mb"}};
    ASSERT_OK(operations_.create(vm("web"), place(volume), options, *VolumeOptions::parse(options), {}));
  }
  std::optional<AttachRecord> record(const std::string& volume = "vol") const {
    const auto stored = store_->load(volume);
    EXPECT_OK(stored);
    return stored ? stored->sidecar.attached : std::nullopt;
  }
  /// As another host's service would have written it.
  void write_record(const std::string& uuid, const std::string& name) {
    auto stored = store_->load("vol");
    ASSERT_OK(stored);
    stored->sidecar.attached = AttachRecord{uuid, name, "2026-01-02T03:04:05Z"};
    ASSERT_OK(store_->save(*stored, DiskStore::Durability::kNow));
  }
  ServiceParts parts() { return {*datastores_, *tenancy_, vms_, operations_, nullptr}; }

  tests::TemporaryFolder folder_;
  testing::FakeHypervisor hypervisor_;
  testing::FakeVmDirectory vms_;
  std::unique_ptr<Datastores> datastores_;
  std::unique_ptr<Tenancy> tenancy_ = make_sqlite_tenancy(folder_.path() + "/auth-db");
  VolumeOperations operations_{hypervisor_, &vms_};
  DiskStore* store_ = nullptr;
};

/// Other hosts use the datastore too.
class SharedTakeover : public Takeover {
 protected:
  SharedTakeover() : Takeover(true) {}
};

TEST_F(Takeover, ADiskOfAVmThatRunsStaysAndTheErrorSaysWhatToDo) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  const auto refused = operations_.attach(vm("db"), place());
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("disk is attached to vm 'web' since 20"));
  EXPECT_THAT(refused.error().remedy(), HasSubstr("stop its container on 'web'"));
  EXPECT_THAT(refused.error().remedy(), HasSubstr("vdvs volume detach --force vol@ds1"));
}

TEST_F(Takeover, ADiskOfAVmThatIsSuspendedOrUnknownStays) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  for (const PowerState power : {PowerState::kSuspended, PowerState::kUnknown}) {
    vms_.set_power("web", power);
    EXPECT_EQ(code_of(operations_.attach(vm("db"), place())), "E_BUSY_ELSEWHERE") << power_state_name(power);
  }
}

TEST_F(Takeover, ADiskOfAVmThatIsOffIsTakenOutOfItAtOnce) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  vms_.set_power("web", PowerState::kOff);
  ASSERT_OK(operations_.attach(vm("db"), place()));
  EXPECT_EQ(record()->vm_uuid, "instance-of-db");
  EXPECT_EQ(hypervisor_.holder_by_path.begin()->second, "bios-of-db");
}

TEST_F(Takeover, AVmThatIsOffHoldsNothingForThoseWhoLookBeforeTheyAttach) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  EXPECT_EQ(operations_.get(vm("db"), place())->holder->name, "web");
  vms_.set_power("web", PowerState::kOff);
  EXPECT_FALSE(operations_.get(vm("db"), place())->holder);
  const auto all = operations_.get_all(vm("db"), *store_);
  ASSERT_OK(all);
  EXPECT_FALSE(all->front().info->holder);
  EXPECT_THAT(hypervisor_.holder_by_path, ::testing::SizeIs(1)) << "looking changes nothing";
}

TEST_F(Takeover, ADiskOfAVmThatIsOffCanBeClonedAndRemoved) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  const OptionMap options{{"clone-from", "vol"}};
  EXPECT_EQ(code_of(operations_.remove(vm("db"), place())), "E_BUSY_ELSEWHERE");
  vms_.set_power("web", PowerState::kOff);
  EXPECT_OK(operations_.clone(vm("db"), place("copy"), place(), options, *VolumeOptions::parse(options), {}));
  EXPECT_THAT(hypervisor_.holder_by_path, IsEmpty());
  ASSERT_OK(hypervisor_.attach(vm("web"), store_->disk_of(*store_->load("vol"))));
  EXPECT_OK(operations_.remove(vm("db"), place()));
  EXPECT_THAT(hypervisor_.holder_by_path, IsEmpty());
}

TEST_F(Takeover, ADiskThatTheOffVmDoesNotGiveIsNotAttachedElsewhere) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  vms_.set_power("web", PowerState::kOff);
  hypervisor_.refusal = base::Error(base::ErrorCode::kIo, "the host does not answer");
  EXPECT_THAT(message_of(operations_.attach(vm("db"), place())), HasSubstr("the host does not answer"));
  EXPECT_EQ(record()->vm_uuid, "instance-of-web");
}

TEST_F(Takeover, ADiskThatWasTakenOutAndNotYetGivenIsFreeAtTheNextAttach) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  vms_.set_power("web", PowerState::kOff);
  ASSERT_OK(base::set_faults(std::string(kFaultTakeOverDetach) + "=fail"));
  EXPECT_THAT(message_of(operations_.attach(vm("db"), place())), HasSubstr("failed on request"));
  ASSERT_OK(base::set_faults(""));
  EXPECT_THAT(hypervisor_.holder_by_path, IsEmpty());
  ASSERT_OK(operations_.attach(vm("db"), place()));
  EXPECT_EQ(record()->vm_uuid, "instance-of-db");
}

TEST_F(Takeover, ARecordOfAVmThatIsGoneHindersNobodyWhereAllVmsAreSeen) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  vms_.forget("web");
  hypervisor_.holder_by_path.clear();
  ASSERT_OK(operations_.attach(vm("db"), place()));
}

TEST_F(SharedTakeover, ARecordOfAnotherHostsVmCountsAlthoughNothingOfItIsSeen) {
  write_record("instance-of-far", "far");
  const auto refused = operations_.attach(vm("db"), place());
  EXPECT_EQ(code_of(refused), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(refused), HasSubstr("disk is attached to vm 'far' since 2026-01-02T03:04:05Z"));
  EXPECT_EQ(code_of(operations_.remove(vm("db"), place())), "E_BUSY_ELSEWHERE");
  ASSERT_OK(operations_.detach(vm("db"), place()));
  EXPECT_EQ(record()->vm_uuid, "instance-of-far") << "somebody else's detach has let it go";
}

TEST_F(SharedTakeover, ARecordOfAVmOfOursThatDoesNotHaveTheDiskHindersNobody) {
  write_record("instance-of-web", "web");
  ASSERT_OK(operations_.attach(vm("db"), place()));
}

TEST_F(SharedTakeover, AVmOfOursThatCannotBeAskedMayHaveTheDisk) {
  write_record("instance-of-web", "web");
  vms_.set_power("web", PowerState::kUnknown);
  EXPECT_EQ(code_of(operations_.attach(vm("db"), place())), "E_BUSY_ELSEWHERE");
}

TEST_F(SharedTakeover, AnOlderRecordByTheBiosUuidIsTheSameVm) {
  write_record("bios-of-db", "db");
  ASSERT_OK(operations_.attach(vm("db"), place()));
}

TEST_F(SharedTakeover, AFileThatIsLockedElsewhereLeavesTheRecordAsItWas) {
  write_record("instance-of-web", "web");
  hypervisor_.refusal = base::Error(base::ErrorCode::kBusyElsewhere, "the file is locked");
  const auto refused = operations_.attach(vm("db"), place());
  EXPECT_THAT(message_of(refused), HasSubstr("its record names vm 'web' since 2026-01-02T03:04:05Z"));
  EXPECT_EQ(record()->vm_uuid, "instance-of-web");
}

TEST_F(Takeover, AVmThatGoesOffLosesItsDisksAndTheirRecords) {
  make("other");
  make("dbs");
  release_disks_at_power_off(parts());
  ASSERT_OK(operations_.attach(vm("web"), place("vol")));
  ASSERT_OK(operations_.attach(vm("web"), place("other")));
  ASSERT_OK(operations_.attach(vm("db"), place("dbs")));
  vms_.set_power("web", PowerState::kOff);
  vms_.tell("web");
  EXPECT_FALSE(record("vol").has_value());
  EXPECT_FALSE(record("other").has_value());
  EXPECT_TRUE(record("dbs").has_value());
  EXPECT_EQ(hypervisor_.holder_by_path.size(), 1u);
}

TEST_F(Takeover, AVmThatIsSuspendedKeepsItsDisks) {
  release_disks_at_power_off(parts());
  ASSERT_OK(operations_.attach(vm("web"), place()));
  vms_.set_power("web", PowerState::kSuspended);
  vms_.tell("web");
  EXPECT_TRUE(record().has_value());
}

TEST_F(SharedTakeover, ARecordThatNamesAnotherVmByNowIsLeftAlone) {
  make("stale");
  ASSERT_OK(operations_.attach(vm("web"), place("stale")));
  write_record("instance-of-far", "far");
  ASSERT_OK(operations_.release_all(vm("web"), *store_));
  EXPECT_EQ(record()->vm_uuid, "instance-of-far");
  EXPECT_FALSE(record("stale").has_value());
}

TEST_F(SharedTakeover, ARecordWithoutADiskBehindItIsSetRightWhenItsVmGoesOff) {
  write_record("instance-of-web", "web");
  ASSERT_OK(operations_.release_all(vm("web"), *store_));
  EXPECT_FALSE(record().has_value());
}

TEST_F(SharedTakeover, AnAdministratorFreesADiskOfAHostThatNeverComesBack) {
  write_record("instance-of-far", "far");
  const auto had = operations_.force_detach(place());
  ASSERT_OK(had);
  ASSERT_TRUE(had->has_value());
  EXPECT_EQ((*had)->name, "far");
  ASSERT_OK(operations_.attach(vm("db"), place()));
}

TEST_F(Takeover, AnAdministratorTakesADiskOutOfAVmThatRuns) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  const auto had = operations_.force_detach(place());
  ASSERT_OK(had);
  EXPECT_EQ((*had)->name, "web");
  EXPECT_THAT(hypervisor_.holder_by_path, IsEmpty());
  EXPECT_FALSE(record().has_value());
  const auto nobody = operations_.force_detach(place());
  ASSERT_OK(nobody);
  EXPECT_FALSE(nobody->has_value());
}

TEST_F(Takeover, WhatAVmHasIsSeenByEitherOfItsIds) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  const auto attached = operations_.attached(vm("web"), *store_);
  ASSERT_OK(attached);
  EXPECT_THAT(*attached, ElementsAre("vol"));
  EXPECT_TRUE(operations_.get(vm("web"), place())->is_attached_here);
  EXPECT_FALSE(operations_.get(vm("db"), place())->is_attached_here);
}

TEST_F(Takeover, TheAttachsAnswerStandsInTheRecord) {
  ASSERT_OK(operations_.attach(vm("web"), place()));
  const boost::json::object device = record()->device;
  EXPECT_EQ(device.at("Unit"), boost::json::value("0"));
  EXPECT_EQ(device.at("ControllerPciSlotNumber"), boost::json::value("160"));
  EXPECT_EQ(device.at("ControllerPciBusNumber"), boost::json::value("15.0"));
}

}  // namespace
}  // namespace vdvs::esx
