#include "esx-vmci/service/volume_operations.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <utility>
#include <variant>

#include "base/fault.h"
#include "base/log.h"
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

/// "10gb", "100mb", and where it is not a whole number of those, "1048064b" (only disks that were made
/// elsewhere).
std::string size_text(std::uint64_t bytes) {
  if (bytes % (1ull << 40) == 0) return fmt::format("{}tb", bytes >> 40);
  if (bytes % (1ull << 30) == 0) return fmt::format("{}gb", bytes >> 30);
  if (bytes % (1ull << 20) == 0) return fmt::format("{}mb", bytes >> 20);
  return fmt::format("{}b", bytes);
}

std::string label_of(const DiskHolder& holder) { return holder.name.empty() ? holder.uuid : holder.name; }

std::string describe(const DiskHolder& holder) {
  std::string text = label_of(holder).empty() ? "disk is attached by hand"
                                              : "disk is attached to vm '" + label_of(holder) + "'";
  if (!holder.since.empty()) text += " since " + holder.since;
  if (!holder.what.empty()) text += fmt::format(" ({})", holder.what);
  return text;
}

std::string remedy_for(const DiskHolder& holder, const std::string& volume) {
  if (holder.uuid.empty()) return "detach it where it was attached ('losetup -a' shows it)";
  return fmt::format(
      "stop its container on '{}'; a host that went down frees its disks when it starts again; if it never "
      "will, 'vdvs volume detach --force {}'",
      label_of(holder), volume);
}

std::string name_of(const Place& place) { return place.volume + "@" + place.store->name(); }

std::unexpected<base::Error> busy(std::string_view operation, const Place& place, const DiskHolder& holder) {
  return std::unexpected(base::Error(ErrorCode::kBusyElsewhere,
                                     fmt::format("{} '{}': {}", operation, place.volume, describe(holder)),
                                     remedy_for(holder, name_of(place))));
}

std::unexpected<base::Error> failed(std::string_view operation, const Place& place, base::Error error) {
  return std::unexpected(std::move(error).within(fmt::format("{} '{}'", operation, place.volume)));
}

// Where only our hypervisor uses the store, the record of an attachment is worth nothing after a crash: what
// it sees counts. So the record is not waited for, which at each mount and detach would cost a disk's flush.
DiskStore::Durability durability_of_attachments(const DiskStore& store) {
  return store.is_shared() ? DiskStore::Durability::kNow : DiskStore::Durability::kSoon;
}

/// The predecessor's answer to an attach, which it keeps in the record; empty for a loop device.
boost::json::object device_object(const base::DiskAddress& address) {
  boost::json::object device;
  const auto* scsi = std::get_if<base::ScsiAddress>(&address);
  if (scsi == nullptr) return device;
  device["Unit"] = fmt::format("{}", scsi->unit);
  if (scsi->pci_slot) device["ControllerPciSlotNumber"] = fmt::format("{}", *scsi->pci_slot);
  if (!scsi->pci_bus.empty()) device["ControllerPciBusNumber"] = scsi->pci_bus;
  return device;
}

void save_or_warn(const Place& place, StoredDisk& stored, std::string_view what) {
  auto saved = place.store->save(stored, durability_of_attachments(*place.store));
  if (saved) return;
  base::log::warn(what, {{"volume", name_of(place)}, {"cause", saved.error().text()}});
}

/// All but who has it.
Result<VolumeInfo> info_of(const Place& place, const StoredDisk& stored) {
  ASSIGN_OR_RETURN(const std::uint64_t allocated, place.store->allocated_bytes(stored));
  ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(name_of(place)));
  VolumeInfo info{.name = std::move(name)};
  info.disk_uuid = stored.descriptor.uuid;
  info.size_bytes = stored.descriptor.size_bytes;
  info.allocated_bytes = allocated;
  info.created = stored.sidecar.created;
  info.created_by = stored.sidecar.created_by;
  info.options = stored.sidecar.options;
  info.options.emplace("size", size_text(info.size_bytes));
  info.init = stored.sidecar.init;
  info.fs_uuid = stored.sidecar.fs_uuid;
  return info;
}

}  // namespace

void VolumeOperations::add_holding(VolumeInfo& info, Holding holding) {
  if (holding.is_off) return;
  info.holder = std::move(holding.holder);
  info.is_attached_here = holding.is_here;
  if (holding.is_here) info.address = holding.attachment->address;
}

std::optional<VmState> VolumeOperations::find_vm(const std::string& uuid) {
  if (vms_ == nullptr || uuid.empty()) return std::nullopt;
  auto state = vms_->find_vm(uuid);
  return state ? std::optional(std::move(*state)) : std::nullopt;
}

Result<VolumeOperations::Holding> VolumeOperations::look(const Vm* vm, const Place& place,
                                                         const StoredDisk& stored) {
  ASSIGN_OR_RETURN(auto attachment, hypervisor_.find(place.store->disk_of(stored)));
  return judge(vm, place, stored, std::move(attachment));
}

VolumeOperations::Holding VolumeOperations::judge(const Vm* vm, const Place& place, const StoredDisk& stored,
                                                  std::optional<Attachment> attachment) {
  Holding holding;
  holding.attachment = std::move(attachment);
  const std::optional<AttachRecord>& record = stored.sidecar.attached;
  if (holding.attachment) {
    const std::string& uuid = holding.attachment->vm_uuid;
    DiskHolder holder{.uuid = uuid, .name = {}, .since = {}, .what = holding.attachment->what};
    holding.is_here = vm != nullptr && is_id_of(uuid, *vm);
    std::optional<VmState> state;
    if (holding.is_here) {
      holder.name = vm->name;
    } else if ((state = find_vm(uuid))) {
      holder.name = state->vm.name;
      holding.is_off = state->power == PowerState::kOff;
    }
    const bool is_recorded =
        record && (record->vm_uuid == uuid || (holding.is_here && is_id_of(record->vm_uuid, *vm)) ||
                   (state && is_id_of(record->vm_uuid, state->vm)));
    if (is_recorded) {
      if (holder.name.empty()) holder.name = record->vm_name;
      holder.since = record->since;
    }
    holding.holder = std::move(holder);
    return holding;
  }
  if (!record || !place.store->is_shared() || (vm != nullptr && is_id_of(record->vm_uuid, *vm)))
    return holding;
  const std::optional<VmState> state = find_vm(record->vm_uuid);
  if (state && state->power != PowerState::kUnknown) return holding;
  holding.holder = DiskHolder{.uuid = record->vm_uuid,
                              .name = state ? state->vm.name : record->vm_name,
                              .since = record->since,
                              .what = {}};
  return holding;
}

Result<void> VolumeOperations::create(const Vm& vm, const Place& place, const OptionMap& given,
                                      const VolumeOptions& options, const Progress& progress) {
  NewDisk wish{.shape = {options.size_bytes, options.disk_format}};
  wish.sidecar.options = given;
  wish.sidecar.options.emplace("diskformat", disk_format_name(options.disk_format));
  wish.sidecar.options.emplace("fstype", options.fstype);
  wish.sidecar.created = format_now(kAsctime);
  wish.sidecar.created_by = vm.name;
  wish.sidecar.init = InitState::kNew;
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  return place.store->create(place.volume, wish, std::nullopt, progress);
}

Result<void> VolumeOperations::clone(const Vm& vm, const Place& place, const Place& source,
                                     const OptionMap& given, const VolumeOptions& options,
                                     const Progress& progress) {
  ASSIGN_OR_RETURN(const auto locks, lock_both(*place.store, place.volume, *source.store, source.volume));
  auto original = source.store->load(source.volume);
  if (!original && original.error().code() == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", options.clone_from);
  }
  if (!original) return failed("clone", source, std::move(original).error());
  RETURN_IF_ERROR(source.store->allocated_bytes(*original));
  ASSIGN_OR_RETURN(const Holding holding, look(&vm, source, *original));
  if (holding.holder) {
    ASSIGN_OR_RETURN(const bool is_taken, take_over(source, *original, holding));
    if (!is_taken) return busy("clone", source, *holding.holder);
  }

  NewDisk wish{.shape = {original->descriptor.size_bytes, options.disk_format}};
  wish.sidecar.options = original->sidecar.options;
  for (const auto& [option, value] : given) wish.sidecar.options[option] = value;
  wish.sidecar.options["clone-from"] = source.volume;
  wish.sidecar.options["diskformat"] = disk_format_name(options.disk_format);
  wish.sidecar.created = format_now(kAsctime);
  wish.sidecar.created_by = vm.name;
  // Nobody has ever mounted a disk that is not ready: there is nothing to copy.
  const bool has_data = original->sidecar.init == InitState::kReady;
  wish.sidecar.init = has_data ? InitState::kReady : InitState::kNew;
  if (has_data) wish.sidecar.fs_uuid = original->sidecar.fs_uuid;
  std::optional<DiskStore::CopySource> copied;
  if (has_data) copied = DiskStore::CopySource{source.store, &*original};
  return place.store->create(place.volume, wish, copied, progress);
}

Result<void> VolumeOperations::remove(const Vm& vm, const Place& place) {
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  RETURN_IF_ERROR(place.store->settle(place.volume));
  auto stored = place.store->load(place.volume);
  if (!stored && stored.error().code() == ErrorCode::kNotFound) return {};
  if (!stored) return failed("remove", place, std::move(stored).error());
  ASSIGN_OR_RETURN(const Holding holding, look(&vm, place, *stored));
  auto is_taken = take_over(place, *stored, holding);
  if (!is_taken) return failed("remove", place, std::move(is_taken).error());
  if (holding.holder && !*is_taken) {
    const DiskHolder& holder = *holding.holder;
    return std::unexpected(base::Error(
        holding.is_here ? ErrorCode::kInUse : ErrorCode::kBusyElsewhere,
        fmt::format("Failed to remove volume {}, in use by VM = {}. ({})", place.volume, label_of(holder),
                    describe(holder)),
        holding.is_here ? "stop the containers that use it" : remedy_for(holder, name_of(place))));
  }
  return place.store->remove(*stored);
}

Result<bool> VolumeOperations::take_over(const Place& place, const StoredDisk& stored,
                                         const Holding& holding) {
  if (!holding.is_off) return false;
  const std::optional<VmState> state = find_vm(holding.attachment->vm_uuid);
  if (!state || state->power != PowerState::kOff) return false;  // it is on again
  RETURN_IF_ERROR(hypervisor_.detach(state->vm, place.store->disk_of(stored)));
  RETURN_IF_ERROR(fault_point(kFaultTakeOverDetach));
  base::log::warn("took a disk out of a VM that is off",
                  {{"volume", name_of(place)}, {"vm", state->vm.name}, {"uuid", state->vm.uuid}});
  return true;
}

Result<base::DiskAddress> VolumeOperations::attach(const Vm& vm, const Place& place) {
  DiskStore& store = *place.store;
  ASSIGN_OR_RETURN(const auto lock, store.lock(place.volume));
  RETURN_IF_ERROR(store.settle(place.volume));
  ASSIGN_OR_RETURN(StoredDisk stored, store.load(place.volume));
  RETURN_IF_ERROR(store.allocated_bytes(stored));
  const Disk disk = store.disk_of(stored);
  ASSIGN_OR_RETURN(const Holding holding, look(&vm, place, stored));
  std::optional<AttachRecord> before = stored.sidecar.attached;
  if (holding.holder && !holding.is_here) {
    auto is_taken = take_over(place, stored, holding);
    if (!is_taken) return failed("attach", place, std::move(is_taken).error());
    if (!*is_taken) return busy("attach", place, *holding.holder);
    before.reset();
  }

  const bool was_ours = before && is_id_of(before->vm_uuid, vm);
  if (before && !was_ours && !holding.attachment) {
    base::log::warn("took over an attach record that nothing stands behind",
                    {{"volume", name_of(place)}, {"vm", before->vm_name}, {"since", before->since}});
  }
  if (!holding.is_here || !was_ours) {
    stored.sidecar.attached = AttachRecord{record_id(vm), vm.name, format_now(kRfc3339)};
    if (auto saved = store.save(stored, durability_of_attachments(store)); !saved)
      return failed("attach", place, std::move(saved).error());
  }
  RETURN_IF_ERROR(fault_point(kFaultAttachRecord));
  auto address = hypervisor_.attach(vm, disk);
  if (!address) {
    base::Error error = std::move(address).error();
    // Somebody whom our hypervisor does not see: the record that was there may say who.
    if (error.code() == ErrorCode::kBusyElsewhere && before && !was_ours)
      error = std::move(error).within(
          fmt::format("its record names vm '{}' since {}", before->vm_name, before->since));
    stored.sidecar.attached = was_ours ? std::nullopt : before;
    save_or_warn(place, stored, "could not take an attach record back");
    return failed("attach", place, std::move(error));
  }
  RETURN_IF_ERROR(fault_point(kFaultAttachDevice));
  boost::json::object device = device_object(*address);
  if (stored.sidecar.attached && stored.sidecar.attached->device != device) {
    stored.sidecar.attached->device = std::move(device);
    save_or_warn(place, stored, "attached, but the record does not say where");
  }
  return *address;
}

Result<void> VolumeOperations::detach(const Vm& vm, const Place& place) {
  // A disk is let go even where its datastore cannot be written any more, or its descriptor was damaged or
  // deleted: the device counts.
  const auto lock = place.store->lock(place.volume);
  if (!lock && lock.error().code() != ErrorCode::kReadOnly && lock.error().code() != ErrorCode::kIo) {
    return std::unexpected(lock.error());
  }
  return release(vm, place);
}

Result<void> VolumeOperations::release(const Vm& vm, const Place& place) {
  auto stored = place.store->load(place.volume);
  const Disk disk = stored ? place.store->disk_of(*stored) : place.store->disk_named(place.volume);
  if (auto detached = hypervisor_.detach(vm, disk); !detached)
    return failed("detach", place, std::move(detached).error());
  RETURN_IF_ERROR(fault_point(kFaultDetachDevice));
  if (!stored || !stored->sidecar.attached || !is_id_of(stored->sidecar.attached->vm_uuid, vm)) return {};
  stored->sidecar.attached.reset();
  // The disk is free; a record that stays corrects itself at the next attach.
  save_or_warn(place, *stored, "detached, but the record still says attached");
  return {};
}

Result<std::optional<DiskHolder>> VolumeOperations::force_detach(const Place& place) {
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  auto stored = place.store->load(place.volume);
  if (!stored && stored.error().code() == ErrorCode::kNotFound) return std::unexpected(stored.error());
  const Disk disk = stored ? place.store->disk_of(*stored) : place.store->disk_named(place.volume);
  ASSIGN_OR_RETURN(const std::optional<Attachment> attachment, hypervisor_.find(disk));
  std::optional<DiskHolder> holder;
  if (stored && stored->sidecar.attached) {
    const AttachRecord& record = *stored->sidecar.attached;
    holder = DiskHolder{.uuid = record.vm_uuid, .name = record.vm_name, .since = record.since, .what = {}};
  }
  if (attachment) {
    if (!holder || holder->uuid != attachment->vm_uuid) holder = DiskHolder{.uuid = attachment->vm_uuid};
    holder->what = attachment->what;
    const std::optional<VmState> state = find_vm(attachment->vm_uuid);
    if (state) holder->name = state->vm.name;
    if (attachment->vm_uuid.empty()) return busy("detach", place, *holder);
    const Vm vm = state ? state->vm : Vm{.uuid = attachment->vm_uuid, .name = holder->name};
    if (auto forced = hypervisor_.force_detach(vm, disk); !forced)
      return failed("detach", place, std::move(forced).error());
    RETURN_IF_ERROR(fault_point(kFaultDetachDevice));
    ASSIGN_OR_RETURN(const auto rest, hypervisor_.find(disk));
    if (rest) return fail(ErrorCode::kInUse, "detach '{}': {} stays", place.volume, rest->what);
  }
  if (stored && stored->sidecar.attached) {
    stored->sidecar.attached.reset();
    if (auto saved = place.store->save(*stored, DiskStore::Durability::kNow); !saved)
      return failed("detach", place, std::move(saved).error());
  }
  return holder;
}

Result<VolumeInfo> VolumeOperations::get(const Vm& vm, const Place& place) {
  ASSIGN_OR_RETURN(const StoredDisk stored, place.store->load(place.volume));
  ASSIGN_OR_RETURN(VolumeInfo info, info_of(place, stored));
  auto holding = look(&vm, place, stored);
  if (!holding) return failed("get", place, std::move(holding).error());
  add_holding(info, std::move(*holding));
  return info;
}

Result<std::vector<VolumeOperations::Listed>> VolumeOperations::get_all(const Vm& vm, DiskStore& store) {
  ASSIGN_OR_RETURN(const std::vector<VolumeName> names, store.list());
  std::vector<Listed> all;
  all.reserve(names.size());
  if (names.empty()) return all;
  ASSIGN_OR_RETURN(auto attachments, hypervisor_.attached_in(store.place()));
  std::map<std::string, Attachment> by_volume;
  for (Attachment& attachment : attachments) {
    if (auto volume = store.volume_of_file(attachment.extent_path))
      by_volume.insert_or_assign(std::move(*volume), std::move(attachment));
  }
  for (const VolumeName& name : names) {
    const Place place{&store, name.volume()};
    auto info = [&]() -> Result<VolumeInfo> {
      ASSIGN_OR_RETURN(const StoredDisk stored, store.load(place.volume));
      ASSIGN_OR_RETURN(VolumeInfo found, info_of(place, stored));
      std::optional<Attachment> attachment;
      if (auto node = by_volume.extract(place.volume)) attachment = std::move(node.mapped());
      add_holding(found, judge(&vm, place, stored, std::move(attachment)));
      return found;
    }();
    if (info || info.error().code() != ErrorCode::kNotFound) all.push_back({place.volume, std::move(info)});
  }
  return all;
}

Result<std::vector<std::string>> VolumeOperations::attached(const Vm& vm, DiskStore& store) {
  ASSIGN_OR_RETURN(const auto attachments, hypervisor_.attached_in(store.place()));
  std::vector<std::string> volumes;
  for (const Attachment& attachment : attachments) {
    if (!is_id_of(attachment.vm_uuid, vm)) continue;
    if (auto volume = store.volume_of_file(attachment.extent_path)) volumes.push_back(std::move(*volume));
  }
  std::ranges::sort(volumes);
  return volumes;
}

Result<void> VolumeOperations::set_init(const Place& place, InitState state, const std::string& fs_uuid) {
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  ASSIGN_OR_RETURN(StoredDisk stored, place.store->load(place.volume));
  if (state < stored.sidecar.init) {
    return fail(ErrorCode::kInvalid, "mark '{}' as {}: it is {} already", place.volume,
                init_state_name(state), init_state_name(stored.sidecar.init));
  }
  if (state == stored.sidecar.init && fs_uuid == stored.sidecar.fs_uuid) return {};
  stored.sidecar.init = state;
  stored.sidecar.fs_uuid = fs_uuid;
  return place.store->save(stored, DiskStore::Durability::kNow);
}

Result<void> VolumeOperations::reset(const Place& place, const Vm* vm) {
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  ASSIGN_OR_RETURN(StoredDisk stored, place.store->load(place.volume));
  if (stored.sidecar.init != InitState::kFormatting && stored.sidecar.init != InitState::kFormatted) {
    return fail(ErrorCode::kInvalid,
                "reset '{}': its state is {}, and only a disk that was being formatted can be reset",
                place.volume, init_state_name(stored.sidecar.init));
  }
  ASSIGN_OR_RETURN(const Holding holding, look(vm, place, stored));
  if (holding.holder)
    return fail(ErrorCode::kInUse, "reset '{}': {}", place.volume, describe(*holding.holder));
  RETURN_IF_ERROR(place.store->blank(stored));
  stored.sidecar.init = InitState::kNew;
  stored.sidecar.fs_uuid.clear();
  return place.store->save(stored, DiskStore::Durability::kNow);
}

Result<void> VolumeOperations::set_options(const Place& place, const OptionMap& changes) {
  for (const auto& [option, value] : changes) {
    if (option != "access" && option != "attach-as")
      return fail(ErrorCode::kInvalid, "set '{}': option '{}' cannot be changed", place.volume, option);
  }
  RETURN_IF_ERROR(VolumeOptions::parse(changes));
  ASSIGN_OR_RETURN(const auto lock, place.store->lock(place.volume));
  ASSIGN_OR_RETURN(StoredDisk stored, place.store->load(place.volume));
  for (const auto& [option, value] : changes) stored.sidecar.options[option] = value;
  return place.store->save(stored, DiskStore::Durability::kNow);
}

Result<void> VolumeOperations::release_all(const Vm& vm, DiskStore& store) {
  ASSIGN_OR_RETURN(std::vector<std::string> volumes, attached(vm, store));
  auto recorded = store.recorded_to(vm);
  if (recorded) volumes.insert(volumes.end(), recorded->begin(), recorded->end());
  std::ranges::sort(volumes);
  volumes.erase(std::ranges::unique(volumes).begin(), volumes.end());
  Result<void> outcome = recorded ? Result<void>() : std::unexpected(std::move(recorded).error());
  for (const std::string& volume : volumes) {
    const auto lock = store.lock(volume);
    auto released = lock ? release(vm, {&store, volume}) : std::unexpected(lock.error());
    if (released) {
      base::log::info("released a disk", {{"volume", volume + "@" + store.name()}, {"vm", vm.name}});
    } else if (outcome) {
      outcome = std::move(released);
    }
  }
  return outcome;
}

}  // namespace vdvs::esx
