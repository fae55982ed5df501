// Datastores that are folders of this machine: mounted NFS or clustered file systems, VMFS on an ESXi host,
// or a folder on a local disk.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/datastore/datastores.h"

namespace vdvs::esx {

struct DatastoreFolder {
  std::string name;
  std::string path;
  /// Other hosts use it too, whatever its file system: a record of theirs then counts although nothing of it
  /// is seen on this kernel. File systems that are not known to be local (NFS, FUSE, clustered ones) count as
  /// shared anyway.
  bool is_shared = false;
  /// The id in its mark ("dockvols/.vdvs-datastore"), where this host has used it before: a folder with
  /// another one, or with none, is an empty mount point, and the datastore is away.
  std::string known_mark{};
  /// Called with its mark when that is first seen, or made: to be the next start's `known_mark`. Before a
  /// volume is made there. Thread: any.
  std::function<void(const std::string& mark)> remember{};
};

/// "NAME=DIR" or "DIR", whose last component then is the name. Errors: kInvalid.
base::Result<DatastoreFolder> parse_datastore_folder(std::string_view text);

/// What the tenancy database keys by: "ds:///vmfs/volumes/<uuid>/" for a folder there, "file://<path>" for
/// any other.
std::string datastore_url(const std::string& path);

/// The first is the default. They need not be there now: one that is missing, or whose mark is not the one
/// that was seen before, is kUnavailable until it is back. `makes_roots`: a datastore's own folder is made
/// where it is missing and never was seen. Errors: kInvalid (none; two with one name or one folder).
base::Result<std::unique_ptr<Datastores>> make_folder_datastores(std::vector<DatastoreFolder> folders,
                                                                 bool makes_roots);

}  // namespace vdvs::esx
