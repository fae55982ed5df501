// One QEMU VM: what it has, what is put into it and taken out, and whether it runs.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/mutex.h"
#include "esx-vmci/hypervisor/qemu_config.h"
#include "esx-vmci/hypervisor/qemu_view.h"
#include "esx-vmci/hypervisor/qmp.h"
#include "esx-vmci/hypervisor/vm_directory.h"

namespace vdvs::esx {

inline constexpr std::string_view kFaultQemuNode =
    "qemu.node.after";  ///< Attach: the node is, the device not yet.
inline constexpr std::string_view kFaultQemuUnplug =
    "qemu.unplug.after";  ///< Detach: the device is gone, the node not.

/// Changes of one machine are made one at a time; those of different machines side by side.
class QemuMachine {
 public:
  /// `power_changed`: on the loop's thread, must not block; the first time soon after `start`.
  QemuMachine(boost::asio::io_context& loop, QemuVm config,
              std::function<void(const VmState&)> power_changed);

  const QemuVm& config() const { return config_; }
  const Vm& vm() const { return config_.vm; }
  void start() { monitor_->start(); }
  PowerState power() const EXCLUDES(mutex_);
  /// It was told `power_changed` at least once.
  bool is_known() const EXCLUDES(mutex_);

  /// Idempotent. Errors: kBusyElsewhere, kLimit, kUnavailable, kTimeout, ...
  base::Result<base::ScsiAddress> attach(const Disk& disk, base::Deadline deadline);
  /// Not there, or not ours: success; so it is where the VM does not run. Errors: kInUse where the guest does
  /// not let go.
  base::Result<void> detach(const Disk& disk, base::Deadline deadline);

  /// Closes the images that no device uses: what an attach or detach has left that ended with its service.
  void close_leftovers(base::Deadline deadline);

  using DisksAnswer = std::function<void(base::Result<std::vector<QemuDisk>>)>;
  /// The files that it has open. Of a VM that does not answer: what it had when it last did; at once, where
  /// it did not answer the time before. Errors: kUnavailable where it never did. `done` may come on the loop,
  /// or from within the call.
  void ask_disks(base::Deadline deadline, DisksAnswer done) EXCLUDES(mutex_);
  /// It had this file open when it was last asked.
  bool had(const std::string& extent_path) const EXCLUDES(mutex_);

  /// Where these disks of ours are, by key; one that has no device is left out.
  base::Result<std::map<std::string, base::ScsiAddress>> addresses(const std::vector<std::string>& keys,
                                                                   base::Deadline deadline);

 private:
  class Turn;
  /// A property of an object of QEMU's, by both names.
  using PropertyName = std::pair<std::string, std::string>;
  using Properties = std::map<PropertyName, boost::json::value>;

  void link_changed(QmpLink link, const std::string& reason) EXCLUDES(mutex_);
  void event(const QmpEvent& event) EXCLUDES(mutex_);
  void ask_state();
  void take_state(const QmpMonitor::Answers& answers) EXCLUDES(mutex_);
  void set_power(PowerState power) EXCLUDES(mutex_);

  base::Result<boost::json::value> run(std::string_view command, boost::json::object arguments,
                                       base::Deadline deadline) EXCLUDES(mutex_);
  base::Result<void> check_identity() const EXCLUDES(mutex_);
  bool is_gone() const EXCLUDES(mutex_);
  base::Result<std::vector<QemuDisk>> look(base::Deadline deadline);
  void watch_stall();
  void ask_again() EXCLUDES(mutex_);
  base::Result<std::vector<QemuDisk>> last_disks(base::Error error) EXCLUDES(mutex_);
  base::Result<std::vector<QemuDisk>> take_disks(const QmpMonitor::Answers& answers) EXCLUDES(mutex_);
  base::Result<Properties> read(const std::vector<PropertyName>& names, base::Deadline deadline);
  base::Result<std::map<std::string, boost::json::array>> list(const std::vector<std::string>& paths,
                                                               base::Deadline deadline);
  base::Result<QemuBuses> look_at_buses(base::Deadline deadline);
  base::Result<void> fill_buses(QemuBuses& buses, base::Deadline deadline);

  base::Result<void> plug(const Disk& disk, base::Deadline deadline);
  base::Result<void> add_controller(Spot& spot, const QemuBuses& buses, base::Deadline deadline);
  base::Result<void> add_node(const Disk& disk, const std::string& key, base::Deadline deadline);
  base::Result<void> add_device(const Disk& disk, const std::string& key, const Spot& spot,
                                base::Deadline deadline);
  base::Result<void> remove_node(const std::string& key, base::Deadline deadline);
  base::Result<void> unplug(const std::string& key, base::Deadline deadline) EXCLUDES(mutex_);
  base::Result<void> await_deleted(const std::string& device, base::Deadline deadline) EXCLUDES(mutex_);

  const QemuVm config_;
  const std::function<void(const VmState&)> power_changed_;
  std::unique_ptr<QmpMonitor> monitor_;

  mutable base::Mutex mutex_;
  base::ConditionVariable changed_;
  QmpLink link_ GUARDED_BY(mutex_) = QmpLink::kConnecting;
  std::string reason_ GUARDED_BY(mutex_) = "it was not asked yet";
  std::string stranger_ GUARDED_BY(mutex_);  ///< Why the process behind the socket is not this VM; or empty.
  PowerState power_ GUARDED_BY(mutex_) = PowerState::kUnknown;
  bool is_known_ GUARDED_BY(mutex_) = false;
  bool has_turn_ GUARDED_BY(mutex_) = false;  ///< Somebody changes this machine.
  bool has_disks_ GUARDED_BY(mutex_) = false;
  bool is_stalled_ GUARDED_BY(mutex_) =
      false;  ///< The last question about its disks was not answered in time.
  std::vector<QemuDisk> disks_ GUARDED_BY(mutex_);  ///< As last seen.
  std::string leaving_ GUARDED_BY(mutex_);          ///< The device whose end is waited for; or empty.
  enum class Leave { kNotYet, kDone, kRefused };
  Leave leave_ GUARDED_BY(mutex_) = Leave::kNotYet;
};

}  // namespace vdvs::esx
