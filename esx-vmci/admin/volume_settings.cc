#include "esx-vmci/admin/volume_settings.h"

#include <algorithm>
#include <array>
#include <string>

namespace vdvs::esx::admin {
namespace {

constexpr std::array<std::string_view, 2> kChangeable = {"access", "attach-as"};

}  // namespace

base::Result<OptionMap> parse_volume_settings(std::string_view text) {
  using base::ErrorCode;
  OptionMap settings;
  while (true) {
    const std::string_view item = text.substr(0, text.find(','));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos)
      return base::fail(ErrorCode::kInvalid, "'{}' is not OPTION=VALUE", item);
    const std::string_view name = item.substr(0, equals);
    if (std::ranges::find(kChangeable, name) == kChangeable.end())
      return base::fail(ErrorCode::kInvalid, "option '{}' cannot be changed: only access and attach-as can",
                        name);
    if (!settings.emplace(name, item.substr(equals + 1)).second)
      return base::fail(ErrorCode::kInvalid, "option '{}' is given twice", name);
    if (item.size() == text.size()) break;
    text.remove_prefix(item.size() + 1);
  }
  auto checked = VolumeOptions::parse(settings);
  if (!checked) return std::unexpected(std::move(checked).error());
  return settings;
}

}  // namespace vdvs::esx::admin
