// Putting a disk in and taking it out, as a walk: look at what the machine has of it, do the one step that is
// missing or in the way, look again. So a step that was interrupted, by an error or by our own end, is
// finished or undone by whoever comes next.
#include "esx-vmci/hypervisor/hypervisor_qemu_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "esx-vmci/hypervisor/image_lock.h"

namespace vdvs::esx {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

/// Look, step, look: a disk is at most three steps from where it should be. More mean that somebody undoes
/// them.
constexpr int kMaxSteps = 6;
/// For a QEMU process that is just ending: its locks go a moment after its socket.
constexpr std::chrono::milliseconds kLetGoTime{1000};

}  // namespace

/// Owns: the right to change the machine.
class QemuMachine::Turn {
 public:
  static Result<Turn> take(QemuMachine& machine, Deadline deadline) {
    base::MutexLock lock(machine.mutex_);
    while (machine.has_turn_) {
      if (machine.changed_.wait_until(machine.mutex_, deadline) == std::cv_status::timeout &&
          machine.has_turn_) {
        return fail(ErrorCode::kTimeout, "vm '{}': other disks are still being attached or detached",
                    machine.vm().name);
      }
    }
    machine.has_turn_ = true;
    return Turn(machine);
  }
  Turn(Turn&& other) noexcept : machine_(std::exchange(other.machine_, nullptr)) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (machine_ == nullptr) return;
    {
      base::MutexLock lock(machine_->mutex_);
      machine_->has_turn_ = false;
    }
    machine_->changed_.notify_all();
  }

 private:
  explicit Turn(QemuMachine& machine) : machine_(&machine) {}
  QemuMachine* machine_;
};

Result<base::ScsiAddress> QemuMachine::attach(const Disk& disk, Deadline deadline) {
  ASSIGN_OR_RETURN(const Turn turn, Turn::take(*this, deadline));
  for (int step = 0; step < kMaxSteps; ++step) {
    ASSIGN_OR_RETURN(const auto disks, look(deadline));
    const auto found = find_disk(disks, disk.extent_path);
    if (!found) {
      RETURN_IF_ERROR(plug(disk, deadline));
    } else if (found->key.empty()) {
      return fail(ErrorCode::kBusyElsewhere, "'{}' is open in vm '{}', which was not made by this service",
                  disk.extent_path, vm().name);
    } else if (found->has_device) {
      ASSIGN_OR_RETURN(auto places, addresses({found->key}, deadline));
      const auto place = places.find(found->key);
      if (place != places.end()) return std::move(place->second);
    } else {
      RETURN_IF_ERROR(remove_node(found->key, deadline));
    }
  }
  return fail(ErrorCode::kIo, "'{}' does not stay in vm '{}': somebody takes it out again", disk.extent_path,
              vm().name);
}

Result<void> QemuMachine::detach(const Disk& disk, Deadline deadline) {
  ASSIGN_OR_RETURN(const Turn turn, Turn::take(*this, deadline));
  for (int step = 0; step < kMaxSteps; ++step) {
    const auto disks = look(deadline);
    if (!disks && is_gone()) return {};  // what it had went with it
    if (!disks) return std::unexpected(disks.error());
    const auto found = find_disk(*disks, disk.extent_path);
    if (!found || found->key.empty()) return {};
    auto stepped = found->has_device ? unplug(found->key, deadline) : remove_node(found->key, deadline);
    if (!stepped && stepped.error().code() != ErrorCode::kUnavailable) return stepped;
  }
  return fail(ErrorCode::kInUse, "'{}' does not leave vm '{}'", disk.extent_path, vm().name);
}

void QemuMachine::close_leftovers(Deadline deadline) {
  const auto turn = Turn::take(*this, deadline);
  if (!turn) return;  // whoever has it so long is not done; the next attach or detach of the disk closes it
  const auto disks = look(deadline);
  if (!disks) return;
  for (const QemuDisk& disk : *disks) {
    if (disk.key.empty() || disk.has_device) continue;
    const auto removed = remove_node(disk.key, deadline);
    base::log::info(
        "closed an image that no device uses",
        {{"vm", vm().name}, {"disk", disk.path}, {"result", removed ? "closed" : removed.error().text()}});
  }
}

Result<void> QemuMachine::plug(const Disk& disk, Deadline deadline) {
  const std::string key = key_of(disk);
  ASSIGN_OR_RETURN(
      const ImageClaim claim,
      ImageClaim::take(disk.extent_path, disk.size_bytes, std::min(deadline, base::deadline_in(kLetGoTime))));
  ASSIGN_OR_RETURN(const QemuBuses buses, look_at_buses(deadline));
  auto spot = choose_spot(buses);
  if (!spot) return std::unexpected(std::move(spot).error().within(fmt::format("vm '{}'", vm().name)));
  if (spot->controller.empty()) RETURN_IF_ERROR(add_controller(*spot, buses, deadline));
  RETURN_IF_ERROR(add_node(disk, key, deadline));
  RETURN_IF_ERROR(base::fault_point(kFaultQemuNode));
  auto added = add_device(disk, key, *spot, deadline);
  if (added) return {};
  if (auto undone = remove_node(key, deadline); !undone) {
    base::log::warn("a disk that could not be attached stays open; the next attach or detach closes it",
                    {{"vm", vm().name}, {"disk", disk.extent_path}, {"cause", undone.error().text()}});
  }
  return added;
}

Result<void> QemuMachine::add_controller(Spot& spot, const QemuBuses& buses, Deadline deadline) {
  spot.controller = new_controller_id(buses);
  auto added =
      run("device_add", {{"driver", "pvscsi"}, {"id", spot.controller}, {"bus", spot.port}}, deadline);
  if (!added) {
    return std::unexpected(std::move(added).error().within(fmt::format(
        "add PVSCSI controller '{}' at root port '{}' of vm '{}'", spot.controller, spot.port, vm().name)));
  }
  base::log::info("added a controller",
                  {{"vm", vm().name}, {"controller", spot.controller}, {"port", spot.port}});
  return {};
}

/// The flat extent itself, not the descriptor: decision 21 says why.
Result<void> QemuMachine::add_node(const Disk& disk, const std::string& key, Deadline deadline) {
  json::object file{{"driver", "file"},
                    {"node-name", std::string(kFileNodePrefix) + key},
                    {"filename", disk.extent_path},
                    {"locking", "on"}};
  json::object node{{"driver", "raw"},         {"node-name", std::string(kDiskPrefix) + key},
                    {"size", disk.size_bytes}, {"read-only", disk.is_read_only},
                    {"auto-read-only", false}, {"cache", {{"direct", true}, {"no-flush", false}}},
                    {"discard", "unmap"},      {"file", std::move(file)}};
  auto added = run("blockdev-add", std::move(node), deadline);
  if (added) return {};
  base::Error error =
      std::move(added).error().within(fmt::format("open '{}' in vm '{}'", disk.extent_path, vm().name));
  if (error.message().find("Duplicate nodes") == std::string::npos) return std::unexpected(std::move(error));
  return fail(ErrorCode::kUnsupported,
              "vm '{}' has another disk with the uuid of '{}': one is a copy of the other", vm().name,
              disk.extent_path);
}

/// An error on the datastore goes to the guest and no further: QEMU's default stops the whole VM when one
/// volume's datastore is full.
Result<void> QemuMachine::add_device(const Disk& disk, const std::string& key, const Spot& spot,
                                     Deadline deadline) {
  json::object device{{"driver", "scsi-hd"},
                      {"id", std::string(kDiskPrefix) + key},
                      {"drive", std::string(kDiskPrefix) + key},
                      {"bus", spot.controller + ".0"},
                      {"channel", 0},
                      {"scsi-id", spot.unit},
                      {"lun", 0},
                      {"werror", "report"},
                      {"rerror", "report"}};
  if (!disk.uuid.empty()) device["serial"] = disk.uuid;
  if (const std::uint64_t wwn = wwn_of(disk.uuid); wwn != 0) device["wwn"] = wwn;
  auto added = run("device_add", std::move(device), deadline);
  if (added) return {};
  return std::unexpected(
      std::move(added).error().within(fmt::format("plug '{}' into vm '{}' (controller {}, unit {})",
                                                  disk.extent_path, vm().name, spot.controller, spot.unit)));
}

Result<void> QemuMachine::remove_node(const std::string& key, Deadline deadline) {
  // The lower one by itself is what is left where only the upper one could be taken away.
  auto removed = run("blockdev-del", {{"node-name", std::string(kDiskPrefix) + key}}, deadline);
  if (removed) return {};
  if (removed.error().code() == ErrorCode::kInUse || removed.error().code() == ErrorCode::kUnavailable ||
      removed.error().code() == ErrorCode::kTimeout)
    return std::unexpected(
        std::move(removed).error().within(fmt::format("close a disk in vm '{}'", vm().name)));
  auto lower = run("blockdev-del", {{"node-name", std::string(kFileNodePrefix) + key}}, deadline);
  if (lower) return {};
  return std::unexpected(
      std::move(removed).error().within(fmt::format("close a disk in vm '{}'", vm().name)));
}

Result<void> QemuMachine::unplug(const std::string& key, Deadline deadline) {
  const std::string device = std::string(kDiskPrefix) + key;
  {
    base::MutexLock lock(mutex_);
    leaving_ = device;
    leave_ = Leave::kNotYet;
  }
  auto begun = run("device_del", {{"id", device}}, deadline);
  const bool is_under_way =
      begun || begun.error().message().find("in the process of unplug") != std::string::npos;
  if (!is_under_way && begun.error().code() != ErrorCode::kNotFound)
    return std::unexpected(
        std::move(begun).error().within(fmt::format("unplug a disk from vm '{}'", vm().name)));
  if (is_under_way) RETURN_IF_ERROR(await_deleted(device, deadline));
  RETURN_IF_ERROR(base::fault_point(kFaultQemuUnplug));
  return remove_node(key, deadline);
}

Result<void> QemuMachine::await_deleted(const std::string& device, Deadline deadline) {
  base::MutexLock lock(mutex_);
  while (leave_ == Leave::kNotYet && link_ == QmpLink::kUp) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout && leave_ == Leave::kNotYet) {
      return fail(ErrorCode::kInUse, "the guest of vm '{}' does not let go of disk '{}'", vm().name, device);
    }
  }
  leaving_.clear();
  if (leave_ == Leave::kRefused)
    return fail(ErrorCode::kInUse, "the guest of vm '{}' refuses to let go of disk '{}'", vm().name, device);
  if (leave_ == Leave::kDone) return {};
  return fail(ErrorCode::kUnavailable, "the connection to vm '{}' ended while it let go of disk '{}'",
              vm().name, device);
}

}  // namespace vdvs::esx
