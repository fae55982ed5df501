// One datastore's "dockvols": a folder for each group, named by the group's uuid, and beside it a link with
// the group's name, for people and for the predecessor; nothing of ours goes through it. Names of groups come
// from administrators and from databases that others wrote, so all is reached below an open folder, without
// links.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "esx-vmci/datastore/datastores.h"
#include "esx-vmci/datastore/volume_folder.h"

namespace vdvs::esx {

/// 8-4-4-4-12 hex digits.
bool is_group_uuid(std::string_view text);
/// [a-zA-Z0-9_][a-zA-Z0-9_.-]*, at most 100 characters.
bool is_group_name(std::string_view text);

class GroupFolders {
 public:
  /// `path`: the datastore's real one. Makes "dockvols" (with `make`), and never the datastore itself.
  /// Errors: kNotFound; kUnsupported where something else, or a link, has the name.
  static base::Result<GroupFolders> open(const std::string& path, bool make);

  /// The datastore's id in "dockvols/.vdvs-datastore"; empty where it has none. `make`: gives it one.
  base::Result<std::string> mark(bool make) const;
  /// False where "dockvols" was deleted under us.
  bool is_there() const;

  /// Errors: kNotFound where there is none and `make` is false; kInvalid (uuid, name).
  base::Result<VolumeFolder> folder_of(const Group& group, bool make) const;
  /// Of a group's folder; 0 where there is none.
  ino_t inode_of(const std::string& uuid) const;
  /// uuids.
  base::Result<std::vector<std::string>> groups() const;
  /// The link follows. Nothing to rename is success. Errors: kExists where something else has the new name.
  base::Result<void> rename(const Group& group, const std::string& new_name) const;
  /// Of a group without volumes: the folder, the lock file in it, the link. Errors: kInUse where files are
  /// left.
  base::Result<void> remove(const Group& group) const;

 private:
  GroupFolders(base::UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  /// Where a link of that name points to; empty where there is none.
  std::string target_of(std::string_view name) const;
  bool is_link_of(std::string_view name, std::string_view uuid) const;
  base::Result<void> make_link(const Group& group) const;

  base::UniqueFd fd_;
  std::string path_;  ///< <datastore>/dockvols
};

}  // namespace vdvs::esx
