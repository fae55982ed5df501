#include "base/settings_file.h"

#include <fmt/format.h>

#include <algorithm>

namespace vdvs::base {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kBareCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

/// `text_` is what is left.
class TomlReader {
 public:
  TomlReader(std::string_view text, std::string_view table)
      : text_(text), table_(fmt::format("[{}]", table)) {}

  Result<std::vector<FileSetting>> read() {
    std::vector<FileSetting> settings;
    for (; !text_.empty(); skip_line_end()) {
      skip_blanks();
      if (text_.empty() || text_.front() == '\n' || text_.front() == '#') continue;
      if (text_.front() == '[') {
        RETURN_IF_ERROR(read_table());
      } else {
        ASSIGN_OR_RETURN(auto setting, read_setting());
        settings.push_back(std::move(setting));
      }
      skip_blanks();
      if (!text_.empty() && text_.front() != '\n' && text_.front() != '#')
        return wrong("something follows the value");
    }
    return settings;
  }

 private:
  std::unexpected<base::Error> wrong(std::string_view cause) const {
    return fail(ErrorCode::kInvalid, "line {}: {}", line_, cause);
  }

  void skip_blanks() { text_.remove_prefix(std::min(text_.find_first_not_of(kBlanks), text_.size())); }

  /// The rest of the line, which is nothing or a comment, and its end.
  void skip_line_end() {
    const std::size_t end = text_.find('\n');
    if (end != std::string_view::npos) ++line_;
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
  }

  std::string_view take(std::size_t bytes) {
    const std::string_view taken = text_.substr(0, bytes);
    text_.remove_prefix(taken.size());
    return taken;
  }

  bool take_if(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  Result<void> read_table() {
    if (!text_.starts_with(table_)) return wrong("the only table is " + table_);
    text_.remove_prefix(table_.size());
    return {};
  }

  Result<FileSetting> read_setting() {
    FileSetting setting{.line = line_};
    setting.key = take(std::min(text_.find_first_not_of(kBareCharacters), text_.size()));
    skip_blanks();
    if (setting.key.empty() || !take_if('=')) return wrong("not 'name = value'");
    std::ranges::replace(setting.key, '_', '-');
    skip_blanks();
    if (take_if('[')) {
      ASSIGN_OR_RETURN(setting.values, read_list());
    } else {
      ASSIGN_OR_RETURN(auto value, read_value("\n#"));
      setting.values.push_back(std::move(value));
    }
    return setting;
  }

  /// Behind its '['.
  Result<std::vector<std::string>> read_list() {
    const std::size_t first_line = line_;
    std::vector<std::string> values;
    for (bool may_follow = true;;) {
      skip_blanks();
      if (text_.empty()) return fail(ErrorCode::kInvalid, "line {}: the list has no end", first_line);
      if (text_.front() == '\n' || text_.front() == '#') {
        skip_line_end();
      } else if (take_if(']')) {
        return values;
      } else if (take_if(',')) {
        if (may_follow) return wrong("a value is missing before ','");
        may_follow = true;
      } else {
        if (!may_follow) return wrong("',' is missing between two values");
        ASSIGN_OR_RETURN(auto value, read_value(",]\n#"));
        values.push_back(std::move(value));
        may_follow = false;
      }
    }
  }

  /// `ends`: what a bare word stops at.
  Result<std::string> read_value(std::string_view ends) {
    if (take_if('\'')) return read_literal_string();
    if (take_if('"')) return read_basic_string();
    std::string_view word = take(std::min(text_.find_first_of(ends), text_.size()));
    const std::size_t last = word.find_last_not_of(kBlanks);
    if (last == std::string_view::npos) return wrong("the value is missing");
    return std::string(word.substr(0, last + 1));
  }

  Result<std::string> read_literal_string() {
    const std::size_t end = text_.find_first_of("'\n");
    if (end == std::string_view::npos || text_[end] == '\n') return wrong("the string has no closing '");
    std::string value(take(end));
    take_if('\'');
    return value;
  }

  Result<std::string> read_basic_string() {
    std::string value;
    for (;;) {
      value += take(std::min(text_.find_first_of("\"\\\n"), text_.size()));
      if (text_.empty() || text_.front() == '\n') return wrong("the string has no closing \"");
      if (take_if('"')) return value;
      take_if('\\');
      constexpr std::string_view kEscapes = "\"\\nt";
      constexpr std::string_view kMeanings = "\"\\\n\t";
      const std::size_t escape = text_.empty() ? std::string_view::npos : kEscapes.find(text_.front());
      if (escape == std::string_view::npos) return wrong(R"(after '\' stands one of " \ n t)");
      value += kMeanings[escape];
      take(1);
    }
  }

  std::string_view text_;
  const std::string table_;
  std::size_t line_ = 1;
};

}  // namespace

Result<std::vector<FileSetting>> parse_settings_file(std::string_view text, std::string_view table) {
  return TomlReader(text, table).read();
}

}  // namespace vdvs::base
