#include "esx-vmci/admin/sizes.h"

#include <array>
#include <charconv>
#include <limits>

#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx::admin {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t mb;
};
constexpr std::array kUnits{Unit{"MB", 1}, Unit{"GB", 1ull << 10}, Unit{"TB", 1ull << 20},
                            Unit{"PB", 1ull << 30}};

/// What SQLite can hold.
constexpr auto kMaxMb = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

}  // namespace

base::Result<std::uint64_t> parse_limit_mb(std::string_view text) {
  if (text == "0" || equals_ignoring_case(text, "unset")) return 0;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc()) {
    const std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const Unit& unit : kUnits)
      if (equals_ignoring_case(name, unit.name) && number <= kMaxMb / unit.mb) return number * unit.mb;
  }
  return std::unexpected(tenancy_error(TenancyError::kVolumeSizeInvalid));
}

std::string limit_text(std::uint64_t mb) {
  if (mb == 0) return "Unset";
  if (mb >= 1ull << 20) return fmt::format("{:.2f}TB", static_cast<double>(mb) / (1ull << 20));
  if (mb >= 1ull << 10) return fmt::format("{:.2f}GB", static_cast<double>(mb) / (1ull << 10));
  return fmt::format("{:.2f}MB", static_cast<double>(mb));
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes >= 1ull << 30) return fmt::format("{}GB", bytes >> 30);
  if (bytes >= 1ull << 20) return fmt::format("{}MB", bytes >> 20);
  if (bytes >= 1ull << 10) return fmt::format("{}KB", bytes >> 10);
  return fmt::format("{}", bytes);
}

}  // namespace vdvs::esx::admin
