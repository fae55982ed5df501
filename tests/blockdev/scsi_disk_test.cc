// The ways from an address to a SCSI disk, on sysfs trees that the tests make.
#include "blockdev/scsi_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <random>

#include "tests/blockdev/sysfs_tree.h"

namespace vdvs::blockdev {
namespace {

using base::ErrorCode;
using base::ScsiAddress;
using testing::HasSubstr;

constexpr const char* kUuid = "6000c29e3f2a4b5c6d7e8f9001122334";
constexpr const char* kOther = "6000c2900000000000000000000000ff";

ScsiAddress behind(const std::string& bus, unsigned unit) {
  return {.disk_uuid = {}, .pci_slot = {}, .pci_bus = bus, .unit = unit};
}
ScsiAddress in_slot(unsigned slot, unsigned unit) {
  return {.disk_uuid = {}, .pci_slot = slot, .pci_bus = {}, .unit = unit};
}
ScsiAddress by_uuid(const std::string& uuid) {
  return {.disk_uuid = uuid, .pci_slot = {}, .pci_bus = {}, .unit = 0};
}
ScsiAddress both(const std::string& uuid, const std::string& bus, unsigned unit) {
  return {.disk_uuid = uuid, .pci_slot = {}, .pci_bus = bus, .unit = unit};
}

/// The machine of the predecessor's examples: a PVSCSI controller in slot 160, behind bridge 15.0, with a
/// disk at unit 1.
class ScsiDiskTest : public testing::Test {
 protected:
  ScsiDiskTest() : controller_(tree_.add_controller_behind("0000:00:15.0", "0000:03")) {
    tree_.add_slot(160, "0000:03:00");
  }

  FakeScsiDisk disk(unsigned unit, const std::string& name, unsigned minor) const {
    return {.controller = controller_, .target = unit, .name = name, .minor = minor};
  }

  Sighting look(const ScsiAddress& address) const {
    auto sighting = look_for_scsi(tree_.options(), address);
    EXPECT_TRUE(sighting) << sighting.error().text();
    return sighting.value_or(Sighting{});
  }

  std::string found_by(const ScsiAddress& address) const {
    const Sighting sighting = look(address);
    if (!sighting.device) return (sighting.is_conflict ? "conflict: " : "nothing: ") + sighting.seen;
    return sighting.device->node.substr(sighting.device->node.find_last_of('/') + 1);
  }

  SysfsTree tree_;
  std::string controller_;
};

TEST_F(ScsiDiskTest, IsFoundByBridgeAndUnit) {
  tree_.add_disk(disk(0, "sda", 0));
  tree_.add_disk(disk(1, "sdb", 16));
  const Sighting sighting = look(behind("15.0", 1));
  EXPECT_EQ(sighting.device, (Device{.node = tree_.options().dev_root + "/sdb",
                                     .number = makedev(8, 16),
                                     .diskseq = 9,
                                     .size_bytes = 1048576,
                                     .is_read_only = false}));
}

TEST_F(ScsiDiskTest, IsFoundBySlotWhereNoBridgeIsNamed) {
  tree_.add_disk(disk(1, "sdb", 16));
  EXPECT_EQ(found_by(in_slot(160, 1)), "sdb");
}

TEST_F(ScsiDiskTest, IsFoundBySlotWhereTheBridgeLeadsNowhere) {
  tree_.add_disk(disk(1, "sdb", 16));
  EXPECT_EQ(found_by({.disk_uuid = {}, .pci_slot = 160, .pci_bus = "17.0", .unit = 1}), "sdb");
}

TEST_F(ScsiDiskTest, IsFoundOnAControllerOnTheRootBus) {
  const std::string controller = tree_.add_root_controller("0000:00:10.0");
  tree_.add_disk({.controller = controller, .host = 0, .target = 2, .name = "sdc", .minor = 32});
  EXPECT_EQ(found_by(behind("10.0", 2)), "sdc");
}

TEST_F(ScsiDiskTest, IsFoundBehindABridgeOfOneDigit) {
  const std::string controller = tree_.add_controller_behind("0000:00:05.1", "0000:0b");
  tree_.add_disk({.controller = controller, .host = 5, .target = 2, .name = "sdc", .minor = 32});
  EXPECT_EQ(found_by(behind("5.1", 2)), "sdc");
}

TEST_F(ScsiDiskTest, IsFoundByItsSerialWhereverItSits) {
  auto other = disk(0, "sda", 0);
  other.serial = kOther;
  auto ours = disk(5, "sdb", 16);
  ours.serial = "6000C29e3f2a4b5c6d7e8f9001122334";
  tree_.add_disk(other);
  tree_.add_disk(ours);
  EXPECT_EQ(found_by(by_uuid(kUuid)), "sdb");
}

TEST_F(ScsiDiskTest, IsFoundByItsNaaName) {
  auto ours = disk(5, "sdb", 16);
  ours.naa = kUuid;
  tree_.add_disk(ours);
  EXPECT_EQ(found_by(by_uuid("6000C29E-3f2a4b5c6d7e8f9001122334")), "sdb");
}

TEST_F(ScsiDiskTest, IsFoundByPlaceWhereTheVirtualMachineHidesUuids) {
  tree_.add_disk(disk(1, "sdb", 16));
  EXPECT_EQ(found_by(both(kUuid, "15.0", 1)), "sdb");
}

TEST_F(ScsiDiskTest, IsFoundByUuidWhereItsPlaceCannotBeTold) {
  auto ours = disk(1, "sdb", 16);
  ours.serial = kUuid;
  tree_.add_disk(ours);
  EXPECT_EQ(found_by({.disk_uuid = kUuid, .pci_slot = 999, .pci_bus = {}, .unit = 1}), "sdb");
}

TEST_F(ScsiDiskTest, IsNeverAnotherDiskInTheRightPlace) {
  auto other = disk(1, "sdb", 16);
  other.serial = kOther;
  tree_.add_disk(other);
  EXPECT_EQ(found_by(both(kUuid, "15.0", 1)),
            std::string("conflict: another disk is in its place: sdb at 2:0:1:0 is ") + kOther);
}

TEST_F(ScsiDiskTest, IsNeverTheRightUuidInAnotherPlace) {
  auto ours = disk(3, "sdb", 16);
  ours.serial = kUuid;
  tree_.add_disk(ours);
  tree_.add_disk(disk(1, "sdc", 32));
  EXPECT_THAT(found_by(both(kUuid, "15.0", 1)),
              HasSubstr("conflict: a disk of this uuid is in another place: sdb at 2:0:3:0"));
}

TEST_F(ScsiDiskTest, IsNeverGuessedAmongTwoOfTheSameUuid) {
  auto one = disk(1, "sdb", 16), two = disk(2, "sdc", 32);
  one.serial = two.serial = kUuid;
  tree_.add_disk(one);
  tree_.add_disk(two);
  EXPECT_THAT(found_by(by_uuid(kUuid)), HasSubstr("conflict: several disks say they are this one: sdb"));
}

TEST_F(ScsiDiskTest, IsNotAnotherLogicalUnitOrChannelOfItsTarget) {
  auto other_lun = disk(1, "sdb", 16), other_channel = disk(1, "sdc", 32);
  other_lun.lun = 1;
  other_channel.channel = 1;
  tree_.add_disk(other_lun);
  tree_.add_disk(other_channel);
  EXPECT_THAT(found_by(behind("15.0", 1)), HasSubstr("nothing: sdb at 2:0:1:1"));
}

TEST_F(ScsiDiskTest, IsNotADiskOnAControllerFurtherDown) {
  const std::string nested = controller_ + "/0000:04:00.0";
  tree_.make_folder(nested);
  tree_.add_disk({.controller = nested, .target = 1, .name = "sdb", .minor = 16});
  EXPECT_THAT(found_by(behind("15.0", 1)), HasSubstr("nothing"));
}

TEST_F(ScsiDiskTest, IsNotThereYetWhileItHasNoSize) {
  auto ours = disk(1, "sdb", 16);
  ours.sectors = 0;
  tree_.add_disk(ours);
  EXPECT_EQ(found_by(behind("15.0", 1)), "nothing: sdb is not ready (it has no size)");
}

TEST_F(ScsiDiskTest, SaysWhatIsThereInstead) {
  EXPECT_EQ(found_by(behind("15.0", 1)), "nothing: no SCSI disk is there");
  EXPECT_EQ(found_by(behind("1f.0", 1)), "nothing: no such controller; no SCSI disk is there");
  tree_.add_disk(disk(4, "sdb", 16));
  EXPECT_EQ(found_by(behind("15.0", 1)), "nothing: sdb at 2:0:4:0 without a serial");
}

TEST_F(ScsiDiskTest, NeedsAnIdentity) {
  const auto sighting = look_for_scsi(tree_.options(), behind("", 1));
  ASSERT_FALSE(sighting);
  EXPECT_EQ(sighting.error().code(), ErrorCode::kInvalid);
}

TEST_F(ScsiDiskTest, RefusesABusAddressThatIsNone) {
  for (const char* bus : {"15", "15.", ".0", "20.0", "15.8", "x.0", "15.0.0", "../..", "-1.0", "15 .0"}) {
    const auto sighting = look_for_scsi(tree_.options(), behind(bus, 1));
    ASSERT_FALSE(sighting) << bus;
    EXPECT_EQ(sighting.error().code(), ErrorCode::kInvalid);
    EXPECT_THAT(sighting.error().message(), HasSubstr(std::string("'") + bus + "' is no bus address"));
  }
}

TEST(ScsiPlace, IsFourNumbers) {
  EXPECT_EQ(parse_scsi_place("2:0:15:0"), (ScsiPlace{.host = 2, .channel = 0, .target = 15, .lun = 0}));
  for (const char* text :
       {"", "2", "2:0:1", "2:0:1:", "2:0:1:0:0", ":0:1:0", "a:0:1:0", "4294967296:0:1:0", "virtio0"}) {
    EXPECT_EQ(parse_scsi_place(text), std::nullopt) << text;
  }
}

/// Random machines: whatever is asked for, the answer is never a disk that contradicts the address, and the
/// address of a disk leads back to it unless another disk disputes it.
class RandomMachine {
 public:
  explicit RandomMachine(unsigned seed) : random_(seed) {
    bridges_ = {{"15.0", tree_.add_controller_behind("0000:00:15.0", "0000:03")},
                {"5.0", tree_.add_controller_behind("0000:00:05.0", "0000:04")},
                {"10.0", tree_.add_root_controller("0000:00:10.0")}};
    const unsigned count = draw(7);
    for (unsigned i = 0; i < count; ++i) add_disk(i);
  }

  unsigned draw(unsigned limit) { return std::uniform_int_distribution<unsigned>(0, limit - 1)(random_); }
  std::string draw_uuid() { return fmt::format("6000c29{:025x}", draw(4)); }

  ScsiAddress draw_address() {
    ScsiAddress address = behind("", draw(4));
    if (draw(3) != 0) address.disk_uuid = draw_uuid();
    if (draw(3) != 0 || address.disk_uuid.empty()) address.pci_bus = bridges_[draw(3)].first;
    return address;
  }

  std::string controller_of(const std::string& bus) const {
    for (const auto& [name, path] : bridges_) {
      if (name == bus) return path;
    }
    return {};
  }

  const std::vector<FakeScsiDisk>& disks() const { return disks_; }
  WatcherOptions options() const { return tree_.options(); }

 private:
  void add_disk(unsigned index) {
    const unsigned host = draw(3);
    FakeScsiDisk disk{.controller = bridges_[host].second,
                      .host = host,
                      .target = draw(4),
                      .name = {'s', 'd', static_cast<char>('a' + index)},
                      .minor = index * 16};
    for (const FakeScsiDisk& other : disks_) {
      if (other.host == disk.host && other.target == disk.target) return;
    }
    if (draw(3) != 0) disk.serial = draw_uuid();
    tree_.add_disk(disk);
    disks_.push_back(disk);
  }

  std::mt19937 random_;
  SysfsTree tree_;
  std::vector<std::pair<std::string, std::string>> bridges_;
  std::vector<FakeScsiDisk> disks_;
};

TEST(RandomScsiMachines, NeverGiveADiskThatContradictsTheAddress) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::seed_seq seeds{seed};
  std::vector<unsigned> machine_seeds(60);
  seeds.generate(machine_seeds.begin(), machine_seeds.end());
  for (unsigned machine_seed : machine_seeds) {
    RandomMachine machine(machine_seed);
    for (int i = 0; i < 25; ++i) {
      const ScsiAddress address = machine.draw_address();
      const auto sighting = look_for_scsi(machine.options(), address);
      ASSERT_TRUE(sighting) << sighting.error().text();
      const std::string controller = machine.controller_of(address.pci_bus);
      const auto sits_right = [&](const FakeScsiDisk& disk) {
        return controller.empty() || (disk.controller == controller && disk.target == address.unit);
      };
      const auto claims = [&](const FakeScsiDisk& disk) {
        return !address.disk_uuid.empty() && disk.serial == address.disk_uuid;
      };
      std::vector<FakeScsiDisk> right;
      bool is_disputed = false;
      for (const FakeScsiDisk& disk : machine.disks()) {
        const bool is_silent = disk.serial.empty();
        if (sits_right(disk) &&
            (address.disk_uuid.empty() || claims(disk) || (is_silent && !controller.empty())))
          right.push_back(disk);
        is_disputed |= claims(disk) && !sits_right(disk);
      }
      if (sighting->device) {
        ASSERT_EQ(right.size(), 1u) << describe(address);
        ASSERT_FALSE(is_disputed) << describe(address);
        EXPECT_EQ(minor(sighting->device->number), right[0].minor) << describe(address);
      } else {
        EXPECT_TRUE(right.size() != 1 || is_disputed) << describe(address) << ": " << sighting->seen;
        EXPECT_FALSE(sighting->seen.empty());
      }
    }
  }
}

}  // namespace
}  // namespace vdvs::blockdev
