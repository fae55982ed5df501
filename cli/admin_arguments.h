// The command line of vmdkops_admin, read as Python's argparse read the predecessor's: the same words and
// flags, abbreviations, texts and exit statuses. By esx-vmci/admin/commands.h, which knows the commands.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/output.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/admin/commands.h"

namespace vdvs::cli {

inline constexpr int kOk = 0;
inline constexpr int kNotReachable = 1;     ///< The hypervisor, or what the service would be made of.
inline constexpr int kOperationFailed = 2;  ///< Also a command line that is wrong, as argparse has it.
inline constexpr int kNoCommand = 3;        ///< No command, or one that does not exist.

struct AdminArguments {
  esx::AdminCommand command;
  OutputFormat format = OutputFormat::kPlain;
  std::string socket;       ///< Where the service is asked; empty: where its settings say.
  std::string config_file;  ///< The service's settings, where it is not the usual file.
  /// Set: print `message` and leave with this (help, version, a mistake). Mistakes go to standard error.
  std::optional<int> exit_status;
  std::string message;
};

/// `words`: argv without the program's name.
AdminArguments parse_admin_arguments(std::span<const std::string> words);

/// What the last of `words`, which may be empty or begun, can become.
struct Completions {
  std::vector<std::string> words;  ///< Whole words.
  /// Names that only the service knows are wanted: each goes behind `prefix` ("--name=", "--vm-list=a,").
  std::optional<esx::ValueKind> names;
  std::string prefix;
  bool goes_on = false;  ///< It is an item of a list, and another may follow: no blank is put behind it.
};
Completions complete_admin_arguments(std::span<const std::string> words);

}  // namespace vdvs::cli
