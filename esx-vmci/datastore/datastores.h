// The datastores that a service owns, and in each the folder of every group: <datastore>/dockvols/<group
// uuid>.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/datastore/disk_store.h"

namespace vdvs::esx {

struct Datastore {
  std::string name;
  std::string url;   ///< What the tenancy database keys by: "file:///srv/ds1", "ds:///vmfs/volumes/<uuid>/".
  std::string type;  ///< "folder", "VMFS", "NFS", "vsan".
  std::string path;  ///< Where it is a folder of this machine; otherwise empty.
};

struct Group {
  std::string uuid;
  std::string name;
};

class Datastores {
 public:
  virtual ~Datastores() = default;

  /// All of them, the default one first; also those that do not answer now. Thread: any.
  virtual std::vector<Datastore> all() const = 0;
  /// Ignoring case, as the predecessor: exactly one match. Errors: kInvalid, with the text of section 2.3 of
  /// the reference.
  virtual base::Result<Datastore> find(std::string_view name) const = 0;

  /// A group's disks on one datastore. The object lives as long as this one does; it is another one after the
  /// datastore was away, so ask again for each operation. Where the folder is not there: makes it, with the
  /// link of the group's name, or (`make` false, for what only reads) nullptr. Errors: kUnavailable while the
  /// datastore does not answer; kInvalid (no such datastore, the group's uuid or name).
  virtual base::Result<DiskStore*> store(const std::string& datastore, const Group& group, bool make) = 0;
  /// The uuids of all the groups that have a folder there.
  virtual base::Result<std::vector<std::string>> groups(const std::string& datastore) = 0;
  /// Renames the link of a group's name, on all datastores. Errors: kUnavailable where one does not answer:
  /// its link follows when the group is next used there.
  virtual base::Result<void> rename_group(const Group& group, const std::string& new_name) = 0;
  /// Takes away the folders and the links of a group that has no volumes. Errors: kInUse where it has, before
  /// anything is taken away; kUnavailable likewise.
  virtual base::Result<void> remove_group(const Group& group) = 0;
};

}  // namespace vdvs::esx
