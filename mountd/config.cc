// Flags are read by CLI11; environment and file are then given to the options that no flag has set, through
// the same conversions. CLI11's own reader of config files is not used: it takes nearly anything for a
// setting, and the file wins over the environment there.
#include "mountd/config.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>

#include "base/fd.h"
#include "mountd/config_file.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr int kUsageStatus = 2;
constexpr char kListSeparator = ',';
constexpr std::string_view kEmbedded = "embedded";

std::string environment_name(std::string_view flag) {
  std::string name = "VDVS_";
  for (char c : flag) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

/// A value that CLI11 shall refuse; it puts the option's name in front.
[[noreturn]] void refuse(const CLI::Option* option, const std::string& why) {
  throw CLI::ValidationError(option->get_name(), why);
}

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

/// The command line: every option, bound to its place in `config_`.
class CommandLine {
 public:
  explicit CommandLine(Config& config)
      : config_(config), app_("Serves Docker volumes that are virtual disks.", "mountd") {
    app_.set_version_flag("--version", std::string("mountd " VDVS_VERSION), "Print the version and exit");
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.get_formatter()->column_width(36);
    app_.footer(
        "Each flag --x-y is VDVS_X_Y in the environment (lists are separated by commas there) and x-y in the "
        "config file; a flag wins over the\n"
        "environment, the environment over the file. Without --config the file is /etc/vdvs/mountd.toml, or "
        "else the predecessor's\n"
        "/etc/vsphere-storage-for-docker.conf.\n");
    add_places();
    add_control_plane();
    add_service();
    add_log();
    path(add("config", config_file_, "Config file: TOML, or the predecessor's JSON"), config_file_);
  }

  CLI::App& app() { return app_; }
  const std::string& config_file() const { return config_file_; }

  /// The environment: for options that no flag has set. Errors: kInvalid.
  Result<void> apply_environment(const ConfigSources& sources) {
    for (const auto& [key, option] : options_) {
      RETURN_IF_ERROR(apply_variable(sources, environment_name(key), *option));
      // The predecessor's name for it.
      if (key == "group") RETURN_IF_ERROR(apply_variable(sources, "VDVS_SOCKET_GID", *option));
    }
    return {};
  }

  /// The file: for options that neither flag nor environment has set. Errors: kInvalid.
  Result<void> apply_file(const std::vector<FileSetting>& settings) {
    std::map<std::string, std::size_t> seen;
    for (const FileSetting& setting : settings) {
      const std::string place = setting.line == 0 ? "" : fmt::format("line {}: ", setting.line);
      const auto found = options_.find(setting.key);
      if (found == options_.end() || setting.key == "config") {
        return fail(ErrorCode::kInvalid, "{}no setting has the name '{}' (there are {})", place, setting.key,
                    known_settings());
      }
      if (!seen.emplace(setting.key, setting.line).second)
        return fail(ErrorCode::kInvalid, "{}'{}' is set twice", place, setting.key);
      auto applied = apply(*found->second, setting.values);
      if (!applied) return fail(ErrorCode::kInvalid, "{}{}", place, applied.error().message());
    }
    return {};
  }

 private:
  template <typename T>
  CLI::Option* add(const std::string& name, T& target, const std::string& what) {
    CLI::Option* option =
        app_.add_option("--" + name, target, fmt::format("{} [{}]", what, environment_name(name)));
    options_.emplace(name, option);
    return option;
  }

  /// An option of text that `read` turns into something else, or refuses.
  template <typename Read>
  void add_read(const std::string& name, const std::string& what, const std::string& default_text,
                Read read) {
    auto option =
        std::make_shared<CLI::Option*>();  // Shared: the callback must know the option that it is made for.
    *option = app_.add_option_function<std::string>(
        "--" + name,
        [read, option](const std::string& text) {
          Result<void> done = read(text);
          if (!done) refuse(*option, done.error().message());
        },
        fmt::format("{} [{}]", what, environment_name(name)));
    (*option)->default_str(default_text);
    options_.emplace(name, *option);
  }

  void path(CLI::Option* option, std::string& target) {
    paths_.push_back(&target);
    option->type_name("PATH");
  }

  void list(CLI::Option* option, const std::string& type) {
    option->type_name(type)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false)
        ->capture_default_str();
  }

  void add_places();
  void add_control_plane();
  void add_service();
  void add_log();

  std::string known_settings() const {
    std::string names;
    for (const auto& [key, option] : options_) {
      if (key != "config") names += (names.empty() ? "" : ", ") + key;
    }
    return names;
  }

  Result<void> apply_variable(const ConfigSources& sources, const std::string& variable,
                              CLI::Option& option) {
    const char* text =
        sources.environment ? sources.environment(variable.c_str()) : std::getenv(variable.c_str());
    if (text == nullptr || *text == '\0' || option.count() > 0) return {};
    const bool is_list = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
    auto applied =
        apply(option, is_list ? CLI::detail::split(text, kListSeparator) : std::vector<std::string>{text});
    if (!applied)
      return fail(ErrorCode::kInvalid, "environment variable {}: {}", variable, applied.error().message());
    return {};
  }

  Result<void> apply(CLI::Option& option, const std::vector<std::string>& values) {
    if (option.count() > 0) return {};
    const bool is_list = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
    if (values.empty()) return fail(ErrorCode::kInvalid, "{}: the list is empty", option.get_name());
    if (!is_list && values.size() > 1)
      return fail(ErrorCode::kInvalid, "{}: takes one value, not a list", option.get_name());
    try {
      for (const std::string& value : values) option.add_result(value);
      option.run_callback();
    } catch (const CLI::ParseError& error) {
      return fail(ErrorCode::kInvalid, "{}", error.what());
    }
    return {};
  }

 public:
  void make_paths_absolute() {
    for (std::string* path : paths_) *path = absolute_path(*path);
    for (std::string& datastore : config_.datastores) {
      const std::size_t name_end = datastore.find('=');
      const std::size_t start = name_end == std::string::npos ? 0 : name_end + 1;
      datastore = datastore.substr(0, start) + absolute_path(datastore.substr(start));
    }
  }

 private:
  Config& config_;
  std::string config_file_;
  CLI::App app_;
  std::map<std::string, CLI::Option*> options_;
  std::vector<std::string*> paths_;
};

void CommandLine::add_places() {
  list(add("datastore", config_.datastores,
           "Folder of virtual disks; repeat it for more, the first is the default"),
       "[NAME=]DIR");
  auto folder = [&](const std::string& name, std::string& target, const std::string& what) {
    path(add(name, target, what)->capture_default_str(), target);
  };
  folder("state-dir", config_.state_dir, "Folder of what outlives a reboot");
  folder("run-dir", config_.run_dir, "Folder of what a reboot clears");
  folder("plugin-dir", config_.plugin_dir, "Folder of the plugin sockets");
  folder("mount-root", config_.mount_root, "Folder under which volumes are mounted");
  folder("docker-socket", config_.docker_socket, "Socket of the Docker engine; none where it is empty");
}

void CommandLine::add_control_plane() {
  add_read("control-plane",
           "Who owns the disks: embedded, or the service at vsock:[[CID:]PORT], unix:PATH or tcp:HOST:PORT",
           std::string(kEmbedded), [this](const std::string& text) -> Result<void> {
             config_.control_plane.reset();
             if (text == kEmbedded) return {};
             ASSIGN_OR_RETURN(config_.control_plane, esx::Endpoint::parse(text));
             return {};
           });
  auto file = [&](const std::string& name, std::string& target, const std::string& what) {
    path(add(name, target, what), target);
  };
  file("tls-authority", config_.tls.authority,
       "For tcp: certificate of the authority that signed the service's");
  file("tls-certificate", config_.tls.certificate, "For tcp: this VM's certificate");
  file("tls-key", config_.tls.key, "For tcp: its key");
}

void CommandLine::add_service() {
  list(add("driver", config_.drivers, "Name under which Docker knows the volumes; repeat it for more"),
       "NAME");
  add("group", config_.group, "Group that may use the plugin sockets, by name or number")
      ->capture_default_str();
  add("host-name", config_.host_name,
      "This host's name in records and messages; the system's where it is empty");
  add_read("detach-linger", "How long a disk stays attached after its last unmount: 3s, 500ms", "3s",
           [this](const std::string& text) -> Result<void> {
             ASSIGN_OR_RETURN(config_.detach_linger, parse_duration(text));
             return {};
           });
  add("threads", config_.threads, "Volumes that are worked on side by side")
      ->check(CLI::Range(1, 1024, "1 to 1024"))
      ->type_name("NUMBER")
      ->capture_default_str();
}

void CommandLine::add_log() {
  constexpr std::size_t kMegabyte = 1024 * 1024;
  add_read("log-level", "debug, info, warn or error", "info",
           [this](const std::string& text) -> Result<void> {
             ASSIGN_OR_RETURN(config_.log.level, base::log::parse_level(text));
             return {};
           });
  path(add("log-file", config_.log.path, "Log file; standard error where it is empty"), config_.log.path);
  add_read("log-max-mb", "Size at which the log file is rotated, in MiB", "10",
           [this](const std::string& text) -> Result<void> {
             int megabytes = 0;
             if (!CLI::detail::lexical_cast(text, megabytes) || megabytes < 1 || megabytes > 100'000) {
               return fail(ErrorCode::kInvalid, "'{}' is not a number from 1 to 100000", text);
             }
             config_.log.max_file_bytes = static_cast<std::size_t>(megabytes) * kMegabyte;
             return {};
           });
  add("log-max-files", config_.log.max_files, "Rotated log files that are kept")
      ->check(CLI::Range(1, 1000, "1 to 1000"))
      ->type_name("NUMBER")
      ->capture_default_str();
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

ParsedArguments leave(int status, std::string message) {
  return {.exit_status = status, .message = std::move(message)};
}

ParsedArguments refuse_usage(const base::Error& error) {
  std::string text = error.message();
  if (!error.remedy().empty()) text += "; " + error.remedy();
  return leave(kUsageStatus, fmt::format("mountd: {}\nmountd --help lists the flags.\n", text));
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

Result<void> apply_config_file(CommandLine& line, const ConfigSources& sources,
                               std::vector<std::string>& notes) {
  std::string path = line.config_file();
  if (path.empty() && is_there(sources.file)) path = sources.file;
  if (path.empty() && is_there(sources.predecessor_file)) path = sources.predecessor_file;
  if (path.empty()) return {};
  ASSIGN_OR_RETURN(auto content, load_file(path));
  auto applied = line.apply_file(content.settings);
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
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    auto argument = translate(argv[i]);
    if (!argument) return refuse_usage(argument.error());
    arguments.push_back(std::move(*argument));
  }
  std::ranges::reverse(arguments);  // As CLI11 takes a vector.
  CommandLine line(parsed.config);
  try {
    line.app().parse(arguments);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    if (line.app().exit(error, out, complaint) == 0) return leave(0, out.str());
    return refuse_usage({ErrorCode::kInvalid, error.what()});
  }
  auto settled = line.apply_environment(sources);
  if (settled) settled = apply_config_file(line, sources, parsed.notes);
  if (!settled) return refuse_usage(settled.error());
  line.make_paths_absolute();
  if (auto usable = check_tls(parsed.config); !usable) return refuse_usage(usable.error());
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
