// vmdkops_admin: the administrator's commands. Only wires: the command line, whoever carries the command out
// (the service that runs, or the same code in this process where none does), and how it is printed.

#include <cstdio>
#include <string>
#include <vector>

#include "cli/admin_arguments.h"
#include "cli/admin_run.h"
#include "cli/output.h"
#include "cli/table.h"

namespace vdvs::cli {
namespace {

/// What the completion script calls: the words of the line so far follow.
constexpr std::string_view kCompleteWord = "__complete";

void print(std::FILE* stream, const std::string& text) { std::fwrite(text.data(), 1, text.size(), stream); }

AdminTarget target_of(const AdminArguments& arguments) {
  return {.socket = arguments.socket, .config_file = arguments.config_file};
}

struct NameSource {
  const char* verb;
  std::size_t column;
};

NameSource source_of(esx::ValueKind kind) {
  switch (kind) {
    case esx::ValueKind::kVmGroup:
      return {"vmgroup ls", 1};
    case esx::ValueKind::kDatastore:
      return {"datastore ls", 0};
    case esx::ValueKind::kVms:
      return {"vm ls", 1};
    case esx::ValueKind::kPolicy:
      return {"policy ls", 0};
    case esx::ValueKind::kVolume:
    case esx::ValueKind::kNone:
    case esx::ValueKind::kText:
    case esx::ValueKind::kColumns:
    case esx::ValueKind::kTrueFalse:
      break;
  }
  return {"volume ls", 0};
}

/// "space" or "nospace", then one candidate a line (packaging/completion). Silent where names cannot be had:
/// the shell is in the middle of a line.
int complete(std::span<const std::string> words) {
  const Completions completions = complete_admin_arguments(words);
  print(stdout, completions.goes_on ? "nospace\n" : "space\n");
  for (const std::string& word : completions.words) print(stdout, word + "\n");
  if (!completions.names) return kOk;
  const NameSource source = source_of(*completions.names);
  esx::AdminCommand command{.verb = source.verb};
  const bool is_volume = *completions.names == esx::ValueKind::kVolume;
  if (is_volume) command.flags["c"] = "volume,datastore";
  // --socket and --config count wherever they stand in the line.
  const AdminTarget target = target_of(parse_admin_arguments(words.first(words.size() - 1)));
  const auto outcome = run_admin_command(target, std::move(command));
  if (!outcome.output) return kOk;
  std::vector<std::string> names;
  for (const auto& row : outcome.output->rows)
    names.push_back(is_volume ? row.at(0) + "@" + row.at(1) : row.at(source.column));
  if (*completions.names == esx::ValueKind::kDatastore) names.insert(names.end(), {"_VM_DS", "_ALL_DS"});
  for (const std::string& name : names) {
    const std::string word = completions.prefix + name;
    if (word.starts_with(words.back())) print(stdout, clean_text(word) + "\n");
  }
  return kOk;
}

int run_main(std::span<const std::string> words) {
  if (!words.empty() && words.front() == kCompleteWord) return complete(words.subspan(1));
  const AdminArguments arguments = parse_admin_arguments(words);
  if (arguments.exit_status) {
    print(*arguments.exit_status == kOk ? stdout : stderr, arguments.message);
    return *arguments.exit_status;
  }
  const AdminOutcome outcome = run_admin_command(target_of(arguments), arguments.command);
  if (!outcome.output) {
    print(stdout, print_error(outcome.output.error(), arguments.format));
    return outcome.is_reached ? kOperationFailed : kNotReachable;
  }
  const Printed printed = print_output(*outcome.output, arguments.format, terminal_width());
  print(stderr, printed.notes);
  print(stdout, printed.out);
  // What could not be written was not shown, and a script must know.
  return std::fflush(stdout) == 0 ? kOk : kOperationFailed;
}

}  // namespace
}  // namespace vdvs::cli

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  return vdvs::cli::run_main(words);
}
