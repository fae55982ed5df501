// Every fault point of this folder (base/fault.h) besides those of the walk's steps, which are walk.<step>.before and walk.<step>.after. The crash
// tests read this file and walk through all of them.
#pragma once

#include <string_view>

namespace vdvs::mountd {

inline constexpr std::string_view kFaultFormatMarked = "format.marked.after";      ///< The record says that mkfs may begin.
inline constexpr std::string_view kFaultFormatMade = "format.made.after";          ///< The file system is there, the record does not know.
inline constexpr std::string_view kFaultMountPrepared = "mount.prepared.after";    ///< The new root is prepared, unseen.
inline constexpr std::string_view kFaultMountReady = "mount.ready.after";          ///< The record says ready; not mounted yet.
inline constexpr std::string_view kFaultDetachReleased = "detach.released.after";  ///< The device is flushed, still attached.
inline constexpr std::string_view kFaultHoldBefore = "hold.before";                ///< Mounted, not counted.
inline constexpr std::string_view kFaultHoldAfter = "hold.after";                  ///< Counted, not answered.
inline constexpr std::string_view kFaultDropBefore = "drop.before";
inline constexpr std::string_view kFaultDropAfter = "drop.after";                  ///< Counted down, not unmounted.

}  // namespace vdvs::mountd
