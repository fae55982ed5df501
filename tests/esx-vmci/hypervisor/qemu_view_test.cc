// What QEMU says about disks and buses, read; and where a new disk goes.
#include "esx-vmci/hypervisor/qemu_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kUuid = "6000c29f3a4b5c6d7e8f901234567890";
constexpr const char* kKey = "9f3a4b5c6d7e8f901234567890";

Disk disk_with(std::string uuid, std::string path = "/ds/db-flat.vmdk") {
  return {.descriptor_path = {}, .extent_path = std::move(path), .uuid = std::move(uuid)};
}

TEST(QemuView, ADisksNamesFitIntoANodesNameAndAreItsUuid) {
  EXPECT_EQ(key_of(disk_with(kUuid)), kKey);
  constexpr std::size_t kMaxNodeNameBytes = 31;
  EXPECT_LE(std::string(kDiskPrefix).size() + key_of(disk_with(kUuid)).size(), kMaxNodeNameBytes);
  EXPECT_LE(std::string(kFileNodePrefix).size() + key_of(disk_with("")).size(), kMaxNodeNameBytes);
}

TEST(QemuView, ADiskWithoutAUuidIsNamedByItsPath) {
  EXPECT_EQ(key_of(disk_with("")), key_of(disk_with("not a uuid")));
  EXPECT_NE(key_of(disk_with("", "/ds/a")), key_of(disk_with("", "/ds/b")));
}

TEST(QemuView, TheWwnIsLocallyAssignedAndOfTheUuid) {
  EXPECT_EQ(wwn_of(kUuid), 0x3e8f901234567890u) << "NAA 3 and the uuid's last 15 digits";
  EXPECT_EQ(wwn_of(""), 0u);
  EXPECT_NE(wwn_of(kUuid), wwn_of("6000c29f3a4b5c6d7e8f901234567891"));
}

boost::json::value nodes(const std::string& text) { return boost::json::parse(text); }

constexpr const char* kNodes = R"([
  {"node-name": "vdvs-k1", "drv": "raw", "file": "/ds/a-flat.vmdk"},
  {"node-name": "vdvf-k1", "drv": "file", "file": "/ds/a-flat.vmdk"},
  {"node-name": "vdvs-k2", "drv": "raw", "file": "/ds/b-flat.vmdk"},
  {"node-name": "vdvf-k2", "drv": "file", "file": "/ds/b-flat.vmdk"},
  {"node-name": "vdvf-k3", "drv": "file", "file": "/ds/c-flat.vmdk"},
  {"node-name": "#block123", "drv": "file", "file": "/images/root.qcow2"}])";
constexpr const char* kBlocks = R"([
  {"device": "", "qdev": "vdvs-k1", "inserted": {"node-name": "vdvs-k1"}},
  {"device": "ide0", "qdev": "/machine/unattached/device[20]", "inserted": {"node-name": "#block124"}},
  {"device": "cd", "qdev": "cd"}])";

TEST(QemuView, ADiskIsWhatItsNodesAndItsDeviceSay) {
  const auto disks = decode_disks(nodes(kNodes), nodes(kBlocks));
  ASSERT_THAT(disks, SizeIs(4));
  const auto a = find_disk(disks, "/ds/a-flat.vmdk");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->key, "k1");
  EXPECT_TRUE(a->has_format_node && a->has_device);
  const auto b = find_disk(disks, "/ds/b-flat.vmdk");
  ASSERT_TRUE(b);
  EXPECT_TRUE(b->has_format_node && !b->has_device) << "its device is gone, or never was";
  const auto c = find_disk(disks, "/ds/c-flat.vmdk");
  ASSERT_TRUE(c);
  EXPECT_FALSE(c->has_format_node || c->has_device);
  const auto root = find_disk(disks, "/images/root.qcow2");
  ASSERT_TRUE(root);
  EXPECT_EQ(root->key, "") << "not one of ours";
  EXPECT_FALSE(find_disk(disks, "/ds/d-flat.vmdk"));
}

TEST(QemuView, ADiskIsFoundByItsFileWhateverTheFileIsCalled) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() + "/one");
  write_text(folder.path() + "/one/db-flat.vmdk", "x");
  std::filesystem::create_directory_symlink(folder.path() + "/one", folder.path() + "/two");
  const std::vector<QemuDisk> disks{{.path = folder.path() + "/one/db-flat.vmdk", .key = "k"}};
  EXPECT_TRUE(find_disk(disks, folder.path() + "/two/db-flat.vmdk"));
  write_text(folder.path() + "/db-flat.vmdk", "x");
  EXPECT_FALSE(find_disk(disks, folder.path() + "/db-flat.vmdk")) << "another file of that name";
}

TEST(QemuView, AnswersThatAreNoneSayNothing) {
  for (const char* text : {"null", "{}", "[]", "[1, null, \"x\", {}]", R"([{"drv": 5, "file": {}}])"}) {
    EXPECT_THAT(decode_disks(nodes(text), nodes(text)), IsEmpty()) << text;
  }
}

QemuController controller(const std::string& id, unsigned devfn, std::vector<unsigned> units) {
  return {.id = id, .parent_bus = "/machine/q35/pcie.0", .devfn = devfn, .units = std::move(units)};
}
QemuPort port(const std::string& id, unsigned devfn, bool is_free = true) {
  return {
      .id = id, .parent_bus = "/machine/q35/pcie.0", .devfn = devfn, .can_hotplug = true, .is_free = is_free};
}
const std::vector<unsigned> kFull{0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15};

TEST(QemuView, TheLowestFreeUnitButSevenIsTaken) {
  EXPECT_EQ(choose_spot({.controllers = {controller("s", 8, {})}})->unit, 0u);
  EXPECT_EQ(choose_spot({.controllers = {controller("s", 8, {0, 1, 3})}})->unit, 2u);
  EXPECT_EQ(choose_spot({.controllers = {controller("s", 8, {0, 1, 2, 3, 4, 5, 6})}})->unit, 8u);
}

TEST(QemuView, ControllersAreFilledInTheOrderOfTheirPlaces) {
  const auto spot = choose_spot(
      {.controllers = {controller("b", 16, {}), controller("a", 8, kFull), controller("c", 12, {})}});
  ASSERT_OK(spot);
  EXPECT_EQ(spot->controller, "c");
}

TEST(QemuView, AControllerBehindAPortHasThePortsPlace) {
  QemuController behind = controller("a", 0, {});
  behind.parent_bus = "/machine/peripheral/port9/port9";
  const auto spot =
      choose_spot({.controllers = {behind, controller("b", 16, {})}, .ports = {port("port9", 72, false)}});
  ASSERT_OK(spot);
  EXPECT_EQ(spot->controller, "b");
}

TEST(QemuView, ANewControllerGoesToTheFirstFreePortThatCanHotplug) {
  QemuPort fixed = port("fixed", 8);
  fixed.can_hotplug = false;
  QemuPort nested = port("nested", 0);
  nested.parent_bus = "/machine/peripheral/switch/switch";
  const auto spot =
      choose_spot({.controllers = {controller("s", 8, kFull)},
                   .ports = {fixed, nested, port("late", 40), port("taken", 16, false), port("early", 24)}});
  ASSERT_OK(spot);
  EXPECT_EQ(spot->controller, "");
  EXPECT_EQ(spot->port, "early");
  EXPECT_EQ(spot->unit, 0u);
}

TEST(QemuView, FourFullControllersAreTheEnd) {
  QemuBuses buses{.ports = {port("p", 40)}};
  for (unsigned i = 0; i < kMaxControllers; ++i)
    buses.controllers.push_back(controller(fmt::format("s{}", i), i, kFull));
  EXPECT_EQ(code_of(choose_spot(buses)), "E_LIMIT");
}

TEST(QemuView, WithoutAFreePortTheErrorSaysWhatToDo) {
  const auto spot = choose_spot({.controllers = {controller("s", 8, kFull)}});
  EXPECT_EQ(code_of(spot), "E_LIMIT");
  EXPECT_THAT(spot.error().text(), HasSubstr("pcie-root-port"));
}

TEST(QemuView, ANewControllersNameIsNobodys) {
  EXPECT_EQ(new_controller_id({}), "vdvs-scsi0");
  EXPECT_EQ(
      new_controller_id({.controllers = {controller("vdvs-scsi0", 0, {}), controller("vdvs-scsi2", 0, {})}}),
      "vdvs-scsi1");
}

TEST(QemuView, ABusNamesItsOwner) {
  EXPECT_EQ(owner_of_bus("/machine/peripheral/port1/port1"), "port1");
  EXPECT_EQ(owner_of_bus("/machine/peripheral/port1"), "");
  EXPECT_EQ(owner_of_bus("/machine/q35/pcie.0"), "");
  EXPECT_EQ(owner_of_bus("/machine/peripherals/port1/port1"), "");
  EXPECT_EQ(owner_of_bus(""), "");
  EXPECT_TRUE(is_root_bus("/machine/q35/pcie.0"));
  EXPECT_TRUE(is_root_bus("/machine/i440fx/pci.0"));
  EXPECT_FALSE(is_root_bus("/machine/peripheral/port1/port1"));
}

TEST(QemuView, ABridgesPlaceIsWrittenAsThePredecessorWritesIt) {
  EXPECT_EQ(pci_bus_text(0x15 << 3), "15.0");
  EXPECT_EQ(pci_bus_text(0x1c << 3 | 5), "1c.5");
  EXPECT_EQ(pci_bus_text(0), "0.0");
}

}  // namespace
}  // namespace vdvs::esx::testing
