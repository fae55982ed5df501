// Boost.JSON behind Result: bounded, strict, with errors in our shape.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::base {

/// Nesting allowed in anything that we read.
inline constexpr std::size_t kMaxJsonDepth = 16;

/// Errors: kInvalid with the parser's words and the byte at which it stopped. The caller bounds the size of `text`.
Result<boost::json::value> parse_json(std::string_view text);

/// A member that is a string; nullopt where it is absent, null or something else.
std::optional<std::string> find_string(const boost::json::object& object, std::string_view key);

}  // namespace vdvs::base
