// A line that knows whether it is whole: "<crc32c, 8 hex digits> <text>\n". State files are made of such lines, so that one that was
// cut or damaged at any byte is noticed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vdvs::base {

/// `text` must not contain a newline. The result ends with one.
std::string checked_line(std::string_view text);

/// The text of a line (without its newline), or nullopt where the checksum does not match.
std::optional<std::string_view> open_checked_line(std::string_view line);

}  // namespace vdvs::base
