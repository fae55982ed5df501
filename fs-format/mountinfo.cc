// proc(5): /proc/pid/mountinfo. A line, whose blanks, tabs, newlines and backslashes within fields are octal
// escapes:
//
//   36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue
//   id parent device root target options [tags]... - fstype source super-options
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "fs-format/mounter.h"

namespace vdvs::fsformat {
namespace {

std::string_view take_until(std::string_view& text, char end) {
  std::string_view piece = text.substr(0, text.find(end));
  text.remove_prefix(std::min(text.size(), piece.size() + 1));
  return piece;
}

template <typename Number>
bool read_number(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && !text.empty();
}

bool is_octal(char byte) { return byte >= '0' && byte <= '7'; }

std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] <= '3' &&
        std::ranges::all_of(text.substr(i + 1, 3), is_octal)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool has_option(std::string_view options, std::string_view wanted) {
  while (!options.empty()) {
    if (take_until(options, ',') == wanted) return true;
  }
  return false;
}

std::optional<Mount> parse_line(std::string_view line) {
  Mount mount;
  std::uint64_t parent = 0;
  unsigned major = 0;
  unsigned minor = 0;
  if (!read_number(take_until(line, ' '), mount.id)) return std::nullopt;
  if (!read_number(take_until(line, ' '), parent)) return std::nullopt;
  if (!read_number(take_until(line, ':'), major) || !read_number(take_until(line, ' '), minor))
    return std::nullopt;
  mount.device = ::makedev(major, minor);
  mount.root = unescape(take_until(line, ' '));
  mount.target = unescape(take_until(line, ' '));
  const std::string_view options = take_until(line, ' ');
  if (mount.target.empty() || options.empty()) return std::nullopt;
  for (;;) {
    if (line.empty()) return std::nullopt;
    const std::string_view tag = take_until(line, ' ');
    if (tag == "-") break;
    if (tag.starts_with("shared:")) mount.is_shared = true;
  }
  mount.fstype = unescape(take_until(line, ' '));
  mount.source = unescape(take_until(line, ' '));
  if (mount.fstype.empty()) return std::nullopt;
  mount.is_read_only = has_option(options, "ro") || has_option(line, "ro");
  return mount;
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  while (!text.empty()) {
    if (auto mount = parse_line(take_until(text, '\n'))) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

}  // namespace vdvs::fsformat
