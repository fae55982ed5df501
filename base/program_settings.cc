// Flags are read by CLI11; environment and file are then given to the options that no flag has set, through
// the same conversions. CLI11's own reader of config files is not used: it takes nearly anything for a
// setting, and the file wins over the environment there.
#include "base/program_settings.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>

namespace vdvs::base {
namespace {

constexpr char kListSeparator = ',';
constexpr std::size_t kHelpColumn = 36;
constexpr const char* kConfig = "config";
constexpr std::size_t kMegabyte = 1024 * 1024;
constexpr std::size_t kMaxLogMegabytes = 100'000;
constexpr std::size_t kMaxLogFiles = 1000;

std::string environment_name(std::string_view flag) {
  std::string name = "VDVS_";
  for (char c : flag) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

/// A value that CLI11 shall refuse; it puts the option's name in front.
[[noreturn]] void refuse_value(const CLI::Option& option, const std::string& why) {
  throw CLI::ValidationError(option.get_name(), why);
}

Result<void> give(CLI::Option& option, const std::vector<std::string>& values) {
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

}  // namespace

struct ProgramSettings::State {
  struct Setting {
    CLI::Option* option;  ///< `app`'s.
    Split split;          ///< Empty: one value.
    std::vector<std::string> variables;
  };

  explicit State(ProgramAbout about_in) : about(std::move(about_in)), app(about.what, about.name) {}

  CLI::Option* declare(const std::string& name, CLI::Option* option) {
    settings[name] = {.option = option, .split = {}, .variables = {environment_name(name)}};
    return option;
  }
  static std::string help(const std::string& name, const std::string& what) {
    return fmt::format("{} [{}]", what, environment_name(name));
  }

  std::string names() const {
    std::string text;
    for (const auto& [name, setting] : settings) {
      if (name != kConfig) text += (text.empty() ? "" : ", ") + name;
    }
    return text;
  }

  const ProgramAbout about;
  std::string config_file;
  CLI::App app;
  std::map<std::string, Setting> settings;
  std::vector<std::string*> paths;
};

ProgramSettings::ProgramSettings(ProgramAbout about) : state_(std::make_unique<State>(std::move(about))) {
  CLI::App& app = state_->app;
  const std::string& name = state_->about.name;
  app.set_version_flag("--version", name + " " VDVS_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.get_formatter()->column_width(kHelpColumn);
  app.footer(
      fmt::format("Each flag --x-y is VDVS_X_Y in the environment (lists are separated by commas there) and "
                  "x-y in the config file; a flag wins over the\nenvironment, the environment over the file. "
                  "Without --config the file is /etc/vdvs/{}.toml{}\n",
                  name, state_->about.footer));
  path(kConfig, state_->config_file, state_->about.config_what);
}

ProgramSettings::~ProgramSettings() = default;

void ProgramSettings::text(const std::string& name, std::string& target, const std::string& what) {
  state_->declare(name, state_->app.add_option("--" + name, target, State::help(name, what)))
      ->capture_default_str();
}

void ProgramSettings::path(const std::string& name, std::string& target, const std::string& what) {
  text(name, target, what);
  state_->settings.at(name).option->type_name("PATH");
  state_->paths.push_back(&target);
}

void ProgramSettings::boolean(const std::string& name, bool& target, const std::string& what) {
  state_->declare(name, state_->app.add_option("--" + name, target, State::help(name, what)))
      ->type_name("BOOL")
      ->capture_default_str();
}

void ProgramSettings::number(const std::string& name, std::size_t& target, std::size_t min, std::size_t max,
                             const std::string& what, const std::string& flags) {
  const std::string names = (flags.empty() ? "" : flags + ",") + "--" + name;
  state_->declare(name, state_->app.add_option(names, target, State::help(name, what)))
      ->check(CLI::Range(min, max, fmt::format("{} to {}", min, max)))
      ->type_name("NUMBER")
      ->capture_default_str();
}

void ProgramSettings::list(const std::string& name, std::vector<std::string>& target, const std::string& type,
                           const std::string& what, Split split) {
  state_->declare(name, state_->app.add_option("--" + name, target, State::help(name, what)))
      ->type_name(type)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->capture_default_str();
  if (!split) split = [](const std::string& values) { return CLI::detail::split(values, kListSeparator); };
  state_->settings.at(name).split = std::move(split);
}

void ProgramSettings::read(const std::string& name, const std::string& what, const std::string& default_text,
                           Read read) {
  auto option =
      std::make_shared<CLI::Option*>();  // shared: the callback must know the option that it is made for
  *option = state_->app.add_option_function<std::string>(
      "--" + name,
      [read = std::move(read), option](const std::string& value) {
        const Result<void> done = read(value);
        if (!done) refuse_value(**option, done.error().message());
      },
      State::help(name, what));
  state_->declare(name, *option)->default_str(default_text);
}

void ProgramSettings::log(log::Options& target) {
  read("log-level", "debug, info, warn or error", "info",
       [&target](const std::string& value) -> Result<void> {
         ASSIGN_OR_RETURN(target.level, log::parse_level(value));
         return {};
       });
  path("log-file", target.path, "Log file; standard error where it is empty");
  read("log-max-mb", "Size at which the log file is rotated, in MiB", "10",
       [&target](const std::string& value) -> Result<void> {
         std::size_t megabytes = 0;
         if (!CLI::detail::lexical_cast(value, megabytes) || megabytes < 1 || megabytes > kMaxLogMegabytes)
           return fail(ErrorCode::kInvalid, "'{}' is not a number from 1 to {}", value, kMaxLogMegabytes);
         target.max_file_bytes = megabytes * kMegabyte;
         return {};
       });
  number("log-max-files", target.max_files, 1, kMaxLogFiles, "Rotated log files that are kept");
}

void ProgramSettings::variable(const std::string& name, const std::string& variable) {
  state_->settings.at(name).variables.push_back(variable);
}

std::optional<ProgramExit> ProgramSettings::parse(std::vector<std::string> arguments) {
  std::ranges::reverse(arguments);  // as CLI11 takes a vector
  try {
    state_->app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    if (state_->app.exit(error, out, complaint) == 0) return ProgramExit{.status = 0, .message = out.str()};
    return refuse({ErrorCode::kInvalid, error.what()});
  }
  return {};
}

Result<void> ProgramSettings::apply_environment(const Environment& environment) {
  for (auto& [name, setting] : state_->settings) {
    for (const std::string& variable : setting.variables) {
      const char* value = environment ? environment(variable.c_str()) : std::getenv(variable.c_str());
      if (value == nullptr || *value == '\0') continue;
      auto given =
          give(*setting.option, setting.split ? setting.split(value) : std::vector<std::string>{value});
      if (!given)
        return fail(ErrorCode::kInvalid, "environment variable {}: {}", variable, given.error().message());
    }
  }
  return {};
}

Result<void> ProgramSettings::apply_file(const std::vector<FileSetting>& settings) {
  std::vector<std::string> seen;
  for (const FileSetting& setting : settings) {
    const std::string place = setting.line == 0 ? "" : fmt::format("line {}: ", setting.line);
    const auto found = state_->settings.find(setting.key);
    if (found == state_->settings.end() || setting.key == kConfig) {
      return fail(ErrorCode::kInvalid, "{}no setting has the name '{}' (there are {})", place, setting.key,
                  state_->names());
    }
    if (std::ranges::find(seen, setting.key) != seen.end())
      return fail(ErrorCode::kInvalid, "{}'{}' is set twice", place, setting.key);
    seen.push_back(setting.key);
    auto given = give(*found->second.option, setting.values);
    if (!given) return fail(ErrorCode::kInvalid, "{}{}", place, given.error().message());
  }
  return {};
}

void ProgramSettings::make_paths_absolute() {
  for (std::string* path : state_->paths) *path = absolute_path(*path);
}

bool ProgramSettings::is_set(const std::string& name) const {
  return state_->settings.at(name).option->count() > 0;
}

const std::string& ProgramSettings::config_file() const { return state_->config_file; }

ProgramExit ProgramSettings::refuse(const Error& error) const {
  const std::string& name = state_->about.name;
  const std::string remedy = error.remedy().empty() ? "" : "; " + error.remedy();
  return {
      .status = kUsageStatus,
      .message = fmt::format("{}: {}{}\n{} --help lists the flags.\n", name, error.message(), remedy, name)};
}

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

std::string with_absolute_folder(const std::string& named_folder) {
  const std::size_t equals = named_folder.find('=');
  const std::size_t start = equals == std::string::npos ? 0 : equals + 1;
  return named_folder.substr(0, start) + absolute_path(named_folder.substr(start));
}

}  // namespace vdvs::base
