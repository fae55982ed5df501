// What each of the administrator's commands does, one function a command, in one file a subject. Each checks
// what it can before it changes anything.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx::admin {

using Flags = std::map<std::string, std::string>;
using Handler = base::Result<AdminOutput> (*)(const AdminOptions&, const Flags&);

// volumes.cc
base::Result<AdminOutput> volume_ls(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> volume_shortls(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> volume_set(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> volume_detach(const AdminOptions& options, const Flags& flags);
// policies.cc
base::Result<AdminOutput> policy_create(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> policy_rm(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> policy_update(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> policy_ls(const AdminOptions& options, const Flags& flags);
// groups.cc
base::Result<AdminOutput> group_create(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> group_update(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> group_rm(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> group_ls(const AdminOptions& options, const Flags& flags);
// group_vms.cc
base::Result<AdminOutput> vm_add(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> vm_rm(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> vm_replace(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> vm_ls(const AdminOptions& options, const Flags& flags);
// access.cc
base::Result<AdminOutput> access_add(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> access_set(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> access_rm(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> access_ls(const AdminOptions& options, const Flags& flags);
// inventory.cc
base::Result<AdminOutput> datastore_ls(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> directory_ls(const AdminOptions& options, const Flags& flags);
// config.cc
base::Result<AdminOutput> config_init(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> config_rm(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> config_mv(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> config_status(const AdminOptions& options, const Flags& flags);
base::Result<AdminOutput> status(const AdminOptions& options, const Flags& flags);

// What several of them need.

inline constexpr std::string_view kNotAvailable = "N/A";

AdminOutput text(std::string line);
std::optional<std::string> find_flag(const Flags& flags, std::string_view name);
/// A required flag: check_command has seen it.
const std::string& flag(const Flags& flags, const std::string& name);
bool has_flag(const Flags& flags, std::string_view name);

std::string join(const std::vector<std::string>& items, std::string_view separator);
bool equals_ignoring_case(std::string_view a, std::string_view b);

/// kInitNeeded where there is no database.
base::Result<void> need_database(const AdminOptions& options);
/// A datastore's url by its name, _VM_DS and _ALL_DS included. Errors: 302 (kDsNotExist).
base::Result<std::string> url_of(const Datastores& datastores, std::string_view name);
/// The name by the url; the url itself where no datastore has it.
std::string name_of(const Datastores& datastores, std::string_view url);

}  // namespace vdvs::esx::admin
