// The control plane in this process: a folder (or several) is the datastore, loop devices are the hot-plug.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/datastore/datastores_folder.h"
#include "esx-vmci/hypervisor/hypervisor.h"

namespace vdvs::esx {

struct EmbeddedOptions {
  std::vector<DatastoreFolder> datastores;  ///< The first is the default for short names. At least one.
  Vm vm;                                    ///< Who this host is, in records and messages.
};

/// Makes the folders that are missing, takes away what interrupted creates and removes have left. Where some
/// of several datastores cannot be had now, the others are served: `list` then is kUnavailable, as is what
/// concerns their volumes, until they are there. Errors: kInvalid (two datastores with one name or one
/// folder); kDenied, kReadOnly, kUnavailable where that is so of all of them.
/// Thread: any; one operation at a time for each volume, within this process and, by a lock file, across
/// processes and hosts.
base::Result<std::unique_ptr<ControlPlane>> make_embedded_control_plane(
    EmbeddedOptions options, std::unique_ptr<Hypervisor> hypervisor);

}  // namespace vdvs::esx
