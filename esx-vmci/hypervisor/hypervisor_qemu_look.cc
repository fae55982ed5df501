// What a machine has and how it is: the questions of QemuMachine, none of which changes anything.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/json.h"
#include "base/log.h"
#include "esx-vmci/hypervisor/hypervisor_qemu.h"
#include "esx-vmci/hypervisor/hypervisor_qemu_machine.h"

namespace vdvs::esx {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

constexpr std::string_view kNoUuid = "00000000-0000-0000-0000-000000000000";  // of a QEMU without -uuid

std::string peripheral(std::string_view id) { return fmt::format("{}/{}", kPeripherals, id); }
std::string bus_of(std::string_view controller) {
  return fmt::format("{}/{}.0", peripheral(controller), controller);
}

std::string text_or_empty(const json::value& value) {
  return value.is_string() ? std::string(value.get_string()) : std::string();
}

std::optional<unsigned> find_number(const json::value& value) {
  json::error_code error;
  const auto number = value.to_number<unsigned>(error);
  return error ? std::nullopt : std::optional(number);
}

/// QEMU's run states (qapi/run-state.json). Off is only what can never run again; stopped for any other
/// reason, it keeps its disks.
PowerState power_of(std::string_view status) {
  if (status == "running") return PowerState::kOn;
  if (status == "shutdown") return PowerState::kOff;
  if (status.empty()) return PowerState::kUnknown;
  return PowerState::kSuspended;
}

bool is_about_power(std::string_view event) {
  constexpr std::string_view kEvents[] = {"SHUTDOWN", "RESET",        "STOP",   "RESUME",
                                          "SUSPEND",  "SUSPEND_DISK", "WAKEUP", "GUEST_PANICKED"};
  return std::ranges::find(kEvents, event) != std::end(kEvents);
}

/// Errors that say nothing about the question, only that it was not answered.
bool is_unanswered(const base::Error& error) {
  return error.code() == ErrorCode::kUnavailable || error.code() == ErrorCode::kTimeout ||
         error.code() == ErrorCode::kLimit;
}

}  // namespace

QemuMachine::QemuMachine(boost::asio::io_context& loop, QemuVm config,
                         std::function<void(const VmState&)> power_changed)
    : config_(std::move(config)),
      power_changed_(std::move(power_changed)),
      monitor_(make_qmp_monitor(
          loop, config_.qmp_path,
          {.link_changed = [this](QmpLink link, const std::string& reason) { link_changed(link, reason); },
           .event = [this](const QmpEvent& happened) { event(happened); }})) {}

PowerState QemuMachine::power() const {
  base::MutexLock lock(mutex_);
  return power_;
}

bool QemuMachine::is_known() const {
  base::MutexLock lock(mutex_);
  return is_known_;
}

bool QemuMachine::is_gone() const {
  base::MutexLock lock(mutex_);
  return link_ == QmpLink::kGone;
}

void QemuMachine::link_changed(QmpLink link, const std::string& reason) {
  {
    base::MutexLock lock(mutex_);
    link_ = link;
    reason_ = reason;
    is_identified_ = false;
    if (link == QmpLink::kGone || link == QmpLink::kUp) stranger_.clear();
    if (link == QmpLink::kGone) {
      disks_.clear();
      has_disks_ = true;
    }
  }
  changed_.notify_all();
  switch (link) {
    case QmpLink::kConnecting:
      return;
    case QmpLink::kUp:
      return ask_state();
    case QmpLink::kGone:
      return set_power(PowerState::kOff);
    case QmpLink::kSilent:
      base::log::warn("a VM's monitor does not answer", {{"vm", vm().name}, {"cause", reason}});
      return set_power(PowerState::kUnknown);
  }
}

void QemuMachine::event(const QmpEvent& happened) {
  if (happened.name == "DEVICE_DELETED" || happened.name == "DEVICE_UNPLUG_GUEST_ERROR") {
    const auto device = base::find_string(happened.data, "device");
    base::MutexLock lock(mutex_);
    if (!device || leaving_.empty() || *device != leaving_) return;
    leave_ = happened.name == "DEVICE_DELETED" ? Leave::kDone : Leave::kRefused;
    changed_.notify_all();
  } else if (is_about_power(happened.name)) {
    base::log::info("a VM's power", {{"vm", vm().name}, {"event", happened.name}});
    ask_state();
  }
}

/// An event is only the reason to ask: the answer is what counts.
void QemuMachine::ask_state() {
  monitor_->send({{.name = "query-uuid"}, {.name = "query-status"}}, base::deadline_in(kQemuOperationTime),
                 [this](const QmpMonitor::Answers& answers) { take_state(answers); });
}

void QemuMachine::take_state(const QmpMonitor::Answers& answers) {
  const json::object* identity = answers[0] ? answers[0]->if_object() : nullptr;
  const json::object* status = answers[1] ? answers[1]->if_object() : nullptr;
  if (identity == nullptr || status == nullptr) {
    if (!answers[0] && answers[0].error().code() == ErrorCode::kTimeout) ask_state();
    return;  // the connection ended: the next one will be asked
  }
  std::string uuid = base::find_string(*identity, "UUID").value_or("");
  std::ranges::transform(uuid, uuid.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (uuid != vm().uuid && uuid != kNoUuid) {
    const std::string why =
        fmt::format("behind '{}' is the VM with uuid {}, not {}", config_.qmp_path, uuid, vm().uuid);
    {
      base::MutexLock lock(mutex_);
      stranger_ = why;
    }
    changed_.notify_all();
    base::log::error("a monitor belongs to another VM", {{"vm", vm().name}, {"cause", why}});
    return set_power(PowerState::kUnknown);
  }
  {
    base::MutexLock lock(mutex_);
    is_identified_ = true;
  }
  changed_.notify_all();
  set_power(power_of(base::find_string(*status, "status").value_or("")));
}

void QemuMachine::set_power(PowerState power) {
  {
    base::MutexLock lock(mutex_);
    if (is_known_ && power_ == power) return;
    is_known_ = true;
    power_ = power;
  }
  base::log::info("a VM is", {{"vm", vm().name}, {"power", power_state_name(power)}});
  power_changed_({vm(), power});
}

Result<void> QemuMachine::check_identity() const {
  base::MutexLock lock(mutex_);
  if (stranger_.empty()) return {};
  return fail(ErrorCode::kUnavailable, "vm '{}': {}", vm().name, stranger_);
}

Result<void> QemuMachine::await_identity(Deadline deadline) {
  base::MutexLock lock(mutex_);
  bool is_late = false;
  while (!is_identified_ && stranger_.empty()) {
    if (is_late || link_ == QmpLink::kGone)
      return fail(ErrorCode::kUnavailable, "vm '{}': {}", vm().name, reason_);
    is_late = changed_.wait_until(mutex_, deadline) == std::cv_status::timeout;
  }
  if (stranger_.empty()) return {};
  return fail(ErrorCode::kUnavailable, "vm '{}': {}", vm().name, stranger_);
}

/// What changes something goes only to a process that is known to be this VM.
Result<json::value> QemuMachine::run(std::string_view command, json::object arguments, Deadline deadline) {
  RETURN_IF_ERROR(await_identity(deadline));
  return monitor_->run({std::string(command), std::move(arguments)}, deadline);
}

Result<std::vector<QemuDisk>> QemuMachine::take_disks(const QmpMonitor::Answers& answers) {
  RETURN_IF_ERROR(check_identity());
  for (const auto& answer : answers) {
    if (!answer)
      return std::unexpected(base::Error(answer.error()).within(fmt::format("vm '{}'", vm().name)));
  }
  std::vector<QemuDisk> disks = decode_disks(*answers[0], *answers[1]);
  base::MutexLock lock(mutex_);
  disks_ = disks;
  has_disks_ = true;
  return disks;
}

namespace {

std::vector<QmpCommand> disk_questions() {
  return {{.name = "query-named-block-nodes", .arguments = {{"flat", true}}}, {.name = "query-block"}};
}

}  // namespace

Result<std::vector<QemuDisk>> QemuMachine::look(Deadline deadline) {
  RETURN_IF_ERROR(check_identity());
  return take_disks(monitor_->run_all(disk_questions(), deadline));
}

Result<std::vector<QemuDisk>> QemuMachine::last_disks(base::Error error) {
  base::MutexLock lock(mutex_);
  if (has_disks_) return disks_;
  return std::unexpected(std::move(error));
}

bool QemuMachine::had(const std::string& extent_path) const {
  base::MutexLock lock(mutex_);
  return std::ranges::find(disks_, extent_path, &QemuDisk::path) != disks_.end();
}

/// While it is stalled one question is always out, whose answer ends that.
void QemuMachine::ask_disks(Deadline deadline, DisksAnswer done) {
  const auto was_late = [this](const QmpMonitor::Answers& answers) {
    const bool is_late = !answers[0] && answers[0].error().code() == ErrorCode::kTimeout;
    base::MutexLock lock(mutex_);
    return std::exchange(is_stalled_, is_late) != is_late && is_late;
  };
  bool is_stalled;
  {
    base::MutexLock lock(mutex_);
    is_stalled = is_stalled_;
  }
  if (is_stalled)
    return done(last_disks({ErrorCode::kUnavailable, fmt::format("vm '{}' does not answer", vm().name)}));
  monitor_->send(disk_questions(), deadline,
                 [this, was_late, done = std::move(done)](const QmpMonitor::Answers& answers) {
                   auto disks = take_disks(answers);
                   if (was_late(answers)) watch_stall();
                   if (!disks && is_unanswered(disks.error())) disks = last_disks(std::move(disks).error());
                   done(std::move(disks));
                 });
}

void QemuMachine::watch_stall() {
  base::log::warn("a VM's monitor does not answer", {{"vm", vm().name}});
  ask_again();
}

void QemuMachine::ask_again() {
  monitor_->send(disk_questions(), base::deadline_in(kQemuOperationTime),
                 [this](const QmpMonitor::Answers& answers) {
                   const auto disks = take_disks(answers);
                   if (!answers[0] && answers[0].error().code() == ErrorCode::kTimeout) return ask_again();
                   {
                     base::MutexLock lock(mutex_);
                     is_stalled_ = false;
                   }
                   base::log::info("a VM's monitor answers again", {{"vm", vm().name}});
                 });
}

Result<QemuMachine::Properties> QemuMachine::read(const std::vector<PropertyName>& names, Deadline deadline) {
  std::vector<QmpCommand> commands;
  for (const auto& [path, property] : names)
    commands.push_back({.name = "qom-get", .arguments = {{"path", path}, {"property", property}}});
  QmpMonitor::Answers answers = monitor_->run_all(std::move(commands), deadline);
  Properties properties;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (answers[i]) {
      properties[names[i]] = std::move(*answers[i]);
    } else if (is_unanswered(answers[i].error())) {
      return std::unexpected(std::move(answers[i]).error());
    } else {
      properties[names[i]] = nullptr;  // went away meanwhile, or has no such property
    }
  }
  return properties;
}

Result<std::map<std::string, json::array>> QemuMachine::list(const std::vector<std::string>& paths,
                                                             Deadline deadline) {
  std::vector<QmpCommand> commands;
  for (const std::string& path : paths)
    commands.push_back({.name = "qom-list", .arguments = {{"path", path}}});
  QmpMonitor::Answers answers = monitor_->run_all(std::move(commands), deadline);
  std::map<std::string, json::array> listings;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!answers[i] && is_unanswered(answers[i].error()))
      return std::unexpected(std::move(answers[i]).error());
    listings[paths[i]] = answers[i] && answers[i]->is_array() ? answers[i]->get_array() : json::array();
  }
  return listings;
}

Result<QemuBuses> QemuMachine::look_at_buses(Deadline deadline) {
  ASSIGN_OR_RETURN(auto listings, list({std::string(kPeripherals)}, deadline));
  QemuBuses buses;
  for (const json::value& entry : listings.begin()->second) {
    const auto* object = entry.if_object();
    if (object == nullptr) continue;
    const std::string type = base::find_string(*object, "type").value_or("");
    const std::string id = base::find_string(*object, "name").value_or("");
    if (type == "child<pvscsi>") buses.controllers.push_back({.id = id, .parent_bus = {}});
    if (type == "child<pcie-root-port>") buses.ports.push_back({.id = id, .parent_bus = {}});
  }
  RETURN_IF_ERROR(fill_buses(buses, deadline));
  return buses;
}

namespace {

/// The names of a bus' children: "child[0]", ...
std::vector<std::string> children_of(const json::array& listing) {
  std::vector<std::string> names;
  for (const json::value& entry : listing) {
    const auto* object = entry.if_object();
    const std::string name = object == nullptr ? "" : base::find_string(*object, "name").value_or("");
    if (name.starts_with("child[")) names.push_back(name);
  }
  return names;
}

}  // namespace

Result<void> QemuMachine::fill_buses(QemuBuses& buses, Deadline deadline) {
  std::vector<PropertyName> names;
  std::vector<std::string> paths;
  for (const QemuController& controller : buses.controllers) {
    for (const char* property : {"parent_bus", "addr"})
      names.emplace_back(peripheral(controller.id), property);
    paths.push_back(bus_of(controller.id));
  }
  for (const QemuPort& port : buses.ports) {
    for (const char* property : {"parent_bus", "addr", "slot", "hotplug"})
      names.emplace_back(peripheral(port.id), property);
    paths.push_back(fmt::format("{}/{}", peripheral(port.id), port.id));
  }
  ASSIGN_OR_RETURN(Properties properties, read(names, deadline));
  ASSIGN_OR_RETURN(const auto listings, list(paths, deadline));
  for (QemuPort& port : buses.ports) {
    const std::string path = peripheral(port.id);
    port.parent_bus = text_or_empty(properties[{path, "parent_bus"}]);
    port.devfn = find_number(properties[{path, "addr"}]).value_or(0);
    port.slot = find_number(properties[{path, "slot"}]).value_or(0);
    const json::value& can_hotplug = properties[{path, "hotplug"}];
    port.can_hotplug = can_hotplug.is_bool() && can_hotplug.get_bool();
    port.is_free = children_of(listings.at(fmt::format("{}/{}", path, port.id))).empty();
  }
  std::vector<PropertyName> unit_names;
  for (QemuController& controller : buses.controllers) {
    controller.parent_bus = text_or_empty(properties[{peripheral(controller.id), "parent_bus"}]);
    controller.devfn = find_number(properties[{peripheral(controller.id), "addr"}]).value_or(0);
    const std::string bus = bus_of(controller.id);
    for (const std::string& child : children_of(listings.at(bus)))
      unit_names.emplace_back(fmt::format("{}/{}", bus, child), "scsi-id");
  }
  ASSIGN_OR_RETURN(const Properties units, read(unit_names, deadline));
  for (QemuController& controller : buses.controllers) {
    for (const auto& [name, unit] : units) {
      if (name.first.starts_with(bus_of(controller.id) + "/"))
        controller.units.push_back(find_number(unit).value_or(kReservedUnit));
    }
  }
  return {};
}

Result<std::map<std::string, base::ScsiAddress>> QemuMachine::addresses(const std::vector<std::string>& keys,
                                                                        Deadline deadline) {
  std::vector<PropertyName> names;
  const auto device_of = [](const std::string& key) { return peripheral(std::string(kDiskPrefix) + key); };
  for (const std::string& key : keys) {
    for (const char* property : {"scsi-id", "parent_bus", "serial"})
      names.emplace_back(device_of(key), property);
  }
  ASSIGN_OR_RETURN(Properties devices, read(names, deadline));
  names.clear();
  std::map<std::string, std::string> controllers;  // by key
  for (const std::string& key : keys) {
    const std::string id = owner_of_bus(text_or_empty(devices[{device_of(key), "parent_bus"}]));
    if (id.empty()) continue;
    controllers[key] = peripheral(id);
    for (const char* property : {"parent_bus", "addr"}) names.emplace_back(peripheral(id), property);
  }
  ASSIGN_OR_RETURN(Properties buses, read(names, deadline));
  names.clear();
  for (const auto& [key, controller] : controllers) {
    const std::string port = owner_of_bus(text_or_empty(buses[{controller, "parent_bus"}]));
    for (const char* property : {"parent_bus", "addr", "slot"})
      names.emplace_back(peripheral(port), property);
  }
  ASSIGN_OR_RETURN(Properties ports, read(names, deadline));
  std::map<std::string, base::ScsiAddress> found;
  for (const auto& [key, controller] : controllers) {
    const auto unit = find_number(devices[{device_of(key), "scsi-id"}]);
    if (!unit) continue;
    base::ScsiAddress address{.disk_uuid = text_or_empty(devices[{device_of(key), "serial"}]), .unit = *unit};
    const std::string bus = text_or_empty(buses[{controller, "parent_bus"}]);
    const std::string port = peripheral(owner_of_bus(bus));
    if (is_root_bus(bus)) {
      if (const auto devfn = find_number(buses[{controller, "addr"}])) address.pci_bus = pci_bus_text(*devfn);
    } else if (is_root_bus(text_or_empty(ports[{port, "parent_bus"}]))) {
      if (const auto devfn = find_number(ports[{port, "addr"}])) address.pci_bus = pci_bus_text(*devfn);
      const auto slot = find_number(ports[{port, "slot"}]);
      if (slot && *slot != 0) address.pci_slot = *slot;
    }
    found[key] = std::move(address);
  }
  return found;
}

}  // namespace vdvs::esx
