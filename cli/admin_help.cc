#include "cli/admin_help.h"

#include <fmt/format.h>

namespace vdvs::cli {
namespace {

constexpr std::size_t kHelpColumn = 32;

std::string spelled(const esx::FlagRule& flag) {
  return flag.takes_value() ? fmt::format("{} {}", flag.dashed(), flag.metavar) : flag.dashed();
}

std::string program_and(std::string_view words) {
  return words.empty() ? std::string(kAdminProgram) : fmt::format("{} {}", kAdminProgram, words);
}

std::string help_line(std::string_view what, std::string_view help) {
  std::string line = fmt::format("  {:<{}}", what, kHelpColumn - 2);
  if (what.size() + 4 > kHelpColumn) line += "\n" + std::string(kHelpColumn, ' ');
  return fmt::format("{}{}\n", line, help);
}

std::string choices(std::string_view prefix) {
  return fmt::format("{{{}}}", fmt::join(esx::next_words(prefix), ","));
}

}  // namespace

std::string usage_of(const esx::CommandRule& rule) {
  std::string usage = fmt::format("usage: {} [-h]", program_and(rule.verb));
  for (const esx::FlagRule& flag : rule.flags)
    usage += flag.is_required ? fmt::format(" {}", spelled(flag)) : fmt::format(" [{}]", spelled(flag));
  return usage + "\n";
}

std::string usage_of_group(std::string_view prefix) {
  return fmt::format("usage: {} [-h] {}{} ...\n", program_and(prefix),
                     prefix.empty() ? "[--output-format {plain,xml,json}] " : "", choices(prefix));
}

std::string help_of(const esx::CommandRule& rule) {
  std::string help = fmt::format("{}\n{}\n\noptions:\n", usage_of(rule), rule.help);
  help += help_line("-h, --help", "show this help and exit");
  for (const esx::FlagRule& flag : rule.flags) help += help_line(spelled(flag), flag.help);
  return help;
}

std::string help_of_group(std::string_view prefix) {
  std::string help = usage_of_group(prefix) + "\n";
  help += fmt::format("{}\n\ncommands:\n", prefix.empty()
                                               ? "Manages volumes, their policies, and who may use them."
                                               : esx::group_help(prefix));
  for (const std::string_view word : esx::next_words(prefix)) {
    const std::string words = prefix.empty() ? std::string(word) : fmt::format("{} {}", prefix, word);
    const esx::CommandRule* rule = esx::find_command_rule(words);
    help += help_line(word, rule != nullptr ? rule->help : esx::group_help(words));
  }
  help += "\noptions:\n" + help_line("-h, --help", "show this help and exit");
  if (!prefix.empty()) return help;
  help += help_line("--output-format FORMAT", "plain, xml (as esxcli reads it) or json");
  help += help_line("--json", "the same as --output-format json");
  help += help_line("--socket PATH", "the running service's admin socket");
  help += help_line("--config FILE", "the service's settings, for its socket, and where none runs");
  help += help_line("--version", "show the version and exit");
  help +=
      "\nexit status: 0 done, 1 the hypervisor is not reachable, 2 the operation failed or the command line "
      "is "
      "wrong, 3 no such command\n";
  return help;
}

}  // namespace vdvs::cli
