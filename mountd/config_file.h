// The config file as text: settings by name, with their lines. Two formats lead to the same settings: ours
// (base/settings_file.h) and the predecessor's JSON. What the settings mean,
// config.cc knows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/settings_file.h"

namespace vdvs::mountd {

using base::FileSetting;
using base::kMaxConfigFileBytes;

struct FileContent {
  std::vector<FileSetting> settings;
  std::vector<std::string> notes;  ///< What the user should hear of: settings that have no meaning any more.
};

/// base/settings_file.h says what; [mountd] is the only table. Pure. Errors: kInvalid with the line.
base::Result<FileContent> parse_config_file(std::string_view text);

/// The predecessor's /etc/vsphere-storage-for-docker.conf: one JSON object, member names in any case. Pure.
/// Errors: kInvalid with the line; kUnsupported for what only the predecessor could do.
base::Result<FileContent> parse_predecessor_config_file(std::string_view text);

}  // namespace vdvs::mountd
