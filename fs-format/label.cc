// A label is decoration: one that is too long or has characters that the type forbids is fitted, never a
// reason to fail.
#include <algorithm>
#include <array>
#include <cctype>

#include "fs-format/formatter.h"

namespace vdvs::fsformat {
namespace {

struct LabelRule {
  std::string_view fstype;
  std::size_t max_bytes;
};

// From the manual pages of each type's mkfs; types that are missing here get no label.
constexpr std::array kRules = {
    LabelRule{"ext2", 16},   LabelRule{"ext3", 16}, LabelRule{"ext4", 16},  LabelRule{"xfs", 12},
    LabelRule{"btrfs", 255}, LabelRule{"vfat", 11}, LabelRule{"fat", 11},   LabelRule{"msdos", 11},
    LabelRule{"exfat", 11},  LabelRule{"ntfs", 32}, LabelRule{"f2fs", 255}, LabelRule{"jfs", 16},
    LabelRule{"nilfs2", 80},
};

bool is_fat(std::string_view fstype) { return fstype == "vfat" || fstype == "fat" || fstype == "msdos"; }

bool is_inside_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::string cut(std::string_view text, std::size_t max_bytes) {
  if (text.size() > max_bytes) {
    while (max_bytes > 0 && is_inside_character(text[max_bytes])) --max_bytes;
    text = text.substr(0, max_bytes);
  }
  return std::string(text);
}

// Directory entries of FAT hold upper-case letters of a code page, and none of these signs.
char fit_fat_character(char byte) {
  constexpr std::string_view kForbidden = "*?.,;:/\\|+=<>[]\"";
  const unsigned char code = static_cast<unsigned char>(byte);
  if (code < 0x20 || code >= 0x7F || kForbidden.find(byte) != std::string_view::npos) return '_';
  return static_cast<char>(std::toupper(code));
}

/// One '_' for each character outside ASCII, so that the label does not grow.
std::string fit_fat(std::string_view label) {
  std::string text;
  for (char byte : label) {
    if (!is_inside_character(byte)) text += fit_fat_character(byte);
  }
  return text;
}

char fit_character(char byte) {
  const unsigned char code = static_cast<unsigned char>(byte);
  return code < 0x20 || code == 0x7F ? '_' : byte;
}

}  // namespace

std::string fit_label(std::string_view label, std::string_view fstype) {
  const auto* rule = std::ranges::find(kRules, fstype, &LabelRule::fstype);
  if (rule == kRules.end()) return {};
  std::string text = is_fat(fstype) ? fit_fat(label) : std::string(label);
  std::ranges::transform(text, text.begin(), fit_character);
  return cut(text, rule->max_bytes);
}

}  // namespace vdvs::fsformat
