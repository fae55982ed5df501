// The folder under a mount point. While nothing is mounted there, nobody may write into it by mistake: what
// was written would lie on the host's own disk, and be hidden by the next mount.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::fsformat {

/// Makes `path` (and the folders above it, 0755) where it is missing, with mode 0000, and sets its immutable
/// attribute (FS_IMMUTABLE_FL), which stops root too, where the file system has attributes. Returns it open.
///
/// Errors: kExists where something is in the folder, or mounted on it, or it is not a folder.
base::Result<base::UniqueFd> make_immutable_folder(const std::string& path);

/// Takes the attribute away and removes the folder. Missing is success. A folder that is not empty stays,
/// with its content: success as well.
base::Result<void> remove_immutable_folder(const std::string& path);

}  // namespace vdvs::fsformat
