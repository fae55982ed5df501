// Flags are read by CLI11; environment and file are then given to the options that no flag has set, through
// the same conversions (CLI11 by itself lets the file win over the environment, and takes nearly anything in
// it for a setting).
#include "esx-vmci/service/service_config.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "base/fd.h"
#include "base/settings_file.h"
#include "esx-vmci/service/predecessor_settings.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr int kUsageStatus = 2;
constexpr char kListSeparator = ',';
constexpr const char* kTable = "vmdkopsd";
constexpr const char* kPortVariable = "VMDK_OPSD_PORT";
constexpr std::size_t kMegabyte = 1024 * 1024;

std::string environment_name(std::string_view flag) {
  std::string name = "VDVS_";
  for (char c : flag) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

/// An endpoint may have a comma of its own: "unix:/a,vm=a,unix:/b,vm=b" are two.
std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> values;
  for (std::string& value : CLI::detail::split(text, kListSeparator)) {
    if (value.starts_with("vm=") && !values.empty()) {
      values.back() += kListSeparator + value;
    } else {
      values.push_back(std::move(value));
    }
  }
  return values;
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// The command line: every option, bound to its place in `config_`.
class CommandLine {
 public:
  explicit CommandLine(ServiceConfig& config)
      : config_(config),
        app_("Owns the datastores, and attaches their disks to virtual machines.", "vmdkopsd") {
    app_.set_version_flag("--version", std::string("vmdkopsd " VDVS_VERSION), "Print the version and exit");
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.get_formatter()->column_width(36);
    app_.footer(
        "Each flag --x-y is VDVS_X_Y in the environment (lists are separated by commas there) and x-y in the "
        "config file; a flag wins over the\n"
        "environment, the environment over the file. Without --config the file is /etc/vdvs/vmdkopsd.toml. "
        "Of the "
        "predecessor's files,\n"
        "/etc/vmware/vmdkops/service_config.sh gives the vsock port and log_config.json the log, where "
        "nothing else "
        "does.\n");
    add_places();
    add_service();
    add_log();
    path("config", config_file_, "Config file (TOML)");
  }

  CLI::App& app() { return app_; }
  const std::string& config_file() const { return config_file_; }
  bool is_set(const std::string& name) const { return options_.at(name)->count() > 0; }

  Result<void> apply_environment(const ServiceConfigSources& sources) {
    for (const auto& [key, option] : options_) {
      const std::string variable = environment_name(key);
      const char* text =
          sources.environment ? sources.environment(variable.c_str()) : std::getenv(variable.c_str());
      if (text == nullptr || *text == '\0') continue;
      auto applied = apply(*option, is_list(*option) ? split_list(text) : std::vector<std::string>{text});
      if (!applied) {
        return fail(ErrorCode::kInvalid, "environment variable {}: {}", variable, applied.error().message());
      }
    }
    return {};
  }

  Result<void> apply_file(const std::vector<base::FileSetting>& settings) {
    std::set<std::string> seen;
    for (const base::FileSetting& setting : settings) {
      const auto found = options_.find(setting.key);
      if (found == options_.end() || setting.key == "config") {
        return fail(ErrorCode::kInvalid, "line {}: no setting has the name '{}' (there are {})", setting.line,
                    setting.key, names());
      }
      if (!seen.insert(setting.key).second)
        return fail(ErrorCode::kInvalid, "line {}: '{}' is set twice", setting.line, setting.key);
      auto applied = apply(*found->second, setting.values);
      if (!applied) return fail(ErrorCode::kInvalid, "line {}: {}", setting.line, applied.error().message());
    }
    return {};
  }

  void make_paths_absolute() {
    for (std::string* each : paths_) *each = absolute_path(*each);
    for (std::string& datastore : config_.datastores) {
      const std::size_t equals = datastore.find('=');
      const std::size_t start = equals == std::string::npos ? 0 : equals + 1;
      datastore = datastore.substr(0, start) + absolute_path(datastore.substr(start));
    }
  }

 private:
  template <typename T>
  CLI::Option* add(const std::string& name, T& target, const std::string& what,
                   const std::string& short_name = "") {
    CLI::Option* option = app_.add_option(short_name + "--" + name, target,
                                          fmt::format("{} [{}]", what, environment_name(name)));
    options_.emplace(name, option);
    return option;
  }

  void path(const std::string& name, std::string& target, const std::string& what) {
    add(name, target, what)->type_name("PATH")->capture_default_str();
    paths_.push_back(&target);
  }

  void list(const std::string& name, std::vector<std::string>& target, const std::string& type,
            const std::string& what) {
    add(name, target, what)
        ->type_name(type)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false)
        ->capture_default_str();
  }

  static bool is_list(const CLI::Option& option) {
    return option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  }

  void add_places();
  void add_service();
  void add_log();

  std::string names() const {
    std::string text;
    for (const auto& [key, option] : options_) {
      if (key != "config") text += (text.empty() ? "" : ", ") + key;
    }
    return text;
  }

  static Result<void> apply(CLI::Option& option, const std::vector<std::string>& values) {
    if (option.count() > 0) return {};
    if (values.empty()) return fail(ErrorCode::kInvalid, "{}: no value", option.get_name());
    if (!is_list(option) && values.size() > 1) {
      return fail(ErrorCode::kInvalid, "{}: takes one value, not a list", option.get_name());
    }
    try {
      for (const std::string& value : values) option.add_result(value);
      option.run_callback();
    } catch (const CLI::ParseError& error) {
      return fail(ErrorCode::kInvalid, "{}", error.what());
    }
    return {};
  }

  ServiceConfig& config_;
  std::string config_file_;
  CLI::App app_;
  std::map<std::string, CLI::Option*> options_;
  std::vector<std::string*> paths_;

 public:
  std::uint32_t port = kDefaultPort;
};

void CommandLine::add_places() {
  list("listen", config_.listens, "ENDPOINT",
       "Where guests are served: vsock:[PORT], unix:PATH[,vm=NAME], tcp:HOST:PORT; repeat it for more");
  list("datastore", config_.datastores, "[NAME=]DIR",
       "Folder of virtual disks; repeat it for more, the first is the default");
  add("shared", config_.is_shared, "Other hosts use the datastores too, whatever their file systems")
      ->type_name("BOOL")
      ->capture_default_str();
  path("database", config_.database, "Database of vmgroups; without it everybody may do everything");
  path("admin-socket", config_.admin_socket,
       "Socket of the administrator's commands; none where it is empty");
  path("state-dir", config_.state_dir, "Folder of what outlives a reboot");
  path("audit-log", config_.audit_log, "File of what administrators have changed");
}

void CommandLine::add_service() {
  add("hypervisor", config_.hypervisor, "Who runs the virtual machines: loop, qemu:FILE, vsphere:FILE")
      ->capture_default_str();
  path("tls-authority", config_.tls.authority, "Certificate authority of the guests, for tcp");
  path("tls-certificate", config_.tls.certificate, "The service's certificate, for tcp");
  path("tls-key", config_.tls.key, "Its key");
  add("threads", config_.threads, "Requests that are worked on side by side")
      ->check(CLI::Range(1, 1024, "1 to 1024"))
      ->type_name("NUMBER")
      ->capture_default_str();
  add("host-name", config_.host_name,
      "This host's name in records and messages; the system's where it is empty");
  add("host-id", config_.host_id, "This host's uuid in records; made from /etc/machine-id where it is empty");
  add("port", port, "Port of the default vsock endpoint", "-p,")
      ->check(CLI::Range(1, 65535, "1 to 65535"))
      ->type_name("NUMBER")
      ->capture_default_str();
}

void CommandLine::add_log() {
  const std::map<std::string, base::log::Level> levels{{"debug", base::log::Level::kDebug},
                                                       {"info", base::log::Level::kInfo},
                                                       {"warn", base::log::Level::kWarn},
                                                       {"warning", base::log::Level::kWarn},
                                                       {"error", base::log::Level::kError}};
  add("log-level", config_.log.level, "debug, info, warn or error")
      ->transform(CLI::CheckedTransformer(levels, CLI::ignore_case).description("LEVEL"))
      ->default_str("info");
  path("log-file", config_.log.path, "Log file; standard error where it is empty");
  CLI::Option* size = app_.add_option_function<std::size_t>(
      "--log-max-mb", [this](std::size_t megabytes) { config_.log.max_file_bytes = megabytes * kMegabyte; },
      "Size at which the log file is rotated, in MiB [VDVS_LOG_MAX_MB]");
  size->check(CLI::Range(1, 100'000, "1 to 100000"))->type_name("NUMBER")->default_str("10");
  options_.emplace("log-max-mb", size);
  add("log-max-files", config_.log.max_files, "Rotated log files that are kept")
      ->check(CLI::Range(1, 1000, "1 to 1000"))
      ->type_name("NUMBER")
      ->capture_default_str();
}

Result<void> apply_config_file(CommandLine& line, const ServiceConfigSources& sources,
                               std::vector<std::string>& notes) {
  std::string path = line.config_file();
  if (path.empty() && is_there(sources.file)) path = sources.file;
  if (path.empty()) return {};
  auto applied = [&]() -> Result<void> {
    ASSIGN_OR_RETURN(const std::string text, base::read_file(path, base::kMaxConfigFileBytes));
    ASSIGN_OR_RETURN(const auto settings, base::parse_settings_file(text, kTable));
    return line.apply_file(settings);
  }();
  if (!applied)
    return std::unexpected(std::move(applied).error().within(fmt::format("read config file '{}'", path)));
  notes.push_back(fmt::format("config file {}", path));
  return {};
}

/// The port for the default vsock endpoint, where nothing of ours named one.
Result<void> apply_port(CommandLine& line, const ServiceConfigSources& sources, ServiceConfig& config,
                        std::vector<std::string>& notes) {
  if (line.is_set("listen")) return {};
  const char* variable =
      sources.environment ? sources.environment(kPortVariable) : std::getenv(kPortVariable);
  if (!line.is_set("port") && variable != nullptr && *variable != '\0') {
    auto port = parse_port(variable);
    if (!port)
      return fail(ErrorCode::kInvalid, "environment variable {}: {}", kPortVariable, port.error().message());
    line.port = *port;
  } else if (!line.is_set("port") && is_there(sources.service_config_sh)) {
    auto text = base::read_file(sources.service_config_sh, kMaxPredecessorFileBytes);
    auto port = text ? parse_service_config_sh(*text) : std::unexpected(text.error());
    if (!port) {
      return std::unexpected(
          std::move(port).error().within(fmt::format("read '{}'", sources.service_config_sh)));
    }
    if (*port) {
      line.port = **port;
      notes.push_back(fmt::format("port {} by {}", line.port, sources.service_config_sh));
    }
  }
  config.listens.front() = fmt::format("vsock:{}", line.port);
  return {};
}

/// The predecessor's log settings, each where nothing of ours set it.
Result<void> apply_log_config(const CommandLine& line, const ServiceConfigSources& sources,
                              ServiceConfig& config, std::vector<std::string>& notes) {
  if (!is_there(sources.log_config)) return {};
  auto text = base::read_file(sources.log_config, kMaxPredecessorFileBytes);
  auto log = text ? parse_log_config(*text) : std::unexpected(text.error());
  if (!log)
    return std::unexpected(std::move(log).error().within(fmt::format("read '{}'", sources.log_config)));
  if (log->path && !line.is_set("log-file")) config.log.path = *log->path;
  if (log->level && !line.is_set("log-level")) config.log.level = *log->level;
  // 0 is Python's word for a file that is never rotated, which we do not offer.
  if (log->max_file_bytes.value_or(0) > 0 && !line.is_set("log-max-mb"))
    config.log.max_file_bytes = *log->max_file_bytes;
  if (log->max_files.value_or(0) > 0 && !line.is_set("log-max-files")) config.log.max_files = *log->max_files;
  config.log_config_file = sources.log_config;
  notes.push_back(fmt::format("log settings by {}", sources.log_config));
  return {};
}

Result<void> settle(CommandLine& line, const ServiceConfigSources& sources, ParsedServiceArguments& parsed) {
  RETURN_IF_ERROR(line.apply_environment(sources));
  RETURN_IF_ERROR(apply_config_file(line, sources, parsed.notes));
  parsed.config.are_default_listens = !line.is_set("listen");
  RETURN_IF_ERROR(apply_port(line, sources, parsed.config, parsed.notes));
  RETURN_IF_ERROR(apply_log_config(line, sources, parsed.config, parsed.notes));
  line.make_paths_absolute();
  return {};
}

ParsedServiceArguments refuse_usage(std::string_view why) {
  ParsedServiceArguments refused;
  refused.exit_status = kUsageStatus;
  refused.message = fmt::format("vmdkopsd: {}\nvmdkopsd --help lists the flags.\n", why);
  return refused;
}

}  // namespace

ParsedServiceArguments parse_service_arguments(int argc, const char* const* argv,
                                               const ServiceConfigSources& sources) {
  ParsedServiceArguments parsed;
  CommandLine line(parsed.config);
  try {
    line.app().parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    if (line.app().exit(error, out, complaint) != 0) return refuse_usage(error.what());
    ParsedServiceArguments answered;
    answered.exit_status = 0;
    answered.message = out.str();
    return answered;
  }
  auto settled = settle(line, sources, parsed);
  if (!settled) return refuse_usage(settled.error().message());
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
