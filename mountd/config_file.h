// The config file as text: settings by name, with their lines. Two formats lead to the same settings: ours
// (the part of TOML that a service's settings need) and the predecessor's JSON. What the settings mean,
// config.cc knows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::mountd {

inline constexpr std::size_t kMaxConfigFileBytes = 1024 * 1024;

struct FileSetting {
  std::string key;                  ///< As a flag, without the dashes: "state-dir".
  std::vector<std::string> values;  ///< One, or those of a list.
  std::size_t line = 0;             ///< From 1; 0: not known.
};

struct FileContent {
  std::vector<FileSetting> settings;
  std::vector<std::string> notes;  ///< What the user should hear of: settings that have no meaning any more.
};

/// Comments (#), [mountd] as the only table, and `key = value` where a value is a "basic" or 'literal'
/// string, a number, true, false, a bare word, or a list of these in [ ], over several lines if need be.
/// Pure. Errors: kInvalid with the line.
base::Result<FileContent> parse_config_file(std::string_view text);

/// The predecessor's /etc/vsphere-storage-for-docker.conf: one JSON object, member names in any case. Pure.
/// Errors: kInvalid with the line; kUnsupported for what only the predecessor could do.
base::Result<FileContent> parse_predecessor_config_file(std::string_view text);

}  // namespace vdvs::mountd
