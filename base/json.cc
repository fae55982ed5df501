#include "base/json.h"

#include <boost/json/stream_parser.hpp>

namespace vdvs::base {

Result<boost::json::value> parse_json(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  boost::json::stream_parser parser({}, options);
  boost::json::error_code error;
  std::size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error && used < text.size()) {
    return fail(ErrorCode::kInvalid, "parse JSON: something follows the value (byte {})", used);
  }
  if (!error) parser.finish(error);
  if (error) return fail(ErrorCode::kInvalid, "parse JSON: {} (byte {} of {})", error.message(), used, text.size());
  return parser.release();
}

std::optional<std::string> find_string(const boost::json::object& object, std::string_view key) {
  const boost::json::value* member = object.if_contains(key);
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return std::string(member->get_string());
}

}  // namespace vdvs::base
