// vmdkops_admin: the administrator's commands. Only wires: the command line, whoever carries the command out
// (the service that runs, or the same code in this process where none does), and how it is printed.

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/admin_arguments.h"
#include "cli/admin_help.h"
#include "cli/output.h"
#include "cli/table.h"
#include "esx-vmci/service/service_assembly.h"
#include "esx-vmci/service/service_config.h"

namespace vdvs::cli {
namespace {

using base::Result;

/// What the completion script calls: the words of the line so far follow.
constexpr std::string_view kCompleteWord = "__complete";

void print(std::FILE* stream, const std::string& text) { std::fwrite(text.data(), 1, text.size(), stream); }

std::string asked_by() {
  const char* user = ::getenv("SUDO_USER");
  return fmt::format("uid {} (pid {}{})", ::getuid(), ::getpid(),
                     user == nullptr ? "" : fmt::format(", sudo {}", user));
}

/// The service's settings: of the file that was named, or as the service itself finds them.
Result<esx::ServiceConfig> settings_of(const AdminArguments& arguments) {
  esx::ServiceConfigSources sources;
  if (!arguments.config_file.empty()) sources.file = arguments.config_file;
  return esx::load_service_config(sources);
}

/// The commands without a service: database and datastores are opened here, as it would.
Result<esx::AdminOutput> run_here(const esx::ServiceConfig& config, const esx::AdminCommand& command) {
  ASSIGN_OR_RETURN(const esx::ServiceAssembly assembly, esx::assemble_service(config));
  const auto admin = esx::make_admin({.parts = assembly.parts(),
                                      .database_path = config.database,
                                      .audit_file = config.audit_log,
                                      .status = [&config] {
                                        return esx::ServiceStatus{.version = VDVS_VERSION,
                                                                  .log_file = config.log.path,
                                                                  .log_config_file = config.log_config_file};
                                      }});
  return admin->run(command);
}

Result<esx::AdminOutput> run(const AdminArguments& arguments, esx::AdminCommand command) {
  command.asked_by = asked_by();
  std::optional<esx::ServiceConfig> config;
  std::string socket = arguments.socket;
  if (socket.empty()) {
    ASSIGN_OR_RETURN(config, settings_of(arguments));
    socket = config->admin_socket;
  }
  // A socket that was named is meant: then the command is not carried out elsewhere.
  if (!arguments.socket.empty()) return esx::make_remote_admin(socket)->run(command);
  if (!socket.empty()) {
    ASSIGN_OR_RETURN(const bool is_there, esx::is_service_there(socket));
    if (is_there) return esx::make_remote_admin(socket)->run(command);
  }
  return run_here(*config, command);
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

/// One candidate a line. Silent where names cannot be had: the shell is in the middle of a line.
int complete(std::span<const std::string> words) {
  const Completions completions = complete_admin_arguments(words);
  for (const std::string& word : completions.words) print(stdout, word + "\n");
  if (!completions.names) return kOk;
  const NameSource source = source_of(*completions.names);
  esx::AdminCommand command{.verb = source.verb};
  const bool is_volume = *completions.names == esx::ValueKind::kVolume;
  if (is_volume) command.flags["c"] = "volume,datastore";
  const auto output = run(parse_admin_arguments({}), command);
  if (!output) return kOk;
  std::vector<std::string> names;
  for (const auto& row : output->rows)
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
  const auto output = run(arguments, arguments.command);
  if (!output) {
    print(stdout, print_error(output.error(), arguments.format));
    return output.error().code() == base::ErrorCode::kUnavailable ? kNotReachable : kOperationFailed;
  }
  const Printed printed = print_output(*output, arguments.format, terminal_width());
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
