#include "esx-vmci/volume_name.h"

#include <gtest/gtest.h>

#include <string>

namespace vdvs::esx {
namespace {

std::string refusal(std::string_view text) {
  auto name = VolumeName::parse(text);
  return name ? "accepted" : name.error().message();
}

TEST(VolumeName, SplitsAtTheLastAt) {
  auto name = VolumeName::parse("abc@@@@ds");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->volume(), "abc@@@");
  EXPECT_EQ(name->datastore(), "ds");
  EXPECT_EQ(name->text(), "abc@@@@ds");
}

TEST(VolumeName, WithoutAnAtIsShort) {
  auto name = VolumeName::parse("db");
  ASSERT_TRUE(name);
  EXPECT_FALSE(name->is_qualified());
  EXPECT_EQ(name->text(), "db");
  EXPECT_EQ(name->on("ds2").text(), "db@ds2");
}

TEST(VolumeName, TakesSpacesUnicodeAndGlobCharacters) {
  for (const char* text : {"a b", "*", "?[x]", "größe", "数据", "-x", "#1", ".hidden", "a.b", "a-12345",
                           "a-1234567", "😀", "a-flatter"}) {
    EXPECT_EQ(refusal(text), "accepted") << text;
  }
}

TEST(VolumeName, RefusesASnapshotsNameBeforeItsLength) {
  const std::string text = "Volume names ending with '-NNNNNN' (where N is a digit) are not supported";
  EXPECT_EQ(refusal("a-123456"), text);
  EXPECT_EQ(refusal(std::string(200, 'a') + "-123456@ds"), text);
  EXPECT_EQ(refusal("-123456"), text);
}

TEST(VolumeName, CountsCharactersNotBytes) {
  std::string hundred_umlauts;
  for (int i = 0; i < 100; ++i) hundred_umlauts += "ü";
  EXPECT_EQ(refusal(hundred_umlauts), "accepted");
  EXPECT_EQ(refusal(hundred_umlauts + "x"), "Volume name is too long (max len is 100)");
  EXPECT_EQ(refusal(std::string(300, 'a')), "Volume name is too long (max len is 100)");
}

TEST(VolumeName, FitsIntoAFileName) {
  std::string faces;
  for (int i = 0; i < 56; ++i) faces += "😀";  // 224 bytes in 56 characters
  EXPECT_EQ(refusal(faces), "Volume name is too long (it has 224 bytes, max is 220)");
}

TEST(VolumeName, RefusesPathsAndQuotes) {
  EXPECT_EQ(refusal("../x"), "Volume name contains illegal characters: /");
  EXPECT_EQ(refusal("a\\b"), "Volume name contains illegal characters: \\");
  EXPECT_EQ(refusal("a\"b"), "Volume name contains illegal characters: \"");
  EXPECT_EQ(refusal("."), "Volume name '.' is not supported");
  EXPECT_EQ(refusal(".."), "Volume name '..' is not supported");
}

TEST(VolumeName, RefusesTheEmptyName) {
  EXPECT_EQ(refusal(""), "Volume name is empty");
  EXPECT_EQ(refusal("@ds"), "Volume name is empty");
  EXPECT_EQ(refusal("a@"), "Datastore name is empty");
}

TEST(VolumeName, RefusesControlCharactersAndBrokenUtf8) {
  EXPECT_EQ(refusal(std::string_view("a\0b", 3)), "Volume name contains a control character (U+0000)");
  EXPECT_EQ(refusal("a\nb"), "Volume name contains a control character (U+000A)");
  EXPECT_EQ(refusal("a\x7f"), "Volume name contains a control character (U+007F)");
  EXPECT_EQ(refusal("a\xc2\x85"), "Volume name contains a control character (U+0085)");
  for (const char* text :
       {"\xff", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    EXPECT_EQ(refusal(text), "Volume name is not valid UTF-8");
  }
  EXPECT_EQ(refusal("a@d\ns"), "Datastore name contains a control character (U+000A)");
}

TEST(VolumeName, RefusesTheNamesOfADisksParts) {
  for (const char* text : {"-flat", "foo-flat", "foo-FLAT", "foo-delta", "foo-ctk", "foo-digest"}) {
    EXPECT_NE(refusal(text).find("are not supported (such files are parts of other disks)"),
              std::string::npos)
        << text;
  }
  EXPECT_EQ(refusal("a.vmdk"), "Volume names containing '.vmdk' are not supported");
  EXPECT_EQ(refusal("a.VMDK.b"), "Volume names containing '.vmdk' are not supported");
}

TEST(VolumeName, BoundsTheDatastore) {
  EXPECT_EQ(refusal("a@" + std::string(100, 'd')), "accepted");
  EXPECT_EQ(refusal("a@" + std::string(101, 'd')), "Datastore name is too long (max len is 100)");
}

}  // namespace
}  // namespace vdvs::esx
