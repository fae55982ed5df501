// vdvs: the operator's tool. Only wires: the command line, who carries the command out, and what is said of
// it.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/admin_run.h"
#include "cli/vdvs_arguments.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::cli {
namespace {

using base::Result;

Result<esx::TlsFiles> make_files(const CertCommand& command) {
  switch (command.kind) {
    case CertCommand::Kind::kAuthority:
      return esx::make_authority(command.folder, command.wish);
    case CertCommand::Kind::kService:
      return esx::make_service_certificate(command.folder, command.wish);
    case CertCommand::Kind::kGuest:
      return esx::make_guest_certificate(command.folder, command.wish);
  }
  std::abort();
}

std::string what_next(const CertCommand& command, const esx::TlsFiles& files) {
  const std::string flags = fmt::format("--tls-authority {} --tls-certificate {} --tls-key {}",
                                        files.authority, files.certificate, files.key);
  switch (command.kind) {
    case CertCommand::Kind::kAuthority:
      return fmt::format("Keep {} here, and secret: whoever has it can be any VM.", files.key);
    case CertCommand::Kind::kService:
      return fmt::format("vmdkopsd takes them with {}", flags);
    case CertCommand::Kind::kGuest:
      return fmt::format("Copy all three to the VM '{}', whose mountd takes them with {}", command.wish.name,
                         flags);
  }
  std::abort();
}

Result<std::string> run(const CertCommand& command) {
  ASSIGN_OR_RETURN(const esx::TlsFiles files, make_files(command));
  return fmt::format("{}\n{}\n{}\n", files.certificate, files.key, what_next(command, files));
}

Result<std::string> run(const DetachCommand& command) {
  esx::AdminCommand asked{.verb = "volume detach", .flags = {{"volume", command.volume}, {"force", ""}}};
  if (!command.vmgroup.empty()) asked.flags["vmgroup"] = command.vmgroup;
  const AdminTarget target{.socket = command.socket, .config_file = command.config_file};
  ASSIGN_OR_RETURN(const esx::AdminOutput output, run_admin_command(target, std::move(asked)).output);
  std::string text;
  for (const std::string& line : output.lines) text += line + "\n";
  return text;
}

int run_main(const std::vector<std::string>& words) {
  const VdvsArguments arguments = parse_vdvs_arguments(words);
  if (arguments.exit_status) {
    std::fputs(arguments.message.c_str(), *arguments.exit_status == kVdvsOk ? stdout : stderr);
    return *arguments.exit_status;
  }
  const auto said = std::visit([](const auto& command) { return run(command); }, arguments.command);
  if (!said) {
    std::fprintf(stderr, "vdvs: %s\n", said.error().text().c_str());
    return kVdvsFailed;
  }
  std::fputs(said->c_str(), stdout);
  return std::fflush(stdout) == 0 ? kVdvsOk : kVdvsFailed;
}

}  // namespace
}  // namespace vdvs::cli

int main(int argc, char** argv) {
  return vdvs::cli::run_main(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
}
