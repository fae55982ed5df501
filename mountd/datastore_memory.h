// Is this folder the datastore that it was last time? Where its file system is not mounted (an NFS server that was away at boot), the
// folder is empty, every volume would be "not found", and Docker would forget them all. So a datastore carries a mark with an id of its own,
// and this host remembers the ids: a folder without its mark is not served.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/service/embedded.h"

namespace vdvs::mountd {

/// Before the datastores are opened. Errors: kUnavailable where one lacks the mark that <state_dir>/datastores remembers, or has another.
base::Result<void> verify_datastores(const std::string& state_dir, const std::vector<esx::DatastoreFolder>& folders);

/// After they are opened: marks new ones and remembers them all. A datastore that cannot be written stays without a mark, and is not
/// remembered. Errors: the state folder cannot be written.
base::Result<void> remember_datastores(const std::string& state_dir, const std::vector<esx::DatastoreFolder>& folders);

}  // namespace vdvs::mountd
