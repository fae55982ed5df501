// The folder of a datastore in which the volumes' files lie, and the only way to them: by plain name, below
// the folder's descriptor, never through a symbolic link. Names come from users and from descriptors that
// others wrote.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::esx {

/// The predecessor's folder for volumes of hosts that belong to no group.
inline constexpr std::string_view kDockvols = "dockvols";
inline constexpr std::string_view kDefaultGroupUuid = "11111111-1111-1111-1111-111111111111";
inline constexpr std::string_view kDefaultGroupName = "_DEFAULT";
/// In dockvols: the datastore's own id, so that an empty folder where it is not mounted is not taken for it.
inline constexpr std::string_view kMarkFile = ".vdvs-datastore";
/// In a group's folder: where the volumes' locks are.
inline constexpr std::string_view kLockFile = ".vdvs.lock";

/// Exclusive use of one volume's files, among all threads, processes and hosts that share the folder.
/// Owns: an open file description with an OFD lock on one byte of ".vdvs.lock"; works over NFS too.
class VolumeLock {
 public:
  explicit VolumeLock(base::UniqueFd file) : file_(std::move(file)) {}
  VolumeLock(VolumeLock&&) = default;
  VolumeLock& operator=(VolumeLock&&) = delete;
  ~VolumeLock();

 private:
  base::UniqueFd file_;
};

/// openat2(2) that neither leaves `folder` nor follows a symbolic link in any component. `path` names it in
/// errors. Errors: kUnsupported for a link.
base::Result<base::UniqueFd> open_beneath(const base::UniqueFd& folder, const std::string& name, int flags,
                                          mode_t mode, std::string_view path);
/// Every entry of a folder but "." and "..": its name, its inode as the folder has it, its d_type.
using EntryVisitor = std::function<void(std::string_view name, ino_t inode, unsigned char type)>;
base::Result<void> for_each_in(const base::UniqueFd& folder, std::string_view path,
                               const EntryVisitor& visit);
base::Result<std::vector<std::string>> names_in(const base::UniqueFd& folder, std::string_view path);

class VolumeFolder {
 public:
  /// `fd`: the open folder; `path`: its real one.
  VolumeFolder(base::UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  const std::string& path() const { return path_; }  ///< Real: without symbolic links.
  std::string path_of(std::string_view name) const { return path_ + "/" + std::string(name); }

  /// Opens a regular file. Errors: kNotFound; kUnsupported for anything that is not a regular file.
  base::Result<base::UniqueFd> open_file(std::string_view name, int flags) const;
  /// Makes a new file. Errors: kExists.
  base::Result<base::UniqueFd> create_file(std::string_view name) const;
  /// lstat(2), or nullopt where there is nothing of that name.
  base::Result<std::optional<struct stat>> look(std::string_view name) const;
  base::Result<bool> has(std::string_view name) const;

  /// Gives a file the name under which it counts, in one step. Errors: kExists.
  base::Result<void> publish(std::string_view from, std::string_view to) const;
  base::Result<void> rename(std::string_view from, std::string_view to) const;
  /// A file that is not there is success.
  base::Result<void> unlink(std::string_view name) const;
  base::Result<void> sync() const;

  /// Everything in the folder but "." and "..".
  base::Result<std::vector<std::string>> names() const { return names_in(fd_, path_); }
  base::Result<void> for_each(const EntryVisitor& visit) const { return for_each_in(fd_, path_, visit); }
  /// Of the folder itself. Errors: kUnavailable where it was deleted under us: then nothing can be said about
  /// volumes.
  base::Result<struct stat> status() const;
  int descriptor() const { return fd_.get(); }

  /// Waits until this volume is free.
  base::Result<VolumeLock> lock(std::string_view volume) const;
  /// nullopt where somebody has it now.
  base::Result<std::optional<VolumeLock>> try_lock(std::string_view volume) const;
  /// Whether two volumes share one lock (equal hashes): whoever needs both then takes it once.
  static std::uint64_t lock_offset(std::string_view volume);

 private:
  base::Result<base::UniqueFd> open_lock_file() const;

  base::UniqueFd fd_;
  std::string path_;
};

}  // namespace vdvs::esx
