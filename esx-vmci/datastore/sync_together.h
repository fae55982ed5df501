// Several files made durable at once. A journalling file system commits them together, and a disk's cache is
// flushed once, where one after the other would wait for each: that is most of what making a disk takes.
#pragma once

#include <initializer_list>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::esx {

/// fsync(2) of all of them, side by side; returns when all are done. `what` names them in errors. Errors: the
/// first one's of those that failed. Thread: any; starts one for each further file, and ends it.
base::Result<void> sync_together(std::initializer_list<const base::UniqueFd*> files, std::string_view what);

}  // namespace vdvs::esx
