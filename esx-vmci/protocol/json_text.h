// JSON as the predecessor's two programs write it, which is not how Boost.JSON does: Go's encoding/json on
// the guest's side, Python's json.dumps on the service's. And Python's repr of bytes, which stands in one
// error text.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace vdvs::esx {

/// Takes the next code point off the front of `text`, which is not empty. Where the bytes are not UTF-8
/// (overlong forms and surrogates included): nullopt, and one byte is gone.
std::optional<char32_t> take_utf8(std::string_view& text);

/// A string with its quotes as Go's encoding/json writes it: <, >, & and U+2028/9 escaped, what else is
/// beyond ASCII as it is, U+FFFD for what is not UTF-8.
void append_go_string(std::string& out, std::string_view text);

/// A string with its quotes as json.dumps writes it: all but printable ASCII escaped, pairs of surrogates
/// where needed.
void append_python_string(std::string& out, std::string_view text);

/// A value as json.dumps writes it, with ", " and ": "; `is_compact` without the spaces.
void append_python(std::string& out, const boost::json::value& value, bool is_compact);

/// b'...' as Python's repr(bytes) has it.
std::string python_repr_of_bytes(std::string_view bytes);

}  // namespace vdvs::esx
