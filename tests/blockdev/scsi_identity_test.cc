#include "blockdev/scsi_identity.h"

#include <gtest/gtest.h>

#include "tests/blockdev/sysfs_tree.h"

namespace vdvs::blockdev {
namespace {

constexpr std::string_view kUuid = "6000c29e3f2a4b5c6d7e8f9001122334";

std::vector<unsigned char> bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::string descriptor(unsigned char code_set, unsigned char kind, std::string_view name) {
  std::string text = {static_cast<char>(code_set), static_cast<char>(kind), '\0',
                      static_cast<char>(name.size())};
  return text.append(name);
}

TEST(ScsiIdentity, ComparesIdsWithoutCaseAndPunctuation) {
  EXPECT_EQ(normal_id("60 00 C2 9e 3f 2a 4b 5c-6d 7e 8f 90 01 12 23 34"), kUuid);
  EXPECT_EQ(normal_id(" \n"), "");
}

TEST(ScsiIdentity, ReadsASerialNumber) {
  EXPECT_EQ(decode_vpd_serial(bytes(SysfsTree::page(0x80, "6000C29e3f2a4b5c6d7e8f9001122334"))), kUuid);
  EXPECT_EQ(decode_vpd_serial(bytes(SysfsTree::page(0x80, "  VOL0001  "))), "vol0001");
}

TEST(ScsiIdentity, TakesNoSerialFromAnotherPageOrFromACutOne) {
  EXPECT_EQ(decode_vpd_serial(bytes(SysfsTree::page(0x83, "VOL0001"))), std::nullopt);
  EXPECT_EQ(decode_vpd_serial(bytes(SysfsTree::page(0x80, "   "))), std::nullopt);
  const std::string whole = SysfsTree::page(0x80, "VOL0001");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(decode_vpd_serial(bytes(whole.substr(0, length))), std::nullopt) << length;
  }
}

TEST(ScsiIdentity, FindsTheNaaNameAmongOthers) {
  const std::string name = SysfsTree::from_hex(kUuid);
  const std::string page =
      SysfsTree::page(0x83, descriptor(2, 1, "VMware  Virtual disk") + descriptor(1, 3, name));
  EXPECT_EQ(decode_vpd_naa(bytes(page)), kUuid);
}

TEST(ScsiIdentity, TakesNoNameThatIsNotTheDisksOwn) {
  const std::string name = SysfsTree::from_hex(kUuid);
  for (const std::string& other : {descriptor(1, 0x13, name),               // of the port
                                   descriptor(2, 3, name),                  // text, not binary
                                   descriptor(1, 2, name),                  // EUI-64
                                   descriptor(1, 3, name.substr(0, 8))}) {  // too short for a uuid
    EXPECT_EQ(decode_vpd_naa(bytes(SysfsTree::page(0x83, other))), std::nullopt);
  }
}

TEST(ScsiIdentity, StopsAtADescriptorThatIsCutShort) {
  const std::string whole = descriptor(1, 3, SysfsTree::from_hex(kUuid));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(decode_vpd_naa(bytes(SysfsTree::page(0x83, whole.substr(0, length)))), std::nullopt) << length;
  }
}

TEST(ScsiIdentity, ReadsOnlyNaaNamesOfAUuidsLengthFromWwid) {
  EXPECT_EQ(decode_wwid("naa.6000C29e3f2a4b5c6d7e8f9001122334\n"), kUuid);
  EXPECT_EQ(decode_wwid("naa.5000c50015ea71ac"), std::nullopt);
  EXPECT_EQ(decode_wwid("t10.ATA     QEMU HARDDISK                           QM00001"), std::nullopt);
  EXPECT_EQ(decode_wwid("naa.6000c29e3f2a4b5c6d7e8f900112233g"), std::nullopt);
  EXPECT_EQ(decode_wwid(""), std::nullopt);
}

}  // namespace
}  // namespace vdvs::blockdev
