// Sizes as administrators write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx::admin {

/// "500MB", "2TB": a whole number and one of MB, GB, TB, PB in any case; to MB. 0 means no limit, also
/// written "0" or "Unset". Errors: 507 (kVolumeSizeInvalid).
base::Result<std::uint64_t> parse_limit_mb(std::string_view text);
/// "Unset", "600.00MB", "1.00GB".
std::string limit_text(std::uint64_t mb);
/// "100MB", "2048GB": as `docker volume inspect` has it, whole numbers, rounded down.
std::string bytes_text(std::uint64_t bytes);

}  // namespace vdvs::esx::admin
