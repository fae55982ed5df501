// Carries an administrator's command out: in the service where one runs, otherwise in this process by the
// service's own settings and code. For every program that has such commands.
#pragma once

#include <string>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::cli {

struct AdminTarget {
  std::string socket;       ///< Where the service is asked; empty: where its settings say.
  std::string config_file;  ///< The service's settings, where it is not the usual file.
};

struct AdminOutcome {
  base::Result<esx::AdminOutput> output;
  /// False: the command was not carried out at all, since there was nobody who could (no service behind a
  /// socket that was named, a hypervisor or settings that the parts cannot be made of).
  bool is_reached = true;
};

/// Blocks. Says in the audit log that this process asked.
AdminOutcome run_admin_command(const AdminTarget& target, esx::AdminCommand command);

}  // namespace vdvs::cli
