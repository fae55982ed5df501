// Usage and help of vmdkops_admin, made of the table of commands.
#pragma once

#include <string>
#include <string_view>

#include "esx-vmci/admin/commands.h"

namespace vdvs::cli {

inline constexpr std::string_view kAdminProgram = "vmdkops_admin";

/// "usage: vmdkops_admin vmgroup vm rm [-h] --name NAME --vm-list vm1,vm2,...\n"
std::string usage_of(const esx::CommandRule& rule);
/// For words that more must follow: "vmgroup", or "" for the program.
std::string usage_of_group(std::string_view prefix);
std::string help_of(const esx::CommandRule& rule);
std::string help_of_group(std::string_view prefix);

}  // namespace vdvs::cli
