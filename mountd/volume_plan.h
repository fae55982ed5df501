// Decide: one step for each pair of what is wanted and what is seen. The whole policy of a volume's life stands in the table of
// volume_plan.cc; requests, retries and crash recovery all walk by it, so what must never happen is checked there, when the
// program is compiled.
#pragma once

#include <string_view>

namespace vdvs::mountd {

/// What a request, or recovery, wants of a volume on this host.
enum class Goal {
  kPresent,    ///< The volume exists.
  kFormatted,  ///< It exists and carries a file system (`-o format=now`).
  kMounted,    ///< It is mounted here.
  kUnmounted,  ///< It is not mounted here; it may stay attached for a while.
  kDetached,   ///< It is not attached here.
  kRemoved,    ///< It does not exist.
};
inline constexpr int kGoalCount = 6;

/// What look() found. From kNoDevice on, the disk is attached to this host.
enum class Seen {
  kUnreachable,          ///< The control plane does not say, and nothing is mounted here.
  kAbsent,               ///< There is no such volume.
  kDetached,             ///< Attached nowhere.
  kDetachedHalfway,      ///< Attached nowhere, and its first formatting was interrupted: nobody has ever mounted it.
  kElsewhere,            ///< Attached to another host, or held by something that is not ours.
  kNoDevice,             ///< Attached here; the device is not there yet, or was not looked at since the goal does not ask what is on it.
  kHalfway,              ///< Its first formatting was interrupted: nobody has ever mounted it.
  kBlank,                ///< Proven blank, and the service made it new.
  kBlankNotNew,          ///< Blank, though the service does not say that it is new: data was here, or is expected.
  kForeign,              ///< Something else than one file system.
  kWrongFileSystem,      ///< A file system, but not the one that was made on this disk.
  kUnclean,              ///< Its file system wants a check.
  kFormatted,            ///< Ready to be mounted.
  kMounted,              ///< Mounted here; no container holds it.
  kHeld,                 ///< Mounted here, and containers hold it.
};
inline constexpr int kSeenCount = 15;

enum class Step {
  kDone,
  // These change the world; look() follows each of them.
  kCreate,
  kReset,         ///< Make the disk of an interrupted formatting blank and new again.
  kAttach,
  kAwaitDevice,
  kFormat,
  kCheck,
  kMount,
  kUnmount,
  kDetach,
  kRemove,
  // These end the walk with an error.
  kRefuseUnreachable,
  kRefuseAbsent,
  kRefuseElsewhere,
  kRefuseBlankNotNew,
  kRefuseForeign,
  kRefuseWrongFileSystem,
  kRefuseHeld,
};
inline constexpr int kStepCount = 18;

/// Total and pure.
Step decide(Goal goal, Seen seen);

std::string_view goal_name(Goal goal);
std::string_view seen_name(Seen seen);  ///< "attached, blank": for messages and logs.
std::string_view step_name(Step step);  ///< "attach": also the name of its fault points, walk.<step>.before and .after.
bool changes_the_world(Step step);

}  // namespace vdvs::mountd
