#include "fs-format/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>

namespace vdvs::fsformat {
namespace {

using base::ErrorCode;
using base::Result;

struct Flag {
  std::string_view name;
  std::uint64_t clear;
  std::uint64_t set;
};

constexpr std::array kFlags = {
    Flag{"nosuid", 0, MOUNT_ATTR_NOSUID},
    Flag{"suid", MOUNT_ATTR_NOSUID, 0},
    Flag{"nodev", 0, MOUNT_ATTR_NODEV},
    Flag{"dev", MOUNT_ATTR_NODEV, 0},
    Flag{"noexec", 0, MOUNT_ATTR_NOEXEC},
    Flag{"exec", MOUNT_ATTR_NOEXEC, 0},
    Flag{"noatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME},
    Flag{"atime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
    Flag{"relatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
    Flag{"norelatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME},
    Flag{"strictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME},
    Flag{"nostrictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
    Flag{"nodiratime", 0, MOUNT_ATTR_NODIRATIME},
    Flag{"diratime", MOUNT_ATTR_NODIRATIME, 0},
    Flag{"nosymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    Flag{"symfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    Flag{"defaults", 0, 0},
};

struct Refusal {
  std::string_view name;
  std::string_view why;
};

constexpr std::string_view kNotAMount = "does something else than mount a volume";
constexpr std::string_view kForFstab = "has a meaning in /etc/fstab only";
constexpr std::string_view kForMountTool = "is for the mount command, not for the kernel";
constexpr std::string_view kOtherDevice = "names another device";

constexpr std::array kRefusals = {
    Refusal{"remount", kNotAMount},
    Refusal{"bind", kNotAMount},
    Refusal{"rbind", kNotAMount},
    Refusal{"move", kNotAMount},
    Refusal{"shared", kNotAMount},
    Refusal{"rshared", kNotAMount},
    Refusal{"private", kNotAMount},
    Refusal{"rprivate", kNotAMount},
    Refusal{"slave", kNotAMount},
    Refusal{"rslave", kNotAMount},
    Refusal{"unbindable", kNotAMount},
    Refusal{"runbindable", kNotAMount},
    Refusal{"user", kForFstab},
    Refusal{"users", kForFstab},
    Refusal{"owner", kForFstab},
    Refusal{"group", kForFstab},
    Refusal{"nouser", kForFstab},
    Refusal{"auto", kForFstab},
    Refusal{"noauto", kForFstab},
    Refusal{"nofail", kForFstab},
    Refusal{"_netdev", kForFstab},
    Refusal{"comment", kForFstab},
    Refusal{"loop", kForMountTool},
    Refusal{"offset", kForMountTool},
    Refusal{"sizelimit", kForMountTool},
    Refusal{"helper", kForMountTool},
    Refusal{"uhelper", kForMountTool},
    Refusal{"source", kOtherDevice},
    Refusal{"device", kOtherDevice},
    Refusal{"journal_dev", kOtherDevice},
    Refusal{"journal_path", kOtherDevice},
    Refusal{"logdev", kOtherDevice},
    Refusal{"rtdev", kOtherDevice},
};

std::unexpected<base::Error> refuse(std::string_view option, std::string_view why) {
  return base::fail(ErrorCode::kInvalid, "read mount option '{}': {}", option, why);
}

/// Takes the next option from the front of `text`, without its quotes.
Result<std::string> take_option(std::string_view& text) {
  std::string option;
  bool is_quoted = false;
  std::size_t length = 0;
  for (; length < text.size() && (is_quoted || text[length] != ','); ++length) {
    if (text[length] == '"') {
      is_quoted = !is_quoted;
    } else {
      option += text[length];
    }
  }
  if (is_quoted) return refuse(option.substr(0, kMaxParameterBytes), "a quote is not closed");
  text.remove_prefix(std::min(text.size(), length + 1));
  return option;
}

Result<SuperblockParameter> read_parameter(const std::string& option) {
  const std::size_t equals = option.find('=');
  SuperblockParameter parameter = {.key = option.substr(0, equals), .value = std::nullopt};
  if (equals != std::string::npos) parameter.value = option.substr(equals + 1);
  if (parameter.key.empty()) return refuse(option, "it has no name");
  if (parameter.key.size() > kMaxParameterBytes ||
      (parameter.value && parameter.value->size() > kMaxParameterBytes)) {
    return refuse(option.substr(0, 32) + "...",
                  fmt::format("a name or value has more than {} bytes", kMaxParameterBytes));
  }
  if (const auto* refusal = std::ranges::find(kRefusals, parameter.key, &Refusal::name);
      refusal != kRefusals.end()) {
    return refuse(option, refusal->why);
  }
  if (parameter.key.starts_with("x-") || parameter.key.starts_with("X-")) return refuse(option, kForFstab);
  if (parameter.key == "errors" && parameter.value == "panic") {
    return refuse(option, "an error of one volume would stop the whole host");
  }
  return parameter;
}

}  // namespace

bool MountOptions::has(std::string_view key) const {
  return std::ranges::find(parameters, key, &SuperblockParameter::key) != parameters.end();
}

Result<MountOptions> parse_mount_options(std::string_view text, bool must_be_read_only) {
  if (text.size() > kMaxMountOptionsBytes) {
    return base::fail(ErrorCode::kInvalid, "read mount options: more than {} bytes", kMaxMountOptionsBytes);
  }
  if (std::ranges::any_of(text, [](char byte) { return static_cast<unsigned char>(byte) < 0x20; })) {
    return base::fail(ErrorCode::kInvalid, "read mount options: a control character");
  }
  MountOptions options;
  bool says_read_only = false;
  bool says_writable = false;
  while (!text.empty()) {
    ASSIGN_OR_RETURN(const std::string option, take_option(text));
    if (option.empty()) continue;
    if (option == "ro" || option == "rw") {
      (option == "ro" ? says_read_only : says_writable) = true;
    } else if (const auto* flag = std::ranges::find(kFlags, option, &Flag::name); flag != kFlags.end()) {
      options.attributes = (options.attributes & ~flag->clear) | flag->set;
    } else {
      ASSIGN_OR_RETURN(SuperblockParameter parameter, read_parameter(option));
      options.parameters.push_back(std::move(parameter));
    }
  }
  if (says_writable && says_read_only) return refuse("rw", "contradicts 'ro'");
  if (says_writable && must_be_read_only) return refuse("rw", "the volume's access is read-only");
  options.is_read_only = must_be_read_only || says_read_only;
  if (options.is_read_only) options.attributes |= MOUNT_ATTR_RDONLY;
  return options;
}

}  // namespace vdvs::fsformat
