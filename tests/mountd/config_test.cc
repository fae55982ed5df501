// Flags, environment, our file, the predecessor's file and flags: who wins, and what is refused with which
// words.
#include "mountd/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Optional;

class MountdConfig : public testing::Test {
 protected:
  std::string file(const std::string& text, const std::string& name = "some.conf") {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(base::write_file(path, text));
    return path;
  }

  ParsedArguments parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "mountd");
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    ConfigSources sources{.file = folder_ + "/mountd.toml",
                          .predecessor_file = folder_ + "/predecessor.conf"};
    sources.environment = [this](const char* name) -> const char* {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    };
    return parse_arguments(static_cast<int>(argv.size()), argv.data(), sources);
  }

  /// For what must succeed.
  Config config(const std::vector<std::string>& arguments) {
    ParsedArguments parsed = parse(arguments);
    EXPECT_FALSE(parsed.exit_status) << parsed.message;
    return parsed.config;
  }

  /// For what must not: the message.
  std::string refusal(const std::vector<std::string>& arguments) {
    ParsedArguments parsed = parse(arguments);
    EXPECT_THAT(parsed.exit_status, Optional(2));
    EXPECT_EQ(parsed.message.find("terminate"), std::string::npos);
    return parsed.message;
  }

  tests::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
  std::map<std::string, std::string> environment_;
};

TEST_F(MountdConfig, DefaultsNeedNothing) {
  Config defaults = config({});
  EXPECT_THAT(defaults.datastores, ElementsAre("/var/lib/vdvs/datastore"));
  EXPECT_THAT(defaults.drivers, ElementsAre("vsphere", "vmdk"));
  EXPECT_EQ(defaults.detach_linger, 3s);
  EXPECT_EQ(defaults.group, "root");
}

TEST_F(MountdConfig, EveryFlagIsRead) {
  Config all = config({"--datastore",
                       "ds1=/data/1",
                       "--datastore=/data/2",
                       "--driver",
                       "vsphere",
                       "--state-dir",
                       "/s",
                       "--run-dir",
                       "/r",
                       "--plugin-dir",
                       "/p",
                       "--mount-root",
                       "/m",
                       "--docker-socket",
                       "/d.sock",
                       "--group",
                       "docker",
                       "--host-name",
                       "web-1",
                       "--detach-linger",
                       "500ms",
                       "--threads",
                       "3",
                       "--log-level",
                       "debug",
                       "--log-file",
                       "/l.log",
                       "--log-max-mb",
                       "7",
                       "--log-max-files",
                       "4"});
  EXPECT_THAT(all.datastores, ElementsAre("ds1=/data/1", "/data/2"));
  EXPECT_THAT(all.drivers, ElementsAre("vsphere"));
  EXPECT_EQ(all.state_dir, "/s");
  EXPECT_EQ(all.run_dir, "/r");
  EXPECT_EQ(all.plugin_dir, "/p");
  EXPECT_EQ(all.mount_root, "/m");
  EXPECT_EQ(all.docker_socket, "/d.sock");
  EXPECT_EQ(all.group, "docker");
  EXPECT_EQ(all.host_name, "web-1");
  EXPECT_EQ(all.detach_linger, 500ms);
  EXPECT_EQ(all.threads, 3u);
  EXPECT_EQ(all.log.level, base::log::Level::kDebug);
  EXPECT_EQ(all.log.path, "/l.log");
  EXPECT_EQ(all.log.max_file_bytes, 7u * 1024 * 1024);
  EXPECT_EQ(all.log.max_files, 4u);
}

TEST_F(MountdConfig, EnvironmentSetsEveryFlagToo) {
  environment_ = {{"VDVS_DATASTORE", "a=/data/1,/data/2"},
                  {"VDVS_DRIVER", "vmdk"},
                  {"VDVS_DETACH_LINGER", "2"},
                  {"VDVS_LOG_LEVEL", "warn"},
                  {"VDVS_LOG_MAX_FILES", "5"},
                  {"VDVS_THREADS", "2"},
                  {"VDVS_DOCKER_SOCKET", "/d.sock"},
                  {"VDVS_UNRELATED", "whatever"}};
  Config all = config({});
  EXPECT_THAT(all.datastores, ElementsAre("a=/data/1", "/data/2"));
  EXPECT_THAT(all.drivers, ElementsAre("vmdk"));
  EXPECT_EQ(all.detach_linger, 2s);
  EXPECT_EQ(all.log.level, base::log::Level::kWarn);
  EXPECT_EQ(all.log.max_files, 5u);
  EXPECT_EQ(all.threads, 2u);
  EXPECT_EQ(all.docker_socket, "/d.sock");
}

TEST_F(MountdConfig, FlagWinsOverEnvironmentOverFileOverDefault) {
  const std::string path = file(
      "group = \"from-file\"\nhost-name = \"from-file\"\nrun-dir = \"/from-file\"\ndriver = ['from-file']");
  environment_ = {{"VDVS_GROUP", "from-env"}, {"VDVS_HOST_NAME", "from-env"}, {"VDVS_DRIVER", "from-env"}};
  Config mixed = config({"--config", path, "--group", "from-flag", "--driver", "from-flag"});
  EXPECT_EQ(mixed.group, "from-flag");
  EXPECT_THAT(mixed.drivers, ElementsAre("from-flag"));
  EXPECT_EQ(mixed.host_name, "from-env");
  EXPECT_EQ(mixed.run_dir, "/from-file");
  EXPECT_EQ(mixed.state_dir, "/var/lib/vdvs");
}

TEST_F(MountdConfig, EmptyVariableIsNoSetting) {
  environment_ = {{"VDVS_GROUP", ""}};
  EXPECT_EQ(config({}).group, "root");
}

TEST_F(MountdConfig, PredecessorsVariableForTheGroupIsRead) {
  environment_ = {{"VDVS_SOCKET_GID", "998"}};
  EXPECT_EQ(config({}).group, "998");
  environment_["VDVS_GROUP"] = "docker";
  EXPECT_EQ(config({}).group, "docker");
}

TEST_F(MountdConfig, BadVariableIsNamed) {
  environment_ = {{"VDVS_THREADS", "many"}};
  EXPECT_THAT(refusal({}), HasSubstr("environment variable VDVS_THREADS: "));
}

TEST_F(MountdConfig, RelativePathsBecomeAbsolute) {
  const std::string here = std::filesystem::current_path().string();
  Config relative =
      config({"--datastore", "./a", "--datastore", "b=c/../d", "--state-dir", "s", "--docker-socket", ""});
  EXPECT_THAT(relative.datastores, ElementsAre(here + "/a", "b=" + here + "/d"));
  EXPECT_EQ(relative.state_dir, here + "/s");
  EXPECT_EQ(relative.docker_socket, "");
}

TEST_F(MountdConfig, FileMaySetAll) {
  Config all = config({"--config", file("# what a host needs\n[mountd]\ndatastore = [ # two\n  "
                                        "\"ds1=/data/1\",\n  '/data/2', # the last\n]\n"
                                        "threads = 5  # not more\ndetach_linger = 250ms\nlog-level = "
                                        "\"debug\"\nlog-file = \"/var/log/a b#c.log\"\n")});
  EXPECT_THAT(all.datastores, ElementsAre("ds1=/data/1", "/data/2"));
  EXPECT_EQ(all.threads, 5u);
  EXPECT_EQ(all.detach_linger, 250ms);
  EXPECT_EQ(all.log.level, base::log::Level::kDebug);
  EXPECT_EQ(all.log.path, "/var/log/a b#c.log");
}

TEST_F(MountdConfig, DefaultFileIsReadIfItIsThere) {
  file("group = ours", "mountd.toml");
  file(R"({"GroupID":"theirs"})", "predecessor.conf");
  EXPECT_EQ(config({}).group, "ours");
  EXPECT_THAT(parse({}).notes, Contains(HasSubstr("mountd.toml")));
  EXPECT_EQ(config({"--config", file("")}).group, "root");
}

TEST_F(MountdConfig, PredecessorsDefaultFileIsReadIfOursIsNotThere) {
  file(R"({"GroupID":"theirs"})", "predecessor.conf");
  EXPECT_EQ(config({}).group, "theirs");
}

TEST_F(MountdConfig, MissingFileIsRefusedWhereItWasAskedFor) {
  EXPECT_THAT(refusal({"--config", folder_ + "/none.toml"}),
              AllOf(HasSubstr("none.toml'"), HasSubstr("No such file")));
  environment_ = {{"VDVS_CONFIG", folder_ + "/gone.toml"}};
  EXPECT_THAT(refusal({}), HasSubstr("gone.toml'"));
}

TEST_F(MountdConfig, FileThatIsAFolderOrTooLargeIsRefused) {
  EXPECT_THAT(refusal({"--config", folder_}), HasSubstr("Is a directory"));
  EXPECT_THAT(refusal({"--config", file(std::string(2 << 20, '#'))}), HasSubstr("more than 1048576 bytes"));
}

TEST_F(MountdConfig, WrongLineIsNamed) {
  auto with = [&](const std::string& line) {
    return refusal({"--config", file("group = root\n\n" + line + "\nhost-name = x")});
  };
  EXPECT_THAT(with("grup = x"),
              HasSubstr("line 3: no setting has the name 'grup' (there are control-plane, datastore, detach-linger, "));
  EXPECT_THAT(with("threads = many"),
              AllOf(HasSubstr("line 3: "), HasSubstr("--threads"), HasSubstr("many")));
  EXPECT_THAT(with("threads = 0"), AllOf(HasSubstr("line 3: "), HasSubstr("--threads")));
  EXPECT_THAT(with("threads = [1, 2]"), HasSubstr("line 3: --threads: takes one value, not a list"));
  EXPECT_THAT(with("datastore = []"), HasSubstr("line 3: --datastore: the list is empty"));
  EXPECT_THAT(with("group = y"), HasSubstr("line 3: 'group' is set twice"));
  EXPECT_THAT(with("config = y"), HasSubstr("line 3: no setting has the name 'config'"));
  EXPECT_THAT(with("log-level = loud"), AllOf(HasSubstr("line 3: --log-level: "), HasSubstr("loud")));
  EXPECT_THAT(with("detach-linger = soon"), HasSubstr("line 3: --detach-linger: read duration 'soon'"));
  EXPECT_THAT(with("what is this"), HasSubstr("line 3: not 'name = value'"));
  EXPECT_THAT(with("= x"), HasSubstr("line 3: not 'name = value'"));
  EXPECT_THAT(with("log-file ="), HasSubstr("line 3: the value is missing"));
  EXPECT_THAT(with("[other]"), HasSubstr("line 3: the only table is [mountd]"));
  EXPECT_THAT(with("log-file = \"x"), HasSubstr("line 3: the string has no closing \""));
  EXPECT_THAT(with("log-file = 'x"), HasSubstr("line 3: the string has no closing '"));
  EXPECT_THAT(with("log-file = 'x' y"), HasSubstr("line 3: something follows the value"));
  EXPECT_THAT(refusal({"--config", file("\n\ndriver = [a,\n# b\n")}),
              HasSubstr("line 3: the list has no end"));
  EXPECT_THAT(with("driver = ['a' 'b']"), HasSubstr("line 3: ',' is missing between two values"));
  EXPECT_THAT(with("driver = [,]"), HasSubstr("line 3: a value is missing before ','"));
  EXPECT_THAT(with("log-file = \"\\q\""), HasSubstr("line 3: after '\\'"));
}

TEST_F(MountdConfig, PredecessorsFileIsUnderstood) {
  ParsedArguments parsed = parse({"--config", file(R"({
    "Driver": "vsphere", "LogPath": "/var/log/vsphere-storage-for-docker.log", "MaxLogSizeMb": 100, "MaxLogAgeDays": 28,
    "MaxLogFiles": 3, "loglevel": "trace", "GroupID": "docker", "Target": ""})")});
  ASSERT_FALSE(parsed.exit_status) << parsed.message;
  EXPECT_THAT(parsed.config.drivers, ElementsAre("vsphere", "vmdk"));
  EXPECT_EQ(parsed.config.log.path, "/var/log/vsphere-storage-for-docker.log");
  EXPECT_EQ(parsed.config.log.max_file_bytes, 100u * 1024 * 1024);
  EXPECT_EQ(parsed.config.log.max_files, 3u);
  EXPECT_EQ(parsed.config.log.level, base::log::Level::kDebug);
  EXPECT_EQ(parsed.config.group, "docker");
  EXPECT_THAT(parsed.notes, Contains(HasSubstr("MaxLogAgeDays=28 has no meaning any more")));
}

TEST_F(MountdConfig, PredecessorsFileIsRefusedWhereItMakesNoSense) {
  auto with = [&](const std::string& text) { return refusal({"--config", file(text)}); };
  EXPECT_THAT(with("{\"Driver\":\n\"vsphere\",}\n"), HasSubstr("line 2: not JSON"));
  EXPECT_THAT(with("{"), HasSubstr("line 1: not JSON"));
  EXPECT_THAT(with(std::string(1000, '{')), HasSubstr("not JSON"));
  EXPECT_THAT(with(R"({"Color":"red"})"), AllOf(HasSubstr("no setting has the name 'Color'"),
                                                HasSubstr("Driver, InternalDriver, LogPath")));
  EXPECT_THAT(with(R"({"Driver":"photon"})"), HasSubstr("'photon' is not served"));
  EXPECT_THAT(with(R"({"GroupID":[]})"), HasSubstr("member 'GroupID' must be a string or a number"));
  EXPECT_THAT(with(R"({"MaxLogSizeMb":-1})"), AllOf(HasSubstr("--log-max-mb"), HasSubstr("'-1'")));
}

TEST_F(MountdConfig, PredecessorsFlagsAreUnderstoodOrRefusedWithAReplacement) {
  Config old =
      config({"-driver", "vmdk", "-group=998", "-log_level", "warn", "-config", file("host-name = x")});
  EXPECT_THAT(old.drivers, ElementsAre("vmdk"));
  EXPECT_EQ(old.group, "998");
  EXPECT_EQ(old.log.level, base::log::Level::kWarn);
  EXPECT_EQ(old.host_name, "x");
  EXPECT_THAT(refusal({"-port", "1019"}),
              AllOf(HasSubstr("flag '-port' of the predecessor"), HasSubstr("--control-plane vsock:")));
  EXPECT_THAT(refusal({"-mock_esx"}), HasSubstr("flag '-mock_esx'"));
}

TEST_F(MountdConfig, TheControlPlaneIsThisProcessOrAnEndpoint) {
  EXPECT_EQ(config({}).control_plane, std::nullopt);
  EXPECT_EQ(config({"--control-plane", "embedded"}).control_plane, std::nullopt);
  const auto guest = config({"--control-plane", "vsock:"}).control_plane;
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->kind, esx::Endpoint::Kind::kVsock);
  EXPECT_EQ(guest->cid, 2u);
  EXPECT_EQ(guest->port, 1019u);
  const auto local = config({"--config", file("control-plane = \"unix:/run/x.sock\"\n")}).control_plane;
  ASSERT_TRUE(local);
  EXPECT_EQ(local->path, "/run/x.sock");
  EXPECT_THAT(refusal({"--control-plane", "http://x"}),
              AllOf(HasSubstr("--control-plane"), HasSubstr("http://x")));
}

TEST_F(MountdConfig, TlsFilesGoWithTcpAndOnlyWithIt) {
  const Config config = this->config({"--control-plane", "tcp:esx:1019", "--tls-authority", "/c/ca.crt",
                                      "--tls-certificate", "/c/guest.crt", "--tls-key", "/c/guest.key"});
  EXPECT_EQ(config.tls.authority, "/c/ca.crt");
  EXPECT_EQ(config.tls.certificate, "/c/guest.crt");
  EXPECT_EQ(config.tls.key, "/c/guest.key");
  EXPECT_THAT(refusal({"--control-plane", "tcp:esx:1019", "--tls-authority", "/c/ca.crt"}),
              AllOf(HasSubstr("--tls-key"), HasSubstr("vdvs cert")));
  EXPECT_THAT(refusal({"--control-plane", "vsock:", "--tls-key", "/c/guest.key"}),
              HasSubstr("tcp:HOST:PORT only"));
}

TEST_F(MountdConfig, UnknownFlagOrArgumentIsRefused) {
  EXPECT_THAT(refusal({"--no-such"}), AllOf(HasSubstr("--no-such"), HasSubstr("mountd --help")));
  EXPECT_THAT(refusal({"start"}), HasSubstr("start"));
  EXPECT_THAT(refusal({"--threads"}), HasSubstr("--threads"));
  EXPECT_THAT(refusal({"--threads", "2", "3"}), HasSubstr("3"));
  EXPECT_THAT(refusal({"--threads", "99999999999999999999"}), HasSubstr("--threads"));
}

TEST_F(MountdConfig, HelpListsFlagsAndVariables) {
  ParsedArguments parsed = parse({"--help"});
  EXPECT_THAT(parsed.exit_status, Optional(0));
  for (const char* flag : {"datastore",  "driver",        "state-dir",     "run-dir",       "plugin-dir",
                           "mount-root", "docker-socket", "group",         "host-name",     "detach-linger",
                           "threads",    "log-level",     "control-plane", "tls-authority", "tls-certificate",
                           "tls-key",    "log-file",      "log-max-mb",    "log-max-files", "config"}) {
    EXPECT_THAT(parsed.message, HasSubstr(std::string("--") + flag));
    std::string variable = "VDVS_";
    for (const char* c = flag; *c != '\0'; ++c)
      variable += *c == '-' ? '_' : static_cast<char>(std::toupper(*c));
    EXPECT_THAT(parsed.message, HasSubstr(variable));
  }
}

TEST_F(MountdConfig, VersionIsOneLine) {
  ParsedArguments parsed = parse({"--version"});
  EXPECT_THAT(parsed.exit_status, Optional(0));
  EXPECT_EQ(parsed.message, "mountd " VDVS_VERSION "\n");
}

TEST(ParseDuration, TakesSecondsAndUnits) {
  EXPECT_EQ(parse_duration("3").value(), 3s);
  EXPECT_EQ(parse_duration("0").value(), 0s);
  EXPECT_EQ(parse_duration("1.5s").value(), 1500ms);
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("2m").value(), 2min);
  for (const char* bad : {"", "s", "-1", "3 s", "3h", "nan", "inf", "1e99", "61m", "0x10"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

}  // namespace
}  // namespace vdvs::mountd
