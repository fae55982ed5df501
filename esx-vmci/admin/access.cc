// vmgroup access add, set, rm, ls.
#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/sizes.h"

namespace vdvs::esx::admin {
namespace {

using base::Result;

struct Target {
  VmGroup group;
  std::string url;
  std::string name;  ///< As shown; the url itself where no datastore has it.
};

Result<Target> target_of(const AdminOptions& options, const Flags& flags) {
  RETURN_IF_ERROR(need_database(options));
  Target target;
  ASSIGN_OR_RETURN(target.group, options.parts.tenancy.find_group(flag(flags, "name")));
  auto url = url_of(options.parts.datastores, flag(flags, "datastore"));
  if (!url) {
    // A datastore that is gone still has its row, and is named by its url.
    ASSIGN_OR_RETURN(const auto rows, options.parts.tenancy.privileges(target.group));
    for (const Privilege& row : rows)
      if (row.datastore_url == flag(flags, "datastore")) url = row.datastore_url;
  }
  if (!url) return std::unexpected(std::move(url).error());
  target.url = std::move(*url);
  target.name = name_of(options.parts.datastores, target.url);
  return target;
}

/// The database knows datastores by their urls, the administrator by the names that were given.
Result<void> by_name(const Target& target, Result<void> result) {
  if (result || target.url == target.name) return result;
  const base::Error& error = result.error();
  std::string message = error.message();
  if (const std::size_t at = message.find(target.url); at != std::string::npos)
    message.replace(at, target.url.size(), target.name);
  return std::unexpected(base::Error(error.code(), std::move(message), error.remedy()));
}

Result<std::optional<std::uint64_t>> limit_of(const Flags& flags, std::string_view name) {
  const auto given = find_flag(flags, name);
  if (!given) return std::nullopt;
  ASSIGN_OR_RETURN(const std::uint64_t mb, parse_limit_mb(*given));
  return mb;
}

}  // namespace

Result<AdminOutput> access_add(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const Target target, target_of(options, flags));
  ASSIGN_OR_RETURN(const auto max_mb, limit_of(flags, "volume-maxsize"));
  ASSIGN_OR_RETURN(const auto total_mb, limit_of(flags, "volume-totalsize"));
  const Privilege privilege{.datastore_url = target.url,
                            .allow_create = has_flag(flags, "allow-create"),
                            .max_volume_mb = max_mb.value_or(0),
                            .usage_quota_mb = total_mb.value_or(0)};
  RETURN_IF_ERROR(by_name(target, options.parts.tenancy.add_privilege(target.group, privilege)));
  return text("vmgroup access add succeeded");
}

Result<AdminOutput> access_set(const AdminOptions& options, const Flags& flags) {
  Tenancy::PrivilegeChange change;
  if (const auto allow = find_flag(flags, "allow-create")) {
    if (!equals_ignoring_case(*allow, "true") && !equals_ignoring_case(*allow, "false"))
      return std::unexpected(tenancy_error(TenancyError::kPrivilegeInvalidAllowCreateValue, {*allow}));
    change.allow_create = equals_ignoring_case(*allow, "true");
  }
  ASSIGN_OR_RETURN(change.max_volume_mb, limit_of(flags, "volume-maxsize"));
  ASSIGN_OR_RETURN(change.usage_quota_mb, limit_of(flags, "volume-totalsize"));
  ASSIGN_OR_RETURN(const Target target, target_of(options, flags));
  RETURN_IF_ERROR(by_name(target, options.parts.tenancy.change_privilege(target.group, target.url, change)));
  return text("vmgroup access set succeeded");
}

Result<AdminOutput> access_rm(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const Target target, target_of(options, flags));
  RETURN_IF_ERROR(by_name(target, options.parts.tenancy.remove_privilege(target.group, target.url)));
  return text("vmgroup access rm succeeded");
}

Result<AdminOutput> access_ls(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const VmGroup group, options.parts.tenancy.find_group(flag(flags, "name")));
  ASSIGN_OR_RETURN(const auto rows, options.parts.tenancy.privileges(group));
  AdminOutput output{.columns = {"Datastore", "Allow_create", "Max_volume_size", "Total_size"}};
  for (const Privilege& row : rows) {
    output.rows.push_back({name_of(options.parts.datastores, row.datastore_url),
                           row.allow_create ? "True" : "False", limit_text(row.max_volume_mb),
                           limit_text(row.usage_quota_mb)});
  }
  return output;
}

}  // namespace vdvs::esx::admin
