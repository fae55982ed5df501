#include <algorithm>
#include <map>
#include <optional>
#include <thread>

#include "base/log.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"

namespace vdvs::esx {
namespace {

namespace log = base::log;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::MoRef;

constexpr std::chrono::seconds kLookTime{20};
/// Connections identify their VM often, names change seldom: this long a list may be old.
constexpr std::chrono::seconds kIdentityAge{5};
constexpr std::chrono::seconds kLongestQuestion{60};
constexpr std::chrono::milliseconds kFirstPause{500};
constexpr std::chrono::milliseconds kLongestPause{30'000};

class VsphereVmDirectory final : public VmDirectory {
 public:
  VsphereVmDirectory(VsphereSession& session, VsphereSession& watch) : session_(session), watch_(watch) {}
  ~VsphereVmDirectory() override {
    if (!thread_.joinable()) return;
    watch_.stop();
    thread_.join();
  }

  Result<Vm> identify(const Peer& peer) override {
    const std::string& name = peer.kind == Peer::Kind::kTls ? peer.certificate : peer.assigned_vm;
    if (peer.kind == Peer::Kind::kVsock || name.empty()) {
      return std::unexpected(
          base::Error(ErrorCode::kDenied,
                      fmt::format("identify {}: a VM of vSphere is known by its certificate", peer.text()),
                      "let the guest connect by tcp, with a certificate in the VM's name or uuid"));
    }
    ASSIGN_OR_RETURN(const std::vector<VsphereVm> known, recent_vms());
    auto vm = choose_vm(known, name);
    if (!vm && vm.error().code() == ErrorCode::kNotFound)
      return fail(ErrorCode::kDenied, "identify {}: there is no such VM", peer.text());
    if (!vm) return std::unexpected(std::move(vm).error());
    return std::move(vm->state.vm);
  }

  Result<std::vector<VmState>> vms() override {
    ASSIGN_OR_RETURN(const auto found, read_vms(session_, base::deadline_in(kLookTime)));
    std::vector<VmState> states;
    for (const VsphereVm& vm : found) states.push_back(vm.state);
    return states;
  }

  Result<VmState> find_vm(std::string_view name_or_uuid) override {
    ASSIGN_OR_RETURN(const auto found, read_vms(session_, base::deadline_in(kLookTime)));
    ASSIGN_OR_RETURN(VsphereVm vm, choose_vm(found, name_or_uuid));
    return std::move(vm.state);
  }

  void watch_power(std::function<void(const VmState&)> changed) override {
    VDVS_CHECK(!thread_.joinable());
    changed_ = std::move(changed);
    thread_ = std::thread([this] { watch_for_ever(); });
  }

 private:
  Result<std::vector<VsphereVm>> recent_vms() EXCLUDES(mutex_) {
    {
      base::MutexLock lock(mutex_);
      if (read_at_ && base::Clock::now() - *read_at_ < kIdentityAge) return recent_;
    }
    ASSIGN_OR_RETURN(auto found, read_vms(session_, base::deadline_in(kLookTime)));
    base::MutexLock lock(mutex_);
    recent_ = found;
    read_at_ = base::Clock::now();
    return found;
  }

  // ---- the watch: everything below runs on its thread ----

  void watch_for_ever() {
    base::Clock::duration pause_time = kFirstPause;
    bool was_well = true;
    while (true) {
      auto ended = watch_until_error(pause_time, was_well);
      if (!watch_.pause(std::chrono::milliseconds(0))) return;
      if (was_well) {
        log::warn("vSphere does not tell of its VMs; it is asked again until it does",
                  {{"error", ended.error().text()}});
      }
      was_well = false;
      if (!watch_.pause(pause_time)) return;
      pause_time = std::min<base::Clock::duration>(pause_time * 2, kLongestPause);
    }
  }

  /// Never returns well.
  Result<void> watch_until_error(base::Clock::duration& pause_time, bool& was_well) {
    const base::Deadline deadline = base::deadline_in(kVsphereCallTime);
    ASSIGN_OR_RETURN(const std::string filter,
                     watch_.filter_of_all("VirtualMachine", vm_properties(), deadline));
    ASSIGN_OR_RETURN(const auto updates, VsphereUpdates::open(watch_, filter, deadline));
    std::map<MoRef, VsphereObject> objects;  // as this collector has told them
    while (true) {
      ASSIGN_OR_RETURN(const auto changes, updates->next(kLongestQuestion));
      for (const VsphereUpdate& change : changes) apply(change, objects);
      if (!was_well) log::info("vSphere tells of its VMs again", {{"vms", objects.size()}});
      was_well = true;
      pause_time = kFirstPause;
    }
  }

  void apply(const VsphereUpdate& change, std::map<MoRef, VsphereObject>& objects) {
    const MoRef& ref = change.object.ref;
    if (change.kind == VsphereUpdate::Kind::kLeave) {
      // It was unregistered, or its host was: it may run on, where we do not see it.
      if (auto gone = objects.find(ref); gone != objects.end()) {
        VmState state = decode_vm(gone->second).state;
        state.power = PowerState::kUnknown;
        objects.erase(gone);
        tell(ref, state);
      }
      return;
    }
    VsphereObject& object = objects[ref];
    object.ref = ref;
    for (const auto& [name, value] : change.object.properties) object.properties[name] = value;
    if (object.text("config.template") != "true") tell(ref, decode_vm(object).state);
  }

  void tell(const MoRef& ref, const VmState& state) {
    auto [told, is_new] = told_.try_emplace(ref, state.power);
    if (!is_new && told->second == state.power) return;
    told->second = state.power;
    log::debug("power of a vm", {{"vm", state.vm.name}, {"power", power_state_name(state.power)}});
    changed_(state);
  }

  VsphereSession& session_;
  VsphereSession& watch_;
  base::Mutex mutex_;  ///< A leaf.
  std::vector<VsphereVm> recent_ GUARDED_BY(mutex_);
  std::optional<base::Clock::time_point> read_at_ GUARDED_BY(mutex_);
  std::function<void(const VmState&)> changed_;
  std::map<MoRef, PowerState> told_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<VmDirectory> make_vsphere_vm_directory(VsphereSession& session, VsphereSession& watch) {
  return std::make_unique<VsphereVmDirectory>(session, watch);
}

}  // namespace vdvs::esx
