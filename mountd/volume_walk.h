// Look, decide, act, until the goal is reached: the one path of requests, retries and recovery. A walk keeps no state of its own between
// steps; killed anywhere, the next one starts by looking.
#pragma once

#include <optional>
#include <string>

#include "base/deadline.h"
#include "base/error.h"
#include "blockdev/device_watcher.h"
#include "esx-vmci/control_plane.h"
#include "fs-format/formatter.h"
#include "fs-format/mounter.h"
#include "fs-format/prober.h"
#include "mountd/volume_plan.h"

namespace vdvs::mountd {

/// The interfaces through which a walk touches the world. References; they outlive it.
struct World {
  esx::ControlPlane& control_plane;
  blockdev::DeviceWatcher& watcher;
  fsformat::Prober& prober;
  fsformat::Formatter& formatter;
  fsformat::Mounter& mounter;
  std::string mount_root;  ///< A volume is mounted at <mount_root>/<volume>@<datastore>.
};

/// How long a disk may take from the attach to its device; long work (mkfs, a check) has the walk's deadline.
inline constexpr std::chrono::seconds kDeviceWait{20};

struct WalkRequest {
  Goal goal;
  esx::VolumeName name;      ///< As the user gave it.
  /// What is known of the volume where the control plane does not answer.
  std::string known_as;      ///< Qualified name, or empty.
  std::string known_disk_uuid;
  std::string known_fs_uuid;
  bool is_held = false;      ///< Containers hold it.
  esx::OptionMap options;    ///< For a create.
  esx::Progress progress;
  base::Deadline deadline;
};

struct WalkEnd {
  Seen seen = Seen::kAbsent;             ///< What the last look saw.
  std::optional<esx::VolumeInfo> info;   ///< Absent where the control plane did not answer, or there is no volume.
  std::string mount_point;               ///< Where it is mounted here; empty otherwise.
  std::string device;                    ///< Its node here; empty otherwise.
  bool has_created = false;              ///< This walk made the volume.
};

/// More than the longest way through the table (reset, attach, await, format, check, mount, and a create before them).
inline constexpr int kMaxSteps = 16;

/// Thread: the volume's strand. Blocks.
/// Errors: those of the step that failed, with "mount 'db@ds': " or the like in front; the table's refusals.
base::Result<WalkEnd> walk(World& world, const WalkRequest& request);

/// Looks once, changes nothing.
base::Result<WalkEnd> look_at(World& world, const WalkRequest& request);

/// <root>/<qualified name>.
std::string mount_point_of(const World& world, const std::string& qualified_name);

}  // namespace vdvs::mountd
