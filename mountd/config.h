// Flags, environment and config file, in that order of precedence, each setting declared once: the flag
// --state-dir is VDVS_STATE_DIR in the environment and state-dir in the file.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::mountd {

struct Config {
  /// Who owns the disks: nothing, for this process itself (`datastores`), or the service at that endpoint.
  std::optional<esx::Endpoint> control_plane;
  esx::TlsFiles tls;  ///< Of a tcp: endpoint.
  /// [NAME=]DIR; the first is the default. Of use only where this process owns the disks.
  std::vector<std::string> datastores = {"/var/lib/vdvs/datastore"};
  std::vector<std::string> drivers = {"vsphere", "vmdk"};
  std::string state_dir = "/var/lib/vdvs";  ///< Durable: catalogue, host id.
  std::string run_dir = "/run/vdvs";        ///< Cleared by a reboot: mount counts.
  std::string plugin_dir = "/run/docker/plugins";
  std::string mount_root = "/mnt/vmdk";
  std::string docker_socket = "/var/run/docker.sock";  ///< Empty: no engine is asked.
  std::string group = "root";
  std::string host_name;  ///< Empty: the system's.
  std::chrono::milliseconds detach_linger{3000};
  std::size_t threads = 16;
  base::log::Options log;
};

/// What main does next.
struct ParsedArguments {
  Config config;
  /// Set: print `message` and leave with this (--help, --version, a bad flag).
  std::optional<int> exit_status;
  std::string message;
  /// For the log, once it is set up: which file was read, what of it is out of use.
  std::vector<std::string> notes;
};

/// Where settings come from besides argv; tests name others.
struct ConfigSources {
  /// Read if it exists and --config names no other.
  std::string file = "/etc/vdvs/mountd.toml";
  /// Read if it exists and `file` does not.
  std::string predecessor_file = "/etc/vsphere-storage-for-docker.conf";
  /// Empty: getenv(3).
  std::function<const char*(const char*)> environment;
};

/// Reads argv, VDVS_* of the environment, and the config file: ours (config_file.h says what of TOML) or the
/// predecessor's JSON, told apart by their first character. The predecessor's flags are understood, or
/// refused with what to use in their place. Relative paths are made absolute. exit_status is 2 where
/// something is wrong.
ParsedArguments parse_arguments(int argc, const char* const* argv, const ConfigSources& sources = {});

/// "3s", "500ms", "2m", or a number of seconds. Errors: kInvalid, kLimit (more than an hour).
base::Result<std::chrono::milliseconds> parse_duration(std::string_view text);

}  // namespace vdvs::mountd
