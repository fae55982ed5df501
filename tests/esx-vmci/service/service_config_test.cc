// The service's settings: where each may come from, and which place wins.
#include "esx-vmci/service/service_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "esx-vmci/service/predecessor_settings.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ServiceConfigTest : public ::testing::Test {
 protected:
  ServiceConfigTest() {
    sources_.file = folder_.path() + "/vmdkopsd.toml";
    sources_.service_config_sh = folder_.path() + "/service_config.sh";
    sources_.log_config = folder_.path() + "/log_config.json";
    sources_.environment = [this](const char* name) -> const char* {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    };
  }

  ParsedServiceArguments parse(std::vector<const char*> flags = {}) {
    flags.insert(flags.begin(), "vmdkopsd");
    return parse_service_arguments(static_cast<int>(flags.size()), flags.data(), sources_);
  }
  ServiceConfig good(std::vector<const char*> flags = {}) {
    auto parsed = parse(std::move(flags));
    EXPECT_FALSE(parsed.exit_status) << parsed.message;
    return parsed.config;
  }
  std::string refusal(std::vector<const char*> flags = {}) {
    auto parsed = parse(std::move(flags));
    EXPECT_EQ(parsed.exit_status, 2);
    return parsed.message;
  }

  tests::TemporaryFolder folder_;
  ServiceConfigSources sources_;
  std::map<std::string, std::string> environment_;
};

TEST_F(ServiceConfigTest, HasDefaultsThatNeedNoFile) {
  const ServiceConfig config = good();
  EXPECT_THAT(config.listens, ElementsAre("vsock:1019", "unix:/run/vdvs/vmdkops.sock"));
  EXPECT_TRUE(config.are_default_listens);
  EXPECT_EQ(config.database, "/etc/vmware/vmdkops/auth-db");
  EXPECT_EQ(config.admin_socket, "/run/vdvs/vmdkopsd-admin.sock");
  EXPECT_EQ(config.hypervisor, "loop");
}

TEST_F(ServiceConfigTest, AFlagWinsOverTheEnvironmentAndThatOverTheFile) {
  testing::write_text(sources_.file, "threads = 3\nhost-name = \"by file\"\nhypervisor = 'by file'\n");
  environment_ = {{"VDVS_HOST_NAME", "by environment"}, {"VDVS_HYPERVISOR", "by environment"}};
  const ServiceConfig config = good({"--hypervisor", "by flag"});
  EXPECT_EQ(config.threads, 3u);
  EXPECT_EQ(config.host_name, "by environment");
  EXPECT_EQ(config.hypervisor, "by flag");
}

TEST_F(ServiceConfigTest, ListsComeFromRepeatedFlagsCommasOrAnArray) {
  EXPECT_THAT(good({"--datastore", "a=/a", "--datastore", "b=/b"}).datastores, ElementsAre("a=/a", "b=/b"));
  environment_ = {{"VDVS_LISTEN", "unix:/a,unix:/b"}};
  const ServiceConfig config = good();
  EXPECT_THAT(config.listens, ElementsAre("unix:/a", "unix:/b"));
  EXPECT_FALSE(config.are_default_listens);
  environment_ = {{"VDVS_LISTEN", "unix:/a,vm=a,unix:/b,vm=b,vsock:"}};
  EXPECT_THAT(good().listens, ElementsAre("unix:/a,vm=a", "unix:/b,vm=b", "vsock:"));
  environment_.clear();
  testing::write_text(sources_.file, "[vmdkopsd]\ndatastore = [\"x=/x\", \"y=/y\"]\n");
  EXPECT_THAT(good().datastores, ElementsAre("x=/x", "y=/y"));
}

TEST_F(ServiceConfigTest, UnknownNamesAndBadValuesAreRefusedWithTheirPlace) {
  EXPECT_THAT(refusal({"--frobnicate"}), HasSubstr("frobnicate"));
  EXPECT_THAT(refusal({"--threads", "0"}), HasSubstr("threads"));
  testing::write_text(sources_.file, "thread = 3\n");
  EXPECT_THAT(refusal(), HasSubstr("line 1: no setting has the name 'thread'"));
  testing::write_text(sources_.file, "[mountd]\nthreads = 3\n");
  EXPECT_THAT(refusal(), HasSubstr("line 1: the only table is [vmdkopsd]"));
  testing::write_text(sources_.file, "threads = 3\n\nthreads = 4\n");
  EXPECT_THAT(refusal(), HasSubstr("line 3: 'threads' is set twice"));
  testing::write_text(sources_.file, "threads = many\n");
  EXPECT_THAT(refusal(), HasSubstr("threads"));
  testing::write_text(sources_.file, "");
  environment_ = {{"VDVS_LOG_LEVEL", "loud"}};
  EXPECT_THAT(refusal(), HasSubstr("VDVS_LOG_LEVEL"));
}

TEST_F(ServiceConfigTest, PathsAreMadeAbsolute) {
  const ServiceConfig config = good({"--datastore", "d=here", "--database", "db"});
  EXPECT_EQ(config.datastores.front().substr(0, 3), "d=/");
  EXPECT_TRUE(config.database.starts_with('/'));
}

TEST_F(ServiceConfigTest, ThePredecessorsPortCountsWhereNothingElseSaysOne) {
  testing::write_text(sources_.service_config_sh, "# ours\nexport VMDK_OPSD_PORT=1020\n");
  EXPECT_EQ(good().listens.front(), "vsock:1020");
  environment_ = {{"VMDK_OPSD_PORT", "1021"}};
  EXPECT_EQ(good().listens.front(), "vsock:1021");
  EXPECT_EQ(good({"-p", "1022"}).listens.front(), "vsock:1022");
  EXPECT_THAT(good({"--listen", "vsock:7"}).listens, ElementsAre("vsock:7"));
  environment_.clear();
  testing::write_text(sources_.service_config_sh, "VMDK_OPSD_PORT=$(reboot)\n");
  EXPECT_THAT(refusal(), HasSubstr("line 1"));
}

TEST_F(ServiceConfigTest, ThePredecessorsLogSettingsCountBehindOurs) {
  testing::write_text(
      sources_.log_config,
      R"({"version": 1, "handlers": {"rotate_file": {"class": "logging.handlers.RotatingFileHandler",
                          "filename": "/var/log/vmware/vmdk_ops.log", "level": "DEBUG", "maxBytes": 1048576,
                          "backupCount": 1}}})");
  const ServiceConfig config = good();
  EXPECT_EQ(config.log.path, "/var/log/vmware/vmdk_ops.log");
  EXPECT_EQ(config.log.level, base::log::Level::kDebug);
  EXPECT_EQ(config.log.max_file_bytes, 1048576u);
  EXPECT_EQ(config.log.max_files, 1u);
  EXPECT_EQ(config.log_config_file, sources_.log_config);
  const ServiceConfig ours = good({"--log-file", "/x.log", "--log-level", "error", "--log-max-mb", "2"});
  EXPECT_EQ(ours.log.path, "/x.log");
  EXPECT_EQ(ours.log.level, base::log::Level::kError);
  EXPECT_EQ(ours.log.max_file_bytes, 2u << 20);
  EXPECT_EQ(ours.log.max_files, 1u);
  testing::write_text(sources_.log_config, "{");
  EXPECT_THAT(refusal(), HasSubstr("log_config.json"));
}

TEST_F(ServiceConfigTest, TheAdministratorsCommandsSeeWhatTheServiceWouldUse) {
  testing::write_text(sources_.file, "database = \"/srv/db\"\n");
  const auto config = load_service_config(sources_);
  ASSERT_OK(config);
  EXPECT_EQ(config->database, "/srv/db");
  testing::write_text(sources_.file, "databas = \"/srv/db\"\n");
  EXPECT_EQ(testing::code_of(load_service_config(sources_)), "E_INVALID");
}

TEST(PredecessorSettings, ReadsEveryWayToWriteThePort) {
  auto port_of = [](std::string_view text) {
    const auto port = parse_service_config_sh(text);
    EXPECT_OK(port);
    return port ? port->value_or(0) : 0;
  };
  EXPECT_EQ(port_of("export VMDK_OPSD_PORT=1020\n"), 1020u);
  EXPECT_EQ(port_of("VMDK_OPSD_PORT='1021'"), 1021u);
  EXPECT_EQ(port_of("  export VMDK_OPSD_PORT=\"1022\" # why\r\n"), 1022u);
  EXPECT_EQ(port_of("VMDK_OPSD_PORT=1\nexport VMDK_OPSD_PORT=2;\n"), 2u);
  EXPECT_EQ(port_of("# VMDK_OPSD_PORT=1\nVMDK_OPSD_PORTS=3\n"), 0u);
  EXPECT_EQ(port_of(""), 0u);
}

TEST(PredecessorSettings, ALogConfigWithoutOurHandlerSaysNothing) {
  for (const char* text : {"{}", R"({"handlers": {}})", R"({"handlers": {"console": {"level": "INFO"}}})",
                           R"({"handlers": {"rotate_file": {}}})"}) {
    const auto log = parse_log_config(text);
    ASSERT_OK(log) << text;
    EXPECT_FALSE(log->path || log->level || log->max_file_bytes || log->max_files) << text;
  }
  for (const char* text : {"[]", "", R"({"handlers": {"rotate_file": {"maxBytes": -1}}})",
                           R"({"handlers": {"rotate_file": {"level": "LOUD"}}})"}) {
    EXPECT_EQ(testing::code_of(parse_log_config(text)), "E_INVALID") << text;
  }
}

}  // namespace
}  // namespace vdvs::esx
