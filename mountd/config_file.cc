#include "mountd/config_file.h"

#include <algorithm>
#include <boost/json/stream_parser.hpp>
#include <optional>

#include "base/json.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kBareCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

/// Reads our format. `text_` is what is left.
class TomlReader {
 public:
  explicit TomlReader(std::string_view text) : text_(text) {}

  Result<FileContent> read() {
    FileContent content;
    for (; !text_.empty(); skip_line_end()) {
      skip_blanks();
      if (text_.empty() || text_.front() == '\n' || text_.front() == '#') continue;
      if (text_.front() == '[') {
        RETURN_IF_ERROR(read_table());
      } else {
        ASSIGN_OR_RETURN(auto setting, read_setting());
        content.settings.push_back(std::move(setting));
      }
      skip_blanks();
      if (!text_.empty() && text_.front() != '\n' && text_.front() != '#')
        return wrong("something follows the value");
    }
    return content;
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
    constexpr std::string_view kTable = "[mountd]";
    if (!text_.starts_with(kTable)) return wrong("the only table is [mountd]");
    text_.remove_prefix(kTable.size());
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
  std::size_t line_ = 1;
};

// The predecessor's file.

enum class Meaning { kText, kLogLevel, kCount, kDriver, kIgnored };

struct PredecessorKey {
  std::string_view name;
  Meaning meaning;
  std::string_view setting;  ///< Ours; empty where there is none.
};

constexpr PredecessorKey kPredecessorKeys[] = {
    {"Driver", Meaning::kDriver, ""},
    {"InternalDriver", Meaning::kIgnored, ""},
    {"LogPath", Meaning::kText, "log-file"},
    {"MaxLogSizeMb", Meaning::kCount, "log-max-mb"},
    {"MaxLogAgeDays", Meaning::kIgnored, ""},
    {"MaxLogFiles", Meaning::kCount, "log-max-files"},
    {"LogLevel", Meaning::kLogLevel, "log-level"},
    {"GroupID", Meaning::kText, "group"},
    {"Target", Meaning::kIgnored, ""},
    {"Project", Meaning::kIgnored, ""},
    {"Host", Meaning::kIgnored, ""},
};

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

/// base::parse_json, with the line at which it stopped.
Result<boost::json::value> parse_json_by_line(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = base::kMaxJsonDepth;
  boost::json::stream_parser parser({}, options);
  boost::json::error_code error;
  const std::size_t used = parser.write(text.data(), text.size(), error);
  if (!error) parser.finish(error);
  if (!error) return parser.release();
  const auto line = 1 + std::ranges::count(text.substr(0, used), '\n');
  return fail(ErrorCode::kInvalid, "line {}: not JSON ({})", line, error.message());
}

std::optional<std::string> text_of(const boost::json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_int64()) return std::to_string(value.get_int64());
  return std::nullopt;
}

/// The levels of the predecessor's log library, in our words.
std::string our_log_level(std::string_view theirs) {
  const std::string level = lower_case(theirs);
  if (level == "panic" || level == "fatal") return "error";
  if (level == "trace") return "debug";
  return level;
}

/// Both of its names for the one driver are served unless a flag says otherwise, so a good value changes
/// nothing.
Result<void> check_driver(std::string_view driver) {
  if (driver == "vsphere" || driver == "vmdk") return {};
  return fail(ErrorCode::kUnsupported, "member 'Driver': '{}' is not served (vsphere, vmdk)", driver);
}

Result<void> add_predecessor_setting(const PredecessorKey& key, const boost::json::value& value,
                                     FileContent& content) {
  if (value.is_null()) return {};
  const auto text = text_of(value);
  if (!text) return fail(ErrorCode::kInvalid, "member '{}' must be a string or a number", key.name);
  if (text->empty()) return {};
  switch (key.meaning) {
    case Meaning::kIgnored:
      content.notes.push_back(fmt::format("setting {}={} has no meaning any more", key.name, *text));
      return {};
    case Meaning::kDriver:
      return check_driver(*text);
    case Meaning::kCount:
      if (*text == "0") {
        content.notes.push_back(
            fmt::format("setting {}=0 (no limit) is not offered; the default is used", key.name));
        return {};
      }
      break;
    case Meaning::kLogLevel:
    case Meaning::kText:
      break;
  }
  content.settings.push_back({.key = std::string(key.setting),
                              .values = {key.meaning == Meaning::kLogLevel ? our_log_level(*text) : *text}});
  return {};
}

}  // namespace

Result<FileContent> parse_config_file(std::string_view text) { return TomlReader(text).read(); }

Result<FileContent> parse_predecessor_config_file(std::string_view text) {
  ASSIGN_OR_RETURN(auto value, parse_json_by_line(text));
  if (!value.is_object()) return fail(ErrorCode::kInvalid, "line 1: not a JSON object");
  FileContent content;
  for (const auto& member : value.get_object()) {
    const std::string name = lower_case(member.key());
    const auto* key = std::ranges::find(kPredecessorKeys, name,
                                        [](const PredecessorKey& known) { return lower_case(known.name); });
    if (key == std::end(kPredecessorKeys)) {
      std::string known;
      for (const PredecessorKey& each : kPredecessorKeys)
        known += (known.empty() ? "" : ", ") + std::string(each.name);
      return fail(ErrorCode::kInvalid, "no setting has the name '{}' (there are {})",
                  std::string_view(member.key()), known);
    }
    RETURN_IF_ERROR(add_predecessor_setting(*key, member.value(), content));
  }
  return content;
}

}  // namespace vdvs::mountd
