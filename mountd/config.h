// Flags, environment and config file, in that order of precedence, each setting declared once.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"

namespace vdvs::mountd {

struct Config {
  std::vector<std::string> datastores = {"/var/lib/vdvs/datastore"};  ///< [NAME=]DIR; the first is the default.
  std::vector<std::string> drivers = {"vsphere", "vmdk"};
  std::string state_dir = "/var/lib/vdvs";       ///< Durable: catalogue, host id.
  std::string run_dir = "/run/vdvs";             ///< Cleared by a reboot: mount counts.
  std::string plugin_dir = "/run/docker/plugins";
  std::string mount_root = "/mnt/vmdk";
  std::string docker_socket = "/var/run/docker.sock";  ///< Empty: no engine is asked.
  std::string group = "root";
  std::string host_name;                         ///< Empty: the system's.
  std::chrono::milliseconds detach_linger{3000};
  std::size_t threads = 16;
  base::log::Options log;
};

/// What main does next.
struct ParsedArguments {
  Config config;
  std::optional<int> exit_status;  ///< Set: print `message` and leave with this (--help, --version, a bad flag).
  std::string message;
};

/// Reads argv, VDVS_* of the environment, and the config file: ours (TOML as CLI11 reads it) or the predecessor's JSON.
ParsedArguments parse_arguments(int argc, const char* const* argv);

}  // namespace vdvs::mountd
