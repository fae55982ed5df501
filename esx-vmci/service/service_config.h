// The service's settings: flags, environment and config file, in that order of precedence, each declared
// once: the flag --audit-log is VDVS_AUDIT_LOG in the environment and audit-log in the file. Behind them,
// what the predecessor had under /etc/vmware/vmdkops (predecessor_settings.h).
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

struct ServiceConfig {
  /// Endpoints (transport/endpoint.h) at which guests are served.
  std::vector<std::string> listens = {"vsock:", "unix:/run/vdvs/vmdkops.sock"};
  /// Nobody asked for just these: one that this machine has not is left out.
  bool are_default_listens = true;
  /// [NAME=]DIR; the first is the default. Not with a hypervisor that has datastores of its own.
  std::vector<std::string> datastores = {"/var/lib/vdvs/datastore"};
  /// The datastores are used by other hosts too, whatever their file systems.
  bool is_shared = false;
  std::string database = "/etc/vmware/vmdkops/auth-db";
  /// "loop", "qemu:FILE" or "vsphere:FILE".
  std::string hypervisor = "loop";
  /// NAME=PATH. With "loop": that VM is on while the process of this pid file runs (hypervisor/vm_processes.h).
  std::vector<std::string> vm_pid_files;
  TlsFiles tls;
  std::size_t threads = 16;
  std::string admin_socket = "/run/vdvs/vmdkopsd-admin.sock";
  std::string state_dir = "/var/lib/vdvs/vmdkopsd";  ///< Durable: which datastores were seen where.
  std::string audit_log = "/var/lib/vdvs/vmdkopsd/audit.log";
  std::string host_name;  ///< With "loop": this host's; the system's where it is empty.
  std::string host_id;    ///< With "loop": this host's uuid in records; by /etc/machine-id where it is empty.
  base::log::Options log;
  std::string log_config_file;  ///< The one that was read; empty: none.
};

/// What main does next.
struct ParsedServiceArguments {
  ServiceConfig config;
  /// Set: print `message` and leave with this (--help, --version, a bad flag).
  std::optional<int> exit_status;
  std::string message;
  /// For the log, once it is set up: which files were read.
  std::vector<std::string> notes;
};

/// Where settings come from besides argv; tests name others.
struct ServiceConfigSources {
  std::string file = "/etc/vdvs/vmdkopsd.toml";  ///< Read if it exists and --config names no other.
  std::string service_config_sh = "/etc/vmware/vmdkops/service_config.sh";
  std::string log_config = "/etc/vmware/vmdkops/log_config.json";
  std::function<const char*(const char*)> environment;  ///< Empty: getenv(3).
};

/// Relative paths are made absolute. exit_status is 2 where something is wrong.
ParsedServiceArguments parse_service_arguments(int argc, const char* const* argv,
                                               const ServiceConfigSources& sources = {});

/// The same without flags: what a service that were started now would use. For the administrator's commands
/// where no service runs. Errors: kInvalid.
base::Result<ServiceConfig> load_service_config(const ServiceConfigSources& sources = {});

}  // namespace vdvs::esx
