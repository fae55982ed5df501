// The administrator's commands as data: what vmdkops_admin and vdvs parse goes in, a table, a text or an
// error comes out. The service executes them when it runs (over its admin socket), the command itself where
// none runs: the same code.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/service/request_pipeline.h"

namespace vdvs::esx {

/// "vmgroup vm add" with {"name": "g1", "vm-list": "a,b"}: the words and flags of section 3.13 of the
/// reference. A bare flag has the value "".
struct AdminCommand {
  std::string verb;
  std::map<std::string, std::string> flags;
  std::string asked_by;  ///< For the audit log: "uid 0 (root)".
};
boost::json::value to_json(const AdminCommand& command);
base::Result<AdminCommand> admin_command_from_json(const boost::json::value& value);

/// Either a table (with `columns`) or lines of text; notes come before it.
struct AdminOutput {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> lines;
};
boost::json::value to_json(const AdminOutput& output);
base::Result<AdminOutput> admin_output_from_json(const boost::json::value& value);

/// What the running service adds to `status`; absent where none runs.
struct ServiceStatus {
  bool is_running = false;
  std::string version;
  int pid = 0;
  std::vector<std::string> listens;
  std::string log_file;
  std::string log_level;
  std::string log_config_file;
  boost::json::object counters;
};

class Admin {
 public:
  virtual ~Admin() = default;
  /// Thread: any; blocks. Changes are written to the audit log: who, what, result.
  virtual base::Result<AdminOutput> run(const AdminCommand& command) = 0;
};

struct AdminOptions {
  ServiceParts parts;
  std::string database_path;
  std::string audit_file;  ///< Appended to, one line of JSON a change.
  std::string local_sh = "/etc/rc.local.d/local.sh";
  std::function<ServiceStatus()> status;
};
std::unique_ptr<Admin> make_admin(AdminOptions options);

/// The same over a service's admin socket (a unix socket of root's). Errors: kUnavailable where none runs.
std::unique_ptr<Admin> make_remote_admin(std::string socket_path);

}  // namespace vdvs::esx
