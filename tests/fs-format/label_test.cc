#include <gtest/gtest.h>

#include "fs-format/formatter.h"

namespace vdvs::fsformat {
namespace {

TEST(FitLabel, LeavesWhatFits) {
  EXPECT_EQ(fit_label("MyVolume", "ext4"), "MyVolume");
  EXPECT_EQ(fit_label("MyVolume", "xfs"), "MyVolume");
  EXPECT_EQ(fit_label("", "ext4"), "");
}

TEST(FitLabel, CutsToTheLimitOfTheType) {
  const std::string name(300, 'a');
  EXPECT_EQ(fit_label(name, "ext2").size(), 16u);
  EXPECT_EQ(fit_label(name, "ext4").size(), 16u);
  EXPECT_EQ(fit_label(name, "xfs").size(), 12u);
  EXPECT_EQ(fit_label(name, "btrfs").size(), 255u);
  EXPECT_EQ(fit_label(name, "vfat").size(), 11u);
}

TEST(FitLabel, NeverCutsInsideAUtf8Character) {
  EXPECT_EQ(fit_label("01234567890123é", "ext4"), "01234567890123é");   // 16 bytes
  EXPECT_EQ(fit_label("012345678901234é", "ext4"), "012345678901234");  // 17
  EXPECT_EQ(fit_label("0123456789漢字", "xfs"), "0123456789");
  EXPECT_EQ(fit_label("012345678𝄞", "xfs"), "012345678");
}

TEST(FitLabel, WritesVfatLabelsAsThatTypeWantsThem) {
  EXPECT_EQ(fit_label("my.volume", "vfat"), "MY_VOLUME");
  EXPECT_EQ(fit_label("größe", "vfat"), "GR__E");
  EXPECT_EQ(fit_label("a+b=c", "msdos"), "A_B_C");
}

TEST(FitLabel, ReplacesControlCharacters) { EXPECT_EQ(fit_label("a\nb\x7f", "ext4"), "a_b_"); }

TEST(FitLabel, GivesNoneToATypeWithoutLabels) { EXPECT_EQ(fit_label("MyVolume", "minix"), ""); }

}  // namespace
}  // namespace vdvs::fsformat
