// What an administrator of the predecessor has in /etc/vmware/vmdkops, so that our service can take its
// place:
//   service_config.sh   a shell fragment of which one setting counts: export VMDK_OPSD_PORT=1020
//   log_config.json     Python's logging.config, of which handlers.rotate_file counts
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxPredecessorFileBytes = 256 * 1024;

/// The port that the last assignment to VMDK_OPSD_PORT names; nullopt where there is none. The text is read,
/// never run. Errors: kInvalid with the line: not a number from 1 to 65535.
base::Result<std::optional<std::uint32_t>> parse_service_config_sh(std::string_view text);

/// "1020". Errors: kInvalid.
base::Result<std::uint32_t> parse_port(std::string_view text);

struct PredecessorLog {
  std::optional<std::string> path;
  std::optional<base::log::Level> level;
  std::optional<std::size_t> max_file_bytes;
  std::optional<std::size_t> max_files;
};
/// handlers.rotate_file.{filename, level, maxBytes, backupCount}, as far as they are there. Errors: kInvalid.
base::Result<PredecessorLog> parse_log_config(std::string_view text);

}  // namespace vdvs::esx
