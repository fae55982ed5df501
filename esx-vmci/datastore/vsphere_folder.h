// A folder of a datastore as vCenter or ESXi serves it: listed by the datastore's browser, its small files
// read and written through the server's /folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

struct VsphereDatastore {
  soap::MoRef ref;
  soap::MoRef browser;
  std::string name;
  std::string url;
  std::string type;  ///< "VMFS", "NFS", "vsan".
  bool is_accessible = false;
  bool has_many_hosts = false;
  soap::MoRef datacenter;
  std::string datacenter_path;  ///< As /folder wants it: "DC0", "Europe/DC1".
};

class VsphereFolder {
 public:
  /// `path`: below the datastore's root, without slashes at its ends.
  VsphereFolder(VsphereSession& session, VsphereDatastore datastore, std::string path)
      : session_(session), datastore_(std::move(datastore)), path_(std::move(path)) {}

  struct Entry {
    std::string name;
    std::uint64_t size_bytes = 0;  ///< Of a disk: what it takes.
  };

  const VsphereDatastore& datastore() const { return datastore_; }
  const std::string& path() const { return path_; }
  /// "[ds1] dockvols/group" and "[ds1] dockvols/group/file".
  std::string text() const { return "[" + datastore_.name + "] " + path_; }
  std::string text_of(std::string_view file) const { return text() + "/" + std::string(file); }

  /// Files whose name matches (`*` and `?`), sorted; nullopt where the folder is not there. Extents of disks
  /// may be left out by the server.
  base::Result<std::optional<std::vector<Entry>>> list(std::string_view pattern,
                                                       base::Deadline deadline) const;
  base::Result<std::vector<std::string>> folders(base::Deadline deadline) const;
  /// The files whose names begin so; kUnavailable where the folder is not there.
  base::Result<std::vector<Entry>> beginning_with(std::string_view begin, base::Deadline deadline) const;

  /// nullopt where there is none: but a server that has lost the datastore says that too.
  base::Result<std::optional<std::string>> read(std::string_view file, std::size_t max_bytes,
                                                base::Deadline deadline) const;
  base::Result<void> write(std::string_view file, std::string_view bytes, base::Deadline deadline) const;
  /// A file or a folder; what is not there is success.
  base::Result<void> erase(std::string_view file, base::Deadline deadline) const;
  base::Result<void> erase_folder(base::Deadline deadline) const;
  /// With its parents; it may be there.
  base::Result<void> make(base::Deadline deadline) const;

 private:
  base::Result<std::optional<soap::Element>> search(std::string_view query, std::string_view pattern,
                                                    base::Deadline deadline) const;
  base::Result<void> erase_path(const std::string& path, base::Deadline deadline) const;

  VsphereSession& session_;
  VsphereDatastore datastore_;
  std::string path_;
};

}  // namespace vdvs::esx
