// A program's config file as text: settings by name, with their lines. What they mean, the program knows.
//
// The part of TOML that settings need, and strictly: a typing mistake in a storage service's configuration
// should not pass in silence.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::base {

inline constexpr std::size_t kMaxConfigFileBytes = 1024 * 1024;

struct FileSetting {
  std::string key;                  ///< As a flag, without the dashes: "state-dir".
  std::vector<std::string> values;  ///< One, or those of a list.
  std::size_t line = 0;             ///< From 1; 0: not known.
};

/// Comments (#), [`table`] as the only table, and `key = value` where a value is a "basic" or 'literal'
/// string, a number, true, false, a bare word, or a list of these in [ ], over several lines if need be.
/// Pure. Errors: kInvalid with the line.
Result<std::vector<FileSetting>> parse_settings_file(std::string_view text, std::string_view table);

}  // namespace vdvs::base
