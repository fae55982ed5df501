#include "esx-vmci/hypervisor/hypervisor_vsphere.h"

#include <algorithm>

#include "base/log.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"
#include "esx-vmci/hypervisor/vsphere_locks.h"

namespace vdvs::esx {
namespace {

namespace log = base::log;
using base::Deadline;
using base::DiskAddress;
using base::ErrorCode;
using base::fail;
using base::Result;
using base::ScsiAddress;
using soap::MoRef;

constexpr std::string_view kReconfigure = "ReconfigVM_Task";
/// For a whole attach or detach, tasks included.
constexpr std::chrono::minutes kChangeTime{5};
constexpr std::chrono::seconds kLookTime{60};
/// How often a change is decided again where the configuration has changed under it, or its answer was lost.
constexpr int kAttempts = 5;
/// A controller that was just added may have no slot until the host has written its configuration.
constexpr std::chrono::seconds kSlotTime{5};
constexpr std::chrono::milliseconds kSlotPause{200};

class VsphereHypervisor final : public Hypervisor {
 public:
  explicit VsphereHypervisor(VsphereSession& session) : session_(session) {}

  Result<DiskAddress> attach(const Vm& vm, const Disk& disk) override {
    const Deadline deadline = base::deadline_in(kChangeTime);
    const KeyedLocks::Held held = locks_.hold(vm.uuid);
    ASSIGN_OR_RETURN(const MoRef ref, find_vm_ref(session_, vm, deadline));
    ASSIGN_OR_RETURN(VsphereHardware hardware, read_hardware(ref, deadline));
    if (find_disk(hardware, disk) == nullptr) {
      RETURN_IF_ERROR(check_nobody_has(disk, deadline));
      ASSIGN_OR_RETURN(hardware, add(std::move(hardware), disk, deadline));
    }
    const VsphereDisk& attached = *find_disk(hardware, disk);
    if (attached.size_bytes != 0 && attached.size_bytes < disk.size_bytes) {
      (void)remove(hardware, attached, disk, deadline);
      return fail(ErrorCode::kCorrupt, "attach '{}': the disk has {} bytes, and should have {}",
                  disk.descriptor_path, attached.size_bytes, disk.size_bytes);
    }
    ASSIGN_OR_RETURN(const ScsiAddress address, await_address(std::move(hardware), disk, deadline));
    return DiskAddress(address);
  }

  Result<void> detach(const Vm& vm, const Disk& disk) override {
    const Deadline deadline = base::deadline_in(kChangeTime);
    const KeyedLocks::Held held = locks_.hold(vm.uuid);
    auto ref = find_vm_ref(session_, vm, deadline);
    if (!ref && ref.error().code() == ErrorCode::kNotFound) return {};
    if (!ref) return std::unexpected(std::move(ref).error());
    ASSIGN_OR_RETURN(const VsphereHardware hardware, read_hardware(*ref, deadline));
    const VsphereDisk* attached = find_disk(hardware, disk);
    if (attached == nullptr) return {};
    return remove(hardware, *attached, disk, deadline);
  }

  Result<std::optional<Attachment>> find(const Disk& disk) override {
    ASSIGN_OR_RETURN(const auto all, read_all_hardware(base::deadline_in(kLookTime)));
    for (const VsphereHardware& hardware : all) {
      if (const VsphereDisk* found = find_disk(hardware, disk))
        return attachment(hardware, *found, disk.descriptor_path, disk.uuid);
    }
    return std::nullopt;
  }

  Result<std::vector<Attachment>> attached_in(const std::string& place) override {
    std::vector<Attachment> attachments;
    ASSIGN_OR_RETURN(const auto all, read_all_hardware(base::deadline_in(kLookTime)));
    for (const VsphereHardware& hardware : all) {
      for (const VsphereDisk& disk : hardware.disks) {
        const auto path = parse_datastore_path(disk.files.empty() ? std::string() : disk.files.back());
        if (path && path->folder() == place)
          attachments.push_back(attachment(hardware, disk, path->text(), disk.uuid));
      }
    }
    return attachments;
  }

 private:
  static Attachment attachment(const VsphereHardware& hardware, const VsphereDisk& disk,
                               const std::string& path, const std::string& uuid) {
    const Vm& vm = hardware.identity;
    return {.extent_path = path,
            .vm_uuid = vm.uuid,
            .what = describe(hardware, disk),
            .address = address_of(hardware, disk, uuid)};
  }

  Result<VsphereHardware> read_hardware(const MoRef& vm, Deadline deadline) {
    ASSIGN_OR_RETURN(const VsphereObject object, session_.read(vm, hardware_properties(), deadline));
    return decode_hardware(object);
  }

  Result<std::vector<VsphereHardware>> read_all_hardware(Deadline deadline) {
    ASSIGN_OR_RETURN(const auto objects,
                     session_.read_all("VirtualMachine", hardware_properties(), deadline));
    std::vector<VsphereHardware> all;
    for (const VsphereObject& object : objects) all.push_back(decode_hardware(object));
    return all;
  }

  /// A running VM's disk is locked by its host; one that is off has no lock and must be asked for here.
  Result<void> check_nobody_has(const Disk& disk, Deadline deadline) {
    ASSIGN_OR_RETURN(const auto all, read_all_hardware(deadline));
    for (const VsphereHardware& hardware : all) {
      if (const VsphereDisk* found = find_disk(hardware, disk)) {
        return fail(ErrorCode::kBusyElsewhere, "attach '{}': it is {}", disk.descriptor_path,
                    describe(hardware, *found));
      }
    }
    return {};
  }

  /// Whether the same decision, made again, may come out well: the configuration changed under us (the unit
  /// was taken, the version is another one), or the answer was lost. Then what was begun is over when this
  /// returns.
  Result<bool> may_decide_again(const base::Error& error, const MoRef& vm, Deadline deadline) {
    if (error.code() == ErrorCode::kInvalid) return true;
    if (error.code() != ErrorCode::kUnavailable && error.code() != ErrorCode::kTimeout) return false;
    RETURN_IF_ERROR(session_.wait_for_recent_tasks(vm, kReconfigure, deadline));
    return true;
  }

  /// Until the VM has the disk: then its hardware with it.
  Result<VsphereHardware> add(VsphereHardware hardware, const Disk& disk, Deadline deadline) {
    for (int attempt = 1;; ++attempt) {
      ASSIGN_OR_RETURN(const VspherePlace place, choose_place(hardware));
      auto changed =
          session_.run_task(kReconfigure, hardware.vm, print_attach(hardware, place, disk), deadline);
      if (!changed) {
        base::Error error = std::move(changed).error();
        if (attempt == kAttempts) return std::unexpected(describe_refusal(std::move(error), disk));
        ASSIGN_OR_RETURN(const bool is_over, may_decide_again(error, hardware.vm, deadline));
        if (!is_over) return std::unexpected(describe_refusal(std::move(error), disk));
        log::debug("attach is decided again", {{"disk", disk.descriptor_path}, {"error", error.message()}});
      }
      ASSIGN_OR_RETURN(hardware, read_hardware(hardware.vm, deadline));
      if (find_disk(hardware, disk) != nullptr) return hardware;
      if (changed) {
        return fail(ErrorCode::kIo, "attach '{}': vm '{}' was changed, and does not have it",
                    disk.descriptor_path, hardware.identity.name);
      }
    }
  }

  static base::Error describe_refusal(base::Error error, const Disk& disk) {
    return std::move(error).within(fmt::format("attach '{}'", disk.descriptor_path));
  }

  Result<void> remove(VsphereHardware hardware, VsphereDisk attached, const Disk& disk, Deadline deadline) {
    for (int attempt = 1;; ++attempt) {
      auto changed = session_.run_task(kReconfigure, hardware.vm, print_detach(hardware, attached), deadline);
      if (changed) return {};
      base::Error error = std::move(changed).error();
      const std::string what = fmt::format("Failed to detach {}", disk.descriptor_path);
      if (attempt == kAttempts) return std::unexpected(std::move(error).within(what));
      ASSIGN_OR_RETURN(const bool is_over, may_decide_again(error, hardware.vm, deadline));
      if (!is_over) return std::unexpected(std::move(error).within(what));
      ASSIGN_OR_RETURN(hardware, read_hardware(hardware.vm, deadline));
      const VsphereDisk* still = find_disk(hardware, disk);
      if (still == nullptr) return {};
      attached = *still;
    }
  }

  /// Reads the configuration again for a short time where the controller's place is not known yet; then what
  /// is known is the answer, if it is enough to find the disk.
  Result<ScsiAddress> await_address(VsphereHardware hardware, const Disk& disk, Deadline deadline) {
    const Deadline slot_deadline = std::min(deadline, base::deadline_in(kSlotTime));
    while (true) {
      const VsphereDisk* attached = find_disk(hardware, disk);
      if (attached == nullptr)
        return fail(ErrorCode::kBusyElsewhere, "attach '{}': somebody has taken it out of vm '{}' again",
                    disk.descriptor_path, hardware.identity.name);
      ScsiAddress address = address_of(hardware, *attached, disk.uuid);
      if (address.pci_slot && !address.pci_bus.empty()) return address;
      if (base::has_passed(slot_deadline) || !session_.pause(kSlotPause)) {
        if (address.pci_slot || !address.disk_uuid.empty()) return address;
        (void)remove(hardware, *attached, disk, deadline);
        return fail(ErrorCode::kIo,
                    "attach '{}': vm '{}' says neither the disk's uuid nor where its controller is",
                    disk.descriptor_path, hardware.identity.name);
      }
      ASSIGN_OR_RETURN(hardware, read_hardware(hardware.vm, deadline));
    }
  }

  VsphereSession& session_;
  KeyedLocks locks_;  ///< By VM.
};

}  // namespace

std::unique_ptr<Hypervisor> make_vsphere_hypervisor(VsphereSession& session) {
  return std::make_unique<VsphereHypervisor>(session);
}

}  // namespace vdvs::esx
