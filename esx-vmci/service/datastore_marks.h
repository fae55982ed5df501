// Which datastore was at which path when this service last ran: an empty mount point must not pass for a
// datastore without volumes, since guests' engines would forget all they have. The id is in the datastore's
// own mark.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/datastore/datastores_folder.h"

namespace vdvs::esx {

/// Fills in `known_mark` of those that are remembered in `<state_dir>/datastores`. Errors: kIo, kDenied; not
/// where nothing is remembered yet.
base::Result<void> recall_marks(const std::string& state_dir, std::vector<DatastoreFolder>& folders);

/// Remembers the marks that are to be seen now, besides those of datastores that are away. Durable.
base::Result<void> remember_marks(const std::string& state_dir,
                                  const std::vector<std::string>& datastore_paths);

}  // namespace vdvs::esx
