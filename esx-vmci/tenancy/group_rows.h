// Groups and their members as rows, with the rules of who may be in which (reference, 3.11). Every function
// runs in the caller's transaction; nothing here begins or ends one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/tenancy/sqlite_file.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {

using Members = std::vector<Tenancy::Member>;

inline constexpr std::size_t kMaxGroupNameChars = 64;
inline constexpr std::size_t kMaxGroupDescriptionChars = 256;

base::Result<void> validate_group_name(std::string_view name);

base::Result<std::vector<VmGroup>> read_groups(SqliteFile& file);
base::Result<VmGroup> read_group(SqliteFile& file, std::string_view name);
/// The group of a VM, ignoring the case of its uuid, or _DEFAULT.
base::Result<VmGroup> read_group_of(SqliteFile& file, std::string_view vm_uuid, std::string_view vm_name);
base::Result<Members> read_members(SqliteFile& file, const VmGroup& group);

/// `group` has no uuid: it gets one.
base::Result<VmGroup> insert_group(SqliteFile& file, VmGroup group, const Members& vms);
base::Result<VmGroup> change_group(SqliteFile& file, const VmGroup& group,
                                   const Tenancy::GroupChange& change);
base::Result<void> delete_group(SqliteFile& file, const VmGroup& group, bool even_with_members);

base::Result<void> insert_members(SqliteFile& file, const VmGroup& group, const Members& vms);
base::Result<void> delete_members(SqliteFile& file, const VmGroup& group, const Members& vms);
base::Result<void> replace_members(SqliteFile& file, const VmGroup& group, const Members& vms);
/// A database of version 1.1 had no names, and whoever upgraded it may not have known them.
base::Result<bool> has_nameless_members(SqliteFile& file);
base::Result<void> write_missing_names(SqliteFile& file, const Members& known);

/// The group as it is now, by its uuid. Errors: kTenantNotExist.
base::Result<VmGroup> refresh_group(SqliteFile& file, const VmGroup& group);

}  // namespace vdvs::esx
