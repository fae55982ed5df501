// The operations of the volume driver, one volume at a time, blocking: what each request means in walks, counts and remembered
// facts. Knows nothing of sockets, threads or timers; VolumeManager brings those.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "mountd/engine.h"
#include "mountd/mount_holders.h"
#include "mountd/plugin_handler.h"
#include "mountd/volume_catalogue.h"
#include "mountd/volume_walk.h"

namespace vdvs::mountd {

/// A holder whose container is not seen running is kept this long while the engine that asked for it lives: the container
/// may still be starting (other volumes of it are being attached).
inline constexpr std::chrono::minutes kStartGrace{5};

/// What the engine said of its containers, and when it was asked (CLOCK_BOOTTIME): a mount that came later is not in it.
struct EngineWord {
  std::vector<ContainerMount> mounts;
  std::chrono::milliseconds asked_at{0};
};

/// Long work (mkfs, a check, a thick create) may take this long; the request is answered earlier.
inline constexpr std::chrono::minutes kWorkTime{60};

class VolumeKeeper {
 public:
  /// References; they outlive the keeper.
  VolumeKeeper(World world, MountHolders& holders, VolumeCatalogue& catalogue)
      : world_(std::move(world)), holders_(holders), catalogue_(catalogue) {}

  // Thread: the strand of the volume, for all that take a name, but for get() and list(), which may run at any time.

  /// Errors: kInvalid, kUnsupported (no such mkfs), kExists with the differences, and those of the walk.
  base::Result<void> create(const esx::VolumeName& name, const esx::OptionMap& options, const std::string& driver,
                            const esx::Progress& progress);

  /// Mounted, at this path. Counts nothing: hold() does, once the answer is sure to be given.
  base::Result<std::string> mount(const esx::VolumeName& name);
  base::Result<void> hold(const esx::VolumeName& name, const std::string& id, ProcessIdentity engine);

  /// Takes one count of `id` away, and unmounts where it was the last. Returns the counts that are left. An unknown id, and an
  /// unknown volume, are success: older engines send such.
  base::Result<int> unmount(const esx::VolumeName& name, const std::string& id);

  /// `mounts`: what the engine says, to name the containers that hold the volume where it is refused; may be empty.
  base::Result<void> remove(const esx::VolumeName& name, const std::vector<ContainerMount>& mounts = {});

  /// Unmounts and detaches what no container holds; otherwise does nothing.
  base::Result<void> settle(const esx::VolumeName& name);

  /// After a start: mounts what is held and not mounted; detaches what nobody holds. What is mounted and not held waits for the
  /// engine's word, if there is an engine (`has_engine`).
  base::Result<void> recover(const esx::VolumeName& name, bool has_engine);

  /// Compares the counts with the engine's containers. Counts of containers that are not there are dropped, holders that were
  /// lost are found again, and what nobody holds is unmounted.
  /// Returns when to look again, where a holder's container may still be starting.
  struct Reconciled {
    int holders_left = 0;
    std::optional<std::chrono::milliseconds> look_again_in;
  };
  base::Result<Reconciled> reconcile(const esx::VolumeName& name, const EngineWord& word);

  /// Asks the control plane. Errors: kNotFound and kInvalid mean that there is no such volume; for all others
  /// `remembered` has the answer.
  base::Result<VolumeView> get(const esx::VolumeName& name);
  /// The same for one driver name. An engine that looks for a name asks each driver, in no order, and takes the first answer
  /// for the volume's driver; so another name than the main one has only what `list` lists under it, and what may have been
  /// made under it by the predecessor, or before this host's memory was lost. Errors: also kNotFound for the others.
  base::Result<VolumeView> get(const esx::VolumeName& name, const std::string& driver, const std::string& main_driver);
  /// nullopt: never heard of it.
  std::optional<VolumeView> remembered(const esx::VolumeName& name, const std::string& backend) const;

  /// The volumes of one driver name; the control plane is asked.
  base::Result<VolumeList> list(const std::string& driver, const std::string& main_driver);
  VolumeList remembered_list(const std::string& driver, const std::string& main_driver) const;

  /// The volumes that have left something on this host: attached, mounted, or held.
  struct Traces {
    std::vector<esx::VolumeName> volumes;  ///< Qualified.
    bool is_whole = true;                  ///< False: the control plane does not say what is attached.
  };
  base::Result<Traces> traces();

  /// "db@datastore" for "db", as far as it can be known without waiting for long.
  std::string qualify(const esx::VolumeName& name);

  /// What was remembered of volumes becomes durable: called when the answer has gone out.
  void sync();

  World& world() { return world_; }
  MountHolders& holders() { return holders_; }

 private:
  WalkRequest request_for(Goal goal, const esx::VolumeName& name);
  base::Result<WalkEnd> walk_to(Goal goal, const esx::VolumeName& name);
  base::Result<void> clear_mount_point(const esx::VolumeName& name);
  base::Result<void> format_now(const esx::VolumeName& name, bool has_created);
  void remember(const esx::VolumeInfo& info, const std::string& driver = {});
  std::string display_name(const std::string& qualified) const;
  VolumeView view_of(const esx::VolumeName& name, const esx::VolumeInfo& info) const;
  base::Result<esx::VolumeInfo> find(const esx::VolumeName& name);
  VolumeList views_of(const std::vector<std::string>& names, const std::string& driver, const std::string& main_driver) const;
  std::vector<ContainerMount> mounts_of(const std::string& qualified, const std::vector<ContainerMount>& mounts) const;
  bool may_be_starting(const Holder& holder, bool has_container) const;
  /// Returns when to look again at those that may be starting.
  base::Result<std::optional<std::chrono::milliseconds>> drop_stale_holders(const std::string& qualified,
                                                                            const EngineWord& word, bool has_container);

  World world_;
  MountHolders& holders_;
  VolumeCatalogue& catalogue_;
};

}  // namespace vdvs::mountd
