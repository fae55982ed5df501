#include "esx-vmci/service/predecessor_settings.h"

#include <algorithm>
#include <boost/json/value.hpp>
#include <cctype>
#include <charconv>

#include "base/json.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kPortVariable = "VMDK_OPSD_PORT";
constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const std::size_t last = text.find_last_not_of(kBlanks);
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

/// The value of `[export ]NAME=value`, without quotes, comment and ';'; nullopt where the line is something
/// else.
std::optional<std::string_view> assigned(std::string_view line, std::string_view name) {
  line = trimmed(line);
  constexpr std::string_view kExport = "export ";
  if (line.starts_with(kExport)) line = trimmed(line.substr(kExport.size()));
  if (!line.starts_with(name) || !line.substr(name.size()).starts_with('=')) return std::nullopt;
  line.remove_prefix(name.size() + 1);
  if (line.starts_with('"') || line.starts_with('\'')) {
    const std::size_t end = line.find(line.front(), 1);
    return end == std::string_view::npos ? line : line.substr(1, end - 1);
  }
  return line.substr(0, line.find_first_of(" \t;#"));
}

/// A member that is an object, or nullptr.
const json::object* find_object(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

Result<std::optional<std::size_t>> find_count(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_int64() || value->get_int64() < 0) {
    return fail(ErrorCode::kInvalid, "member '{}' must be a number that is not negative", key);
  }
  return static_cast<std::size_t>(value->get_int64());
}

/// Python's levels.
Result<base::log::Level> parse_python_level(std::string_view text) {
  std::string level(text);
  std::ranges::transform(level, level.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (level == "critical" || level == "fatal") return base::log::Level::kError;
  if (level == "notset") return base::log::Level::kDebug;
  return base::log::parse_level(level);
}

}  // namespace

Result<std::uint32_t> parse_port(std::string_view text) {
  constexpr std::uint32_t kMaxPort = 65535;
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0 || port > kMaxPort) {
    return fail(ErrorCode::kInvalid, "'{}' is not a port from 1 to {}", text, kMaxPort);
  }
  return port;
}

Result<std::optional<std::uint32_t>> parse_service_config_sh(std::string_view text) {
  std::optional<std::uint32_t> found;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const auto value = assigned(text.substr(0, end), kPortVariable);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!value) continue;
    auto port = parse_port(*value);
    if (!port)
      return fail(ErrorCode::kInvalid, "line {}: {}: {}", number, kPortVariable, port.error().message());
    found = *port;
  }
  return found;
}

Result<PredecessorLog> parse_log_config(std::string_view text) {
  ASSIGN_OR_RETURN(const json::value value, base::parse_json(text));
  if (!value.is_object()) return fail(ErrorCode::kInvalid, "not a JSON object");
  PredecessorLog log;
  const json::object* handlers = find_object(value.get_object(), "handlers");
  const json::object* handler = handlers == nullptr ? nullptr : find_object(*handlers, "rotate_file");
  if (handler == nullptr) return log;
  log.path = base::find_string(*handler, "filename");
  if (const auto level = base::find_string(*handler, "level")) {
    ASSIGN_OR_RETURN(log.level, parse_python_level(*level));
  }
  ASSIGN_OR_RETURN(log.max_file_bytes, find_count(*handler, "maxBytes"));
  ASSIGN_OR_RETURN(log.max_files, find_count(*handler, "backupCount"));
  return log;
}

}  // namespace vdvs::esx
