// The administrator's commands as data: what vmdkops_admin and vdvs parse goes in, a table, a text or an
// error comes out. The service executes them when it runs (over its admin socket), the command itself where
// none runs: the same code.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
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
/// {"cmd":"admin","verb":"vmgroup vm add","flags":{"name":"g1",...}}, and "asked_by" where it is known.
boost::json::value to_json(const AdminCommand& command);
/// Errors: kInvalid, kLimit. Whether the verb exists is not asked here (commands.h).
base::Result<AdminCommand> admin_command_from_json(const boost::json::value& value);

/// Either a table (with `columns`) or lines of text. Lines beside a table are notes, which come before it.
struct AdminOutput {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> lines;
};
boost::json::value to_json(const AdminOutput& output);
base::Result<AdminOutput> admin_output_from_json(const boost::json::value& value);

/// The reply to a command: the output, or {"Error": message, "code": "E_...", "remedy": ...}; and back.
boost::json::value admin_reply(const base::Result<AdminOutput>& result);
base::Result<AdminOutput> admin_result(const boost::json::value& reply);

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

/// Gives a disk that exists what its storage policy says now.
using ApplyPolicy = std::function<base::Result<void>(const Place& place, std::string_view content)>;

struct AdminOptions {
  ServiceParts parts;
  std::string database_path;
  std::string audit_file;  ///< Appended to, one line of JSON a change. Empty: nothing is kept.
  std::string local_sh = "/etc/rc.local.d/local.sh";
  std::function<ServiceStatus()> status;  ///< Empty: none runs.
  /// Gives a volume that exists the changed content of its storage policy. Empty: no hypervisor here can, and
  /// a change counts for volumes made later.
  ApplyPolicy apply_policy;
};
/// Thread: `run` may be called from many at once.
std::unique_ptr<Admin> make_admin(AdminOptions options);

/// For the service's admin socket: the payload of one request in, the payload of its reply out. `asked_by` is
/// what the socket proves; what the message says of itself is not believed.
std::string answer_admin_request(Admin& admin, std::string_view payload, std::string asked_by);

/// How long a command may take before the caller is told to look later; the service goes on with it.
inline constexpr std::chrono::minutes kAdminRequestTime{10};

/// Whether somebody listens on a service's admin socket. Errors: kDenied and so on: that is not known.
base::Result<bool> is_service_there(const std::string& socket_path);

/// The same over a service's admin socket (a unix socket of root's), one request a connection. Errors besides
/// the command's own: kUnavailable (no service answers there), kDenied, kLimit (too busy), kIo (closed
/// without an answer), kTimeout.
std::unique_ptr<Admin> make_remote_admin(std::string socket_path,
                                         base::Clock::duration request_time = kAdminRequestTime);

}  // namespace vdvs::esx
