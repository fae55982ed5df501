// policy create, rm, update, ls.
#include <map>

#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/volume_scan.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kPolicyOption = "vsan-policy-name";

Result<PolicyStore*> policies_of(const AdminOptions& options) {
  if (options.parts.policies == nullptr)
    return fail(ErrorCode::kUnsupported, "Error: VSAN datastore does not exist");
  return options.parts.policies;
}

std::string policy_of(const ScannedVolume& volume) {
  if (!volume.info) return {};
  const auto found = volume.info->options.find(std::string(kPolicyOption));
  return found == volume.info->options.end() ? std::string() : found->second;
}

std::string path_of(const ScannedVolume& volume) {
  const std::string folder = volume.datastore.path.empty() ? fmt::format("[{}] ", volume.datastore.name)
                                                           : volume.datastore.path + "/";
  return fmt::format("{}{}/{}/{}.vmdk", folder, kDockvols, volume.group.uuid, volume.volume);
}

/// The volumes that name `policy`. A volume that cannot be read may do so: then the answer is not known.
Result<std::vector<ScannedVolume>> users_of(const AdminOptions& options, const std::string& policy) {
  ASSIGN_OR_RETURN(Scan scan, scan_volumes(options.parts, {}));
  if (!scan.notes.empty()) {
    return fail(ErrorCode::kUnavailable, "Cannot tell which volumes use policy {}: {}", policy,
                join(scan.notes, "; "));
  }
  std::erase_if(scan.volumes, [&](const ScannedVolume& volume) { return policy_of(volume) != policy; });
  return std::move(scan.volumes);
}

std::string updated_text(std::size_t count, const std::vector<std::string>& failures) {
  return fmt::format("Successfully updated: {} volumes.\nFailed to update:     {} volumes", count,
                     join(failures, ", "));
}

}  // namespace

Result<AdminOutput> policy_create(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(PolicyStore * policies, policies_of(options));
  RETURN_IF_ERROR(policies->create(flag(flags, "name"), flag(flags, "content")));
  return text(fmt::format("Successfully created policy: {}", flag(flags, "name")));
}

Result<AdminOutput> policy_rm(const AdminOptions& options, const Flags& flags) {
  const std::string& name = flag(flags, "name");
  ASSIGN_OR_RETURN(PolicyStore * policies, policies_of(options));
  RETURN_IF_ERROR(policies->find(name));
  ASSIGN_OR_RETURN(const auto users, users_of(options, name));
  if (!users.empty()) {
    std::vector<std::string> texts;
    for (const ScannedVolume& volume : users)
      texts.push_back(fmt::format("{{'volume': '{}', 'policy': '{}', 'path': '{}'}}", volume.volume, name,
                                  path_of(volume)));
    return fail(ErrorCode::kInUse, "Cannot remove. Policy is in use by {}", join(texts, ", "));
  }
  RETURN_IF_ERROR(policies->remove(name));
  return text(fmt::format("Successfully removed policy: {}", name));
}

Result<AdminOutput> policy_update(const AdminOptions& options, const Flags& flags) {
  const std::string& name = flag(flags, "name");
  ASSIGN_OR_RETURN(PolicyStore * policies, policies_of(options));
  ASSIGN_OR_RETURN(const Policy old, policies->find(name));
  ASSIGN_OR_RETURN(const auto users, users_of(options, name));
  RETURN_IF_ERROR(policies->update(name, flag(flags, "content")));
  AdminOutput output = text(fmt::format("Successfully updated policy {}", name));
  if (users.empty()) return output;
  if (!options.apply_policy) {
    output.lines.push_back(
        fmt::format("{} volumes that use it keep what they have: nothing here can change the policy of a "
                    "disk that exists",
                    users.size()));
    return output;
  }
  std::vector<std::string> failures;
  for (const ScannedVolume& volume : users) {
    const auto applied = options.apply_policy(volume.place(), flag(flags, "content"));
    if (!applied) failures.push_back(fmt::format("{} ({})", volume.text(), applied.error().message()));
  }
  if (failures.empty()) return output;
  const std::string result = updated_text(users.size() - failures.size(), failures);
  if (failures.size() <
      users.size())  // some have the new content: the policy keeps it, and the failures are told
    return std::unexpected(
        base::Error(ErrorCode::kIo, result, "repeat the update for the volumes that failed"));
  auto restored = policies->update(name, old.content);
  if (!restored) return std::unexpected(std::move(restored).error().within(result));
  return std::unexpected(base::Error(ErrorCode::kIo, result, "the policy is as it was before"));
}

Result<AdminOutput> policy_ls(const AdminOptions& options, const Flags&) {
  ASSIGN_OR_RETURN(PolicyStore * policies, policies_of(options));
  ASSIGN_OR_RETURN(const std::vector<Policy> all, policies->list());
  ASSIGN_OR_RETURN(Scan scan, scan_volumes(options.parts, {}));
  std::map<std::string, std::size_t> uses;
  for (const ScannedVolume& volume : scan.volumes) ++uses[policy_of(volume)];
  AdminOutput output{.columns = {"Policy Name", "Policy Content", "Active"}, .lines = std::move(scan.notes)};
  for (const Policy& policy : all) {
    const auto used = uses.find(policy.name);
    output.rows.push_back(
        {policy.name, policy.content,
         used == uses.end() ? "Unused" : fmt::format("In use by {} volumes", used->second)});
  }
  return output;
}

}  // namespace vdvs::esx::admin
