// The file that names the VMs: what it may say, and what is said of one that is wrong.
#include "esx-vmci/hypervisor/qemu_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kUuid = "11111111-aaaa-4bbb-8ccc-000000000001";

/// A VM with these members besides (or instead of) the three that are needed.
std::string with(const std::string& more) {
  return fmt::format(R"({{"vms": [{{"name": "web-1", "uuid": "{}", "qmp": "/run/web-1.qmp"{}}}]}})", kUuid,
                     more.empty() ? "" : ", " + more);
}

TEST(QemuConfig, NamesAVmWithWhatIsNeeded) {
  const auto config = parse_qemu_config(with(""));
  ASSERT_OK(config);
  ASSERT_EQ(config->vms.size(), 1u);
  const QemuVm& vm = config->vms[0];
  EXPECT_EQ(vm.vm.name, "web-1");
  EXPECT_EQ(vm.vm.uuid, kUuid);
  EXPECT_EQ(vm.qmp_path, "/run/web-1.qmp");
  EXPECT_EQ(vm.cid, std::nullopt);
  EXPECT_EQ(vm.certificate, "web-1") << "its own name, where nothing else is said";
  EXPECT_EQ(vm.vm.datastore, "");
}

TEST(QemuConfig, TakesAllMembers) {
  const auto config = parse_qemu_config(with(R"("cid": 5, "certificate": "cert-1", "datastore": "ds1")"));
  ASSERT_OK(config);
  EXPECT_EQ(config->vms[0].cid, 5u);
  EXPECT_EQ(config->vms[0].certificate, "cert-1");
  EXPECT_EQ(config->vms[0].vm.datastore, "ds1");
}

TEST(QemuConfig, NoVmsAreAConfigToo) {
  const auto config = parse_qemu_config(R"({"vms": []})");
  ASSERT_OK(config);
  EXPECT_THAT(config->vms, IsEmpty());
}

TEST(QemuConfig, AUuidIsComparedInLowerCase) {
  const auto config = parse_qemu_config(
      R"({"vms": [{"name": "a", "uuid": "ABCDEF00-AAAA-4BBB-8CCC-00000000000A", "qmp": "/q"}]})");
  ASSERT_OK(config);
  EXPECT_EQ(config->vms[0].vm.uuid, "abcdef00-aaaa-4bbb-8ccc-00000000000a");
}

TEST(QemuConfig, SaysWhichMemberOfWhichVmIsWrong) {
  struct Case {
    std::string text;
    const char* why;
  };
  const std::string vm = R"("name": "a", "uuid": "11111111-aaaa-4bbb-8ccc-000000000001", "qmp": "/q")";
  const Case cases[] = {
      {R"({"vms": [{"uuid": "x", "qmp": "/q"}]})", R"(vms[0]: "name" is missing)"},
      {R"({"vms": [{"name": "a", "qmp": "/q"}]})", R"(vms[0]: "uuid" is missing)"},
      {R"({"vms": [{"name": "a", "uuid": "17", "qmp": "/q"}]})", R"("uuid" is not 8-4-4-4-12 hex digits)"},
      {R"({"vms": [{"name": "a", "uuid": "11111111-aaaa-4bbb-8ccc-00000000000g", "qmp": "/q"}]})",
       R"("uuid")"},
      {R"({"vms": [{"name": "a", "uuid": "11111111-aaaa-4bbb-8ccc-000000000001"}]})", R"("qmp" is missing)"},
      {R"({"vms": [{"name": "a", "uuid": "11111111-aaaa-4bbb-8ccc-000000000001", "qmp": "q"}]})",
       R"("qmp" is not an absolute path)"},
      {R"({"vms": [{"name": 5, "uuid": "x", "qmp": "/q"}]})", R"("name" is not a text)"},
      {R"({"vms": [{"name": "", "uuid": "x", "qmp": "/q"}]})", R"("name" is not a text)"},
      {R"({"vms": [{"name": "a\nb", "uuid": "x", "qmp": "/q"}]})", R"("name" has control characters)"},
      {with(R"("cid": 2)"), R"("cid" is not a guest's context id)"},
      {with(R"("cid": 4294967295)"), R"("cid")"},
      {with(R"("cid": -1)"), R"("cid")"},
      {with(R"("cid": "5")"), R"("cid")"},
      {with(R"("pid": 5)"), R"("pid" is not known)"},
      {with(R"("certificate": "")"), R"("certificate" is not a text)"},
      {R"({"vms": [{)" + vm + "}, 5]}", "vms[1] is not an object"},
      {R"({"vms": {}})", "\"vms\", is an array"},
      {R"({"vms": [], "more": 1})", "only member"},
      {R"([])", "wanted: an object"},
  };
  for (const Case& one : cases) {
    const auto config = parse_qemu_config(one.text);
    EXPECT_EQ(code_of(config), "E_INVALID") << one.text;
    EXPECT_THAT(message_of(config), HasSubstr(one.why)) << one.text;
  }
  EXPECT_EQ(code_of(parse_qemu_config("{\"vms\": [")), "E_INVALID");
}

TEST(QemuConfig, ASocketPathHasTheKernelsBound) {
  const std::string path = "/" + std::string(200, 'q');
  const auto config = parse_qemu_config(
      fmt::format(R"({{"vms": [{{"name": "a", "uuid": "{}", "qmp": "{}"}}]}})", kUuid, path));
  EXPECT_THAT(message_of(config), HasSubstr("too long for a socket"));
}

TEST(QemuConfig, WhatTellsVmsApartIsEachOnesOwn) {
  struct Member {
    const char* name;
    const char* first;
    const char* second;
  };
  const Member members[] = {
      {"name", "\"a\"", "\"b\""},
      {"uuid", "\"11111111-aaaa-4bbb-8ccc-000000000001\"", "\"11111111-AAAA-4bbb-8ccc-000000000002\""},
      {"qmp", "\"/a\"", "\"/b\""},
      {"cid", "3", "4"},
      {"certificate", "\"ca\"", "\"cb\""}};
  for (const Member& same : members) {
    std::string first, second;
    for (const Member& member : members) {
      const bool is_same = &member == &same;
      first += fmt::format("{}\"{}\": {}", first.empty() ? "" : ", ", member.name, member.first);
      second += fmt::format("{}\"{}\": {}", second.empty() ? "" : ", ", member.name,
                            is_same ? member.first : member.second);
    }
    const auto config = parse_qemu_config(fmt::format(R"({{"vms": [{{{}}}, {{{}}}]}})", first, second));
    EXPECT_EQ(code_of(config), "E_INVALID") << same.name;
    EXPECT_THAT(message_of(config), HasSubstr(fmt::format("two VMs have \"{}\"", same.name)));
  }
}

TEST(QemuConfig, TheNumberOfVmsIsBounded) {
  std::string text = R"({"vms": [)";
  for (std::size_t i = 0; i <= kMaxQemuVms; ++i) text += i == 0 ? "{}" : ",{}";
  EXPECT_EQ(code_of(parse_qemu_config(text + "]}")), "E_LIMIT");
}

TEST(QemuConfig, AFileThatIsWrongIsNamed) {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/vms.json";
  EXPECT_EQ(code_of(load_qemu_config(path)), "E_NOT_FOUND");
  write_text(path, "{");
  EXPECT_THAT(load_qemu_config(path).error().text(), HasSubstr(path));
  write_text(path, with(""));
  EXPECT_OK(load_qemu_config(path));
}

}  // namespace
}  // namespace vdvs::esx::testing
