#include "esx-vmci/service/embedded.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <filesystem>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "esx-vmci/datastore/disk_store.h"
#include "esx-vmci/fault_points.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fault_point;
using base::Result;

constexpr const char* kAsctime = "%a %b %e %H:%M:%S %Y";
constexpr const char* kRfc3339 = "%Y-%m-%dT%H:%M:%SZ";

/// UTC.
std::string format_now(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts;
  ::gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// "10gb", "100mb", and where it is not a whole number of those, "1048064b" (only disks that were made
/// elsewhere).
std::string size_text(std::uint64_t bytes) {
  if (bytes % (1ull << 40) == 0) return fmt::format("{}tb", bytes >> 40);
  if (bytes % (1ull << 30) == 0) return fmt::format("{}gb", bytes >> 30);
  if (bytes % (1ull << 20) == 0) return fmt::format("{}mb", bytes >> 20);
  return fmt::format("{}b", bytes);
}

class EmbeddedControlPlane final : public ControlPlane {
 public:
  EmbeddedControlPlane(Vm vm, std::vector<std::unique_ptr<DiskStore>> stores,
                       std::unique_ptr<Hypervisor> hypervisor)
      : vm_(std::move(vm)), stores_(std::move(stores)), hypervisor_(std::move(hypervisor)) {}

  Result<void> create(const VolumeName& name, const OptionMap& options, const Progress& progress) override;
  Result<void> remove(const VolumeName& name) override;
  Result<base::DiskAddress> attach(const VolumeName& name) override;
  Result<void> detach(const VolumeName& name) override;
  Result<VolumeInfo> get(const VolumeName& name) override;
  Result<std::vector<VolumeName>> list() override;
  std::string default_datastore() const override { return stores_.front()->name(); }
  Result<std::vector<VolumeName>> attached_here() override;
  Result<void> set_init(const VolumeName& name, InitState state, const std::string& fs_uuid) override;
  Result<void> reset(const VolumeName& name) override;

 private:
  Result<DiskStore*> store_of(const VolumeName& name) const;
  Result<void> clone(DiskStore& store, const VolumeName& name, const OptionMap& given,
                     const VolumeOptions& options, const Progress& progress);
  Result<std::vector<VolumeLock>> lock_both(const DiskStore& a, std::string_view volume_a, const DiskStore& b,
                                            std::string_view volume_b) const;
  Disk disk_of(const DiskStore& store, const StoredDisk& stored) const;
  /// Who has the disk, by the kernel first and by the record where the kernel cannot know.
  Result<std::optional<DiskHolder>> holder_of(const DiskStore& store, const StoredDisk& stored,
                                              const std::optional<Attachment>& attachment) const;
  bool is_ours(const Attachment& attachment) const { return attachment.vm_uuid == vm_.uuid; }

  const Vm vm_;
  const std::vector<std::unique_ptr<DiskStore>> stores_;
  const std::unique_ptr<Hypervisor> hypervisor_;
};

std::string describe(const DiskHolder& holder) {
  std::string text =
      holder.name.empty() && holder.uuid.empty() ? "disk is attached by hand" : "disk is attached";
  if (!holder.name.empty() || !holder.uuid.empty())
    text += fmt::format(" to vm '{}'", holder.name.empty() ? holder.uuid : holder.name);
  if (!holder.since.empty()) text += " since " + holder.since;
  if (!holder.what.empty()) text += fmt::format(" ({})", holder.what);
  return text;
}

std::string remedy_for(const DiskHolder& holder) {
  if (holder.uuid.empty()) return "detach it where it was attached ('losetup -a' shows it)";
  return fmt::format("stop its container on '{}'; a host that went down frees its disks when it starts again",
                     holder.name.empty() ? holder.uuid : holder.name);
}

std::unexpected<base::Error> busy(std::string_view operation, const VolumeName& name,
                                  const DiskHolder& holder) {
  return std::unexpected(base::Error(ErrorCode::kBusyElsewhere,
                                     fmt::format("{} '{}': {}", operation, name.text(), describe(holder)),
                                     remedy_for(holder)));
}

std::unexpected<base::Error> failed(std::string_view operation, const VolumeName& name, base::Error error) {
  return std::unexpected(std::move(error).within(fmt::format("{} '{}'", operation, name.text())));
}

Result<DiskStore*> EmbeddedControlPlane::store_of(const VolumeName& name) const {
  if (!name.is_qualified()) return stores_.front().get();
  std::string known;
  for (const auto& store : stores_) {
    if (equals_ignoring_case(store->name(), name.datastore())) return store.get();
    known += (known.empty() ? "" : ", ") + store->name();
  }
  return fail(ErrorCode::kInvalid, "Invalid datastore '{}'.\nKnown datastores: {}.\nDefault datastore: {}.",
              name.datastore(), known, stores_.front()->name());
}

Disk EmbeddedControlPlane::disk_of(const DiskStore& store, const StoredDisk& stored) const {
  auto access = stored.sidecar.options.find("access");
  // Until it has a file system it must be writable: nobody has data on it yet.
  const bool is_read_only = access != stored.sidecar.options.end() && access->second == "read-only" &&
                            stored.sidecar.init == InitState::kReady;
  return Disk{.descriptor_path = store.folder().path_of(stored.volume + ".vmdk"),
              .extent_path = store.folder().path_of(stored.descriptor.extent),
              .uuid = stored.descriptor.uuid,
              .size_bytes = stored.descriptor.size_bytes,
              .is_read_only = is_read_only};
}

Result<std::optional<DiskHolder>> EmbeddedControlPlane::holder_of(
    const DiskStore& store, const StoredDisk& stored, const std::optional<Attachment>& attachment) const {
  const std::optional<AttachRecord>& record = stored.sidecar.attached;
  if (attachment) {
    DiskHolder holder{.uuid = attachment->vm_uuid, .name = {}, .since = {}, .what = attachment->what};
    if (is_ours(*attachment)) holder.name = vm_.name;
    if (record && record->vm_uuid == holder.uuid) {
      holder.name = record->vm_name;
      holder.since = record->since;
    }
    return holder;
  }
  // Nothing on this kernel. Our own record is then out of date, and so is any record on a file system that
  // only this kernel uses.
  if (!record || record->vm_uuid == vm_.uuid || !store.is_shared()) return std::nullopt;
  return DiskHolder{.uuid = record->vm_uuid, .name = record->vm_name, .since = record->since, .what = {}};
}

Result<void> EmbeddedControlPlane::create(const VolumeName& name, const OptionMap& given,
                                          const Progress& progress) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const VolumeOptions options, VolumeOptions::parse(given));
  if (options.policy != VolumeOptions().policy)
    return fail(ErrorCode::kInvalid, "Cannot use a VSAN policy on a non-VSAN datastore");
  if (!options.clone_from.empty()) return clone(*store, name, given, options, progress);
  NewDisk wish{.shape = {options.size_bytes, options.disk_format}};
  wish.sidecar.options = given;
  wish.sidecar.options.emplace("diskformat", disk_format_name(options.disk_format));
  wish.sidecar.options.emplace("fstype", options.fstype);
  wish.sidecar.created = format_now(kAsctime);
  wish.sidecar.created_by = vm_.name;
  wish.sidecar.init = InitState::kNew;
  ASSIGN_OR_RETURN(const auto lock, store->folder().lock(name.volume()));
  return store->create(name.volume(), wish, nullptr, progress);
}

Result<std::vector<VolumeLock>> EmbeddedControlPlane::lock_both(const DiskStore& a, std::string_view volume_a,
                                                                const DiskStore& b,
                                                                std::string_view volume_b) const {
  // In one order everywhere, so that two clones in opposite directions never wait for each other; one byte is
  // taken once.
  auto key = [](const DiskStore& store, std::string_view volume) {
    return std::pair(store.folder().path(), VolumeFolder::lock_offset(volume));
  };
  const bool is_a_first = key(a, volume_a) < key(b, volume_b);
  std::vector<VolumeLock> locks;
  ASSIGN_OR_RETURN(VolumeLock first, is_a_first ? a.folder().lock(volume_a) : b.folder().lock(volume_b));
  locks.push_back(std::move(first));
  if (key(a, volume_a) == key(b, volume_b)) return locks;
  ASSIGN_OR_RETURN(VolumeLock second, is_a_first ? b.folder().lock(volume_b) : a.folder().lock(volume_a));
  locks.push_back(std::move(second));
  return locks;
}

Result<void> EmbeddedControlPlane::clone(DiskStore& store, const VolumeName& name, const OptionMap& given,
                                         const VolumeOptions& options, const Progress& progress) {
  const auto source_name = VolumeName::parse(options.clone_from);
  if (!source_name)
    return fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", options.clone_from);
  DiskStore* source_store = &store;  // a short name is looked for beside the clone
  if (source_name->is_qualified()) {
    ASSIGN_OR_RETURN(source_store, store_of(*source_name));
  }
  ASSIGN_OR_RETURN(const auto locks, lock_both(store, name.volume(), *source_store, source_name->volume()));
  auto source = source_store->load(source_name->volume());
  if (!source && source.error().code() == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", options.clone_from);
  }
  if (!source) return failed("clone", *source_name, std::move(source).error());
  ASSIGN_OR_RETURN(const base::UniqueFd extent, source_store->open_extent(*source, O_RDONLY));
  ASSIGN_OR_RETURN(const auto attachment, hypervisor_->find(disk_of(*source_store, *source)));
  ASSIGN_OR_RETURN(const auto holder, holder_of(*source_store, *source, attachment));
  if (holder) return busy("clone", *source_name, *holder);
  if (::flock(extent.get(), LOCK_SH | LOCK_NB) != 0) {  // and nobody attaches it until the copy is done
    return fail(ErrorCode::kBusyElsewhere, "clone '{}': its extent is locked by another host or process",
                source_name->text());
  }
  NewDisk wish{.shape = {source->descriptor.size_bytes, options.disk_format}};
  wish.sidecar.options = source->sidecar.options;
  for (const auto& [option, value] : given) wish.sidecar.options[option] = value;
  wish.sidecar.options["clone-from"] = source_name->volume();
  wish.sidecar.options["diskformat"] = disk_format_name(options.disk_format);
  wish.sidecar.created = format_now(kAsctime);
  wish.sidecar.created_by = vm_.name;
  // Nobody has ever mounted a disk that is not ready: there is nothing to copy.
  const bool has_data = source->sidecar.init == InitState::kReady;
  wish.sidecar.init = has_data ? InitState::kReady : InitState::kNew;
  if (has_data) wish.sidecar.fs_uuid = source->sidecar.fs_uuid;
  return store.create(name.volume(), wish, has_data ? &extent : nullptr, progress);
}

Result<void> EmbeddedControlPlane::remove(const VolumeName& name) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const auto lock, store->folder().lock(name.volume()));
  RETURN_IF_ERROR(store->settle(name.volume()));
  auto stored = store->load(name.volume());
  if (!stored && stored.error().code() == ErrorCode::kNotFound) return {};
  if (!stored) return failed("remove", name, std::move(stored).error());
  if (auto extent = store->folder().has(stored->descriptor.extent); extent && *extent) {
    ASSIGN_OR_RETURN(const auto attachment, hypervisor_->find(disk_of(*store, *stored)));
    ASSIGN_OR_RETURN(const auto holder, holder_of(*store, *stored, attachment));
    if (holder) {
      const bool is_here = attachment && is_ours(*attachment);
      return std::unexpected(base::Error(is_here ? ErrorCode::kInUse : ErrorCode::kBusyElsewhere,
                                         fmt::format("Failed to remove volume {}, in use by VM = {}. ({})",
                                                     name.volume(), holder->name, describe(*holder)),
                                         is_here ? "stop the containers that use it" : remedy_for(*holder)));
    }
  }
  return store->remove(*stored);
}

// Where only this kernel uses the file system, the record of an attachment is worth nothing after a crash:
// then no disk is attached. So it is not waited for, which at each mount and detach would cost a disk's
// flush.
DiskStore::Durability durability_of_attachments(const DiskStore& store) {
  return store.is_shared() ? DiskStore::Durability::kNow : DiskStore::Durability::kSoon;
}

Result<base::DiskAddress> EmbeddedControlPlane::attach(const VolumeName& name) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const auto lock, store->folder().lock(name.volume()));
  RETURN_IF_ERROR(store->settle(name.volume()));
  ASSIGN_OR_RETURN(StoredDisk stored, store->load(name.volume()));
  RETURN_IF_ERROR(store->look_at_extent(stored));
  const Disk disk = disk_of(*store, stored);
  ASSIGN_OR_RETURN(const auto attachment, hypervisor_->find(disk));
  ASSIGN_OR_RETURN(const auto holder, holder_of(*store, stored, attachment));
  const bool is_here = attachment && is_ours(*attachment);
  if (holder && !is_here) return busy("attach", name, *holder);

  const std::optional<AttachRecord> before = stored.sidecar.attached;
  if (before && before->vm_uuid != vm_.uuid) {
    base::log::warn("took over an attach record that nothing stands behind",
                    {{"volume", name.text()}, {"vm", before->vm_name}, {"since", before->since}});
  }
  if (!is_here || !before || before->vm_uuid != vm_.uuid) {
    stored.sidecar.attached = AttachRecord{vm_.uuid, vm_.name, format_now(kRfc3339)};
    if (auto saved = store->save(stored, durability_of_attachments(*store)); !saved)
      return failed("attach", name, std::move(saved).error());
  }
  RETURN_IF_ERROR(fault_point(kFaultAttachRecord));
  auto address = hypervisor_->attach(vm_, disk);
  if (!address) {
    stored.sidecar.attached = before && before->vm_uuid != vm_.uuid ? before : std::nullopt;
    if (auto saved = store->save(stored, durability_of_attachments(*store)); !saved) {
      base::log::warn("could not take an attach record back",
                      {{"volume", name.text()}, {"cause", saved.error().text()}});
    }
    return failed("attach", name, std::move(address).error());
  }
  RETURN_IF_ERROR(fault_point(kFaultAttachDevice));
  return *address;
}

Result<void> EmbeddedControlPlane::detach(const VolumeName& name) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  // A disk is let go even where its datastore cannot be written any more, or its descriptor was damaged or
  // deleted: the device counts.
  const auto lock = store->folder().lock(name.volume());
  if (!lock && lock.error().code() != ErrorCode::kReadOnly && lock.error().code() != ErrorCode::kIo) {
    return std::unexpected(lock.error());
  }
  auto stored = store->load(name.volume());
  Disk disk;
  disk.extent_path = store->folder().path_of(DiskStore::extent_name(name.volume()));
  auto detached = hypervisor_->detach(vm_, disk);
  if (!detached) return failed("detach", name, std::move(detached).error());
  RETURN_IF_ERROR(fault_point(kFaultDetachDevice));
  if (!stored || !stored->sidecar.attached || stored->sidecar.attached->vm_uuid != vm_.uuid) return {};
  stored->sidecar.attached.reset();
  if (auto saved = store->save(*stored, durability_of_attachments(*store)); !saved) {
    // The disk is free; the record corrects itself at the next attach.
    base::log::warn("detached, but the record still says attached",
                    {{"volume", name.text()}, {"cause", saved.error().text()}});
  }
  return {};
}

Result<VolumeInfo> EmbeddedControlPlane::get(const VolumeName& name) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const StoredDisk stored, store->load(name.volume()));
  ASSIGN_OR_RETURN(const struct stat extent, store->look_at_extent(stored));
  VolumeInfo info{.name = name.on(store->name())};
  info.disk_uuid = stored.descriptor.uuid;
  info.size_bytes = stored.descriptor.size_bytes;
  info.allocated_bytes = static_cast<std::uint64_t>(extent.st_blocks) * kSectorBytes;
  info.created = stored.sidecar.created;
  info.created_by = stored.sidecar.created_by;
  info.options = stored.sidecar.options;
  info.options.emplace("size", size_text(info.size_bytes));
  info.init = stored.sidecar.init;
  info.fs_uuid = stored.sidecar.fs_uuid;
  auto attachment = hypervisor_->find(disk_of(*store, stored));
  if (!attachment) return failed("get", name, std::move(attachment).error());
  ASSIGN_OR_RETURN(info.holder, holder_of(*store, stored, *attachment));
  info.is_attached_here = *attachment && is_ours(**attachment);
  if (info.is_attached_here) info.address = (*attachment)->address;
  return info;
}

Result<std::vector<VolumeName>> EmbeddedControlPlane::list() {
  if (stores_.size() == 1) return stores_.front()->list();
  std::vector<VolumeName> names;
  for (const auto& store : stores_) {
    ASSIGN_OR_RETURN(const auto volumes, store->list());
    names.insert(names.end(), volumes.begin(), volumes.end());
  }
  std::ranges::sort(names);
  return names;
}

Result<std::vector<VolumeName>> EmbeddedControlPlane::attached_here() {
  std::vector<VolumeName> names;
  for (const auto& store : stores_) {
    ASSIGN_OR_RETURN(const auto attachments, hypervisor_->attached_in(store->folder().path()));
    for (const Attachment& attachment : attachments) {
      if (!is_ours(attachment)) continue;
      const std::string file = std::filesystem::path(attachment.extent_path).filename().string();
      if (auto volume = DiskStore::volume_of_extent(file)) {
        ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(*volume + "@" + store->name()));
        names.push_back(std::move(name));
      }
    }
  }
  std::ranges::sort(names);
  return names;
}

Result<void> EmbeddedControlPlane::set_init(const VolumeName& name, InitState state,
                                            const std::string& fs_uuid) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const auto lock, store->folder().lock(name.volume()));
  ASSIGN_OR_RETURN(StoredDisk stored, store->load(name.volume()));
  if (state < stored.sidecar.init) {
    return fail(ErrorCode::kInvalid, "mark '{}' as {}: it is {} already", name.text(), init_state_name(state),
                init_state_name(stored.sidecar.init));
  }
  if (state == stored.sidecar.init && fs_uuid == stored.sidecar.fs_uuid) return {};
  stored.sidecar.init = state;
  stored.sidecar.fs_uuid = fs_uuid;
  return store->save(stored);
}

Result<void> EmbeddedControlPlane::reset(const VolumeName& name) {
  ASSIGN_OR_RETURN(DiskStore * store, store_of(name));
  ASSIGN_OR_RETURN(const auto lock, store->folder().lock(name.volume()));
  ASSIGN_OR_RETURN(StoredDisk stored, store->load(name.volume()));
  if (stored.sidecar.init != InitState::kFormatting && stored.sidecar.init != InitState::kFormatted) {
    return fail(ErrorCode::kInvalid,
                "reset '{}': its state is {}, and only a disk that was being formatted can be reset",
                name.text(), init_state_name(stored.sidecar.init));
  }
  ASSIGN_OR_RETURN(const auto attachment, hypervisor_->find(disk_of(*store, stored)));
  ASSIGN_OR_RETURN(const auto holder, holder_of(*store, stored, attachment));
  if (holder) return fail(ErrorCode::kInUse, "reset '{}': {}", name.text(), describe(*holder));
  RETURN_IF_ERROR(store->blank(stored));
  stored.sidecar.init = InitState::kNew;
  stored.sidecar.fs_uuid.clear();
  return store->save(stored);
}

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

Result<std::unique_ptr<ControlPlane>> make_embedded_control_plane(EmbeddedOptions options,
                                                                  std::unique_ptr<Hypervisor> hypervisor) {
  if (options.datastores.empty()) return fail(ErrorCode::kInvalid, "no datastore is given");
  if (options.vm.uuid.empty() || options.vm.uuid.size() > kMaxVmUuidBytes) {
    return fail(ErrorCode::kInvalid, "this host's id '{}' must have 1 to {} bytes", options.vm.uuid,
                kMaxVmUuidBytes);
  }
  std::vector<std::unique_ptr<DiskStore>> stores;
  for (const DatastoreFolder& folder : options.datastores) {
    auto store = DiskStore::open(folder.name, folder.path, folder.is_shared);
    if (!store)
      return std::unexpected(
          std::move(store).error().within(fmt::format("open datastore '{}'", folder.name)));
    for (const auto& other : stores) {
      if (equals_ignoring_case(other->name(), folder.name)) {
        return fail(ErrorCode::kInvalid, "open datastore '{}': another datastore has that name", folder.name);
      }
      if (other->folder().path() == (*store)->folder().path()) {
        return fail(ErrorCode::kInvalid, "open datastore '{}': datastore '{}' is the same folder",
                    folder.name, other->name());
      }
    }
    if (auto cleaned = (*store)->clean_up(); !cleaned) {
      base::log::warn("could not take away what was left over",
                      {{"datastore", folder.name}, {"cause", cleaned.error().text()}});
    }
    stores.push_back(std::move(*store));
  }
  return std::make_unique<EmbeddedControlPlane>(std::move(options.vm), std::move(stores),
                                                std::move(hypervisor));
}

}  // namespace vdvs::esx
