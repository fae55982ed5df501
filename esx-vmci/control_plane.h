// The control plane as a Docker host sees it: who owns the disks, attaches and detaches them. The embedded
// service implements it in this process; the client of a remote service will implement it over vsock, a unix
// socket or TLS.
//
// Every operation is idempotent, and the kernel's or hypervisor's truth wins over records: a disk that a
// record calls attached and that is attached nowhere is detached.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "esx-vmci/volume_name.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx {

/// How far the first formatting of a disk has come. It only moves forward, but for `reset`.
enum class InitState {
  kNew,         ///< Made by the service, never written to.
  kFormatting,  ///< A host has begun mkfs. Nobody has ever mounted this disk.
  kFormatted,   ///< mkfs is done; the root folder is not yet prepared. Nobody has ever mounted this disk.
  kReady,       ///< In use, or not made by us: whatever is on it is data.
};
std::string_view init_state_name(InitState state);

/// Who holds a disk.
struct DiskHolder {
  std::string uuid;   ///< The VM's (host's) id.
  std::string name;   ///< Its display name.
  std::string since;  ///< RFC 3339 UTC; empty where not known.
  std::string what;   ///< What else is known, in words: "loop device /dev/loop3". May be empty.
};

struct VolumeInfo {
  VolumeName name;          ///< Always qualified: "db@datastore".
  std::string disk_uuid{};  ///< 32 hex digits, from the descriptor (ddb.uuid).
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::string created{};  ///< asctime, GMT, as the sidecar has it: "Tue Mar 27 18:02:11 2018".
  std::string created_by{};
  OptionMap options{};  ///< As stored: what the user gave, and the defaults that the predecessor stored.
  InitState init = InitState::kReady;
  std::string fs_uuid{};               ///< Of the file system that was made on it; empty where not known.
  std::optional<DiskHolder> holder{};  ///< Attached: to whom.
  bool is_attached_here = false;
  std::optional<base::DiskAddress> address{};  ///< Where attached here: how to find it.
};

/// Progress of long work, 0 to 1. Called from the working thread.
using Progress = std::function<void(double)>;

class ControlPlane {
 public:
  virtual ~ControlPlane() = default;

  /// Errors: kExists ("... already exists") where there is one, whatever its options; kInvalid (the
  /// datastore's name included), kNoSpace, kReadOnly, kNotFound (clone source), kBusyElsewhere (clone source
  /// attached), kForeignData (files that nobody knows have the name).
  virtual base::Result<void> create(const VolumeName& name, const OptionMap& options,
                                    const Progress& progress) = 0;

  /// A volume that is not there is success. Errors: kInUse or kBusyElsewhere where it is attached, with the
  /// holder.
  virtual base::Result<void> remove(const VolumeName& name) = 0;

  /// Attached here already: the same answer again. Errors: kBusyElsewhere with the holder's name and since
  /// when.
  virtual base::Result<base::DiskAddress> attach(const VolumeName& name) = 0;

  /// Not attached here: success, whoever else has it. Errors: kInUse where the device is open.
  virtual base::Result<void> detach(const VolumeName& name) = 0;

  /// Errors: kNotFound is the only one that means that the volume does not exist.
  virtual base::Result<VolumeInfo> get(const VolumeName& name) = 0;

  /// Qualified names, sorted. All of them, or an error.
  virtual base::Result<std::vector<VolumeName>> list() = 0;

  /// Where short names live; empty where that is not known. Does not block.
  virtual std::string default_datastore() const { return {}; }

  /// The volumes attached to this host now.
  virtual base::Result<std::vector<VolumeName>> attached_here() = 0;

  /// Durable before it returns. `fs_uuid` where the state is kFormatted or kReady.
  virtual base::Result<void> set_init(const VolumeName& name, InitState state,
                                      const std::string& fs_uuid) = 0;

  /// Back to a blank disk in state kNew. Errors: kInvalid unless the state is kFormatting or kFormatted;
  /// kInUse while attached.
  virtual base::Result<void> reset(const VolumeName& name) = 0;
};

}  // namespace vdvs::esx
