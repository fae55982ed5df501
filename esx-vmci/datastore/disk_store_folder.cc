#include "esx-vmci/datastore/disk_store_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "esx-vmci/datastore/folder_listing.h"
#include "esx-vmci/datastore/sync_together.h"
#include "esx-vmci/fault_points.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::fault_point;
using base::Result;
using base::UniqueFd;

constexpr std::string_view kExtentEnding = "-flat.vmdk";
constexpr std::string_view kCreatingEnding = ".vmdk.creating";
constexpr std::string_view kRemovingEnding = ".vmdk.removing";

std::string descriptor_name(std::string_view volume) {
  return std::string(volume) + std::string(kDescriptorEnding);
}
std::string creating_name(std::string_view volume) {
  return std::string(volume) + std::string(kCreatingEnding);
}
std::string removing_name(std::string_view volume) {
  return std::string(volume) + std::string(kRemovingEnding);
}

/// Known to be used by one kernel at a time. Anything else (NFS, CIFS, FUSE, Ceph, GFS2, ...) may be shared
/// between hosts.
bool is_local_file_system(int folder_fd) {
  constexpr std::array<std::uint64_t, 9> kLocal = {
      0xEF53 /* ext */,          0x58465342 /* xfs */,     0x9123683E /* btrfs */,
      0x01021994 /* tmpfs */,    0xF2F52010 /* f2fs */,    0x2FC12FC1 /* zfs */,
      0xCA451A4E /* bcachefs */, 0x794C7630 /* overlay */, 0x858458F6 /* ramfs */,
  };
  struct statfs info;
  if (::fstatfs(folder_fd, &info) != 0) return false;
  return std::ranges::find(kLocal, static_cast<std::uint64_t>(info.f_type) & 0xFFFFFFFFu) != kLocal.end();
}

/// The predecessor's text.
std::unexpected<base::Error> not_found(std::string_view volume, const std::string& path) {
  return fail(ErrorCode::kNotFound, "Volume {} not found (file: {})", volume, path);
}

/// The name of a volume's extent.
std::string extent_name(std::string_view volume) { return std::string(volume) + std::string(kExtentEnding); }

class FolderDiskStore final : public DiskStore {
 public:
  FolderDiskStore(std::string name, VolumeFolder folder, bool is_shared)
      : name_(std::move(name)),
        folder_(std::move(folder)),
        is_shared_(is_shared),
        listing_(name_, is_shared) {}

  const std::string& name() const override { return name_; }
  bool is_shared() const override { return is_shared_; }
  const std::string& place() const override { return folder_.path(); }

  Result<std::vector<VolumeName>> list() override { return listing_.volumes(folder_); }
  Result<StoredDisk> load(std::string_view volume) const override;
  Result<std::uint64_t> allocated_bytes(const StoredDisk& disk) const override;
  Result<std::vector<std::string>> recorded_to(const Vm& vm) override;

  Disk disk_of(const StoredDisk& disk) const override;
  Disk disk_named(std::string_view volume) const override;
  std::optional<std::string> volume_of_file(std::string_view path) const override;

  Result<DiskLock> lock(std::string_view volume) const override;
  LockKey lock_key(std::string_view volume) const override {
    return {folder_.path(), VolumeFolder::lock_offset(volume)};
  }

  Result<std::vector<std::string>> in_the_making() const override;

  Result<void> settle(const std::string& volume) const override;
  Result<void> save(StoredDisk& disk, Durability durability) const override;
  Result<void> create(const std::string& volume, const NewDisk& wish, const std::optional<CopySource>& source,
                      const Progress& progress) const override;
  Result<void> remove(const StoredDisk& disk) const override;
  Result<void> blank(const StoredDisk& disk) const override;
  Result<void> clean_up() const override;

 private:
  Result<std::string> read_text(const std::string& name, std::size_t max_bytes) const;
  Result<void> read_sidecar(StoredDisk& disk) const;
  Result<UniqueFd> open_extent(const StoredDisk& disk, int flags) const;
  Result<UniqueFd> open_source(const CopySource& source) const;
  Result<UniqueFd> write_new_file(const std::string& name, std::string_view content) const;
  Result<void> make_files(const std::string& volume, const NewDisk& wish, const UniqueFd* source,
                          const Progress& progress, bool& has_extent) const;
  Result<void> erase_parts(const std::string& volume, const std::string& sidecar_name) const;

  const std::string name_;
  const VolumeFolder folder_;
  const bool is_shared_;
  FolderListing listing_;
};

Result<std::string> FolderDiskStore::read_text(const std::string& name, std::size_t max_bytes) const {
  ASSIGN_OR_RETURN(const UniqueFd file, folder_.open_file(name, O_RDONLY));
  std::string text(max_bytes + 1, '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  if (got < 0) return fail_errno(errno, "read '{}'", folder_.path_of(name));
  text.resize(static_cast<std::size_t>(got));
  return text;
}

Result<void> FolderDiskStore::read_sidecar(StoredDisk& disk) const {
  std::vector<std::string> names;
  if (auto named = find_sidecar_name(disk.descriptor.sidecars, disk.volume)) names.push_back(*named);
  names.push_back(sidecar_file_name(disk.volume));
  names.push_back(sidecar_file_name(disk.volume, kOldSidecarKey));
  disk.sidecar_name = names.front();
  for (const std::string& name : names) {
    auto text = read_text(name, kMaxSidecarBytes);
    if (!text && text.error().code() == ErrorCode::kNotFound) continue;
    if (!text) return std::unexpected(std::move(text).error());
    auto decoded = decode_sidecar(*text);
    // A reader takes no lock, and may have seen half of a write: then the second look differs.
    for (int look = 0; !decoded && look < 3; ++look) {
      ASSIGN_OR_RETURN(*text, read_text(name, kMaxSidecarBytes));
      decoded = decode_sidecar(*text);
    }
    disk.sidecar_name = name;
    disk.has_sidecar = decoded.has_value();
    if (decoded) disk.sidecar = std::move(*decoded);
    return {};
  }
  return {};
}

Result<StoredDisk> FolderDiskStore::load(std::string_view volume) const {
  StoredDisk disk;
  disk.volume = volume;
  const std::string name = descriptor_name(volume);
  const std::string subject = fmt::format("read disk '{}'", folder_.path_of(name));
  auto text = read_text(name, kMaxDescriptorBytes);
  if (!text && text.error().code() == ErrorCode::kNotFound) {
    RETURN_IF_ERROR(folder_.status());
    return not_found(volume, folder_.path_of(name));
  }
  if (!text) return std::unexpected(std::move(text).error());
  auto descriptor = parse_descriptor(*text);
  if (!descriptor) return std::unexpected(std::move(descriptor).error().within(subject));
  disk.descriptor = std::move(*descriptor);
  if (disk.descriptor.extent != extent_name(volume)) {
    return fail(ErrorCode::kUnsupported, "{}: its extent '{}' is not its own (that would be '{}')", subject,
                disk.descriptor.extent, extent_name(volume));
  }
  RETURN_IF_ERROR(read_sidecar(disk));
  return disk;
}

Result<std::uint64_t> FolderDiskStore::allocated_bytes(const StoredDisk& disk) const {
  const std::string path = folder_.path_of(disk.descriptor.extent);
  ASSIGN_OR_RETURN(const std::optional<struct stat> info, folder_.look(disk.descriptor.extent));
  if (!info) {
    // Or the whole disk was removed since its descriptor was read.
    ASSIGN_OR_RETURN(const bool is_there, folder_.has(descriptor_name(disk.volume)));
    if (!is_there) return not_found(disk.volume, folder_.path_of(descriptor_name(disk.volume)));
    return fail(ErrorCode::kCorrupt, "read disk '{}': its extent '{}' is missing", disk.volume, path);
  }
  if (!S_ISREG(info->st_mode)) {
    return fail(ErrorCode::kUnsupported, "read disk '{}': its extent '{}' is {}", disk.volume, path,
                S_ISLNK(info->st_mode) ? "a symbolic link, which is never followed" : "not a regular file");
  }
  if (static_cast<std::uint64_t>(info->st_size) < disk.descriptor.size_bytes) {
    return fail(ErrorCode::kCorrupt, "read disk '{}': its extent '{}' is short ({} bytes of {})", disk.volume,
                path, info->st_size, disk.descriptor.size_bytes);
  }
  return static_cast<std::uint64_t>(info->st_blocks) * kSectorBytes;
}

Result<std::vector<std::string>> FolderDiskStore::recorded_to(const Vm& vm) {
  ASSIGN_OR_RETURN(const std::vector<VolumeName> names, list());
  std::vector<std::string> volumes;
  for (const VolumeName& name : names) {
    const auto stored = load(name.volume());
    const bool names_it =
        stored && stored->sidecar.attached && is_id_of(stored->sidecar.attached->vm_uuid, vm);
    if (names_it) volumes.push_back(name.volume());
  }
  return volumes;
}

Disk FolderDiskStore::disk_of(const StoredDisk& stored) const {
  Disk disk{.descriptor_path = folder_.path_of(descriptor_name(stored.volume)),
            .extent_path = folder_.path_of(stored.descriptor.extent),
            .uuid = stored.descriptor.uuid,
            .size_bytes = stored.descriptor.size_bytes};
  apply_attach_options(stored, disk);
  return disk;
}

Disk FolderDiskStore::disk_named(std::string_view volume) const {
  return {.descriptor_path = folder_.path_of(descriptor_name(volume)),
          .extent_path = folder_.path_of(extent_name(volume)),
          .uuid = {}};
}

std::optional<std::string> FolderDiskStore::volume_of_file(std::string_view path) const {
  path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
  if (auto volume = volume_of(path, kExtentEnding)) return volume;
  return volume_of(path, kDescriptorEnding);
}

Result<DiskLock> FolderDiskStore::lock(std::string_view volume) const {
  ASSIGN_OR_RETURN(VolumeLock held, folder_.lock(volume));
  return DiskLock(std::move(held));
}

/// Keeps everybody off an extent for as long as `extent` is open: flock(2) is what loop devices hold, locks
/// on byte ranges are what QEMU does. `is_alone`: nobody may even read it.
Result<void> hold_extent(const UniqueFd& extent, bool is_alone, std::string_view operation,
                         std::string_view volume) {
  auto busy = [&] {
    return fail(ErrorCode::kBusyElsewhere, "{} '{}': its extent is locked by another host or process",
                operation, volume);
  };
  if (::flock(extent.get(), (is_alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) return busy();
  struct flock range = {};
  range.l_type = F_WRLCK;  // any lock at all is in its way
  range.l_whence = SEEK_SET;
  if (::fcntl(extent.get(), F_OFD_GETLK, &range) != 0) return {};  // no such locks on this file system
  if (range.l_type != F_UNLCK) return busy();
  range = {};
  range.l_type = is_alone ? F_WRLCK : F_RDLCK;
  range.l_whence = SEEK_SET;
  if (::fcntl(extent.get(), F_OFD_SETLK, &range) != 0 && (errno == EAGAIN || errno == EACCES)) return busy();
  return {};
}

Result<UniqueFd> FolderDiskStore::open_extent(const StoredDisk& disk, int flags) const {
  RETURN_IF_ERROR(allocated_bytes(disk));
  return folder_.open_file(disk.descriptor.extent, flags);
}

Result<UniqueFd> FolderDiskStore::open_source(const CopySource& source) const {
  const auto* store = dynamic_cast<const FolderDiskStore*>(source.store);
  if (store == nullptr) {
    return fail(ErrorCode::kUnsupported, "clone '{}': datastore '{}' is of another kind than '{}'",
                source.disk->volume, source.store->name(), name_);
  }
  ASSIGN_OR_RETURN(UniqueFd extent, store->open_extent(*source.disk, O_RDONLY));
  RETURN_IF_ERROR(hold_extent(extent, false, "clone", source.disk->volume));
  return extent;
}

Result<UniqueFd> FolderDiskStore::write_new_file(const std::string& name, std::string_view content) const {
  ASSIGN_OR_RETURN(UniqueFd file, folder_.create_file(name));
  RETURN_IF_ERROR(base::write_all_at(file, content, 0, folder_.path_of(name)));
  return file;
}

Result<void> FolderDiskStore::save(StoredDisk& disk, Durability durability) const {
  auto file = folder_.open_file(disk.sidecar_name, O_RDWR);
  const bool is_new = !file && file.error().code() == ErrorCode::kNotFound;
  if (!file && !is_new) return std::unexpected(std::move(file).error());
  if (is_new) {
    ASSIGN_OR_RETURN(const std::string content, encode_sidecar(disk.sidecar));
    ASSIGN_OR_RETURN(const UniqueFd made, write_new_file(disk.sidecar_name, content));
    RETURN_IF_ERROR(base::sync_all(made, folder_.path_of(disk.sidecar_name)));
    RETURN_IF_ERROR(folder_.sync());
  } else {
    struct stat info;
    const std::string path = folder_.path_of(disk.sidecar_name);
    if (::fstat(file->get(), &info) != 0) return fail_errno(errno, "stat '{}'", path);
    // All blocks in one write over the old ones: never a moment without content.
    const std::size_t old_bytes = std::min(static_cast<std::size_t>(info.st_size), kMaxSidecarBytes);
    ASSIGN_OR_RETURN(const std::string content, encode_sidecar(disk.sidecar, old_bytes));
    RETURN_IF_ERROR(base::write_all_at(*file, content, 0, path));
    if (durability == Durability::kNow) RETURN_IF_ERROR(base::sync_data(*file, path));
    // Longer than any sidecar: it was garbage, and its end would make ours garbage too.
    if (info.st_size > static_cast<off_t>(kMaxSidecarBytes) &&
        ::ftruncate(file->get(), static_cast<off_t>(content.size())) != 0) {
      return fail_errno(errno, "cut '{}'", path);
    }
  }
  disk.has_sidecar = true;
  return {};
}

Result<void> FolderDiskStore::make_files(const std::string& volume, const NewDisk& wish,
                                         const UniqueFd* source, const Progress& progress,
                                         bool& has_extent) const {
  VmdkDescriptor descriptor;
  descriptor.size_bytes = wish.shape.size_bytes;
  descriptor.extent = extent_name(volume);
  descriptor.uuid = random_disk_uuid();
  descriptor.content_id = random_content_id();
  descriptor.is_thin = wish.shape.format == DiskFormat::kThin;
  const std::string sidecar_name = sidecar_file_name(volume);
  descriptor.sidecars = sidecars_line(sidecar_name);
  ASSIGN_OR_RETURN(const UniqueFd text, write_new_file(creating_name(volume), print_descriptor(descriptor)));
  RETURN_IF_ERROR(folder_.sync());  // the proof is durable before there is anything that it speaks about
  RETURN_IF_ERROR(fault_point(kFaultCreateIntent));

  ASSIGN_OR_RETURN(const std::string content, encode_sidecar(wish.sidecar));
  RETURN_IF_ERROR(folder_.unlink(sidecar_name));  // of a disk that is no more
  ASSIGN_OR_RETURN(const UniqueFd metadata, write_new_file(sidecar_name, content));
  RETURN_IF_ERROR(fault_point(kFaultCreateSidecar));

  ASSIGN_OR_RETURN(const UniqueFd extent, folder_.create_file(descriptor.extent));
  has_extent = true;
  const std::string path = folder_.path_of(descriptor.extent);
  if (source != nullptr) {
    RETURN_IF_ERROR(copy_extent(*source, extent, wish.shape, progress, path));
    RETURN_IF_ERROR(fault_point(kFaultCloneCopy));
  } else {
    RETURN_IF_ERROR(allocate_extent(extent, wish.shape, progress, path));
  }
  RETURN_IF_ERROR(sync_together({&extent, &metadata, &text}, path));
  RETURN_IF_ERROR(fault_point(kFaultCreateExtent));
  return folder_.publish(creating_name(volume), descriptor_name(volume));
}

Result<void> FolderDiskStore::create(const std::string& volume, const NewDisk& wish,
                                     const std::optional<CopySource>& source,
                                     const Progress& progress) const {
  const std::string path = folder_.path_of(descriptor_name(volume));
  RETURN_IF_ERROR(settle(volume));
  ASSIGN_OR_RETURN(const bool is_there, folder_.has(descriptor_name(volume)));
  if (is_there) return fail(ErrorCode::kExists, "File {} already exists", path);
  ASSIGN_OR_RETURN(const bool has_foreign_extent, folder_.has(extent_name(volume)));
  if (has_foreign_extent) {
    return std::unexpected(
        base::Error(ErrorCode::kForeignData,
                    fmt::format("create '{}': the extent '{}' is there without a descriptor, and its data is "
                                "not ours to overwrite",
                                volume, folder_.path_of(extent_name(volume))),
                    "write its descriptor again, or move the file away, or choose another name"));
  }
  RETURN_IF_ERROR(check_space(folder_.descriptor(), wish.shape));
  UniqueFd original;
  if (source) {
    ASSIGN_OR_RETURN(original, open_source(*source));
  }
  bool has_extent = false;
  const UniqueFd* data = source ? &original : nullptr;
  if (auto made = make_files(volume, wish, data, progress, has_extent); !made) {
    if (has_extent) (void)folder_.unlink(extent_name(volume));
    (void)folder_.unlink(sidecar_file_name(volume));
    (void)folder_.unlink(creating_name(volume));
    return made;
  }
  RETURN_IF_ERROR(folder_.sync());
  return fault_point(kFaultCreateCommit);
}

Result<void> FolderDiskStore::erase_parts(const std::string& volume, const std::string& sidecar_name) const {
  RETURN_IF_ERROR(folder_.unlink(extent_name(volume)));
  RETURN_IF_ERROR(fault_point(kFaultRemoveExtent));
  for (const std::string& name :
       {sidecar_name, sidecar_file_name(volume), sidecar_file_name(volume, kOldSidecarKey)}) {
    RETURN_IF_ERROR(folder_.unlink(name));
  }
  return fault_point(kFaultRemoveSidecar);
}

Result<void> FolderDiskStore::remove(const StoredDisk& disk) const {
  const std::string& volume = disk.volume;
  // A disk of which only the descriptor is left can be removed too; held here, the lock keeps the extent from
  // being attached meanwhile.
  auto extent = folder_.open_file(disk.descriptor.extent, O_RDWR);
  if (!extent && extent.error().code() != ErrorCode::kNotFound)
    return std::unexpected(std::move(extent).error());
  if (extent) RETURN_IF_ERROR(hold_extent(*extent, true, "remove", volume));
  RETURN_IF_ERROR(folder_.rename(descriptor_name(volume), removing_name(volume)));
  RETURN_IF_ERROR(folder_.sync());
  RETURN_IF_ERROR(fault_point(kFaultRemoveMark));
  RETURN_IF_ERROR(erase_parts(volume, disk.sidecar_name));
  // Not synced: should the power fail now, the durable mark is found again and the rest is repeated.
  return folder_.unlink(removing_name(volume));
}

Result<void> FolderDiskStore::blank(const StoredDisk& disk) const {
  ASSIGN_OR_RETURN(const UniqueFd extent, open_extent(disk, O_RDWR));
  RETURN_IF_ERROR(hold_extent(extent, true, "blank", disk.volume));
  const auto stored = disk.sidecar.options.find("diskformat");
  const auto options =
      VolumeOptions::parse(stored == disk.sidecar.options.end() ? OptionMap() : OptionMap{*stored});
  const DiskFormat format = options ? options->disk_format : DiskFormat::kThin;
  const std::string path = folder_.path_of(disk.descriptor.extent);
  RETURN_IF_ERROR(blank_extent(extent, {disk.descriptor.size_bytes, format}, path));
  RETURN_IF_ERROR(base::sync_all(extent, path));
  return fault_point(kFaultResetExtent);
}

Result<void> FolderDiskStore::settle(const std::string& volume) const {
  for (const std::string& marker : {creating_name(volume), removing_name(volume)}) {
    ASSIGN_OR_RETURN(const bool is_marked, folder_.has(marker));
    if (!is_marked) continue;
    ASSIGN_OR_RETURN(const bool is_there, folder_.has(descriptor_name(volume)));
    if (!is_there) {  // else the disk counts, and only the marker is left
      auto text = read_text(marker, kMaxDescriptorBytes);
      auto descriptor = text ? parse_descriptor(*text) : fail(ErrorCode::kCorrupt, "unreadable");
      auto named = descriptor ? find_sidecar_name(descriptor->sidecars, volume) : std::nullopt;
      RETURN_IF_ERROR(erase_parts(volume, named.value_or(sidecar_file_name(volume))));
    }
    RETURN_IF_ERROR(folder_.unlink(marker));
    RETURN_IF_ERROR(folder_.sync());
    base::log::info("finished what was interrupted",
                    {{"volume", volume}, {"datastore", name_}, {"marker", marker}});
  }
  return {};
}

Result<std::vector<std::string>> FolderDiskStore::in_the_making() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, folder_.names());
  std::vector<std::string> volumes;
  for (const std::string& file : names)
    if (auto volume = volume_of(file, kCreatingEnding)) volumes.push_back(std::move(*volume));
  return volumes;
}

Result<void> FolderDiskStore::clean_up() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, folder_.names());
  for (const std::string& file : names) {
    std::optional<std::string> volume = volume_of(file, kCreatingEnding);
    if (!volume) volume = volume_of(file, kRemovingEnding);
    if (!volume) continue;
    ASSIGN_OR_RETURN(const auto lock, folder_.try_lock(*volume));
    if (lock) RETURN_IF_ERROR(settle(*volume));
  }
  return {};
}

}  // namespace

std::unique_ptr<DiskStore> make_folder_disk_store(std::string name, VolumeFolder folder, bool is_shared) {
  const bool is_shared_anyway = is_shared || !is_local_file_system(folder.descriptor());
  return std::make_unique<FolderDiskStore>(std::move(name), std::move(folder), is_shared_anyway);
}

}  // namespace vdvs::esx
