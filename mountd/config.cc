#include "mountd/config.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/fd.h"
#include "base/program_settings.h"
#include "mountd/config_file.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::ProgramSettings;
using base::Result;

constexpr std::string_view kEmbedded = "embedded";
constexpr std::size_t kMaxThreads = 1024;

void declare_places(ProgramSettings& settings, Config& config) {
  settings.list("datastore", config.datastores, "[NAME=]DIR",
                "Folder of virtual disks; repeat it for more, the first is the default");
  settings.path("state-dir", config.state_dir, "Folder of what outlives a reboot");
  settings.path("run-dir", config.run_dir, "Folder of what a reboot clears");
  settings.path("plugin-dir", config.plugin_dir, "Folder of the plugin sockets");
  settings.path("mount-root", config.mount_root, "Folder under which volumes are mounted");
  settings.path("docker-socket", config.docker_socket, "Socket of the Docker engine; none where it is empty");
}

void declare_control_plane(ProgramSettings& settings, Config& config) {
  settings.read(
      "control-plane",
      "Who owns the disks: embedded, or the service at vsock:[[CID:]PORT], unix:PATH or tcp:HOST:PORT",
      std::string(kEmbedded), [&config](const std::string& text) -> Result<void> {
        config.control_plane.reset();
        if (text == kEmbedded) return {};
        ASSIGN_OR_RETURN(config.control_plane, esx::Endpoint::parse(text));
        return {};
      });
  settings.path("tls-authority", config.tls.authority,
                "For tcp: certificate of the authority that signed the service's");
  settings.path("tls-certificate", config.tls.certificate, "For tcp: this VM's certificate");
  settings.path("tls-key", config.tls.key, "For tcp: its key");
}

void declare_service(ProgramSettings& settings, Config& config) {
  settings.list("driver", config.drivers, "NAME",
                "Name under which Docker knows the volumes; repeat it for more");
  settings.text("group", config.group, "Group that may use the plugin sockets, by name or number");
  settings.variable("group", "VDVS_SOCKET_GID");  // the predecessor's name for it
  settings.text("host-name", config.host_name,
                "This host's name in records and messages; the system's where it is empty");
  settings.read("detach-linger", "How long a disk stays attached after its last unmount: 3s, 500ms", "3s",
                [&config](const std::string& text) -> Result<void> {
                  ASSIGN_OR_RETURN(config.detach_linger, parse_duration(text));
                  return {};
                });
  settings.number("threads", config.threads, 1, kMaxThreads, "Volumes that are worked on side by side");
}

// The predecessor's flags: Go's, with one dash.

struct OldFlag {
  std::string_view name;
  std::string_view ours;    ///< Empty: refused,
  std::string_view remedy;  ///< with this.
};

constexpr OldFlag kOldFlags[] = {
    {"config", "--config", ""},
    {"driver", "--driver", ""},
    {"group", "--group", ""},
    {"log_level", "--log-level", ""},
    {"port", "", "use --control-plane vsock:PORT"},
    {"mock_esx", "", "name a folder with --datastore: it needs no ESX either"},
};

/// `argument` as we know it: "-log_level=debug" is "--log-level=debug". Errors: kUnsupported.
Result<std::string> translate(const std::string& argument) {
  std::string_view text = argument;
  if (!text.starts_with('-')) return argument;
  text.remove_prefix(text.starts_with("--") ? 2 : 1);
  const std::string_view name = text.substr(0, text.find('='));
  const auto* old = std::ranges::find(kOldFlags, name, &OldFlag::name);
  if (old == std::end(kOldFlags)) return argument;
  if (!old->ours.empty()) return std::string(old->ours) + std::string(text.substr(name.size()));
  return std::unexpected(base::Error(ErrorCode::kUnsupported,
                                     fmt::format("flag '-{}' of the predecessor has no meaning here", name),
                                     std::string(old->remedy)));
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// Our format or the predecessor's, by the first character. The error names the file.
Result<FileContent> load_file(const std::string& path) {
  auto load = [&]() -> Result<FileContent> {
    ASSIGN_OR_RETURN(auto text, base::read_file(path, kMaxConfigFileBytes));
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    const bool is_json = first != std::string::npos && text[first] == '{';
    return is_json ? parse_predecessor_config_file(text) : parse_config_file(text);
  };
  auto content = load();
  if (!content)
    return std::unexpected(std::move(content).error().within(fmt::format("read config file '{}'", path)));
  return content;
}

Result<void> apply_config_file(ProgramSettings& settings, const ConfigSources& sources,
                               std::vector<std::string>& notes) {
  std::string path = settings.config_file();
  if (path.empty() && is_there(sources.file)) path = sources.file;
  if (path.empty() && is_there(sources.predecessor_file)) path = sources.predecessor_file;
  if (path.empty()) return {};
  ASSIGN_OR_RETURN(auto content, load_file(path));
  auto applied = settings.apply_file(content.settings);
  if (!applied)
    return std::unexpected(std::move(applied).error().within(fmt::format("read config file '{}'", path)));
  notes.push_back(fmt::format("config file {}", path));
  for (std::string& note : content.notes) notes.push_back(fmt::format("{}: {}", path, std::move(note)));
  return {};
}

/// The three TLS files go with a tcp: endpoint, and only with one.
Result<void> check_tls(const Config& config) {
  const bool is_tcp = config.control_plane && config.control_plane->kind == esx::Endpoint::Kind::kTcp;
  const bool has_all =
      !config.tls.authority.empty() && !config.tls.certificate.empty() && !config.tls.key.empty();
  const bool has_any =
      !config.tls.authority.empty() || !config.tls.certificate.empty() || !config.tls.key.empty();
  if (is_tcp && !has_all) {
    return std::unexpected(base::Error(
        ErrorCode::kInvalid, "--control-plane tcp: needs --tls-authority, --tls-certificate and --tls-key",
        "'vdvs cert' makes them"));
  }
  if (!is_tcp && has_any) {
    return fail(
        ErrorCode::kInvalid,
        "--tls-authority, --tls-certificate and --tls-key go with --control-plane tcp:HOST:PORT only");
  }
  return {};
}

}  // namespace

ParsedArguments parse_arguments(int argc, const char* const* argv, const ConfigSources& sources) {
  ParsedArguments parsed;
  ProgramSettings settings({.name = "mountd",
                            .what = "Serves Docker volumes that are virtual disks.",
                            .config_what = "Config file: TOML, or the predecessor's JSON",
                            .footer = ", or else the predecessor's\n/etc/vsphere-storage-for-docker.conf."});
  declare_places(settings, parsed.config);
  declare_control_plane(settings, parsed.config);
  declare_service(settings, parsed.config);
  settings.log(parsed.config.log);
  auto leave = [&](base::ProgramExit exit) {
    parsed.exit_status = exit.status;
    parsed.message = std::move(exit.message);
    return parsed;
  };
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    auto argument = translate(argv[i]);
    if (!argument) return leave(settings.refuse(argument.error()));
    arguments.push_back(std::move(*argument));
  }
  if (auto exit = settings.parse(std::move(arguments))) return leave(std::move(*exit));
  auto settled = settings.apply_environment(sources.environment);
  if (settled) settled = apply_config_file(settings, sources, parsed.notes);
  if (settled) settled = check_tls(parsed.config);
  if (!settled) return leave(settings.refuse(settled.error()));
  settings.make_paths_absolute();
  for (std::string& datastore : parsed.config.datastores) datastore = base::with_absolute_folder(datastore);
  return parsed;
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  struct Unit {
    std::string_view name;
    double milliseconds;
  };
  constexpr Unit kUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"", 1000}};
  constexpr std::chrono::milliseconds kMaxDuration = std::chrono::hours(1);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const auto* unit = std::ranges::find(kUnits, name, &Unit::name);
  if (error != std::errc{} || unit == std::end(kUnits) || !(number >= 0)) {
    return fail(ErrorCode::kInvalid, "read duration '{}': not a number of seconds, or one with ms, s or m",
                text);
  }
  const double milliseconds = number * unit->milliseconds;
  if (milliseconds > static_cast<double>(kMaxDuration.count()))
    return fail(ErrorCode::kLimit, "read duration '{}': more than an hour", text);
  return std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds));
}

}  // namespace vdvs::mountd
