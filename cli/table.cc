#include "cli/table.h"

#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

namespace vdvs::cli {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kDefaultTerminalWidth = 80;
constexpr std::string_view kCut = "..";

struct Character {
  char32_t code = 0;
  std::size_t bytes = 1;
};

/// The first character of a text that is not empty; nullopt where it does not begin with one.
std::optional<Character> first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return Character{lead, 1};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return std::nullopt;
  char32_t code = lead & (0xffu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return std::nullopt;
    code = (code << 6) | (next & 0x3f);
  }
  const bool is_overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
  if (is_overlong || is_surrogate || code > 0x10ffff) return std::nullopt;
  return Character{code, bytes};
}

/// wcwidth(3) by Unicode's widths, whatever the user's locale is. nullopt for what cannot be shown.
std::optional<std::size_t> width_of(char32_t code) {
  static const ::locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (code < 0x80) return code >= 0x20 && code != 0x7f ? std::optional<std::size_t>(1) : std::nullopt;
  if (utf8 == nullptr) return code >= 0xa0 ? std::optional<std::size_t>(1) : std::nullopt;
  const ::locale_t before = ::uselocale(utf8);
  const int width = ::wcwidth(static_cast<wchar_t>(code));
  ::uselocale(before);
  return width < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(width));
}

struct Glyph {
  std::string_view bytes;
  std::size_t width = 1;
  bool is_shown = true;  ///< Otherwise it stands for a '?'.
};

Glyph first_glyph(std::string_view text) {
  const auto character = first_character(text);
  const auto width = character ? width_of(character->code) : std::nullopt;
  const std::size_t bytes = character ? character->bytes : 1;
  return {text.substr(0, bytes), width.value_or(1), width.has_value()};
}

std::string pad(std::string text, std::size_t width) {
  const std::size_t used = display_width(text);
  if (used < width) text.append(width - used, ' ');
  return text;
}

std::string render_row(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) {
  std::string line;
  for (std::size_t i = 0; i < widths.size(); ++i)
    line += pad(cut_to_width(i < cells.size() ? clean_text(cells[i]) : "", widths[i]), widths[i] + kGap);
  return line + "\n";
}

}  // namespace

std::vector<std::size_t> shrink_to_fit(std::vector<std::size_t> widths, std::size_t total) {
  std::size_t sum = std::accumulate(widths.begin(), widths.end(), std::size_t{0});
  while (sum > total) {
    const std::size_t widest = std::ranges::max(widths);
    std::size_t next = 0;
    for (const std::size_t width : widths)
      if (width < widest) next = std::max(next, width);
    const auto count = static_cast<std::size_t>(std::ranges::count(widths, widest));
    const std::size_t excess = std::min(sum - total, (widest - next) * count);
    std::size_t remainder = excess % count;
    for (std::size_t& width : widths) {
      if (width != widest) continue;
      width -= excess / count;
      if (remainder > 0) {
        --width;
        --remainder;
      }
    }
    sum -= excess;
  }
  return widths;
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const Glyph glyph = first_glyph(text);
    width += glyph.width;
    text.remove_prefix(glyph.bytes.size());
  }
  return width;
}

std::string cut_to_width(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  const std::string_view mark = kCut.substr(0, std::min(width, kCut.size()));
  std::string kept;
  std::size_t used = 0;
  while (!text.empty()) {
    const Glyph glyph = first_glyph(text);
    if (used + glyph.width > width - mark.size()) break;
    used += glyph.width;
    kept += glyph.bytes;
    text.remove_prefix(glyph.bytes.size());
  }
  return kept + std::string(mark);
}

std::string clean_text(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const Glyph glyph = first_glyph(text);
    if (glyph.is_shown)
      clean += glyph.bytes;
    else
      clean += '?';
    text.remove_prefix(glyph.bytes.size());
  }
  return clean;
}

std::string render_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows, std::size_t terminal_width) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < header.size(); ++i) {
    widths.push_back(display_width(header[i]));
    for (const auto& row : rows)
      if (i < row.size()) widths.back() = std::max(widths.back(), display_width(clean_text(row[i])));
  }
  const std::size_t gaps = header.empty() ? 0 : kGap * (header.size() - 1);
  // However narrow it is, a column shows that it is there.
  widths = shrink_to_fit(std::move(widths), std::max(terminal_width, gaps + header.size()) - gaps);
  std::string table = render_row(header, widths);
  for (const std::size_t width : widths) table += std::string(width, '-') + std::string(kGap, ' ');
  table += "\n";
  for (const auto& row : rows) table += render_row(row, widths);
  return table + "\n";
}

std::size_t terminal_width() {
  ::winsize size{};
  if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultTerminalWidth;
  return size.ws_col;
}

}  // namespace vdvs::cli
