#include "cli/admin_run.h"

#include <unistd.h>

#include <utility>

#include "base/log.h"
#include "esx-vmci/admin/asker.h"
#include "esx-vmci/service/service_assembly.h"
#include "esx-vmci/service/service_config.h"

namespace vdvs::cli {
namespace {

using base::Result;

Result<esx::ServiceConfig> settings_of(const AdminTarget& target) {
  esx::ServiceConfigSources sources;
  if (!target.config_file.empty()) sources.file = target.config_file;
  return esx::load_service_config(sources);
}

AdminOutcome not_reached(base::Error error) {
  return {.output = std::unexpected(std::move(error)), .is_reached = false};
}

AdminOutcome run_there(const std::string& socket, const esx::AdminCommand& command) {
  return {.output = esx::make_remote_admin(socket)->run(command)};
}

/// Without a service: database and datastores are opened here, as it would.
AdminOutcome run_here(const esx::ServiceConfig& config, const esx::AdminCommand& command) {
  // There is no service's log here: what it would hold of warnings goes to whoever gave the command.
  (void)base::log::set_up({.level = base::log::Level::kWarn});
  const auto assembly = esx::assemble_service(config);
  if (!assembly) return not_reached(assembly.error());
  const auto status = [&config] {
    return esx::ServiceStatus{
        .version = VDVS_VERSION, .log_file = config.log.path, .log_config_file = config.log_config_file};
  };
  const auto admin = esx::make_admin({.parts = assembly->parts(),
                                      .database_path = config.database,
                                      .audit_file = config.audit_log,
                                      .status = status,
                                      .apply_policy = assembly->apply_policy});
  return {.output = admin->run(command)};
}

}  // namespace

AdminOutcome run_admin_command(const AdminTarget& target, esx::AdminCommand command) {
  command.asked_by = esx::describe_asker(::getuid(), ::getpid());
  // A socket that was named is meant: then the command is not carried out elsewhere.
  if (!target.socket.empty()) {
    const auto is_there = esx::is_service_there(target.socket);
    if (!is_there) return not_reached(is_there.error());
    if (!*is_there) {
      return not_reached(base::Error(base::ErrorCode::kUnavailable,
                                     fmt::format("connect to '{}': no service answers there", target.socket),
                                     "start the service, or leave --socket out: then the command is carried "
                                     "out without one"));
    }
    return run_there(target.socket, command);
  }
  const auto config = settings_of(target);
  if (!config) return not_reached(config.error());
  if (!config->admin_socket.empty()) {
    const auto is_there = esx::is_service_there(config->admin_socket);
    if (!is_there) return not_reached(is_there.error());
    if (*is_there) return run_there(config->admin_socket, command);
  }
  return run_here(*config, command);
}

}  // namespace vdvs::cli
