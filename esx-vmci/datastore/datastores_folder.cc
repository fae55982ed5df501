#include "esx-vmci/datastore/datastores_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "esx-vmci/datastore/disk_store_folder.h"
#include "esx-vmci/datastore/group_folders.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kVmfsRoot = "/vmfs/volumes/";

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// Empty where it cannot be resolved.
std::string real_path(const std::string& path) {
  std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), &::free);
  return real ? real.get() : std::string();
}

bool is_vsan(std::string_view path) { return path.starts_with(std::string(kVmfsRoot) + "vsan:"); }

const char* type_of(const std::string& path) {
  if (is_vsan(path)) return "vsan";
  struct statfs info;
  if (::statfs(path.c_str(), &info) != 0) return "folder";
  switch (static_cast<std::uint64_t>(info.f_type) & 0xFFFFFFFFu) {
    case 0x6969:
      return "NFS";
    case 0x2FABF15E:
      return "VMFS";
    default:
      return "folder";
  }
}

/// One datastore, there or away.
class FolderDatastore {
 public:
  FolderDatastore(DatastoreFolder folder, bool makes_root)
      : folder_(std::move(folder)),
        url_(datastore_url(folder_.path)),
        makes_root_(makes_root),
        type_(is_vsan(folder_.path) || is_vsan(real_path(folder_.path)) ? "vsan" : "folder") {}

  const std::string& name() const { return folder_.name; }
  const std::string& path() const { return folder_.path; }
  Datastore described() const {
    return {.name = folder_.name, .url = url_, .type = type_.load(), .path = folder_.path};
  }

  Result<DiskStore*> store(const Group& group, bool make) EXCLUDES(mutex_);
  Result<std::vector<std::string>> groups() EXCLUDES(mutex_);
  Result<void> rename_group(const Group& group, const std::string& new_name) EXCLUDES(mutex_);
  Result<void> remove_group(const Group& group) EXCLUDES(mutex_);

 private:
  Result<DiskStore*> open_store(const Group& group, bool make) REQUIRES(mutex_);
  /// As it was found at one time.
  struct Found {
    dev_t device = 0;
    ino_t inode = 0;
    std::string real_path;
    std::optional<GroupFolders> folders{};  ///< nullopt: it has no "dockvols" yet.
    struct Open {
      std::unique_ptr<DiskStore> store;
      ino_t inode = 0;  ///< Of the group's folder.
    };
    std::map<std::string, Open> by_group{};
  };

  base::Error away(std::string cause) const;
  /// The datastore's folder is there, and is the one that it was.
  Result<void> find() REQUIRES(mutex_);
  /// Its "dockvols". nullptr: there is none yet, and `make` is false.
  Result<const GroupFolders*> open_folders(bool make) REQUIRES(mutex_);
  void retire(Found::Open open) REQUIRES(mutex_) { retired_.push_back(std::move(open.store)); }
  void retire_all() REQUIRES(mutex_);

  const DatastoreFolder folder_;
  const std::string url_;
  const bool makes_root_;
  /// What its path says, until it has been looked at: whoever puts a service together must know which
  /// datastore has policies, and asks none that may not answer.
  std::atomic<const char*> type_;
  base::Mutex mutex_;  ///< While the datastore is looked for and opened; what is done to volumes needs none.
  std::optional<Found> found_ GUARDED_BY(mutex_);
  std::string mark_ GUARDED_BY(mutex_) = folder_.known_mark;
  std::string new_mark_ GUARDED_BY(mutex_);  ///< To be told to `remember`.
  bool was_seen_ GUARDED_BY(mutex_) = false;
  /// Stores that callers may still work with: kept until the end. One for each time that a datastore was
  /// away.
  std::vector<std::unique_ptr<DiskStore>> retired_ GUARDED_BY(mutex_);
};

base::Error FolderDatastore::away(std::string cause) const {
  return {ErrorCode::kUnavailable, fmt::format("datastore '{}' is away: {}", folder_.name, cause),
          fmt::format("mount its file system at '{}'", folder_.path)};
}

void FolderDatastore::retire_all() {
  if (!found_) return;
  for (auto& [uuid, open] : found_->by_group) retire(std::move(open));
  found_.reset();
}

Result<void> FolderDatastore::find() {
  struct stat info;
  int error = ::stat(folder_.path.c_str(), &info) == 0 ? 0 : errno;
  if (error == ENOENT && makes_root_ && !was_seen_ && mark_.empty()) {
    RETURN_IF_ERROR(base::make_folders(folder_.path));
    error = ::stat(folder_.path.c_str(), &info) == 0 ? 0 : errno;
  }
  if (error != 0) {
    retire_all();
    return std::unexpected(
        away(base::Error::from_errno(fmt::format("stat '{}'", folder_.path), error).message()));
  }
  if (found_ && found_->device == info.st_dev && found_->inode == info.st_ino) return {};
  if (found_) base::log::warn("a datastore's folder is another one now", {{"datastore", folder_.name}});
  retire_all();
  found_ = Found{.device = info.st_dev, .inode = info.st_ino, .real_path = real_path(folder_.path)};
  type_ = type_of(found_->real_path);
  return {};
}

Result<const GroupFolders*> FolderDatastore::open_folders(bool make) {
  RETURN_IF_ERROR(find());
  if (found_->folders && !found_->folders->is_there()) {
    for (auto& [uuid, open] : found_->by_group) retire(std::move(open));
    found_->by_group.clear();
    found_->folders.reset();
  }
  if (found_->folders) return &*found_->folders;
  const bool was_used = was_seen_ || !mark_.empty();
  auto folders = GroupFolders::open(found_->real_path, make && !was_used);
  if (!folders && folders.error().code() == ErrorCode::kNotFound) {
    if (was_used) return std::unexpected(away(fmt::format("'{}' has no {} now", folder_.path, kDockvols)));
    return nullptr;
  }
  if (!folders) return std::unexpected(std::move(folders).error());
  auto mark = folders->mark(make && mark_.empty());
  if (mark && !mark_.empty() && *mark != mark_)
    return std::unexpected(away(fmt::format("'{}' does not carry its mark", folder_.path)));
  if (!mark)
    base::log::warn("a datastore has no mark", {{"datastore", name()}, {"cause", mark.error().text()}});
  if (mark && !mark->empty() && mark_.empty()) new_mark_ = mark_ = *mark;
  was_seen_ = true;
  found_->folders = std::move(*folders);
  return &*found_->folders;
}

Result<DiskStore*> FolderDatastore::store(const Group& group, bool make) {
  std::string new_mark;
  const auto store = [&] {
    base::MutexLock lock(mutex_);
    auto opened = open_store(group, make);
    new_mark = std::exchange(new_mark_, {});
    return opened;
  }();
  if (!new_mark.empty() && folder_.remember) folder_.remember(new_mark);
  return store;
}

Result<DiskStore*> FolderDatastore::open_store(const Group& group, bool make) {
  ASSIGN_OR_RETURN(const GroupFolders* folders, open_folders(make));
  if (folders == nullptr) return nullptr;
  auto known = found_->by_group.find(group.uuid);
  if (known != found_->by_group.end()) {
    if (folders->inode_of(group.uuid) == known->second.inode) return known->second.store.get();
    retire(std::move(known->second));
    found_->by_group.erase(known);
  }
  auto folder = folders->folder_of(group, make);
  if (!folder && folder.error().code() == ErrorCode::kNotFound && !make) return nullptr;
  if (!folder) return std::unexpected(std::move(folder).error());
  ASSIGN_OR_RETURN(const struct stat info, folder->status());
  Found::Open open{make_folder_disk_store(folder_.name, std::move(*folder), folder_.is_shared), info.st_ino};
  DiskStore* store = open.store.get();
  found_->by_group.emplace(group.uuid, std::move(open));
  return store;
}

Result<std::vector<std::string>> FolderDatastore::groups() {
  base::MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(const GroupFolders* folders, open_folders(false));
  if (folders == nullptr) return std::vector<std::string>();
  return folders->groups();
}

Result<void> FolderDatastore::rename_group(const Group& group, const std::string& new_name) {
  base::MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(const GroupFolders* folders, open_folders(false));
  return folders == nullptr ? Result<void>() : folders->rename(group, new_name);
}

Result<void> FolderDatastore::remove_group(const Group& group) {
  base::MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(const GroupFolders* folders, open_folders(false));
  if (folders == nullptr) return {};
  RETURN_IF_ERROR(folders->remove(group));
  auto known = found_->by_group.find(group.uuid);
  if (known == found_->by_group.end()) return {};
  retire(std::move(known->second));
  found_->by_group.erase(known);
  return {};
}

class FolderDatastores final : public Datastores {
 public:
  explicit FolderDatastores(std::vector<std::unique_ptr<FolderDatastore>> datastores)
      : datastores_(std::move(datastores)) {}

  std::vector<Datastore> all() const override {
    std::vector<Datastore> all;
    for (const auto& datastore : datastores_) all.push_back(datastore->described());
    return all;
  }

  Result<Datastore> find(std::string_view name) const override {
    ASSIGN_OR_RETURN(FolderDatastore * datastore, find_folder(name));
    return datastore->described();
  }

  Result<DiskStore*> store(const std::string& datastore, const Group& group, bool make) override {
    ASSIGN_OR_RETURN(FolderDatastore * found, find_folder(datastore));
    return found->store(group, make);
  }

  Result<std::vector<std::string>> groups(const std::string& datastore) override {
    ASSIGN_OR_RETURN(FolderDatastore * found, find_folder(datastore));
    return found->groups();
  }

  Result<void> rename_group(const Group& group, const std::string& new_name) override {
    Result<void> outcome;
    for (const auto& datastore : datastores_) {
      auto renamed = datastore->rename_group(group, new_name);
      if (!renamed && outcome) outcome = std::move(renamed);
    }
    return outcome;
  }

  Result<void> remove_group(const Group& group) override {
    for (const auto& datastore : datastores_) {
      ASSIGN_OR_RETURN(DiskStore * store, datastore->store(group, false));
      if (store == nullptr) continue;
      RETURN_IF_ERROR(store->clean_up());
      ASSIGN_OR_RETURN(const std::vector<VolumeName> volumes, store->list());
      if (volumes.empty()) continue;
      return fail(ErrorCode::kInUse,
                  "remove group '{}': it has volumes on datastore '{}' ({} of them, such as '{}')",
                  group.name, datastore->name(), volumes.size(), volumes.front().text());
    }
    for (const auto& datastore : datastores_) RETURN_IF_ERROR(datastore->remove_group(group));
    return {};
  }

 private:
  Result<FolderDatastore*> find_folder(std::string_view name) const {
    std::string known;
    for (const auto& datastore : datastores_) {
      if (equals_ignoring_case(datastore->name(), name)) return datastore.get();
      known += (known.empty() ? "" : ", ") + datastore->name();
    }
    return fail(ErrorCode::kInvalid, "Invalid datastore '{}'.\nKnown datastores: {}.\nDefault datastore: {}.",
                name, known, datastores_.front()->name());
  }

  const std::vector<std::unique_ptr<FolderDatastore>> datastores_;
};

}  // namespace

Result<DatastoreFolder> parse_datastore_folder(std::string_view text) {
  const std::size_t equals = text.find('=');
  // A path may hold '=' too: a name never holds '/'.
  const bool has_name =
      equals != std::string_view::npos && text.substr(0, equals).find('/') == std::string_view::npos;
  std::filesystem::path path(has_name ? text.substr(equals + 1) : text);
  if (path.empty()) return fail(ErrorCode::kInvalid, "datastore '{}': no folder is given", text);
  if (!path.has_filename()) path = path.parent_path();
  DatastoreFolder folder{has_name ? std::string(text.substr(0, equals)) : path.filename().string(),
                         path.string()};
  auto name = VolumeName::parse("x@" + folder.name);
  if (!name || folder.name.find_first_of("@/\\") != std::string::npos) {
    return fail(ErrorCode::kInvalid, "datastore '{}': '{}' cannot be a datastore's name", text, folder.name);
  }
  return folder;
}

std::string datastore_url(const std::string& path) {
  std::error_code error;
  std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  while (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
  if (!absolute.starts_with(kVmfsRoot)) return "file://" + absolute;
  // By its uuid: the name there is a link to it, which changes when the datastore is renamed.
  const std::string volume = absolute.substr(0, absolute.find('/', kVmfsRoot.size()));
  const std::string real = real_path(volume);
  return "ds://" + (real.starts_with(kVmfsRoot) ? real : volume) + "/";
}

Result<std::unique_ptr<Datastores>> make_folder_datastores(std::vector<DatastoreFolder> folders,
                                                           bool makes_roots) {
  if (folders.empty()) return fail(ErrorCode::kInvalid, "no datastore is given");
  auto identity = [](const std::string& path) {
    std::string real = real_path(path);
    return real.empty() ? datastore_url(path) : datastore_url(real);
  };
  std::vector<std::unique_ptr<FolderDatastore>> datastores;
  for (DatastoreFolder& folder : folders) {
    for (const auto& other : datastores) {
      if (equals_ignoring_case(other->name(), folder.name))
        return fail(ErrorCode::kInvalid, "open datastore '{}': another datastore has that name", folder.name);
      if (identity(other->path()) == identity(folder.path)) {
        return fail(ErrorCode::kInvalid, "open datastore '{}': datastore '{}' is the same folder",
                    folder.name, other->name());
      }
    }
    datastores.push_back(std::make_unique<FolderDatastore>(std::move(folder), makes_roots));
  }
  return std::make_unique<FolderDatastores>(std::move(datastores));
}

}  // namespace vdvs::esx
