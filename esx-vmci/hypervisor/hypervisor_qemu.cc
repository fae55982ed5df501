// Many machines as one hypervisor, and as the directory of who they are. One thread runs the monitors of all
// of them; whoever asks waits on a thread of his own.
#include "esx-vmci/hypervisor/hypervisor_qemu.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/strands.h"
#include "esx-vmci/hypervisor/hypervisor_qemu_machine.h"
#include "esx-vmci/hypervisor/image_lock.h"

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;

/// Where many are asked, one that does not answer must not cost the others more than this, once.
constexpr std::chrono::seconds kAskAllTime{2};
constexpr std::size_t kPowerThreads = 4;

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

/// What one machine answered when all were asked.
struct Found {
  QemuMachine* machine;
  Result<std::vector<QemuDisk>> disks;
};

class Machines final : public QemuHypervisor {
 public:
  explicit Machines(QemuConfig config)
      : work_(loop_.get_executor()), power_strands_("vm-power", kPowerThreads) {
    for (QemuVm& vm : config.vms) {
      machines_.push_back(std::make_unique<QemuMachine>(loop_, std::move(vm),
                                                        [this](const VmState& state) { tell_power(state); }));
    }
    thread_ = std::thread([this] { loop_.run(); });
    ::pthread_setname_np(thread_.native_handle(), "qmp");
    for (const auto& machine : machines_) machine->start();
  }
  Machines(const Machines&) = delete;
  Machines& operator=(const Machines&) = delete;
  ~Machines() override {
    power_strands_.drain();  // what is told may ask the machines
    loop_.stop();
    thread_.join();
  }

  Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) override;
  Result<void> detach(const Vm& vm, const Disk& disk) override;
  Result<std::optional<Attachment>> find(const Disk& disk) override;
  Result<std::vector<Attachment>> attached_in(const std::string& place) override;

  Result<Vm> identify(const Peer& peer) override;
  Result<std::vector<VmState>> vms() override;
  Result<VmState> find_vm(std::string_view name_or_uuid) override;
  void watch_power(std::function<void(const VmState&)> changed) override EXCLUDES(mutex_);

 private:
  void tell_power(const VmState& state) EXCLUDES(mutex_);
  QemuMachine* machine_of(const Vm& vm) const;
  std::vector<Found> ask(const std::vector<QemuMachine*>& machines) const;
  std::vector<QemuMachine*> all() const;
  bool close_leftovers(const Disk& disk, Deadline deadline) const;
  Result<std::optional<Attachment>> find_in(const std::vector<QemuMachine*>& machines,
                                            const Disk& disk) const;

  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  base::Mutex mutex_;
  std::function<void(const VmState&)> watcher_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<QemuMachine>> machines_;
  base::Strands power_strands_;
  std::thread thread_;
};

QemuMachine* Machines::machine_of(const Vm& vm) const {
  const auto found =
      std::ranges::find_if(machines_, [&](const auto& machine) { return machine->vm().uuid == vm.uuid; });
  return found == machines_.end() ? nullptr : found->get();
}

std::vector<QemuMachine*> Machines::all() const {
  std::vector<QemuMachine*> machines;
  for (const auto& machine : machines_) machines.push_back(machine.get());
  return machines;
}

/// All at once; returns when each has answered or its time is over.
std::vector<Found> Machines::ask(const std::vector<QemuMachine*>& machines) const {
  std::vector<Found> found;
  for (QemuMachine* machine : machines) found.push_back({machine, {}});
  base::Mutex mutex;
  base::ConditionVariable answered;
  std::size_t open = machines.size();
  const Deadline deadline = base::deadline_in(kAskAllTime);
  for (Found& one : found) {
    one.machine->ask_disks(deadline, [&](Result<std::vector<QemuDisk>> disks) {
      base::MutexLock lock(mutex);
      one.disks = std::move(disks);
      if (--open == 0) answered.notify_one();
    });
  }
  base::MutexLock lock(mutex);
  while (open > 0) answered.wait(mutex);
  return found;
}

/// Those that a guest can use: a node without a device is what an interrupted step has left.
bool is_attached(const QemuDisk& disk) { return disk.key.empty() || disk.has_device; }

/// An image that is open without a device is in nobody's way but its lock is. True where there was one.
bool Machines::close_leftovers(const Disk& disk, Deadline deadline) const {
  bool is_any = false;
  for (const Found& found : ask(all())) {
    const auto here = found.disks ? find_disk(*found.disks, disk.extent_path) : std::nullopt;
    if (!here || is_attached(*here)) continue;
    found.machine->close_leftovers(deadline);
    is_any = true;
  }
  return is_any;
}

Result<base::DiskAddress> Machines::attach(const Vm& vm, const Disk& disk) {
  QemuMachine* machine = machine_of(vm);
  if (machine == nullptr)
    return fail(ErrorCode::kDenied, "vm '{}' ({}) is none of this service's QEMU VMs", vm.name, vm.uuid);
  const Deadline deadline = base::deadline_in(kQemuOperationTime);
  auto address = machine->attach(disk, deadline);
  if (!address && address.error().code() == ErrorCode::kBusyElsewhere && close_leftovers(disk, deadline))
    address = machine->attach(disk, deadline);
  if (address) return base::DiskAddress(std::move(*address));
  if (address.error().code() == ErrorCode::kBusyElsewhere) {
    const auto holder = find_in(all(), disk);
    if (holder && *holder)
      return fail(ErrorCode::kBusyElsewhere, "'{}' is attached: {}", disk.extent_path, (*holder)->what);
  }
  return std::unexpected(std::move(address).error());
}

Result<void> Machines::detach(const Vm& vm, const Disk& disk) {
  QemuMachine* machine = machine_of(vm);
  if (machine == nullptr) return {};  // a VM that is not of this service has nothing that it attached
  return machine->detach(disk, base::deadline_in(kQemuOperationTime));
}

/// Where exactly is for the VM itself: of one that does not answer now, only that it has the disk is told.
std::vector<Attachment> attachments_of(QemuMachine& machine, const std::vector<QemuDisk>& disks) {
  std::vector<std::string> keys;
  for (const QemuDisk& disk : disks) {
    if (!disk.key.empty()) keys.push_back(disk.key);
  }
  const auto places = machine.addresses(keys, base::deadline_in(kAskAllTime));
  std::vector<Attachment> attachments;
  for (const QemuDisk& disk : disks) {
    Attachment attachment{
        .extent_path = disk.path, .vm_uuid = {}, .what = {}, .address = base::ScsiAddress{}};
    attachment.what = fmt::format("SCSI disk of vm '{}'", machine.vm().name);
    if (disk.key.empty()) {
      attachment.what = fmt::format("a disk of vm '{}' which this service did not attach", machine.vm().name);
    } else {
      attachment.vm_uuid = machine.vm().uuid;
    }
    if (places && places->contains(disk.key)) attachment.address = places->at(disk.key);
    attachments.push_back(std::move(attachment));
  }
  return attachments;
}

Result<std::optional<Attachment>> Machines::find_in(const std::vector<QemuMachine*>& machines,
                                                    const Disk& disk) const {
  std::optional<base::Error> unanswered;
  for (const Found& found : ask(machines)) {
    if (!found.disks) {
      unanswered = found.disks.error();
      continue;
    }
    const auto here = find_disk(*found.disks, disk.extent_path);
    if (!here || !is_attached(*here)) continue;
    Attachment attachment = attachments_of(*found.machine, {*here}).front();
    attachment.extent_path = disk.extent_path;
    return std::optional(std::move(attachment));
  }
  if (unanswered)
    return std::unexpected(std::move(*unanswered).within("look for '" + disk.extent_path + "'"));
  return std::optional<Attachment>();
}

/// The image's lock is asked first: without one no device uses the disk, on whatever host, and no VM needs to
/// answer. With one, the VM that had it before is asked first.
Result<std::optional<Attachment>> Machines::find(const Disk& disk) {
  const auto user = look_at_image(disk.extent_path);
  if (user && *user != ImageUser::kQemu) return std::optional<Attachment>();
  std::vector<QemuMachine*> likely = all();
  std::erase_if(likely, [&](QemuMachine* machine) { return !machine->had(disk.extent_path); });
  if (!likely.empty()) {
    auto found = find_in(likely, disk);
    if (found && *found) return found;
  }
  return find_in(all(), disk);
}

Result<std::vector<Attachment>> Machines::attached_in(const std::string& place) {
  const std::string folder = without_slash(place);
  std::vector<Attachment> attachments;
  for (const Found& found : ask(all())) {
    if (!found.disks) {
      base::log::debug("not asked for its disks",
                       {{"vm", found.machine->vm().name}, {"cause", found.disks.error().text()}});
      continue;
    }
    std::vector<QemuDisk> here = *found.disks;
    std::erase_if(here,
                  [&](const QemuDisk& disk) { return folder_of(disk.path) != folder || !is_attached(disk); });
    if (!here.empty())
      std::ranges::move(attachments_of(*found.machine, here), std::back_inserter(attachments));
  }
  return attachments;
}

Result<Vm> Machines::identify(const Peer& peer) {
  const auto is_it = [&](const auto& machine) {
    const QemuVm& vm = machine->config();
    switch (peer.kind) {
      case Peer::Kind::kVsock:
        return vm.cid == peer.cid;
      case Peer::Kind::kUnix:
        return !peer.assigned_vm.empty() &&
               (vm.vm.name == peer.assigned_vm || vm.vm.uuid == peer.assigned_vm);
      case Peer::Kind::kTls:
        return !peer.certificate.empty() && vm.certificate == peer.certificate;
    }
    return false;
  };
  const auto found = std::ranges::find_if(machines_, is_it);
  if (found == machines_.end())
    return fail(ErrorCode::kDenied, "identify {}: it is none of this service's VMs", peer.text());
  return (*found)->vm();
}

Result<std::vector<VmState>> Machines::vms() {
  std::vector<VmState> states;
  for (const auto& machine : machines_) states.push_back({machine->vm(), machine->power()});
  return states;
}

Result<VmState> Machines::find_vm(std::string_view name_or_uuid) {
  for (const auto& machine : machines_) {
    if (machine->vm().uuid == name_or_uuid || machine->vm().name == name_or_uuid)
      return VmState{machine->vm(), machine->power()};
  }
  return fail(ErrorCode::kNotFound, "Cannot find vm {}", name_or_uuid);
}

void Machines::watch_power(std::function<void(const VmState&)> changed) {
  {
    base::MutexLock lock(mutex_);
    watcher_ = std::move(changed);
  }
  for (const auto& machine : machines_) {
    if (machine->is_known()) tell_power({machine->vm(), machine->power()});
  }
}

void Machines::tell_power(const VmState& state) {
  std::function<void(const VmState&)> watcher;
  {
    base::MutexLock lock(mutex_);
    watcher = watcher_;
  }
  if (!watcher) return;
  power_strands_.post(state.vm.uuid, [this, watcher = std::move(watcher), state] {
    QemuMachine* machine = machine_of(state.vm);
    if (machine != nullptr && state.power != PowerState::kOff)
      machine->close_leftovers(base::deadline_in(kQemuOperationTime));
    watcher(state);
  });
}

}  // namespace

std::unique_ptr<QemuHypervisor> make_qemu_hypervisor(QemuConfig config) {
  return std::make_unique<Machines>(std::move(config));
}

}  // namespace vdvs::esx
