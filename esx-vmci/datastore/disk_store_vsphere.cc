#include <algorithm>
#include <functional>

#include "base/fault.h"
#include "base/log.h"
#include "esx-vmci/datastore/datastores_vsphere.h"
#include "esx-vmci/fault_points.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"

namespace vdvs::esx {
namespace {

namespace log = base::log;
using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;

constexpr std::chrono::seconds kLookTime{30};
/// A thick disk is written in full, a copy is copied.
constexpr std::chrono::hours kMakeTime{24};
constexpr std::chrono::minutes kRemoveTime{5};
constexpr int kAttempts = 5;
constexpr std::uint64_t kKib = 1024;
constexpr std::string_view kDescriptorEnding = ".vmdk";
constexpr std::string_view kCreatingEnding = ".vmdk.creating";
constexpr std::string_view kPolicyOption = "vsan-policy-name";
constexpr std::string_view kCloneOption = "clone-from";
constexpr std::string_view kNoPolicy = "[VSAN default]";

std::string descriptor_name(std::string_view volume) { return std::string(volume) + ".vmdk"; }
std::string creating_name(std::string_view volume) {
  return std::string(volume) + std::string(kCreatingEnding);
}

std::string_view disk_type(DiskFormat format) {
  switch (format) {
    case DiskFormat::kThin:
      return "thin";
    case DiskFormat::kZeroedThick:
      return "preallocated";
    case DiskFormat::kEagerZeroedThick:
      return "eagerZeroedThick";
  }
  return {};
}

/// vSAN and VVol name an object as the extent, where other datastores name a file beside the descriptor.
std::string with_extent_beside(std::string text, std::string_view volume) {
  for (const std::string_view scheme : {"\"vsan://", "\"vvol://"}) {
    const std::size_t begin = text.find(scheme);
    if (begin == std::string::npos) continue;
    const std::size_t end = text.find('"', begin + 1);
    if (end != std::string::npos)
      text.replace(begin + 1, end - begin - 1, std::string(volume) + "-flat.vmdk");
  }
  return text;
}

bool has(const std::vector<VsphereFolder::Entry>& entries, std::string_view name) {
  return std::ranges::find(entries, name, &VsphereFolder::Entry::name) != entries.end();
}

class VsphereDiskStore final : public DiskStore {
 public:
  VsphereDiskStore(VsphereSession& session, VspherePolicies& policies, KeyedLocks& locks,
                   VsphereFolder folder, bool is_shared)
      : session_(session),
        policies_(policies),
        locks_(locks),
        folder_(std::move(folder)),
        place_(folder_.text()),
        is_shared_(is_shared) {}

  const std::string& name() const override { return folder_.datastore().name; }
  bool is_shared() const override { return is_shared_; }
  const std::string& place() const override { return place_; }

  Result<std::vector<VolumeName>> list() override {
    ASSIGN_OR_RETURN(const auto entries, folder_.list("*.vmdk", base::deadline_in(kLookTime)));
    if (!entries) return fail(ErrorCode::kUnavailable, "list '{}': the folder is not there", place_);
    std::vector<VolumeName> volumes;
    for (const auto& entry : *entries) {
      if (auto volume = volume_of(entry.name)) {
        ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(*volume + "@" + this->name()));
        volumes.push_back(std::move(name));
      }
    }
    std::ranges::sort(volumes);
    return volumes;
  }

  Result<StoredDisk> load(std::string_view volume) const override {
    const Deadline deadline = base::deadline_in(kLookTime);
    const std::string file = descriptor_name(volume);
    const std::string what = fmt::format("read disk '{}'", folder_.text_of(file));
    ASSIGN_OR_RETURN(const auto text, folder_.read(file, kMaxDescriptorBytes, deadline));
    if (!text) {
      // 404 may also mean a datastore that is away: only a listing proves that the disk is not there.
      ASSIGN_OR_RETURN(const auto entries, folder_.beginning_with(file, deadline));
      if (has(entries, file)) return fail(ErrorCode::kUnavailable, "{}: the server does not give it", what);
      return not_found(volume);
    }
    StoredDisk disk;
    disk.volume = volume;
    auto descriptor = parse_descriptor(with_extent_beside(*text, volume));
    if (!descriptor) return std::unexpected(std::move(descriptor).error().within(what));
    disk.descriptor = std::move(*descriptor);
    RETURN_IF_ERROR(read_sidecar(disk, deadline));
    return disk;
  }

  Result<std::uint64_t> allocated_bytes(const StoredDisk& disk) const override {
    const std::string file = descriptor_name(disk.volume);
    ASSIGN_OR_RETURN(const auto entries, folder_.beginning_with(file, base::deadline_in(kLookTime)));
    auto found = std::ranges::find(entries, file, &VsphereFolder::Entry::name);
    if (found == entries.end()) return not_found(disk.volume);
    return found->size_bytes;
  }

  Result<std::vector<std::string>> recorded_to(const Vm&) override { return std::vector<std::string>(); }

  Disk disk_of(const StoredDisk& stored) const override {
    Disk disk = disk_named(stored.volume);
    disk.uuid = stored.descriptor.uuid;
    disk.size_bytes = stored.descriptor.size_bytes;
    apply_attach_options(stored, disk);
    return disk;
  }

  Disk disk_named(std::string_view volume) const override {
    return {.descriptor_path = folder_.text_of(descriptor_name(volume)), .extent_path = {}, .uuid = {}};
  }

  std::optional<std::string> volume_of_file(std::string_view path) const override {
    auto parsed = parse_datastore_path(path);
    if (!parsed || parsed->folder() != place_) return std::nullopt;
    return volume_of(parsed->file());
  }

  Result<DiskLock> lock(std::string_view volume) const override {
    const LockKey key = lock_key(volume);
    return DiskLock(locks_.hold(fmt::format("{}#{}", key.place, key.number)));
  }

  LockKey lock_key(std::string_view volume) const override {
    return {.place = place_, .number = std::hash<std::string_view>{}(volume)};
  }

  Result<void> settle(const std::string& volume) const override {
    const Deadline deadline = base::deadline_in(kLookTime);
    ASSIGN_OR_RETURN(const auto entries, folder_.beginning_with(volume, deadline));
    return settle_among(volume, entries, deadline);
  }

  Result<void> save(StoredDisk& disk, Durability) const override {
    ASSIGN_OR_RETURN(const std::string content, encode_sidecar(disk.sidecar));
    RETURN_IF_ERROR(folder_.write(disk.sidecar_name, content, base::deadline_in(kLookTime)));
    disk.has_sidecar = true;
    return {};
  }

  Result<void> create(const std::string& volume, const NewDisk& wish, const std::optional<CopySource>& source,
                      const Progress& progress) const override;
  Result<void> remove(const StoredDisk& disk) const override;
  Result<void> blank(const StoredDisk& disk) const override;
  Result<std::vector<std::string>> in_the_making() const override;
  Result<void> clean_up() const override;

 private:
  static std::optional<std::string> volume_of(std::string_view file) {
    if (!file.ends_with(kDescriptorEnding)) return std::nullopt;
    file.remove_suffix(kDescriptorEnding.size());
    if (!VolumeName::parse(std::string(file) + "@x")) return std::nullopt;
    return std::string(file);
  }

  /// The predecessor's text.
  std::unexpected<base::Error> not_found(std::string_view volume) const {
    return fail(ErrorCode::kNotFound, "Volume {} not found (file: {})", volume,
                folder_.text_of(descriptor_name(volume)));
  }

  /// Every name under which this volume's sidecar may lie.
  static std::vector<std::string> sidecar_names(std::string_view volume, std::string_view named) {
    std::vector<std::string> names;
    if (auto name = find_sidecar_name(named, volume)) names.push_back(*name);
    for (const std::string_view key : {kSidecarKey, kOldSidecarKey}) {
      std::string name = sidecar_file_name(volume, key);
      if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    }
    return names;
  }

  Result<void> read_sidecar(StoredDisk& disk, Deadline deadline) const {
    const auto names = sidecar_names(disk.volume, disk.descriptor.sidecars);
    disk.sidecar_name = names.front();
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(const auto text, folder_.read(name, kMaxSidecarBytes, deadline));
      if (!text) continue;
      auto decoded = decode_sidecar(*text);
      disk.sidecar_name = name;
      disk.has_sidecar = decoded.has_value();
      if (decoded) disk.sidecar = std::move(*decoded);
      return {};
    }
    return {};
  }

  Result<void> settle_among(const std::string& volume, const std::vector<VsphereFolder::Entry>& entries,
                            Deadline deadline) const {
    if (!has(entries, creating_name(volume))) return {};
    const std::string sidecar = sidecar_file_name(volume);
    if (has(entries, descriptor_name(volume)) && !has(entries, sidecar)) {
      ASSIGN_OR_RETURN(const auto content, folder_.read(creating_name(volume), kMaxSidecarBytes, deadline));
      // Torn, it says nothing, and the disk is one without metadata, which is nobody's to format.
      const auto intent = content ? decode_sidecar(*content) : std::nullopt;
      if (intent && intent->options.contains(std::string(kCloneOption))) {
        ASSIGN_OR_RETURN(const bool is_gone, take_back_copy(volume, deadline));
        if (!is_gone) return {};
      } else if (intent) {
        RETURN_IF_ERROR(folder_.write(sidecar, *content, deadline));
        log::info("finished an interrupted create", {{"disk", folder_.text_of(descriptor_name(volume))}});
      }
    }
    return folder_.erase(creating_name(volume), deadline);
  }

  /// Nobody was told that this copy is there, nor does anybody know that it is whole. False while the server
  /// still copies.
  Result<bool> take_back_copy(const std::string& volume, Deadline deadline) const {
    const std::string path = folder_.text_of(descriptor_name(volume));
    auto removed = remove_disk(volume, deadline);
    if (!removed && removed.error().code() == ErrorCode::kBusyElsewhere) {
      log::info("an interrupted clone is still being copied", {{"disk", path}});
      return false;
    }
    RETURN_IF_ERROR(removed);
    log::info("took back an interrupted clone", {{"disk", path}});
    return true;
  }

  /// The descriptor and the extent.
  Result<void> remove_disk(const std::string& volume, Deadline deadline) const {
    const std::string arguments = soap::tag("name", folder_.text_of(descriptor_name(volume))) +
                                  soap::tag("datacenter", folder_.datastore().datacenter);
    return change("DeleteVirtualDisk_Task", arguments, deadline, [&]() -> Result<bool> {
      ASSIGN_OR_RETURN(const bool there, is_there(volume));
      return !there;
    });
  }

  /// Runs a task of the VirtualDiskManager. Where its answer is lost, waits until none like it runs, and then
  /// asks `is_done`, or runs it again; the first one may be late, and make the second one fail.
  Result<void> change(std::string_view method, const std::string& arguments, Deadline deadline,
                      const std::function<Result<bool>()>& is_done) const {
    ASSIGN_OR_RETURN(const VsphereRoots roots, session_.roots(deadline));
    for (int attempt = 1;; ++attempt) {
      auto changed = session_.run_task(method, roots.disk_manager, arguments, deadline);
      if (changed) return {};
      const bool is_lost = changed.error().code() == ErrorCode::kUnavailable;
      if (attempt == kAttempts || (attempt == 1 && !is_lost))
        return std::unexpected(std::move(changed).error());
      RETURN_IF_ERROR(session_.wait_for_recent_tasks(roots.task_manager, method, deadline));
      ASSIGN_OR_RETURN(const bool done, is_done());
      if (done) return {};
      if (!is_lost) return std::unexpected(std::move(changed).error());
    }
  }

  Result<bool> is_there(const std::string& volume) const {
    const std::string file = descriptor_name(volume);
    ASSIGN_OR_RETURN(const auto entries, folder_.beginning_with(file, base::deadline_in(kLookTime)));
    return has(entries, file);
  }

  Result<std::string> profile_of(const NewDisk& wish, Deadline deadline) const {
    const auto policy = wish.sidecar.options.find(std::string(kPolicyOption));
    if (policy == wish.sidecar.options.end() || policy->second == kNoPolicy) return std::string();
    ASSIGN_OR_RETURN(const std::string id, policies_.find(policy->second, deadline));
    return soap::wrap("profile", "VirtualMachineDefinedProfileSpec", soap::tag("profileId", id));
  }

  Result<void> make_disk(const std::string& volume, const NewDisk& wish, const std::string& profile) const {
    const std::string path = folder_.text_of(descriptor_name(volume));
    const std::string specification = soap::wrap(
        "spec", "FileBackedVirtualDiskSpec",
        soap::tag("diskType", disk_type(wish.shape.format)) + soap::tag("adapterType", "busLogic") +
            soap::tag_number("capacityKb", static_cast<std::int64_t>(wish.shape.size_bytes / kKib)) +
            profile);
    return change(
        "CreateVirtualDisk_Task",
        soap::tag("name", path) + soap::tag("datacenter", folder_.datastore().datacenter) + specification,
        base::deadline_in(kMakeTime), [&] { return is_there(volume); });
  }

  Result<void> copy_disk(const std::string& volume, const NewDisk& wish, const CopySource& source) const {
    const auto* other = dynamic_cast<const VsphereDiskStore*>(source.store);
    if (other == nullptr)
      return fail(ErrorCode::kUnsupported, "clone '{}': its source is not on a datastore of vSphere", volume);
    ASSIGN_OR_RETURN(const VsphereRoots roots, session_.roots(base::deadline_in(kLookTime)));
    std::string arguments =
        soap::tag("sourceName", other->folder_.text_of(descriptor_name(source.disk->volume))) +
        soap::tag("sourceDatacenter", other->folder_.datastore().datacenter) +
        soap::tag("destName", folder_.text_of(descriptor_name(volume))) +
        soap::tag("destDatacenter", folder_.datastore().datacenter);
    // vCenter knows no conversion while it copies (its documentation of the method); a host does.
    if (!roots.is_vcenter) {
      arguments += soap::wrap(
          "destSpec", "VirtualDiskSpec",
          soap::tag("diskType", disk_type(wish.shape.format)) + soap::tag("adapterType", "busLogic"));
    }
    arguments += soap::tag_bool("force", false);
    return change("CopyVirtualDisk_Task", arguments, base::deadline_in(kMakeTime),
                  [&] { return is_there(volume); });
  }

  VsphereSession& session_;
  VspherePolicies& policies_;
  KeyedLocks& locks_;
  const VsphereFolder folder_;
  const std::string place_;
  const bool is_shared_;
};

Result<void> VsphereDiskStore::create(const std::string& volume, const NewDisk& wish,
                                      const std::optional<CopySource>& source,
                                      const Progress& progress) const {
  const Deadline deadline = base::deadline_in(kLookTime);
  const std::string path = folder_.text_of(descriptor_name(volume));
  ASSIGN_OR_RETURN(auto entries, folder_.beginning_with(volume, deadline));
  if (has(entries, creating_name(volume))) {
    RETURN_IF_ERROR(settle_among(volume, entries, deadline));
    ASSIGN_OR_RETURN(entries, folder_.beginning_with(volume, deadline));
  }
  if (has(entries, descriptor_name(volume))) return fail(ErrorCode::kExists, "File {} already exists", path);
  ASSIGN_OR_RETURN(const std::string profile, profile_of(wish, deadline));
  ASSIGN_OR_RETURN(const std::string content, encode_sidecar(wish.sidecar));
  for (const std::string& stale : sidecar_names(volume, {})) {
    if (has(entries, stale)) RETURN_IF_ERROR(folder_.erase(stale, deadline));  // of a disk that is no more
  }
  RETURN_IF_ERROR(folder_.write(creating_name(volume), content, deadline));
  RETURN_IF_ERROR(base::fault_point(kFaultCreateIntent));
  auto made = source ? copy_disk(volume, wish, *source) : make_disk(volume, wish, profile);
  if (!made) {
    base::Error error = std::move(made).error();
    const bool is_known = error.code() != ErrorCode::kUnavailable && error.code() != ErrorCode::kTimeout;
    if (is_known) (void)folder_.erase(creating_name(volume), base::deadline_in(kLookTime));
    if (error.code() == ErrorCode::kExists) {
      auto there = is_there(volume);
      if (there && !*there)
        return std::unexpected(
            base::Error(ErrorCode::kForeignData,
                        fmt::format("create '{}': there is an extent without a descriptor", path),
                        "move the file away, or choose another name"));
      return fail(ErrorCode::kExists, "File {} already exists", path);
    }
    return std::unexpected(
        std::move(error).within(source ? "Failed to clone volume" : "Failed to create volume"));
  }
  RETURN_IF_ERROR(base::fault_point(kFaultCreateExtent));
  const Deadline end = base::deadline_in(kLookTime);
  RETURN_IF_ERROR(folder_.write(sidecar_file_name(volume), content, end));
  RETURN_IF_ERROR(base::fault_point(kFaultCreateSidecar));
  RETURN_IF_ERROR(folder_.erase(creating_name(volume), end));
  if (progress) progress(1.0);
  return base::fault_point(kFaultCreateCommit);
}

Result<void> VsphereDiskStore::remove(const StoredDisk& disk) const {
  const Deadline deadline = base::deadline_in(kRemoveTime);
  auto removed = remove_disk(disk.volume, deadline);
  if (!removed) {
    // "Not found" may be the datastore: the folder must show that the disk is not there.
    const bool may_be_gone = removed.error().code() == ErrorCode::kNotFound;
    auto there = may_be_gone ? is_there(disk.volume) : Result<bool>(true);
    if (!there || *there)
      return std::unexpected(std::move(removed).error().within("Failed to remove volume"));
  }
  RETURN_IF_ERROR(base::fault_point(kFaultRemoveExtent));
  ASSIGN_OR_RETURN(const auto entries, folder_.beginning_with(disk.volume, deadline));
  for (const std::string& name : sidecar_names(disk.volume, disk.descriptor.sidecars)) {
    if (has(entries, name)) RETURN_IF_ERROR(folder_.erase(name, deadline));
  }
  if (has(entries, creating_name(disk.volume)))
    RETURN_IF_ERROR(folder_.erase(creating_name(disk.volume), deadline));
  return base::fault_point(kFaultRemoveSidecar);
}

Result<void> VsphereDiskStore::blank(const StoredDisk& disk) const {
  const std::string arguments = soap::tag("name", folder_.text_of(descriptor_name(disk.volume))) +
                                soap::tag("datacenter", folder_.datastore().datacenter);
  // Zeros over zeros are zeros: where the answer was lost, it is done again.
  return change("ZeroFillVirtualDisk_Task", arguments, base::deadline_in(kMakeTime),
                []() -> Result<bool> { return false; });
}

Result<std::vector<std::string>> VsphereDiskStore::in_the_making() const {
  ASSIGN_OR_RETURN(const auto entries,
                   folder_.list("*" + std::string(kCreatingEnding), base::deadline_in(kLookTime)));
  std::vector<std::string> volumes;
  if (!entries) return volumes;
  for (const auto& entry : *entries) {
    auto volume = volume_of(
        entry.name.substr(0, entry.name.size() - kCreatingEnding.size() + kDescriptorEnding.size()));
    if (volume) volumes.push_back(std::move(*volume));
  }
  return volumes;
}

Result<void> VsphereDiskStore::clean_up() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> volumes, in_the_making());
  for (const std::string& volume : volumes) {
    ASSIGN_OR_RETURN(const DiskLock held, lock(volume));
    RETURN_IF_ERROR(settle(volume));
  }
  return {};
}

}  // namespace

std::unique_ptr<DiskStore> make_vsphere_disk_store(VsphereSession& session, VspherePolicies& policies,
                                                   KeyedLocks& locks, VsphereFolder folder, bool is_shared) {
  return std::make_unique<VsphereDiskStore>(session, policies, locks, std::move(folder), is_shared);
}

}  // namespace vdvs::esx
