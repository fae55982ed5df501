// A daemon's settings, each declared once: as the flag --x-y, as VDVS_X_Y in the environment and as x-y in
// the config file, in that order of precedence, through the same conversions and with the same refusals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/settings_file.h"

namespace vdvs::base {

struct ProgramAbout {
  std::string name;         ///< "mountd"
  std::string what;         ///< One sentence, for --help.
  std::string config_what;  ///< What --config takes.
  std::string footer;       ///< Behind the general words on where settings come from.
};

/// What main does instead of going on: print and leave.
struct ProgramExit {
  int status = 0;
  std::string message;
};

inline constexpr int kUsageStatus = 2;

class ProgramSettings {
 public:
  using Environment = std::function<const char*(const char*)>;  ///< Empty: getenv(3).
  using Read = std::function<Result<void>(const std::string&)>;
  using Split = std::function<std::vector<std::string>(const std::string&)>;

  /// With --help, --version and --config.
  explicit ProgramSettings(ProgramAbout about);
  ~ProgramSettings();
  ProgramSettings(const ProgramSettings&) = delete;
  ProgramSettings& operator=(const ProgramSettings&) = delete;

  // ---- declarations: what a target holds is the default; it outlives this ----

  void text(const std::string& name, std::string& target, const std::string& what);
  /// A relative one is made absolute in the end.
  void path(const std::string& name, std::string& target, const std::string& what);
  void boolean(const std::string& name, bool& target, const std::string& what);
  /// `flags`: further ones, as "-p".
  void number(const std::string& name, std::size_t& target, std::size_t min, std::size_t max,
              const std::string& what, const std::string& flags = {});
  /// Repeated as a flag, a list in the file, separated by commas in the environment, unless `split` says
  /// otherwise.
  void list(const std::string& name, std::vector<std::string>& target, const std::string& type,
            const std::string& what, Split split = {});
  /// Text that `read` turns into something else, or refuses.
  void read(const std::string& name, const std::string& what, const std::string& default_text, Read read);
  /// log-level, log-file, log-max-mb, log-max-files.
  void log(log::Options& target);
  /// A further variable of the environment for a setting, looked for after its own.
  void variable(const std::string& name, const std::string& variable);

  // ---- values, in this order ----

  /// Without the program's name. Something: --help, --version, or a mistake.
  std::optional<ProgramExit> parse(std::vector<std::string> arguments);
  /// For settings that have no value yet. Errors: kInvalid, which names the variable.
  Result<void> apply_environment(const Environment& environment);
  /// Likewise. Errors: kInvalid with the line.
  Result<void> apply_file(const std::vector<FileSetting>& settings);
  void make_paths_absolute();

  bool is_set(const std::string& name) const;
  const std::string& config_file() const;
  /// The answer to a mistake.
  ProgramExit refuse(const Error& error) const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

/// As make_paths_absolute does: relative to the working folder, "." and ".." resolved in the text; empty
/// stays.
std::string absolute_path(const std::string& path);
/// The DIR of "[NAME=]DIR" made absolute.
std::string with_absolute_folder(const std::string& named_folder);

}  // namespace vdvs::base
