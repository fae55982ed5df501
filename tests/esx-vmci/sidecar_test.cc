#include "esx-vmci/datastore/sidecar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(SidecarName, IsThePredecessorsHash) {
  const std::pair<const char*, const char*> known[] = {
      {"vol", "6d812701b9f8e2bf"},       {"refCountTestVol", "8bfdeb99e642a231"},
      {"ayo", "84b25ea7eb0f1fbf"},       {"clonevol-23", "adcca9bd68a9990c"},
      {"large-vol", "4aea49a74bbb032b"}, {"vol1", "e581c22f8baec9c1"},
  };
  for (const auto& [volume, hash] : known)
    EXPECT_EQ(sidecar_file_name(volume), std::string(volume) + "-" + hash + ".vmfd");
}

TEST(SidecarName, IsFoundInTheDescriptorsLine) {
  const std::string name = sidecar_file_name("a,b;c");
  EXPECT_EQ(find_sidecar_name(sidecars_line(name), "a,b;c"), name);
  EXPECT_EQ(find_sidecar_name("docker-volume-vsphere_1,vol-0123456789abcdef.vmfd;", "vol"),
            "vol-0123456789abcdef.vmfd");
  EXPECT_EQ(find_sidecar_name("vsphere-storage-for-docker_1,vol-0123456789abcdef.vmfd", "vol"),
            "vol-0123456789abcdef.vmfd");
  EXPECT_EQ(
      find_sidecar_name(
          "other_1,vol-aaaaaaaaaaaaaaaa.vmfd;docker-volume-vsphere_2,vol-0123456789abcdef.vmfd;", "vol"),
      "vol-0123456789abcdef.vmfd");
  EXPECT_EQ(find_sidecar_name("random_1,vol-aaaaaaaaaaaaaaaa.vmfd;", "vol"), "vol-aaaaaaaaaaaaaaaa.vmfd");
}

TEST(SidecarName, IsNeverAnotherVolumesOrAPath) {
  for (const char* line :
       {"", ",", "docker-volume-vsphere_1", "docker-volume-vsphere_1,../vol-0123456789abcdef.vmfd;",
        "docker-volume-vsphere_1,other-0123456789abcdef.vmfd;", "docker-volume-vsphere_1,vol-flat.vmdk;",
        "docker-volume-vsphere_1,vol-x-0123456789abcdef.vmfd;", "k,vol-0123456789abcdef.vmfdx"}) {
    EXPECT_EQ(find_sidecar_name(line, "vol"), std::nullopt) << line;
  }
}

Sidecar sample() {
  Sidecar sidecar;
  sidecar.options = {{"diskformat", "thin"}, {"size", "1gb"}};
  sidecar.created = "Tue Mar 27 18:02:11 2018";
  sidecar.created_by = "größe";
  return sidecar;
}

TEST(Sidecar, IsPythonsJsonInWholeBlocks) {
  auto text = encode_sidecar(sample());
  ASSERT_OK(text);
  EXPECT_EQ(text->size(), 4096u);
  EXPECT_THAT(*text, StartsWith("{\"volOpts\": {\"diskformat\": \"thin\", \"size\": \"1gb\"}, \"created\": "
                                "\"Tue Mar 27 18:02:11 2018\", "
                                "\"created-by\": \"gr\\u00f6\\u00dfe\", \"status\": \"detached\"}   "));
  EXPECT_THAT(*text, EndsWith(" \n"));
}

TEST(Sidecar, PassesPythonsParser) {
  Sidecar sidecar = sample();
  sidecar.created_by = "quote \" slash \\ face 😀";
  sidecar.init = InitState::kNew;
  auto text = encode_sidecar(sidecar);
  ASSERT_OK(text);
  testing::TemporaryFolder folder;
  testing::write_text(folder.path() + "/s", *text);
  const std::string printed =
      testing::run({"python3", "-c",
                    "import json,sys; t=open(sys.argv[1]).read(); o=json.loads(t);"
                    "print(o['vdvs']['init'], json.dumps(o) == t.rstrip(), o['created-by'])",
                    folder.path() + "/s"});
  EXPECT_THAT(printed, StartsWith("new True "));
}

TEST(Sidecar, ReadsBackWhatItWrites) {
  Sidecar sidecar = sample();
  sidecar.attached = AttachRecord{"uuid-1", "web-1", "2024-01-02T03:04:05Z"};
  sidecar.init = InitState::kFormatted;
  sidecar.fs_uuid = "f00d";
  auto text = encode_sidecar(sidecar);
  ASSERT_OK(text);
  auto read = decode_sidecar(*text);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->options, sidecar.options);
  EXPECT_EQ(read->created_by, sidecar.created_by);
  EXPECT_EQ(read->attached, sidecar.attached);
  EXPECT_EQ(read->init, InitState::kFormatted);
  EXPECT_EQ(read->fs_uuid, "f00d");
}

TEST(Sidecar, KeepsWhatItDoesNotKnow) {
  auto read =
      decode_sidecar(R"({"status": "attached", "volOpts": {"size": "1gb", "x": null}, "attachedVMUuid": "u",
    "attachedVMDevice": {"Unit": "0"}, "future": [1, {"a": 2.5}], "vdvs": {"also": true}})");
  ASSERT_TRUE(read);
  auto text = encode_sidecar(*read);
  ASSERT_OK(text);
  EXPECT_THAT(*text, HasSubstr("\"future\": [1, {\"a\": 2.5E0}]"));
  EXPECT_THAT(*text, HasSubstr("\"attachedVMDevice\": {\"Unit\": \"0\"}"));
  EXPECT_THAT(*text, HasSubstr("\"also\": true"));
  EXPECT_THAT(*text, HasSubstr("\"x\": null"));
}

TEST(Sidecar, StaysReadableWithANumberThatIsTooLarge) {
  auto read = decode_sidecar(R"({"created-by": "vm", "future": 5E55555555})");
  ASSERT_TRUE(read);
  auto again = decode_sidecar(encode_sidecar(*read).value());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->created_by, "vm");
}

TEST(Sidecar, ForgetsTheDeviceWhenTheHolderChanges) {
  auto read = decode_sidecar(
      R"({"status": "attached", "attachedVMUuid": "u", "attachedVMName": "n", "attachedVMDevice": {"Unit": "0"}})");
  ASSERT_TRUE(read);
  read->attached = AttachRecord{"v", "", ""};
  auto text = encode_sidecar(*read);
  ASSERT_OK(text);
  EXPECT_THAT(*text, ::testing::Not(HasSubstr("attachedVMDevice")));
  EXPECT_THAT(*text, ::testing::Not(HasSubstr("attachedVMName")));
  read->attached.reset();
  EXPECT_THAT(encode_sidecar(*read).value(), ::testing::Not(HasSubstr("attachedVM")));
}

TEST(Sidecar, OfThePredecessorMeansReady) {
  auto read = decode_sidecar(
      "{\"status\": \"detached\", \"volOpts\": {\"fstype\": \"xfs\"}, \"attachedVMUuid\": null}  \n");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->init, InitState::kReady);
  EXPECT_FALSE(read->attached);
  EXPECT_EQ(decode_sidecar("{\"vdvs\": {\"init\": \"not known\"}}")->init, InitState::kReady);
}

TEST(Sidecar, OfGarbageIsNone) {
  for (const char* text : {"", " ", "\n", "null", "[]", "{", "{\"a\":", "garbage"})
    EXPECT_FALSE(decode_sidecar(text)) << text;
  EXPECT_FALSE(decode_sidecar(std::string(4096, '\0')));
  EXPECT_FALSE(decode_sidecar(std::string(kMaxSidecarBytes + 1, ' ')));
  EXPECT_FALSE(decode_sidecar(std::string(60000, '[')));
}

TEST(Sidecar, CutAtAnyByteIsNoneOrTheSame) {
  const std::string text = encode_sidecar(sample()).value();
  for (std::size_t length = 0; length < 250; ++length) {
    auto read = decode_sidecar(text.substr(0, length));
    if (read) {
      EXPECT_EQ(read->options, sample().options) << length;
    }
  }
}

TEST(Sidecar, NeverShrinksAFile) {
  EXPECT_EQ(encode_sidecar(sample(), 8192)->size(), 8192u);
  EXPECT_EQ(encode_sidecar(sample(), 100)->size(), 4096u);
  Sidecar large = sample();
  large.options["mountopts"] = std::string(5000, 'x');
  EXPECT_EQ(encode_sidecar(large)->size(), 8192u);
  large.options["mountopts"] = std::string(kMaxSidecarBytes, 'x');
  EXPECT_EQ(testing::code_of(encode_sidecar(large)), "E_LIMIT");
}

}  // namespace
}  // namespace vdvs::esx
