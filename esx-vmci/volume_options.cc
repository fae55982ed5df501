#include "esx-vmci/volume_options.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <span>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kSizeFormatText =
    "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b where X is an integer. Default = "
    "100mb";
/// mkfsopts and mountopts go to a command line and to mount(2), which takes a page.
constexpr std::size_t kMaxOptionTextBytes = 2048;
constexpr std::size_t kMaxFilesystemNameBytes = 32;

constexpr std::array<std::string_view, 3> kDiskFormats = {"thin", "zeroedthick", "eagerzeroedthick"};
constexpr std::array<std::string_view, 2> kAttachTypes = {"independent_persistent", "persistent"};
constexpr std::array<std::string_view, 2> kAccessTypes = {"read-write", "read-only"};
constexpr std::array<std::string_view, 2> kFormatTimes = {"lazy", "now"};

using Setter = Result<void> (*)(VolumeOptions& options, const std::string& value);

struct OptionRow {
  std::string_view name;
  std::string_view default_text;  ///< "None": no default.
  Setter set;
};

/// "['a', 'b']", as the predecessor's language prints it.
template <typename Range>
std::string quoted_list(const Range& names) {
  std::string text = "[";
  for (std::string_view separator = ""; const auto& name : names) {
    text += fmt::format("{}'{}'", separator, name);
    separator = ", ";
  }
  return text + "]";
}

Result<void> check_choice(std::string_view what, std::string_view value,
                          std::span<const std::string_view> choices) {
  if (std::ranges::find(choices, value) != choices.end()) return {};
  return fail(ErrorCode::kInvalid, "{} '{}' is not supported. Valid options are: {}", what, value,
              quoted_list(choices));
}

Result<void> check_text(std::string_view option, std::string_view value) {
  if (value.size() > kMaxOptionTextBytes) {
    return fail(ErrorCode::kInvalid, "Invalid value for {}: more than {} bytes", option, kMaxOptionTextBytes);
  }
  if (std::ranges::any_of(value, [](unsigned char c) { return c < 0x20 || c == 0x7F; })) {
    return fail(ErrorCode::kInvalid, "Invalid value for {}: it contains control characters", option);
  }
  return {};
}

template <typename Number>
Result<Number> parse_number(std::string_view option, std::string_view value, int radix, Number largest,
                            std::string_view form) {
  Number number{};
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number, radix);
  if (error != std::errc() || end != value.data() + value.size() || number > largest) {
    return fail(ErrorCode::kInvalid, "Invalid value '{}' for {}. Valid is {}", value, option, form);
  }
  return number;
}

Result<void> set_size(VolumeOptions& options, const std::string& value) {
  ASSIGN_OR_RETURN(options.size_bytes, parse_size(value));
  return {};
}

Result<void> set_policy(VolumeOptions& options, const std::string& value) {
  options.policy = value;
  return check_text("vsan-policy-name", value);
}

Result<void> set_disk_format(VolumeOptions& options, const std::string& value) {
  const auto* found = std::ranges::find(kDiskFormats, value);
  if (found == kDiskFormats.end()) {
    return fail(ErrorCode::kInvalid, "Disk Allocation Format '{}' is not supported. Valid options are: {}.",
                value, quoted_list(kDiskFormats));
  }
  options.disk_format = static_cast<DiskFormat>(found - kDiskFormats.begin());
  return {};
}

Result<void> set_attach_as(VolumeOptions& options, const std::string& value) {
  options.attach_as = value;
  return check_choice("Attach type", value, kAttachTypes);
}

Result<void> set_access(VolumeOptions& options, const std::string& value) {
  options.is_read_only = value == "read-only";
  return check_choice("Access type", value, kAccessTypes);
}

/// It becomes the end of a program's name, so only what such names are made of.
Result<void> set_fstype(VolumeOptions& options, const std::string& value) {
  auto is_plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  if (value.empty() || value.size() > kMaxFilesystemNameBytes || value.front() == '.' ||
      !std::ranges::all_of(value, is_plain)) {
    return fail(ErrorCode::kInvalid, "Filesystem type '{}' is not the name of a filesystem", value);
  }
  options.fstype = value;
  return {};
}

Result<void> set_clone_from(VolumeOptions& options, const std::string& value) {
  options.clone_from = value;
  if (value.empty()) return fail(ErrorCode::kInvalid, "Could not find volume for cloning {}", value);
  return {};
}

Result<void> set_mkfs_options(VolumeOptions& options, const std::string& value) {
  RETURN_IF_ERROR(check_text("mkfsopts", value));
  for (std::size_t begin = 0; begin < value.size();) {
    const std::size_t end = std::min(value.find(' ', begin), value.size());
    if (end > begin) options.mkfs_options.push_back(value.substr(begin, end - begin));
    begin = end + 1;
  }
  return {};
}

Result<void> set_mount_options(VolumeOptions& options, const std::string& value) {
  options.mount_options = value;
  return check_text("mountopts", value);
}

constexpr std::string_view kIdForm = "a number from 0 to 4294967294";
constexpr std::uint32_t kLargestId =
    std::numeric_limits<std::uint32_t>::max() - 1;  // the last one means "leave it"

Result<void> set_uid(VolumeOptions& options, const std::string& value) {
  ASSIGN_OR_RETURN(options.uid, parse_number<std::uint32_t>("uid", value, 10, kLargestId, kIdForm));
  return {};
}

Result<void> set_gid(VolumeOptions& options, const std::string& value) {
  ASSIGN_OR_RETURN(options.gid, parse_number<std::uint32_t>("gid", value, 10, kLargestId, kIdForm));
  return {};
}

Result<void> set_mode(VolumeOptions& options, const std::string& value) {
  ASSIGN_OR_RETURN(options.mode,
                   parse_number<std::uint32_t>("mode", value, 8, 07777, "an octal number up to 7777"));
  return {};
}

Result<void> set_format(VolumeOptions& options, const std::string& value) {
  options.format_now = value == "now";
  return check_choice("Format time", value, kFormatTimes);
}

/// In the order in which the predecessor checks and lists its options; ours follow.
constexpr std::array kOptions = {
    OptionRow{"size", "100mb", set_size},
    OptionRow{"vsan-policy-name", "[VSAN default]", set_policy},
    OptionRow{"diskformat", "thin", set_disk_format},
    OptionRow{"attach-as", "independent_persistent", set_attach_as},
    OptionRow{"access", "read-write", set_access},
    OptionRow{"fstype", "ext4", set_fstype},
    OptionRow{"clone-from", "None", set_clone_from},
    OptionRow{"mkfsopts", "None", set_mkfs_options},
    OptionRow{"mountopts", "None", set_mount_options},
    OptionRow{"uid", "None", set_uid},
    OptionRow{"gid", "None", set_gid},
    OptionRow{"mode", "None", set_mode},
    OptionRow{"format", "lazy", set_format},
};

const OptionRow* find_option(std::string_view name) {
  const auto* found = std::ranges::find(kOptions, name, &OptionRow::name);
  return found == kOptions.end() ? nullptr : found;
}

Result<void> check_names(const OptionMap& given) {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : given) {
    if (find_option(name) == nullptr) unknown.push_back(name);
  }
  if (unknown.empty()) return {};
  std::string valid;
  for (const OptionRow& row : kOptions) {
    valid += fmt::format("{}('{}', '{}')", valid.empty() ? "" : ", ", row.name, row.default_text);
  }
  return fail(ErrorCode::kInvalid, "Invalid options: {} \nValid options and defaults: [{}]",
              quoted_list(unknown), valid);
}

/// A clone is what its source is.
Result<void> check_clone(const OptionMap& given) {
  if (!given.contains("clone-from")) return {};
  if (given.contains("size")) return fail(ErrorCode::kInvalid, "Cannot define the size for a clone");
  if (given.contains("fstype"))
    return fail(ErrorCode::kInvalid, "Cannot define the filesystem type for a clone");
  if (given.contains("mkfsopts")) return fail(ErrorCode::kInvalid, "Cannot define mkfs options for a clone");
  return {};
}

/// Two spellings of one value become one: "1024MB" and "1gb", "0755" and "755", "src@ds" and "src".
std::string normal_form(std::string_view option, const std::string& value) {
  if (option == "size") {
    auto size = parse_size(value);
    return size ? fmt::format("{}", *size) : value;
  }
  if (option == "clone-from") return value.substr(0, value.rfind('@'));
  VolumeOptions parsed;
  const OptionRow* row = find_option(option);
  if (row == nullptr || !row->set(parsed, value)) return value;
  if (option == "uid") return fmt::format("{}", *parsed.uid);
  if (option == "gid") return fmt::format("{}", *parsed.gid);
  if (option == "mode") return fmt::format("{:o}", *parsed.mode);
  if (option == "mkfsopts") return quoted_list(parsed.mkfs_options);
  return value;
}

}  // namespace

std::string_view disk_format_name(DiskFormat format) {
  switch (format) {
    case DiskFormat::kThin:
      return kDiskFormats[0];
    case DiskFormat::kZeroedThick:
      return kDiskFormats[1];
    case DiskFormat::kEagerZeroedThick:
      return kDiskFormats[2];
  }
  std::abort();
}

Result<VolumeOptions> VolumeOptions::parse(const OptionMap& given) {
  RETURN_IF_ERROR(check_names(given));
  VolumeOptions options;
  for (const OptionRow& row : kOptions) {
    auto found = given.find(std::string(row.name));
    if (found != given.end()) RETURN_IF_ERROR(row.set(options, found->second));
  }
  RETURN_IF_ERROR(check_clone(given));
  return options;
}

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t count = 0;
  const char* const end = text.data() + text.size();
  auto [unit, error] = std::from_chars(text.data(), end, count);
  const bool is_number = unit != text.data() && error != std::errc::invalid_argument;
  if (!is_number || end - unit != 2 || (unit[1] | 0x20) != 'b')
    return fail(ErrorCode::kInvalid, "{}", kSizeFormatText);
  int shift = 0;
  switch (unit[0] | 0x20) {
    case 'm':
      shift = 20;
      break;
    case 'g':
      shift = 30;
      break;
    case 't':
      shift = 40;
      break;
    default:
      return fail(ErrorCode::kInvalid, "{}", kSizeFormatText);
  }
  if (error == std::errc::result_out_of_range || count > kMaxDiskBytes >> shift) {
    return fail(ErrorCode::kInvalid,
                "Invalid volume size specified. '{}' is more than a VMDK can hold (max is 62tb)", text);
  }
  if (count == 0)
    return fail(ErrorCode::kInvalid, "Invalid volume size specified. '{}' is too small (min is 1mb)", text);
  return count << shift;
}

std::vector<std::string> differences(const OptionMap& stored, const OptionMap& asked) {
  std::vector<std::string> found;
  for (const OptionRow& row : kOptions) {
    const std::string name(row.name);
    auto wish = asked.find(name);
    if (wish == asked.end()) continue;
    auto have = stored.find(name);
    const std::string value = have == stored.end() ? std::string(row.default_text) : have->second;
    if (normal_form(name, value) == normal_form(name, wish->second)) continue;
    found.push_back(fmt::format("option '{}': it is {}, you asked for {}", name, value, wish->second));
  }
  return found;
}

}  // namespace vdvs::esx
