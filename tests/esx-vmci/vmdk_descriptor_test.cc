#include "esx-vmci/datastore/vmdk_descriptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

using testing::code_of;
using ::testing::HasSubstr;
using testing::message_of;
using testing::read_text;
using testing::run;
using testing::TemporaryFolder;

VmdkDescriptor sample() {
  VmdkDescriptor descriptor;
  descriptor.size_bytes = 10ull << 30;
  descriptor.extent = "my db-flat.vmdk";
  descriptor.uuid = "6000c29e2d7a4a7fb1f1a0b1c2d3e4f5";
  descriptor.content_id = 0x1234abcd;
  descriptor.is_thin = true;
  descriptor.sidecars = "docker-volume-vsphere_1,my db-0123456789abcdef.vmfd;";
  return descriptor;
}

TEST(VmdkDescriptor, ReadsBackWhatItPrints) {
  auto parsed = parse_descriptor(print_descriptor(sample()));
  ASSERT_OK(parsed);
  EXPECT_EQ(*parsed, sample());
}

TEST(VmdkDescriptor, PrintsTheUuidAsVmwareDoes) {
  EXPECT_THAT(print_descriptor(sample()),
              HasSubstr("ddb.uuid = \"60 00 c2 9e 2d 7a 4a 7f-b1 f1 a0 b1 c2 d3 e4 f5\"\n"));
}

TEST(VmdkDescriptor, StaysWithinItsLimitForTheLongestName) {
  VmdkDescriptor descriptor = sample();
  descriptor.extent = std::string(220, 'x') + "-flat.vmdk";
  descriptor.sidecars = "docker-volume-vsphere_1," + std::string(220, 'x') + "-0123456789abcdef.vmfd;";
  EXPECT_LT(print_descriptor(descriptor).size(), kMaxDescriptorBytes);
}

TEST(VmdkDescriptor, ReadsWhatEsxWrites) {
  auto parsed = parse_descriptor(
      "# Disk "
      "DescriptorFile\r\nversion=1\r\nencoding=\"UTF-8\"\r\nCID=4f8d3b1e\r\nparentCID="
      "ffffffff\r\nisNativeSnapshot=\"no\"\r\n"
      "createType=\"vmfs\"\r\n\r\n# Extent description\r\nRW 204800 VMFS \"vol1-flat.vmdk\"\r\n\r\n# The "
      "Disk Data Base \r\n#DDB\r\n\r\n"
      "ddb.adapterType = \"busLogic\"\r\nddb.sidecars = "
      "\"docker-volume-vsphere_1,vol1-e581c22f8baec9c1.vmfd;\"\r\n"
      "ddb.thinProvisioned = \"1\"\r\nddb.uuid = \"60 00 C2 9B 8A 5C 38 2A-F4 5E 33 D2 18 0F 9C "
      "11\"\r\nddb.virtualHWVersion = \"8\"\r\n");
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->size_bytes, 100ull << 20);
  EXPECT_EQ(parsed->extent, "vol1-flat.vmdk");
  EXPECT_EQ(parsed->uuid, "6000c29b8a5c382af45e33d2180f9c11");
  EXPECT_EQ(parsed->sidecars, "docker-volume-vsphere_1,vol1-e581c22f8baec9c1.vmfd;");
}

struct BadDescriptor {
  const char* name;
  const char* body;  ///< After the first line.
  const char* code;
  const char* cause;
};

class BadVmdkDescriptor : public ::testing::TestWithParam<BadDescriptor> {};

TEST_P(BadVmdkDescriptor, IsRefusedWithItsReason) {
  auto parsed = parse_descriptor(std::string("# Disk DescriptorFile\n") + GetParam().body);
  EXPECT_EQ(code_of(parsed), GetParam().code);
  EXPECT_THAT(message_of(parsed), HasSubstr(GetParam().cause));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadVmdkDescriptor,
    ::testing::Values(
        BadDescriptor{"Sparse", "createType=\"monolithicSparse\"\nRW 4 SPARSE \"a.vmdk\"\n", "E_UNSUPPORTED",
                      "its type is monolithicSparse"},
        BadDescriptor{"Stream", "createType=\"streamOptimized\"\nRDONLY 4 SPARSE \"a.vmdk\"\n",
                      "E_UNSUPPORTED", "its type is streamOptimized"},
        BadDescriptor{"SplitType", "createType=\"twoGbMaxExtentFlat\"\nRW 4 FLAT \"a-f001.vmdk\" 0\n",
                      "E_UNSUPPORTED", "twoGbMaxExtentFlat"},
        BadDescriptor{"Split", "createType=\"vmfs\"\nRW 4 VMFS \"a\"\nRW 4 VMFS \"b\"\n", "E_UNSUPPORTED",
                      "split into 2 extents"},
        BadDescriptor{"Snapshot", "createType=\"vmfs\"\nparentCID=12345678\nRW 4 VMFS \"a\"\n",
                      "E_UNSUPPORTED", "snapshot of another disk"},
        BadDescriptor{"Hint", "createType=\"vmfs\"\nparentFileNameHint=\"b.vmdk\"\nRW 4 VMFS \"a\"\n",
                      "E_UNSUPPORTED", "('b.vmdk')"},
        BadDescriptor{"NoType", "RW 4 VMFS \"a\"\n", "E_UNSUPPORTED", "its type is not given"},
        BadDescriptor{"Absolute", "createType=\"vmfs\"\nRW 4 VMFS \"/etc/shadow\"\n", "E_UNSUPPORTED",
                      "does not lie beside"},
        BadDescriptor{"Above", "createType=\"vmfs\"\nRW 4 VMFS \"../x-flat.vmdk\"\n", "E_UNSUPPORTED",
                      "does not lie beside"},
        BadDescriptor{"DotDot", "createType=\"vmfs\"\nRW 4 VMFS \"..\"\n", "E_CORRUPT",
                      "without a file name"},
        BadDescriptor{"Vsan", "createType=\"vmfs\"\nRW 4 VMFS \"vsan://1234\"\n", "E_UNSUPPORTED",
                      "does not lie beside"},
        BadDescriptor{"Offset", "createType=\"monolithicFlat\"\nRW 4 FLAT \"a\" 128\n", "E_UNSUPPORTED",
                      "begins at sector 128"},
        BadDescriptor{"ReadOnly", "createType=\"vmfs\"\nRDONLY 4 VMFS \"a\"\n", "E_UNSUPPORTED",
                      "access RDONLY"},
        BadDescriptor{"Kind", "createType=\"vmfs\"\nRW 4 VMFSRDM \"a\"\n", "E_UNSUPPORTED", "VMFSRDM extent"},
        BadDescriptor{"NoExtent", "createType=\"vmfs\"\n", "E_CORRUPT", "without an extent"},
        BadDescriptor{"Zero", "createType=\"vmfs\"\nRW 0 VMFS \"a\"\n", "E_CORRUPT", "extent of '0' sectors"},
        BadDescriptor{"Negative", "createType=\"vmfs\"\nRW -4 VMFS \"a\"\n", "E_CORRUPT",
                      "extent of '-4' sectors"},
        BadDescriptor{"Overflow", "createType=\"vmfs\"\nRW 99999999999999999999 VMFS \"a\"\n", "E_CORRUPT",
                      "sectors"},
        BadDescriptor{"Huge", "createType=\"vmfs\"\nRW 18014398509481985 VMFS \"a\"\n", "E_CORRUPT",
                      "which no file can hold"},
        BadDescriptor{"NoName", "createType=\"vmfs\"\nRW 4 VMFS\n", "E_CORRUPT", "without a file name"},
        BadDescriptor{"OneQuote", "createType=\"vmfs\"\nRW 4 VMFS \"a\n", "E_CORRUPT", "without a file name"},
        BadDescriptor{"Nonsense", "hello\n", "E_CORRUPT", "makes no sense ('hello')"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(VmdkDescriptor, RefusesBinaryDisksByTheirMagic) {
  EXPECT_THAT(message_of(parse_descriptor("KDMV\x01")),
              HasSubstr("sparse disk (monolithicSparse or streamOptimized)"));
  EXPECT_THAT(message_of(parse_descriptor("COWD")), HasSubstr("sparse disk (vmfsSparse)"));
  EXPECT_EQ(code_of(parse_descriptor("")), "E_CORRUPT");
  EXPECT_EQ(code_of(parse_descriptor(std::string(5001, '#'))), "E_CORRUPT");
}

TEST(VmdkDescriptor, SurvivesBeingCutAtAnyByte) {
  const std::string text = print_descriptor(sample());
  for (std::size_t length = 0; length < text.size(); ++length) {
    auto parsed = parse_descriptor(text.substr(0, length));
    if (parsed) {
      EXPECT_EQ(parsed->size_bytes, sample().size_bytes) << length;
    }
  }
}

TEST(VmdkDescriptor, AcceptsQemusFlatDisks) {
  TemporaryFolder folder;
  run({"qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", folder.path() + "/db.vmdk",
       "64M"});
  auto parsed = parse_descriptor(read_text(folder.path() + "/db.vmdk"));
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->create_type, "monolithicFlat");
  EXPECT_EQ(parsed->size_bytes, 64ull << 20);
  EXPECT_EQ(parsed->extent, "db-flat.vmdk");
}

TEST(VmdkDescriptor, RefusesQemusOtherFormats) {
  for (const char* format :
       {"monolithicSparse", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "streamOptimized"}) {
    TemporaryFolder folder;
    run({"qemu-img", "create", "-q", "-f", "vmdk", "-o", std::string("subformat=") + format,
         folder.path() + "/db.vmdk", "64M"});
    auto parsed = parse_descriptor(read_text(folder.path() + "/db.vmdk").substr(0, kMaxDescriptorBytes));
    EXPECT_EQ(code_of(parsed), "E_UNSUPPORTED") << format;
  }
}

TEST(VmdkDescriptor, UuidsAreOfVmwaresRangeAndDiffer) {
  const std::string one = random_disk_uuid();
  EXPECT_EQ(one.size(), 32u);
  EXPECT_EQ(one.substr(0, 7), "6000c29");
  EXPECT_NE(one, random_disk_uuid());
}

}  // namespace
}  // namespace vdvs::esx
