#include "esx-vmci/volume_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr const char* kSizeText =
    "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b where X is an integer. Default = "
    "100mb";

std::string refusal(const OptionMap& given) {
  auto options = VolumeOptions::parse(given);
  if (options) return "accepted";
  EXPECT_EQ(options.error().code(), base::ErrorCode::kInvalid);
  return options.error().message();
}

TEST(VolumeOptions, HaveThePredecessorsDefaults) {
  auto options = VolumeOptions::parse({});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->size_bytes, 100ull << 20);
  EXPECT_EQ(options->fstype, "ext4");
  EXPECT_EQ(options->disk_format, DiskFormat::kThin);
  EXPECT_EQ(options->attach_as, "independent_persistent");
  EXPECT_FALSE(options->is_read_only);
  EXPECT_FALSE(options->format_now);
}

TEST(VolumeOptions, ReadSizesInAnyCase) {
  EXPECT_EQ(parse_size("1mb").value(), 1ull << 20);
  EXPECT_EQ(parse_size("10GB").value(), 10ull << 30);
  EXPECT_EQ(parse_size("2Tb").value(), 2ull << 40);
  EXPECT_EQ(parse_size("62tb").value(), 62ull << 40);
  EXPECT_EQ(parse_size("007mb").value(), 7ull << 20);
}

TEST(VolumeOptions, RefuseWhatIsNoSize) {
  for (const char* text : {"", "0", "-1", "1", "-1mb", "+1mb", "1.5gb", "10pb", "10kb", "10 gb", " 10gb",
                           "10gb ", "10g", "gb", "mb10", "0x1mb", "1mbb"}) {
    EXPECT_EQ(refusal({{"size", text}}), kSizeText) << text;
  }
}

TEST(VolumeOptions, RefuseSizesThatNoDiskHas) {
  EXPECT_EQ(refusal({{"size", "0mb"}}), "Invalid volume size specified. '0mb' is too small (min is 1mb)");
  for (const char* text :
       {"63tb", "99999999999mb", "18446744073709551616mb", "999999999999999999999999999999tb"}) {
    EXPECT_THAT(refusal({{"size", text}}), EndsWith("is more than a VMDK can hold (max is 62tb)")) << text;
  }
}

TEST(VolumeOptions, KeepThePredecessorsTexts) {
  EXPECT_EQ(refusal({{"diskformat", "Thin"}}),
            "Disk Allocation Format 'Thin' is not supported. Valid options are: ['thin', 'zeroedthick', "
            "'eagerzeroedthick'].");
  EXPECT_EQ(refusal({{"attach-as", "x"}}),
            "Attach type 'x' is not supported. Valid options are: ['independent_persistent', 'persistent']");
  EXPECT_EQ(refusal({{"access", "ro"}}),
            "Access type 'ro' is not supported. Valid options are: ['read-write', 'read-only']");
  EXPECT_EQ(refusal({{"clone-from", "a"}, {"size", "1gb"}}), "Cannot define the size for a clone");
  EXPECT_EQ(refusal({{"clone-from", "a"}, {"fstype", "xfs"}}),
            "Cannot define the filesystem type for a clone");
}

TEST(VolumeOptions, NameTheValidOnesForAnUnknownOne) {
  EXPECT_EQ(refusal({{"sizes", "1gb"}, {"foo", "1"}, {"access", "nonsense"}}),
            "Invalid options: ['foo', 'sizes'] \nValid options and defaults: [('size', '100mb'), "
            "('vsan-policy-name', '[VSAN default]'), "
            "('diskformat', 'thin'), ('attach-as', 'independent_persistent'), ('access', 'read-write'), "
            "('fstype', 'ext4'), "
            "('clone-from', 'None'), ('mkfsopts', 'None'), ('mountopts', 'None'), ('uid', 'None'), ('gid', "
            "'None'), ('mode', 'None'), "
            "('format', 'lazy')]");
}

TEST(VolumeOptions, AreCheckedInThePredecessorsOrder) {
  EXPECT_EQ(refusal({{"access", "x"}, {"size", "x"}, {"diskformat", "x"}}), kSizeText);
  EXPECT_THAT(refusal({{"access", "x"}, {"diskformat", "x"}}), StartsWith("Disk Allocation Format"));
}

TEST(VolumeOptions, ReadOurs) {
  auto options = VolumeOptions::parse({{"mkfsopts", " -m 0  -E nodiscard "},
                                       {"mountopts", "noatime,discard"},
                                       {"uid", "999"},
                                       {"gid", "0"},
                                       {"mode", "0750"},
                                       {"format", "now"},
                                       {"access", "read-only"}});
  ASSERT_TRUE(options);
  EXPECT_THAT(options->mkfs_options, ElementsAre("-m", "0", "-E", "nodiscard"));
  EXPECT_EQ(options->mount_options, "noatime,discard");
  EXPECT_EQ(options->uid, 999u);
  EXPECT_EQ(options->gid, 0u);
  EXPECT_EQ(options->mode, 0750u);
  EXPECT_TRUE(options->format_now);
  EXPECT_TRUE(options->is_read_only);
}

TEST(VolumeOptions, RefuseBadOnesOfOurs) {
  for (const char* text : {"", "-1", "root", "4294967295", "99999999999", "1 "}) {
    EXPECT_THAT(refusal({{"uid", text}}), StartsWith("Invalid value '")) << text;
    EXPECT_THAT(refusal({{"gid", text}}), StartsWith("Invalid value '")) << text;
  }
  for (const char* text : {"", "8", "u+x", "10000", "-7"})
    EXPECT_THAT(refusal({{"mode", text}}), StartsWith("Invalid value '")) << text;
  EXPECT_THAT(refusal({{"format", "soon"}}), StartsWith("Format time 'soon' is not supported."));
  for (const char* text : {"", "../../bin/sh", "ext4 ", ".", "a/b"}) {
    EXPECT_THAT(refusal({{"fstype", text}}), EndsWith("is not the name of a filesystem")) << text;
  }
  EXPECT_THAT(refusal({{"mountopts", "a\nb"}}), EndsWith("contains control characters"));
  EXPECT_THAT(refusal({{"mkfsopts", std::string(3000, 'x')}}), EndsWith("more than 2048 bytes"));
}

TEST(VolumeOptionDifferences, ComparesByMeaning) {
  const OptionMap stored = {
      {"size", "1gb"}, {"diskformat", "thin"}, {"fstype", "ext4"}, {"clone-from", "src"}, {"mode", "755"}};
  EXPECT_THAT(
      differences(stored,
                  {{"size", "1024MB"}, {"clone-from", "src@ds"}, {"mode", "0755"}, {"access", "read-write"}}),
      IsEmpty());
  EXPECT_THAT(differences(stored, {{"size", "2gb"}, {"fstype", "xfs"}}),
              ElementsAre("option 'size': it is 1gb, you asked for 2gb",
                          "option 'fstype': it is ext4, you asked for xfs"));
}

TEST(VolumeOptionDifferences, CountsOnlyWhatTheUserGave) {
  EXPECT_THAT(differences({{"size", "7gb"}, {"fstype", "xfs"}}, {}), IsEmpty());
  EXPECT_THAT(differences({}, {{"access", "read-only"}}),
              ElementsAre("option 'access': it is read-write, you asked for read-only"));
}

}  // namespace
}  // namespace vdvs::esx
