// Disks as files in a folder of this machine: descriptor, extent, sidecar.
//
// The proof is a name. A disk exists when "<vol>.vmdk" does. Its making begins with "<vol>.vmdk.creating",
// its removal with a rename to "<vol>.vmdk.removing"; each is durable before anything else changes and goes
// last. Whatever lies beside such a file, without a "<vol>.vmdk", is garbage and is taken away at start and
// by the next create. An extent without any of the three is somebody's data: it is never written to and never
// deleted.
#pragma once

#include <memory>
#include <string>

#include "esx-vmci/datastore/disk_store.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx {

/// `is_shared`: hosts beyond this kernel use it too, whatever its file system; one that is not known to be
/// local (NFS, FUSE, clustered ones) counts as shared anyway.
std::unique_ptr<DiskStore> make_folder_disk_store(std::string name, VolumeFolder folder, bool is_shared);

}  // namespace vdvs::esx
