// The control plane in this process: a folder (or several) is the datastore, loop devices are the hot-plug.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/hypervisor/hypervisor.h"

namespace vdvs::esx {

struct DatastoreFolder {
  std::string name;
  std::string path;
  /// Other hosts use it too, whatever its file system: a record of theirs then counts although nothing of it
  /// is seen on this kernel. File systems that are not known to be local (NFS, FUSE, clustered ones) count as
  /// shared anyway.
  bool is_shared = false;
};

/// "NAME=DIR" or "DIR", whose last component then is the name. Errors: kInvalid.
base::Result<DatastoreFolder> parse_datastore_folder(std::string_view text);

struct EmbeddedOptions {
  std::vector<DatastoreFolder> datastores;  ///< The first is the default for short names. At least one.
  Vm vm;                                    ///< Who this host is, in records and messages.
};

/// Makes the folders that are missing, takes away what interrupted creates and removes have left.
/// Errors: kInvalid (two datastores with one name or one folder), kDenied, kReadOnly.
/// Thread: any; one operation at a time for each volume, within this process and, by a lock file, across
/// processes and hosts.
base::Result<std::unique_ptr<ControlPlane>> make_embedded_control_plane(
    EmbeddedOptions options, std::unique_ptr<Hypervisor> hypervisor);

}  // namespace vdvs::esx
