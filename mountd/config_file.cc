#include "mountd/config_file.h"

#include <algorithm>
#include <boost/json/stream_parser.hpp>
#include <optional>
#include <utility>

#include "base/json.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

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

Result<FileContent> parse_config_file(std::string_view text) {
  ASSIGN_OR_RETURN(auto settings, base::parse_settings_file(text, "mountd"));
  return FileContent{.settings = std::move(settings), .notes = {}};
}

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
