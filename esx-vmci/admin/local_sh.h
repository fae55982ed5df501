// ESXi's /etc lives in memory: a link to the shared configuration database must be made again at each boot. A
// block in /etc/rc.local.d/local.sh does that, between two lines that are the predecessor's:
//
//   # -- vSphere Docker Volume Service configuration --
//   ...
//   # -- vSphere Docker Volume Service configuration --
//
// It stands before "exit 0". The file is ESXi's and the administrator's: it is replaced in one step, its old
// content is kept as "local.sh.bck", and one that cannot be understood is left alone.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::string_view kLocalShTag = "# -- vSphere Docker Volume Service configuration --";

/// The block that makes `link` point to `database`, where there is no such file at boot. Errors: kInvalid for
/// paths with control characters.
base::Result<std::string> local_sh_block(std::string_view link, std::string_view database);

/// The script with `block` in the place of the one that is there, or before the first "exit 0", or at the
/// end. An empty block takes it out. Errors: kCorrupt where a block begins and does not end.
base::Result<std::string> with_local_sh_block(std::string_view script, std::string_view block);

/// The same on the file. False where there is no such file (this is no ESXi), or nothing changes.
base::Result<bool> update_local_sh(const std::string& path, std::string_view block);

}  // namespace vdvs::esx
