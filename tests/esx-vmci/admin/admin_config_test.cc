// config, status, and what the audit log says of it all.
#include <fstream>

#include "base/json.h"
#include "esx-vmci/admin/local_sh.h"
#include "tests/esx-vmci/admin/admin_fixture.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

class AdminConfig : public AdminTest {
 protected:
  std::string mode() { return lines("config status").at(0); }
  std::string shared(const std::string& datastore) const {
    return path_of(datastore) + "/dockvols/vmdkops_config.db";
  }
  std::string local_sh() const { return folder_.path() + "/local.sh"; }
};

TEST_F(AdminConfig, IsNotThereAtFirst) {
  EXPECT_THAT(lines("config status"),
              ElementsAre("DB_Mode: NotConfigured (no local DB, no symlink to shared DB)",
                          "DB_LocalPath: N/A", "DB_SharedLocation: N/A"));
}

TEST_F(AdminConfig, CanBeOfThisHostAlone) {
  EXPECT_THAT(
      lines("config init", {{"local", ""}}),
      ElementsAre("Warning: this feature is EXPERIMENTAL", "Creating new DB at " + database(),
                  "Warning: Local configuration will not survive ESXi reboot. See KB2043564 for details"));
  EXPECT_THAT(lines("config status"), ElementsAre("DB_Mode: SingleNode (local DB exists)",
                                                  "DB_LocalPath: " + database(), "DB_SharedLocation: N/A"));
  EXPECT_THAT(error("config init", {{"local", ""}}), HasSubstr("SingleNode"));
}

TEST_F(AdminConfig, OfThisHostIsMovedAsideWhenItIsRemoved) {
  init();
  const auto removed = lines("config rm", {{"local", ""}, {"confirm", ""}});
  ASSERT_THAT(removed, SizeIs(1));
  const std::string start = "Moved " + database() + " to backup file ";
  ASSERT_THAT(removed.front(), StartsWith(start + database() + ".bak_"));
  EXPECT_TRUE(std::filesystem::exists(removed.front().substr(start.size())));
  EXPECT_FALSE(std::filesystem::exists(database()));
}

TEST_F(AdminConfig, OfThisHostIsErasedWhereNoBackupIsWanted) {
  init();
  lines("config rm", {{"local", ""}, {"confirm", ""}, {"no-backup", ""}});
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/etc"))
    files += entry.is_regular_file() && entry.file_size() > 0 ? 1 : 0;
  EXPECT_EQ(files, 0u);
}

TEST_F(AdminConfig, CanBeSharedOnADatastore) {
  std::ofstream(local_sh()) << "#!/bin/sh\nexit 0\n";
  EXPECT_THAT(
      lines("config init", {{"datastore", "ds2"}}),
      ElementsAre("Warning: this feature is EXPERIMENTAL", "Creating new DB at " + shared("ds2"),
                  "Creating a symlink to " + shared("ds2") + " at " + database(), "Updating " + local_sh()));
  EXPECT_THAT(lines("config status"),
              ElementsAre("DB_Mode: MultiNode (local symlink pointing to shared DB)",
                          "DB_LocalPath: " + database(), "DB_SharedLocation: " + shared("ds2")));
  EXPECT_THAT(*base::read_file(local_sh(), 10000), HasSubstr("database='" + shared("ds2") + "'\n"));

  EXPECT_THAT(error("config rm", {{"local", ""}, {"confirm", ""}}), HasSubstr("use --unlink"));
  EXPECT_THAT(lines("config rm", {{"unlink", ""}, {"confirm", ""}}),
              ElementsAre("Removed link " + database(), "Updating " + local_sh()));
  EXPECT_TRUE(std::filesystem::exists(shared("ds2")));
  EXPECT_EQ(*base::read_file(local_sh(), 10000), "#!/bin/sh\nexit 0\n");
}

TEST_F(AdminConfig, SharedByAnotherHostIsJoined) {
  lines("config init", {{"datastore", "ds2"}});
  make_group("g1");
  lines("config rm", {{"unlink", ""}, {"confirm", ""}});
  EXPECT_THAT(error("config init", {{"datastore", "ds1"}}), HasSubstr("on datastore ds2 already"));
  EXPECT_THAT(lines("config init", {{"datastore", "ds2"}}),
              ::testing::Contains("Using the DB at " + shared("ds2")));
  EXPECT_THAT(rows("vmgroup ls"), SizeIs(2));
}

TEST_F(AdminConfig, NeedsOneOfTwoFlags) {
  EXPECT_THAT(error("config init"), HasSubstr("--datastore"));
  EXPECT_THAT(error("config init", {{"local", ""}, {"datastore", "ds1"}}), HasSubstr("--datastore"));
  EXPECT_EQ(error("config init", {{"datastore", "nods"}}), "No such datastore: nods");
  EXPECT_THAT(error("config rm", {{"confirm", ""}}), HasSubstr("--unlink"));
  EXPECT_THAT(error("config rm", {{"local", ""}, {"unlink", ""}, {"confirm", ""}}), HasSubstr("--unlink"));
  EXPECT_THAT(error("config rm", {{"local", ""}, {"confirm", ""}}), HasSubstr("no configuration"));
  init();
  const auto unconfirmed = run("config rm", {{"local", ""}});
  ASSERT_FALSE(unconfirmed);
  EXPECT_THAT(unconfirmed.error().remedy(), HasSubstr("--confirm"));
  EXPECT_THAT(mode(), HasSubstr("SingleNode"));
  EXPECT_THAT(error("config rm", {{"unlink", ""}, {"confirm", ""}}), HasSubstr("use --local"));
}

TEST_F(AdminConfig, ThatIsBrokenCanBeRemoved) {
  lines("config init", {{"datastore", "ds2"}});
  std::filesystem::remove(shared("ds2"));
  EXPECT_THAT(mode(), HasSubstr("BrokenLink"));
  EXPECT_THAT(error("vmgroup ls"), StartsWith("DB access error at " + database() + ": BrokenLink"));
  EXPECT_THAT(lines("config rm", {{"unlink", ""}, {"confirm", ""}}),
              ::testing::Contains("Removed link " + database()));
  EXPECT_THAT(mode(), HasSubstr("NotConfigured"));
}

TEST_F(AdminConfig, IsNotMoved) {
  EXPECT_EQ(error("config mv", {{"to", "ds1"}}),
            "Sorry, configuration move ('config mv' command) is not supported yet");
}

TEST_F(AdminConfig, StatusHasTwelveLinesWhileTheServiceRuns) {
  status_ = {.is_running = true,
             .version = "0.1.0",
             .pid = 812,
             .listens = {"vsock:1019", "unix:/run/vdvs/vmdkops.sock"},
             .log_file = "/var/log/vmware/vmdk_ops.log",
             .log_level = "info",
             .log_config_file = "/etc/vmware/vmdkops/log_config.json",
             .counters = {{"requests", 7}}};
  EXPECT_THAT(lines("status"), ElementsAre("=== Service: ", "Version: 0.1.0", "Status: Running", "Pid: 812",
                                           "Port: 1019, unix:/run/vdvs/vmdkops.sock",
                                           "LogConfigFile: /etc/vmware/vmdkops/log_config.json",
                                           "LogFile: /var/log/vmware/vmdk_ops.log", "LogLevel: info",
                                           "=== Authorization Config DB: ",
                                           "DB_Mode: NotConfigured (no local DB, no symlink to shared DB)",
                                           "DB_LocalPath: N/A", "DB_SharedLocation: N/A"));
  EXPECT_THAT(lines("status", {{"fast", ""}}), SizeIs(10));
  EXPECT_THAT(lines("status", {{"counters", ""}}), ::testing::Contains("requests: 7"));
}

TEST_F(AdminConfig, StatusSaysThatNoServiceRuns) {
  EXPECT_THAT(lines("status"), ElementsAre("=== Service: ", "Version: N/A", "Status: Stopped",
                                           "LogConfigFile: N/A", "LogFile: N/A", "LogLevel: N/A",
                                           "=== Authorization Config DB: ", StartsWith("DB_Mode: "),
                                           StartsWith("DB_LocalPath: "), StartsWith("DB_SharedLocation: ")));
}

class AdminAudit : public AdminTest {
 protected:
  std::vector<boost::json::object> entries() const {
    std::vector<boost::json::object> found;
    std::ifstream file(audit_file());
    for (std::string line; std::getline(file, line);) {
      const auto value = base::parse_json(line);
      EXPECT_TRUE(value) << line;
      found.push_back(value->as_object());
    }
    return found;
  }
};

TEST_F(AdminAudit, HasALineForEachChangeAndNoneForQuestions) {
  run("vmgroup ls");
  run("status");
  init();
  error("vmgroup create", {{"name", "g"}, {"default-datastore", "nods"}});
  const auto all = entries();
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(base::find_string(all[0], "verb"), "config init");
  EXPECT_EQ(base::find_string(all[0], "who"), "the test");
  EXPECT_EQ(base::find_string(all[0], "result"), "ok");
  EXPECT_THAT(*base::find_string(all[0], "time"), ::testing::MatchesRegex("....-..-..T..:..:..Z"));
  EXPECT_EQ(base::find_string(all[1], "result"), "failed");
  EXPECT_EQ(base::find_string(all[1], "error"), "Datastore nods does not exist");
  EXPECT_EQ(base::find_string(all[1].at("flags").as_object(), "name"), "g");
  EXPECT_EQ(std::filesystem::status(audit_file()).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(AdminAudit, TellsWhoseDiskWasTakenByForce) {
  make_volume("db");
  attach("web-1", place("db"));
  lines("volume detach", {{"volume", "db@ds1"}, {"force", ""}});
  const auto all = entries();
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(base::find_string(all[0], "result"), "begun")
      << "there even if nobody comes back to say how it ended";
  EXPECT_THAT(*base::find_string(all[1], "output"),
              StartsWith("Volume db@ds1 was detached from vm 'web-1', which had it since 2"));
}

TEST_F(AdminAudit, ThatCannotBeWrittenIsSaid) {
  std::filesystem::create_directories(audit_file());  // a folder has its name
  EXPECT_THAT(lines("config init", {{"local", ""}}),
              ::testing::Contains(StartsWith("Warning: not in the audit log: ")));
}

TEST_F(AdminAudit, NamesNoCommandThatDoesNotExist) {
  EXPECT_EQ(error("vmgroup explode"), "no command 'vmgroup explode'");
  EXPECT_EQ(error("vmgroup vm add", {{"name", "g"}}), "vmgroup vm add: --vm-list is required");
  EXPECT_EQ(error("vmgroup ls", {{"name", "g"}}), "vmgroup ls: no flag 'name'");
  EXPECT_FALSE(std::filesystem::exists(audit_file()));
}

}  // namespace
}  // namespace vdvs::esx::testing
