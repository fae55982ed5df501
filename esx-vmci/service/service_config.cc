#include "esx-vmci/service/service_config.h"

#include <unistd.h>

#include <cstdlib>
#include <ranges>

#include "base/fd.h"
#include "base/program_settings.h"
#include "esx-vmci/service/predecessor_settings.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::ProgramSettings;
using base::Result;

constexpr const char* kTable = "vmdkopsd";
constexpr const char* kPortVariable = "VMDK_OPSD_PORT";
constexpr std::size_t kMaxThreads = 1024;
constexpr std::size_t kMaxPort = 65535;

/// An endpoint may have a comma of its own: "unix:/a,vm=a,unix:/b,vm=b" are two.
std::vector<std::string> split_endpoints(const std::string& text) {
  std::vector<std::string> endpoints;
  for (const auto part : std::views::split(text, ',')) {
    const std::string_view value(part.begin(), part.end());
    if (value.starts_with("vm=") && !endpoints.empty()) {
      endpoints.back().append(",").append(value);
    } else {
      endpoints.emplace_back(value);
    }
  }
  return endpoints;
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// Every setting, bound to its place in `config`.
class Settings : public ProgramSettings {
 public:
  explicit Settings(ServiceConfig& config)
      : ProgramSettings({.name = "vmdkopsd",
                         .what = "Owns the datastores, and attaches their disks to virtual machines.",
                         .config_what = "Config file (TOML)",
                         .footer =
                             ". Of the predecessor's files,\n/etc/vmware/vmdkops/service_config.sh gives the "
                             "vsock port and log_config.json the log, where nothing else does."}) {
    declare_places(config);
    declare_service(config);
    log(config.log);
  }

  std::size_t vsock_port = kDefaultPort;

 private:
  void declare_places(ServiceConfig& config);
  void declare_service(ServiceConfig& config);
};

void Settings::declare_places(ServiceConfig& config) {
  list("listen", config.listens, "ENDPOINT",
       "Where guests are served: vsock:[PORT], unix:PATH[,vm=NAME], tcp:HOST:PORT; repeat it for more",
       split_endpoints);
  list("datastore", config.datastores, "[NAME=]DIR",
       "Folder of virtual disks; repeat it for more, the first is the default");
  boolean("shared", config.is_shared, "Other hosts use the datastores too, whatever their file systems");
  path("database", config.database, "Database of vmgroups; without it everybody may do everything");
  path("admin-socket", config.admin_socket, "Socket of the administrator's commands; none where it is empty");
  path("state-dir", config.state_dir, "Folder of what outlives a reboot");
  path("audit-log", config.audit_log, "File of what administrators have changed");
}

void Settings::declare_service(ServiceConfig& config) {
  text("hypervisor", config.hypervisor, "Who runs the virtual machines: loop, qemu:FILE, vsphere:FILE");
  list("vm-pid-file", config.vm_pid_files, "NAME=PATH",
       "With loop: that VM is on while the process of this pid file runs; repeat it for more");
  path("tls-authority", config.tls.authority, "Certificate authority of the guests, for tcp");
  path("tls-certificate", config.tls.certificate, "The service's certificate, for tcp");
  path("tls-key", config.tls.key, "Its key");
  number("threads", config.threads, 1, kMaxThreads, "Requests that are worked on side by side");
  text("host-name", config.host_name,
       "This host's name in records and messages; the system's where it is empty");
  text("host-id", config.host_id, "This host's uuid in records; made from /etc/machine-id where it is empty");
  number("port", vsock_port, 1, kMaxPort, "Port of the default vsock endpoint", "-p");
}

Result<void> apply_config_file(Settings& settings, const ServiceConfigSources& sources,
                               std::vector<std::string>& notes) {
  std::string path = settings.config_file();
  if (path.empty() && is_there(sources.file)) path = sources.file;
  if (path.empty()) return {};
  auto applied = [&]() -> Result<void> {
    ASSIGN_OR_RETURN(const std::string text, base::read_file(path, base::kMaxConfigFileBytes));
    ASSIGN_OR_RETURN(const auto values, base::parse_settings_file(text, kTable));
    return settings.apply_file(values);
  }();
  if (!applied)
    return std::unexpected(std::move(applied).error().within(fmt::format("read config file '{}'", path)));
  notes.push_back(fmt::format("config file {}", path));
  return {};
}

/// The port for the default vsock endpoint, where nothing of ours named one.
Result<void> apply_port(Settings& settings, const ServiceConfigSources& sources, ServiceConfig& config,
                        std::vector<std::string>& notes) {
  if (settings.is_set("listen")) return {};
  const char* variable =
      sources.environment ? sources.environment(kPortVariable) : std::getenv(kPortVariable);
  if (!settings.is_set("port") && variable != nullptr && *variable != '\0') {
    auto port = parse_port(variable);
    if (!port)
      return fail(ErrorCode::kInvalid, "environment variable {}: {}", kPortVariable, port.error().message());
    settings.vsock_port = *port;
  } else if (!settings.is_set("port") && is_there(sources.service_config_sh)) {
    auto text = base::read_file(sources.service_config_sh, kMaxPredecessorFileBytes);
    auto port = text ? parse_service_config_sh(*text) : std::unexpected(text.error());
    if (!port) {
      return std::unexpected(
          std::move(port).error().within(fmt::format("read '{}'", sources.service_config_sh)));
    }
    if (*port) {
      settings.vsock_port = **port;
      notes.push_back(fmt::format("port {} by {}", settings.vsock_port, sources.service_config_sh));
    }
  }
  config.listens.front() = fmt::format("vsock:{}", settings.vsock_port);
  return {};
}

/// The predecessor's log settings, each where nothing of ours set it.
Result<void> apply_log_config(const Settings& settings, const ServiceConfigSources& sources,
                              ServiceConfig& config, std::vector<std::string>& notes) {
  if (!is_there(sources.log_config)) return {};
  auto text = base::read_file(sources.log_config, kMaxPredecessorFileBytes);
  auto log = text ? parse_log_config(*text) : std::unexpected(text.error());
  if (!log)
    return std::unexpected(std::move(log).error().within(fmt::format("read '{}'", sources.log_config)));
  if (log->path && !settings.is_set("log-file")) config.log.path = *log->path;
  if (log->level && !settings.is_set("log-level")) config.log.level = *log->level;
  // 0 is Python's word for a file that is never rotated, which we do not offer.
  if (log->max_file_bytes.value_or(0) > 0 && !settings.is_set("log-max-mb"))
    config.log.max_file_bytes = *log->max_file_bytes;
  if (log->max_files.value_or(0) > 0 && !settings.is_set("log-max-files"))
    config.log.max_files = *log->max_files;
  config.log_config_file = sources.log_config;
  notes.push_back(fmt::format("log settings by {}", sources.log_config));
  return {};
}

Result<void> settle(Settings& settings, const ServiceConfigSources& sources, ParsedServiceArguments& parsed) {
  RETURN_IF_ERROR(settings.apply_environment(sources.environment));
  RETURN_IF_ERROR(apply_config_file(settings, sources, parsed.notes));
  parsed.config.are_default_listens = !settings.is_set("listen");
  RETURN_IF_ERROR(apply_port(settings, sources, parsed.config, parsed.notes));
  RETURN_IF_ERROR(apply_log_config(settings, sources, parsed.config, parsed.notes));
  settings.make_paths_absolute();
  for (std::string& datastore : parsed.config.datastores) datastore = base::with_absolute_folder(datastore);
  for (std::string& file : parsed.config.vm_pid_files) file = base::with_absolute_folder(file);
  return {};
}

}  // namespace

ParsedServiceArguments parse_service_arguments(int argc, const char* const* argv,
                                               const ServiceConfigSources& sources) {
  ParsedServiceArguments parsed;
  Settings settings(parsed.config);
  auto leave = [&](base::ProgramExit exit) {
    parsed.exit_status = exit.status;
    parsed.message = std::move(exit.message);
    return parsed;
  };
  if (auto exit = settings.parse({argv + 1, argv + argc})) return leave(std::move(*exit));
  if (auto settled = settle(settings, sources, parsed); !settled)
    return leave(settings.refuse(settled.error()));
  return parsed;
}

Result<ServiceConfig> load_service_config(const ServiceConfigSources& sources) {
  const char* const argv[] = {"vmdkopsd"};
  ParsedServiceArguments parsed = parse_service_arguments(1, argv, sources);
  if (parsed.exit_status)
    return fail(ErrorCode::kInvalid, "{}", parsed.message.substr(0, parsed.message.find('\n')));
  return std::move(parsed.config);
}

}  // namespace vdvs::esx
