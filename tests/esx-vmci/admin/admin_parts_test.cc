// The parts that stand alone: JSON, sizes, settings, the boot script, the log's rotation, the socket.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/json.h"
#include "esx-vmci/admin/asker.h"
#include "esx-vmci/admin/audit_log.h"
#include "esx-vmci/admin/commands.h"
#include "esx-vmci/admin/local_sh.h"
#include "esx-vmci/admin/sizes.h"
#include "esx-vmci/admin/volume_settings.h"
#include "esx-vmci/protocol/frame.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using tests::TemporaryFolder;

TEST(AdminJson, ReadsBackACommand) {
  const AdminCommand command{
      .verb = "vmgroup vm add", .flags = {{"name", "g\"1"}, {"force", ""}}, .asked_by = "uid 0"};
  EXPECT_EQ(
      boost::json::serialize(to_json(command)),
      R"({"cmd":"admin","verb":"vmgroup vm add","flags":{"force":"","name":"g\"1"},"asked_by":"uid 0"})");
  const auto back = admin_command_from_json(to_json(command));
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back->verb, command.verb);
  EXPECT_EQ(back->flags, command.flags);
  EXPECT_EQ(back->asked_by, command.asked_by);
}

TEST(AdminJson, RefusesWhatIsNoCommand) {
  for (const char* text : {"null", "[]", "{}", R"({"cmd":"create","verb":"status"})", R"({"cmd":"admin"})",
                           R"({"cmd":"admin","verb":1})", R"({"cmd":"admin","verb":"status","flags":[]})",
                           R"({"cmd":"admin","verb":"status","flags":{"a":1}})"})
    EXPECT_FALSE(admin_command_from_json(*base::parse_json(text))) << text;
}

TEST(AdminJson, ReadsBackAnOutput) {
  const AdminOutput output{.columns = {"A", "B"}, .rows = {{"1", "2"}, {"", "x"}}, .lines = {"note"}};
  const auto back = admin_result(admin_reply(output));
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back->columns, output.columns);
  EXPECT_EQ(back->rows, output.rows);
  EXPECT_EQ(back->lines, output.lines);
}

TEST(AdminJson, ReadsBackAnErrorOfEachCode) {
  for (int i = 0; i <= static_cast<int>(base::ErrorCode::kInternal); ++i) {
    const base::Error error(static_cast<base::ErrorCode>(i), "why", "what to do");
    const auto back = admin_result(admin_reply(std::unexpected(error)));
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().text(), error.text());
  }
}

TEST(AdminJson, RefusesRowsThatDoNotFitTheirTable) {
  for (const char* text :
       {R"({"columns":["A"],"rows":[["1","2"]],"lines":[]})", R"({"columns":["A"],"rows":[1],"lines":[]})",
        R"({"columns":["A"],"rows":[]})", R"({"columns":[1],"rows":[],"lines":[]})", "3"})
    EXPECT_FALSE(admin_result(*base::parse_json(text))) << text;
}

TEST(AdminCommands, EveryRequiredFlagIsAskedFor) {
  for (const CommandRule& rule : command_rules()) {
    AdminCommand command{.verb = std::string(rule.verb)};
    for (const FlagRule& flag : rule.flags)
      if (flag.is_required) command.flags[std::string(flag.name)] = "x";
    EXPECT_TRUE(check_command(command)) << rule.verb;
    for (const FlagRule& flag : rule.flags) {
      if (!flag.is_required) continue;
      AdminCommand without = command;
      without.flags.erase(std::string(flag.name));
      EXPECT_FALSE(check_command(without)) << rule.verb << " without " << flag.name;
    }
  }
}

TEST(AdminCommands, ABareFlagHasNoValue) {
  EXPECT_FALSE(check_command({.verb = "vmgroup rm", .flags = {{"name", "g"}, {"force", "yes"}}}));
}

TEST(AdminCommands, ColumnsKeepTheirFixedOrder) {
  EXPECT_THAT(*parse_columns("created,volume"), ElementsAre(0, 12));
  EXPECT_FALSE(parse_columns("Volume"));
  EXPECT_FALSE(parse_columns(""));
}

TEST(AdminSizes, AreReadInAnyCase) {
  EXPECT_EQ(admin::parse_limit_mb("500MB"), 500u);
  EXPECT_EQ(admin::parse_limit_mb("2gb"), 2048u);
  EXPECT_EQ(admin::parse_limit_mb("1Tb"), 1u << 20);
  EXPECT_EQ(admin::parse_limit_mb("1PB"), 1u << 30);
  EXPECT_EQ(admin::parse_limit_mb("0MB"), 0u);
  EXPECT_EQ(admin::parse_limit_mb("0"), 0u);
  EXPECT_EQ(admin::parse_limit_mb("unset"), 0u);
}

TEST(AdminSizes, ThatMeanNothingAreRefused) {
  for (const char* text : {"", "5", "MB", "-1MB", "+1MB", "1.5GB", "1 GB", "1KB", "1MBB",
                           "18446744073709551615PB", "99999999999999999999MB", "9007199254740992PB"})
    EXPECT_FALSE(admin::parse_limit_mb(text)) << text;
}

TEST(AdminSizes, AreShownAsThePredecessorShowedThem) {
  EXPECT_EQ(admin::limit_text(0), "Unset");
  EXPECT_EQ(admin::limit_text(600), "600.00MB");
  EXPECT_EQ(admin::limit_text(1024), "1.00GB");
  EXPECT_EQ(admin::limit_text(1536 * 1024), "1.50TB");
  EXPECT_EQ(admin::bytes_text(100ull << 20), "100MB");
  EXPECT_EQ(admin::bytes_text((2ull << 40) + 5), "2048GB");
  EXPECT_EQ(admin::bytes_text(13 * 1024 + 1), "13KB");
  EXPECT_EQ(admin::bytes_text(1000), "1000");
}

TEST(VolumeSettings, AreReadAsAList) {
  EXPECT_EQ(admin::parse_volume_settings("access=read-only,attach-as=persistent"),
            (OptionMap{{"access", "read-only"}, {"attach-as", "persistent"}}));
  for (const char* text : {"", ",", "access", "access=", "access=x", "size=1gb", "access=read-only,",
                           "access=read-only,access=read-write", " access=read-only"})
    EXPECT_FALSE(admin::parse_volume_settings(text)) << text;
}

const std::string kScript =
    "#!/bin/sh\n# own commands\nif true; then\n  exit 0\nfi\nesxcli network\n\nexit 0\n# end\n";

TEST(LocalSh, TheBlockStandsBeforeTheScriptEnds) {
  const std::string block = *local_sh_block("/etc/vmware/vmdkops/auth-db", "/vmfs/volumes/ds 1/x.db");
  const auto changed = with_local_sh_block(kScript, block);
  ASSERT_TRUE(changed) << changed.error().text();
  EXPECT_EQ(*changed, "#!/bin/sh\n# own commands\nif true; then\n  exit 0\nfi\nesxcli network\n\n" + block +
                          "exit 0\n# end\n");
  EXPECT_EQ(*with_local_sh_block(*changed, ""), kScript);
}

TEST(LocalSh, TheBlockIsReplacedWhereItStands) {
  const std::string tag(kLocalShTag);
  const std::string old = "a\n" + tag + "\ndatastore=ds1\nln -s x y\n" + tag + "\nb\nexit 0\n";
  EXPECT_EQ(*with_local_sh_block(old, "NEW\n"), "a\nNEW\nb\nexit 0\n");
  EXPECT_EQ(*with_local_sh_block(old, ""), "a\nb\nexit 0\n");
  EXPECT_EQ(*with_local_sh_block("a\n" + tag + "\n" + tag, ""), "a\n");
}

TEST(LocalSh, AScriptWithoutAnEndGetsTheBlockAtItsEnd) {
  EXPECT_EQ(*with_local_sh_block("a", "B\n"), "a\nB\n");
  EXPECT_EQ(*with_local_sh_block("", "B\n"), "B\n");
}

TEST(LocalSh, AScriptThatCannotBeUnderstoodIsLeftAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/local.sh";
  const std::string broken = std::string(kLocalShTag) + "\nimportant\nexit 0\n";
  std::ofstream(path) << broken;
  const auto updated = update_local_sh(path, "B\n");
  ASSERT_FALSE(updated);
  EXPECT_EQ(updated.error().code(), base::ErrorCode::kCorrupt);
  EXPECT_EQ(*base::read_file(path, 1000), broken);
  EXPECT_FALSE(std::filesystem::exists(path + ".bck"));
}

TEST(LocalSh, TheFileKeepsItsModeAndABackup) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/local.sh";
  std::ofstream(path) << kScript;
  std::filesystem::permissions(path, std::filesystem::perms(0755));
  EXPECT_EQ(update_local_sh(path, "B\n"), true);
  EXPECT_EQ(update_local_sh(path, "B\n"), true);  // without tags "B" is no block: it is put in once more
  EXPECT_EQ(*base::read_file(path + ".bck", 1000), *with_local_sh_block(kScript, "B\n"));
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0755));
  EXPECT_EQ(update_local_sh(folder.path() + "/none", "B\n"), false);
}

TEST(LocalSh, NothingIsWrittenWhereNothingChanges) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/local.sh";
  const std::string block = *local_sh_block("/l", "/d");
  std::ofstream(path) << *with_local_sh_block(kScript, block);
  EXPECT_EQ(update_local_sh(path, block), false);
  EXPECT_FALSE(std::filesystem::exists(path + ".bck"));
}

TEST(LocalSh, TheBlockIsAScriptThatMakesTheLink) {
  const TemporaryFolder folder;
  const std::string link = folder.path() + "/it's a link";
  const std::string script = *local_sh_block(link, "/vmfs/volumes/$(touch x)/db");
  ASSERT_EQ(::system(fmt::format("cd '{}' && /bin/sh -eu <<'END'\n{}END\n", folder.path(), script).c_str()),
            0);
  EXPECT_EQ(std::filesystem::read_symlink(link), "/vmfs/volumes/$(touch x)/db");
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/x"));
  EXPECT_FALSE(local_sh_block("/a\nb", "/c"));
}

AdminCommand numbered(int number) { return {.verb = "vmgroup ls", .flags = {{"n", std::to_string(number)}}}; }

TEST(Asker, IsNamedAsTheKernelKnowsIt) {
  const std::string me = describe_asker(::getuid(), ::getpid());
  EXPECT_THAT(me, StartsWith(fmt::format("uid {}", ::getuid())));
  EXPECT_THAT(me, HasSubstr(fmt::format(", pid {} (esx_admin_test)", ::getpid())));
  EXPECT_THAT(describe_asker(0, 0), "uid 0 (root)") << "a process of another namespace has no id here";
}

TEST(Asker, ThatNobodyKnowsHasItsNumbers) {
  constexpr uid_t kNoUser = 3'999'999'999;
  constexpr pid_t kNoProcess = (1 << 22) + 1;  // beyond the kernel's greatest
  EXPECT_EQ(describe_asker(kNoUser, kNoProcess), "uid 3999999999, pid 4194305");
}

TEST(AuditLog, IsRotatedAtItsBoundAndKeepsFourOldFiles) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/audit.log";
  const AuditLog log(path, 400);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(log.append(numbered(i), AdminOutput{}));
  for (const char* suffix : {"", ".1", ".2", ".3", ".4"}) {
    ASSERT_TRUE(std::filesystem::exists(path + suffix)) << suffix;
    EXPECT_LE(std::filesystem::file_size(path + suffix), 400u);
  }
  EXPECT_FALSE(std::filesystem::exists(path + ".5"));
  EXPECT_THAT(*base::read_file(path, 1000), HasSubstr("\"n\":\"39\""));
}

TEST(AuditLog, KeepsEveryLineOfManyWriters) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/audit.log";
  constexpr int kWriters = 4;
  constexpr int kLines = 25;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer)
    writers.emplace_back([&] {
      const AuditLog log(path, 2000);  // rotated in between
      for (int i = 0; i < kLines; ++i) EXPECT_TRUE(log.append({.verb = "v"}, AdminOutput{}));
    });
  for (std::thread& writer : writers) writer.join();
  int lines = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line); ++lines) EXPECT_TRUE(base::parse_json(line)) << line;
  }
  EXPECT_EQ(lines, kWriters * kLines);
}

TEST(AuditLog, ClosesALineThatWasCutOff) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/audit.log";
  std::ofstream(path) << "{\"time\":";
  ASSERT_TRUE(AuditLog(path).append({.verb = "v"}, AdminOutput{}));
  EXPECT_THAT(*base::read_file(path, 1000), StartsWith("{\"time\":\n{\"time\":\"2"));
}

/// Answers one connection with `reply`, byte by byte of a frame, or hangs up where it is empty.
class OneAnswer {
 public:
  OneAnswer(const std::string& path, std::string reply) : socket_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(socket_.get(), 4), 0);
    thread_ = std::thread([this, reply = std::move(reply)] { serve(reply); });
  }
  ~OneAnswer() { join(); }
  std::string request() {
    join();
    return request_;
  }

 private:
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  void serve(const std::string& reply) {
    const base::UniqueFd peer(::accept(socket_.get(), nullptr, nullptr));
    FrameDecoder decoder(kMaxRequestBytes);
    char byte;
    while (::recv(peer.get(), &byte, 1, 0) == 1) {
      decoder.feed({&byte, 1});
      const auto payload = decoder.next();
      if (!payload || !*payload) continue;
      request_ = **payload;
      break;
    }
    for (const char c : reply)
      if (::send(peer.get(), &c, 1, MSG_NOSIGNAL) != 1) break;
  }

  base::UniqueFd socket_;
  std::string request_;
  std::thread thread_;
};

TEST(RemoteAdmin, AsksAndIsAnswered) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/admin.sock";
  const AdminOutput output{.columns = {"A"}, .rows = {{"1"}}};
  OneAnswer service(path, *encode_frame(boost::json::serialize(admin_reply(output)), kMaxReplyBytes));
  const auto answer = make_remote_admin(path)->run({.verb = "policy rm", .flags = {{"name", "p"}}});
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->rows, output.rows);
  EXPECT_EQ(service.request(), R"({"cmd":"admin","verb":"policy rm","flags":{"name":"p"}})");
}

TEST(RemoteAdmin, SaysWhenNoServiceAnswers) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/admin.sock";
  EXPECT_EQ(make_remote_admin(path)->run({.verb = "status"}).error().code(), base::ErrorCode::kUnavailable);
  EXPECT_EQ(is_service_there(path), false);
  std::ofstream(path) << "a file that somebody left";
  EXPECT_EQ(is_service_there(path), false);
  EXPECT_FALSE(is_service_there(std::string(200, 'x')));
}

TEST(RemoteAdmin, ANoIsNotTakenForNoService) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/admin.sock";
  {
    OneAnswer service(path, "");
    const auto answer = make_remote_admin(path)->run({.verb = "status"});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), base::ErrorCode::kIo);
  }
  std::filesystem::remove(path);
  OneAnswer service(path, "GET / HTTP/1.1\r\n\r\n");
  const auto answer = make_remote_admin(path)->run({.verb = "status"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), base::ErrorCode::kInvalid);
}

TEST(RemoteAdmin, DoesNotWaitForEver) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/admin.sock";
  const base::UniqueFd silent(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(silent.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(silent.get(), 4), 0);
  EXPECT_EQ(is_service_there(path), true);
  const auto answer = make_remote_admin(path, std::chrono::milliseconds(1))->run({.verb = "status"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), base::ErrorCode::kTimeout);
}

/// Gives what it is asked.
class EchoAdmin final : public Admin {
 public:
  base::Result<AdminOutput> run(const AdminCommand& command) override {
    if (command.verb == "fail") return base::fail(base::ErrorCode::kBusyElsewhere, "no");
    return AdminOutput{.lines = {command.verb, command.asked_by}};
  }
};

TEST(AdminRequest, IsAnsweredInTheNameOfWhomTheSocketProves) {
  EchoAdmin echo;
  EXPECT_EQ(answer_admin_request(echo, R"({"cmd":"admin","verb":"v","asked_by":"the king"})", "uid 0"),
            R"({"columns":[],"rows":[],"lines":["v","uid 0"]})");
  EXPECT_EQ(answer_admin_request(echo, R"({"cmd":"admin","verb":"fail"})", "uid 0"),
            R"({"Error":"no","code":"E_BUSY_ELSEWHERE","remedy":""})");
  EXPECT_THAT(answer_admin_request(echo, "{", "uid 0"), StartsWith(R"({"Error":")"));
}

}  // namespace
}  // namespace vdvs::esx
