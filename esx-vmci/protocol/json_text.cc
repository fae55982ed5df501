#include "esx-vmci/protocol/json_text.h"

#include <fmt/format.h>

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace vdvs::esx {
namespace {

namespace json = boost::json;

constexpr char32_t kReplacement = 0xFFFD;

void append_utf8(std::string& out, char32_t point) {
  auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  }
}

void append_escape(std::string& out, char32_t unit) {
  fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<std::uint32_t>(unit));
}

/// The letter that follows the backslash where both languages have a short escape; 0 where they have none.
char short_escape(char32_t point) {
  switch (point) {
    case U'"':
      return '"';
    case U'\\':
      return '\\';
    case U'\n':
      return 'n';
    case U'\r':
      return 'r';
    case U'\t':
      return 't';
    default:
      return 0;
  }
}

/// Python's float: always with a point or an exponent.
void append_number(std::string& out, double number) {
  if (!std::isfinite(number)) {
    out += "null";  // JSON has no word for it
    return;
  }
  const std::string text = fmt::format("{}", number);
  out += text;
  if (text.find_first_of(".e") == std::string::npos) out += ".0";
}

}  // namespace

std::optional<char32_t> take_utf8(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const bool is_lead = lead < 0x80 || (lead >= 0xC2 && lead <= 0xF4);
  char32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
  bool is_good = is_lead && length <= text.size();
  for (std::size_t i = 1; is_good && i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    is_good = (byte & 0xC0) == 0x80;
    point = point << 6 | (byte & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  is_good = is_good && point >= kSmallest[length] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
  text.remove_prefix(is_good ? length : 1);
  if (!is_good) return std::nullopt;
  return point;
}

void append_go_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::optional<char32_t> point = take_utf8(text);
    if (!point) {
      out += "\\ufffd";
    } else if (const char letter = short_escape(*point)) {
      out += '\\';
      out += letter;
    } else if (*point < 0x20 || *point == U'<' || *point == U'>' || *point == U'&' || *point == 0x2028 ||
               *point == 0x2029) {
      append_escape(out, *point);
    } else {
      append_utf8(out, *point);
    }
  }
  out += '"';
}

void append_python_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const char32_t point = take_utf8(text).value_or(kReplacement);
    const char letter = point == U'\b' ? 'b' : point == U'\f' ? 'f' : short_escape(point);
    if (letter != 0) {
      out += '\\';
      out += letter;
    } else if (point >= 0x20 && point < 0x7F) {
      out += static_cast<char>(point);
    } else if (point < 0x10000) {
      append_escape(out, point);
    } else {
      append_escape(out, 0xD800 + ((point - 0x10000) >> 10));
      append_escape(out, 0xDC00 + ((point - 0x10000) & 0x3FF));
    }
  }
  out += '"';
}

void append_python(std::string& out, const json::value& value, bool is_compact) {
  const std::string_view comma = is_compact ? "," : ", ";
  std::string_view separator;
  if (const json::object* object = value.if_object()) {
    out += '{';
    for (const auto& member : *object) {
      out += separator;
      append_python_string(out, member.key());
      out += is_compact ? ":" : ": ";
      append_python(out, member.value(), is_compact);
      separator = comma;
    }
    out += '}';
  } else if (const json::array* array = value.if_array()) {
    out += '[';
    for (const json::value& element : *array) {
      out += separator;
      append_python(out, element, is_compact);
      separator = comma;
    }
    out += ']';
  } else if (const json::string* string = value.if_string()) {
    append_python_string(out, *string);
  } else if (const double* number = value.if_double()) {
    append_number(out, *number);
  } else if (value.is_bool()) {
    out += value.get_bool() ? "true" : "false";
  } else if (value.is_int64()) {
    fmt::format_to(std::back_inserter(out), "{}", value.get_int64());
  } else if (value.is_uint64()) {
    fmt::format_to(std::back_inserter(out), "{}", value.get_uint64());
  } else {
    out += "null";
  }
}

std::string python_repr_of_bytes(std::string_view bytes) {
  const bool has_single = bytes.find('\'') != std::string_view::npos;
  const bool has_double = bytes.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out = "b";
  out += quote;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\t' || c == '\n' || c == '\r') {
      out += '\\';
      out += short_escape(byte);
    } else if (byte < 0x20 || byte >= 0x7F) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += quote;
  return out;
}

}  // namespace vdvs::esx
