// config init, rm, mv, status; status.
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <filesystem>

#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/local_sh.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kSharedDatabase = "vmdkops_config.db";

std::string shared_path(const Datastore& datastore) {
  return fmt::format("{}/{}/{}", datastore.path, kDockvols, kSharedDatabase);
}

bool is_there(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

/// Puts the block in, or (empty) takes it out, and says so. The database is as asked even where this fails.
void update_boot_script(const AdminOptions& options, std::string_view block, AdminOutput& output) {
  const auto updated = update_local_sh(options.local_sh, block);
  if (!updated)
    output.lines.push_back("Warning: " + updated.error().text());
  else if (*updated)
    output.lines.push_back(fmt::format("Updating {}", options.local_sh));
}

Result<AdminOutput> init_local(const AdminOptions& options, bool is_forced) {
  RETURN_IF_ERROR(init_local_database(options.database_path, is_forced));
  return AdminOutput{
      .lines = {"Warning: this feature is EXPERIMENTAL",
                fmt::format("Creating new DB at {}", options.database_path),
                "Warning: Local configuration will not survive ESXi reboot. See KB2043564 for details"}};
}

Result<AdminOutput> init_shared(const AdminOptions& options, const std::string& name, bool is_forced) {
  const Datastores& datastores = options.parts.datastores;
  const auto datastore = datastores.find(name);
  if (!datastore) return fail(ErrorCode::kNotFound, "No such datastore: {}", name);
  if (datastore->path.empty()) {
    return std::unexpected(
        base::Error(ErrorCode::kUnsupported,
                    fmt::format("init on '{}': this datastore is no folder of this machine", name),
                    "use a datastore that is, or --local"));
  }
  for (const Datastore& other : datastores.all()) {
    if (other.name == datastore->name || other.path.empty() || is_forced || !is_there(shared_path(other)))
      continue;
    return std::unexpected(base::Error(
        ErrorCode::kExists,
        fmt::format("init on '{}': there is a configuration database on datastore {} already ({})", name,
                    other.name, shared_path(other)),
        fmt::format("use that one (--datastore={}), or add --force", other.name)));
  }
  AdminOutput output{.lines = {"Warning: this feature is EXPERIMENTAL"}};
  const std::string path = shared_path(*datastore);
  const bool is_new = !is_there(path);
  ASSIGN_OR_RETURN(const std::string block, local_sh_block(options.database_path, path));
  RETURN_IF_ERROR(init_shared_database(options.database_path, datastore->path, is_forced));
  output.lines.push_back(is_new ? fmt::format("Creating new DB at {}", path)
                                : fmt::format("Using the DB at {}", path));
  output.lines.push_back(fmt::format("Creating a symlink to {} at {}", path, options.database_path));
  update_boot_script(options, block, output);
  return output;
}

std::vector<std::string> database_lines(const Tenancy& tenancy) {
  const DbMode mode = tenancy.mode();
  return {fmt::format("DB_Mode: {}", db_mode_text(mode)),
          fmt::format("DB_LocalPath: {}", mode == DbMode::kNotConfigured ? kNotAvailable : tenancy.path()),
          fmt::format("DB_SharedLocation: {}",
                      mode == DbMode::kMultiNode ? tenancy.shared_location() : std::string(kNotAvailable))};
}

/// "1019", and whatever else the service listens on.
std::string ports_text(const std::vector<std::string>& listens) {
  std::vector<std::string> texts;
  for (const std::string& text : listens) {
    const bool is_vsock = text.starts_with("vsock:");
    texts.push_back(is_vsock ? text.substr(text.rfind(':') + 1) : text);
  }
  return texts.empty() ? std::string(kNotAvailable) : join(texts, ", ");
}

std::string or_not_available(const std::string& text) {
  return text.empty() ? std::string(kNotAvailable) : text;
}

}  // namespace

Result<AdminOutput> config_init(const AdminOptions& options, const Flags& flags) {
  const auto datastore = find_flag(flags, "datastore");
  if (datastore.has_value() == has_flag(flags, "local"))
    return fail(ErrorCode::kInvalid, "Exactly one of --datastore=<datastore> and --local is needed");
  if (const DbMode mode = options.parts.tenancy.mode();
      mode != DbMode::kNotConfigured && !has_flag(flags, "force")) {
    return std::unexpected(
        base::Error(ErrorCode::kExists,
                    fmt::format("Init is already done: {} at {}", db_mode_text(mode), options.database_path),
                    "remove it with 'config rm' first, or add --force"));
  }
  return datastore ? init_shared(options, *datastore, has_flag(flags, "force"))
                   : init_local(options, has_flag(flags, "force"));
}

Result<AdminOutput> config_rm(const AdminOptions& options, const Flags& flags) {
  const bool is_local = has_flag(flags, "local");
  if (is_local == has_flag(flags, "unlink"))
    return fail(ErrorCode::kInvalid, "Exactly one of --local and --unlink is needed");
  if (!has_flag(flags, "confirm")) {
    return std::unexpected(base::Error(
        ErrorCode::kInvalid, "Removing the configuration lets every VM use every volume of _DEFAULT",
        "add --confirm if that is meant"));
  }
  const DbMode mode = options.parts.tenancy.mode();
  const std::string& path = options.database_path;
  if (mode == DbMode::kNotConfigured)
    return fail(ErrorCode::kNotFound, "There is no configuration to remove at {}", path);
  std::error_code ignored;
  const bool is_link = std::filesystem::is_symlink(std::filesystem::symlink_status(path, ignored));
  if (is_local && mode == DbMode::kMultiNode)
    return fail(ErrorCode::kInvalid, "{} is a link to a shared DB: use --unlink", path);
  if (!is_local && !is_link)
    return fail(ErrorCode::kInvalid, "{} is a local DB, not a link: use --local", path);
  AdminOutput output;
  if (is_link) {
    RETURN_IF_ERROR(unlink_shared_database(path));
    output.lines.push_back(fmt::format("Removed link {}", path));
    update_boot_script(options, {}, output);
    return output;
  }
  ASSIGN_OR_RETURN(std::string said, remove_local_database(path, has_flag(flags, "no-backup")));
  output.lines.push_back(std::move(said));
  return output;
}

Result<AdminOutput> config_mv(const AdminOptions&, const Flags&) {
  return fail(ErrorCode::kUnsupported,
              "Sorry, configuration move ('config mv' command) is not supported yet");
}

Result<AdminOutput> config_status(const AdminOptions& options, const Flags&) {
  return AdminOutput{.lines = database_lines(options.parts.tenancy)};
}

Result<AdminOutput> status(const AdminOptions& options, const Flags& flags) {
  const ServiceStatus service = options.status ? options.status() : ServiceStatus{};
  const bool is_full = !has_flag(flags, "fast");
  AdminOutput output{.lines = {"=== Service: "}};
  auto& lines = output.lines;
  if (is_full) lines.push_back(fmt::format("Version: {}", or_not_available(service.version)));
  lines.push_back(fmt::format("Status: {}", service.is_running ? "Running" : "Stopped"));
  if (service.is_running) {
    lines.push_back(fmt::format("Pid: {}", service.pid));
    if (is_full) lines.push_back(fmt::format("Port: {}", ports_text(service.listens)));
  }
  lines.push_back(fmt::format("LogConfigFile: {}", or_not_available(service.log_config_file)));
  lines.push_back(fmt::format("LogFile: {}", or_not_available(service.log_file)));
  lines.push_back(fmt::format("LogLevel: {}", or_not_available(service.log_level)));
  lines.push_back("=== Authorization Config DB: ");
  for (std::string& line : database_lines(options.parts.tenancy)) lines.push_back(std::move(line));
  if (!has_flag(flags, "counters")) return output;
  lines.push_back("=== Counters: ");
  for (const auto& [name, value] : service.counters)
    lines.push_back(fmt::format("{}: {}", std::string_view(name), boost::json::serialize(value)));
  return output;
}

}  // namespace vdvs::esx::admin
