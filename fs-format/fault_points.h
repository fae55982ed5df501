// Every fault point of this folder (base/fault.h). The crash tests read this file and walk through all of
// them.
#pragma once

#include <string_view>

namespace vdvs::fsformat {

inline constexpr std::string_view kFaultMkfsBefore = "format.mkfs.before";
inline constexpr std::string_view kFaultMkfsAfter =
    "format.mkfs.after";  ///< mkfs has ended, nobody has looked yet.
inline constexpr std::string_view kFaultMountFolder =
    "mount.folder.after";  ///< The immutable folder is there, the mount is not.
inline constexpr std::string_view kFaultUnmountMount =
    "unmount.umount.after";  ///< The mount is gone, its folder is not.

}  // namespace vdvs::fsformat
