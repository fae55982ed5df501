// The administrator's commands, carried out: the table of handlers, and the audit log around them.
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "base/log.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/admin/audit_log.h"
#include "esx-vmci/admin/commands.h"
#include "esx-vmci/admin/handlers.h"

namespace vdvs::esx {
namespace admin {

AdminOutput text(std::string line) { return AdminOutput{.lines = {std::move(line)}}; }

std::optional<std::string> find_flag(const Flags& flags, std::string_view name) {
  const auto found = flags.find(std::string(name));
  return found == flags.end() ? std::nullopt : std::optional(found->second);
}

const std::string& flag(const Flags& flags, const std::string& name) {
  const auto found = flags.find(name);
  VDVS_CHECK(found != flags.end());
  return found->second;
}

bool has_flag(const Flags& flags, std::string_view name) { return flags.contains(std::string(name)); }

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  return fmt::format("{}", fmt::join(items, separator));
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

base::Result<void> need_database(const AdminOptions& options) {
  if (options.parts.tenancy.mode() == DbMode::kNotConfigured)
    return std::unexpected(tenancy_error(TenancyError::kInitNeeded));
  return {};
}

namespace {

/// "_VM_DS" for "_VM_DS://".
std::string_view without_scheme_end(std::string_view url) { return url.substr(0, url.find(':')); }

}  // namespace

base::Result<std::string> url_of(const Datastores& datastores, std::string_view name) {
  for (const std::string_view url : {kVmDatastoreUrl, kAllDatastoresUrl})
    if (name == without_scheme_end(url)) return std::string(url);
  const auto datastore = datastores.find(name);
  if (!datastore) return std::unexpected(tenancy_error(TenancyError::kDsNotExist, {name}));
  return datastore->url;
}

std::string name_of(const Datastores& datastores, std::string_view url) {
  for (const std::string_view special : {kVmDatastoreUrl, kAllDatastoresUrl})
    if (url == special) return std::string(without_scheme_end(url));
  for (const Datastore& datastore : datastores.all())
    if (datastore.url == url) return datastore.name;
  return std::string(url);
}

}  // namespace admin

namespace {

using base::Result;

struct HandlerRow {
  std::string_view verb;
  admin::Handler handler;
};

constexpr std::array kHandlers{
    HandlerRow{"volume ls", admin::volume_ls},
    HandlerRow{"volume shortls", admin::volume_shortls},
    HandlerRow{"volume set", admin::volume_set},
    HandlerRow{"volume detach", admin::volume_detach},
    HandlerRow{"policy create", admin::policy_create},
    HandlerRow{"policy rm", admin::policy_rm},
    HandlerRow{"policy update", admin::policy_update},
    HandlerRow{"policy ls", admin::policy_ls},
    HandlerRow{"vmgroup create", admin::group_create},
    HandlerRow{"vmgroup update", admin::group_update},
    HandlerRow{"vmgroup rm", admin::group_rm},
    HandlerRow{"vmgroup ls", admin::group_ls},
    HandlerRow{"vmgroup vm add", admin::vm_add},
    HandlerRow{"vmgroup vm rm", admin::vm_rm},
    HandlerRow{"vmgroup vm replace", admin::vm_replace},
    HandlerRow{"vmgroup vm ls", admin::vm_ls},
    HandlerRow{"vmgroup access add", admin::access_add},
    HandlerRow{"vmgroup access set", admin::access_set},
    HandlerRow{"vmgroup access rm", admin::access_rm},
    HandlerRow{"vmgroup access ls", admin::access_ls},
    HandlerRow{"config init", admin::config_init},
    HandlerRow{"config rm", admin::config_rm},
    HandlerRow{"config mv", admin::config_mv},
    HandlerRow{"config status", admin::config_status},
    HandlerRow{"datastore ls", admin::datastore_ls},
    HandlerRow{"vm ls", admin::directory_ls},
    HandlerRow{"status", admin::status},
};

class AdminService final : public Admin {
 public:
  explicit AdminService(AdminOptions options) : options_(std::move(options)) {
    if (!options_.audit_file.empty()) audit_.emplace(options_.audit_file);
  }

  Result<AdminOutput> run(const AdminCommand& command) override {
    RETURN_IF_ERROR(check_command(command));
    const auto row = std::ranges::find(kHandlers, command.verb, &HandlerRow::verb);
    VDVS_CHECK(row != kHandlers.end());
    const CommandRule& rule = *find_command_rule(command.verb);
    // Not waited for: a full disk must not keep an administrator from freeing one. That it failed is said
    // with the result, whose line fails the same way.
    if (audit_ && !rule.drastic_flag.empty() && command.flags.contains(std::string(rule.drastic_flag)))
      (void)audit_->begin(command);
    Result<AdminOutput> result = row->handler(options_, command.flags);
    if (rule.is_change) record(command, result);
    return result;
  }

 private:
  /// The change is made, or was refused: a log that cannot be written does not undo it, but both sides hear.
  void record(const AdminCommand& command, Result<AdminOutput>& result) const {
    base::log::info("an administrator's command", {{"verb", command.verb},
                                                   {"who", command.asked_by},
                                                   {"result", result ? "done" : result.error().text()}});
    if (!audit_) return;
    const auto written = audit_->append(command, result);
    if (written) return;
    base::log::error("an administrator's change is not in the audit log",
                     {{"verb", command.verb}, {"who", command.asked_by}, {"error", written.error().text()}});
    if (result) result->lines.push_back("Warning: not in the audit log: " + written.error().message());
  }

  const AdminOptions options_;
  std::optional<AuditLog> audit_;
};

}  // namespace

std::unique_ptr<Admin> make_admin(AdminOptions options) {
  return std::make_unique<AdminService>(std::move(options));
}

}  // namespace vdvs::esx
