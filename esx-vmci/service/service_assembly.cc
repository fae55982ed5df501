#include "esx-vmci/service/service_assembly.h"

#include <unistd.h>

#include <array>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "esx-vmci/datastore/datastores_folder.h"
#include "esx-vmci/datastore/datastores_vsphere.h"
#include "esx-vmci/hypervisor/hypervisor_qemu.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere.h"
#include "esx-vmci/hypervisor/vm_processes.h"
#include "esx-vmci/service/datastore_marks.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::uint64_t kMegabyte = 1ull << 20;
constexpr std::string_view kQemu = "qemu:";

std::string system_host_name() {
  constexpr std::size_t kMaxHostNameBytes = 256;
  std::array<char, kMaxHostNameBytes> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

/// machine-id(5) in the form of a BIOS uuid; the host's name where it has none.
std::string system_uuid(const std::string& host_name) {
  const std::string id = base::read_line_file("/etc/machine-id").value_or("");
  constexpr std::size_t kDigits = 32;
  if (id.size() != kDigits || id.find_first_not_of("0123456789abcdef") != std::string::npos) return host_name;
  return fmt::format("{}-{}-{}-{}-{}", id.substr(0, 8), id.substr(8, 4), id.substr(12, 4), id.substr(16, 4),
                     id.substr(20));
}

/// nullptr: no VM has a pid file.
Result<std::unique_ptr<VmProcesses>> make_loop_processes(const ServiceConfig& config) {
  std::vector<VmPidFile> files;
  for (const std::string& text : config.vm_pid_files) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || text.size() == equals + 1)
      return fail(ErrorCode::kInvalid, "vm-pid-file '{}': wanted is NAME=PATH", text);
    files.push_back({.vm = text.substr(0, equals), .path = text.substr(equals + 1)});
  }
  if (files.empty()) return nullptr;
  return make_vm_processes(std::move(files));
}

/// Guests are told apart by the sockets that were given to them; whoever comes over another is this host.
Result<std::unique_ptr<VmDirectory>> make_loop_vms(const ServiceConfig& config) {
  Vm host;
  host.name = config.host_name.empty() ? system_host_name() : config.host_name;
  host.uuid = config.host_id.empty() ? system_uuid(host.name) : config.host_id;
  std::vector<Vm> vms;
  for (const std::string& text : config.listens) {
    const auto endpoint = Endpoint::parse(text);
    if (!endpoint || endpoint->assigned_vm.empty()) continue;
    vms.push_back({.uuid = endpoint->assigned_vm, .name = endpoint->assigned_vm});
  }
  ASSIGN_OR_RETURN(auto processes, make_loop_processes(config));
  return make_local_vm_directory(std::move(host), std::move(vms), std::move(processes));
}

/// A hypervisor that another owns: one that is the directory of its VMs too has one owner, but both roles.
class BorrowedHypervisor final : public Hypervisor {
 public:
  explicit BorrowedHypervisor(Hypervisor& lender) : lender_(lender) {}
  Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) override {
    return lender_.attach(vm, disk);
  }
  Result<void> detach(const Vm& vm, const Disk& disk) override { return lender_.detach(vm, disk); }
  Result<void> force_detach(const Vm& vm, const Disk& disk) override {
    return lender_.force_detach(vm, disk);
  }
  Result<std::optional<Attachment>> find(const Disk& disk) override { return lender_.find(disk); }
  Result<std::vector<Attachment>> attached_in(const std::string& place) override {
    return lender_.attached_in(place);
  }

 private:
  Hypervisor& lender_;
};

/// Who attaches disks, and who the VMs are.
Result<void> assemble_hypervisor(const ServiceConfig& config, ServiceAssembly& assembly) {
  if (config.hypervisor == "loop") {
    assembly.hypervisor = make_loop_hypervisor();
    ASSIGN_OR_RETURN(assembly.vms, make_loop_vms(config));
    return {};
  }
  if (config.hypervisor.starts_with(kQemu)) {
    ASSIGN_OR_RETURN(QemuConfig vms, load_qemu_config(config.hypervisor.substr(kQemu.size())));
    auto qemu = make_qemu_hypervisor(std::move(vms));
    assembly.hypervisor = std::make_unique<BorrowedHypervisor>(*qemu);
    assembly.vms = std::move(qemu);  // so that what its threads tell of VMs ends before all they tell it to
    return {};
  }
  return fail(ErrorCode::kInvalid, "hypervisor '{}': there are loop, qemu:FILE and vsphere:FILE",
              config.hypervisor);
}

void warn(std::string_view what, const Datastore& datastore, const base::Error& error) {
  base::log::warn(what, {{"datastore", datastore.name}, {"cause", error.text()}});
}

void take_away_leftovers(const ServiceParts& parts, const Datastore& datastore) {
  const auto groups = parts.datastores.groups(datastore.name);
  if (!groups) return warn("cannot look for what was left over", datastore, groups.error());
  for (const std::string& group : *groups) {
    const auto store = parts.datastores.store(datastore.name, {.uuid = group, .name = {}}, false);
    if (store && *store == nullptr) continue;
    const auto cleaned = store ? (*store)->clean_up() : std::unexpected(store.error());
    if (!cleaned) warn("could not take away what was left over", datastore, cleaned.error());
  }
}

/// What a group has on a datastore. Errors: also where one disk cannot be read: a row whose disk is not known
/// is better than room that is given away twice.
Result<std::vector<Tenancy::StoredVolume>> volumes_of(const ServiceParts& parts, const Datastore& datastore,
                                                      const VmGroup& group) {
  std::vector<Tenancy::StoredVolume> volumes;
  ASSIGN_OR_RETURN(DiskStore * store,
                   parts.datastores.store(datastore.name, {.uuid = group.uuid, .name = group.name}, false));
  if (store == nullptr) return volumes;
  ASSIGN_OR_RETURN(const auto names, store->list());
  for (const VolumeName& name : names) {
    ASSIGN_OR_RETURN(const StoredDisk disk, store->load(name.volume()));
    volumes.push_back({name.volume(), (disk.descriptor.size_bytes + kMegabyte - 1) / kMegabyte});
  }
  // What another service is making now has its row, and no disk yet.
  ASSIGN_OR_RETURN(const auto begun, store->in_the_making());
  for (const std::string& volume : begun) volumes.push_back({volume, std::nullopt});
  return volumes;
}

/// A database of the predecessor's version 1.1 knows its members by their uuids alone.
void name_members(const ServiceParts& parts) {
  const auto vms = parts.vms.vms();
  if (!vms) return;  // the next start may know them
  std::vector<Tenancy::Member> known;
  for (const VmState& state : *vms) known.push_back({state.vm.uuid, state.vm.name});
  if (auto named = parts.tenancy.name_members(known); !named)
    base::log::warn("cannot name the members of vmgroups", {{"cause", named.error().text()}});
}

void reconcile_quotas(const ServiceParts& parts, const Datastore& datastore,
                      const std::vector<VmGroup>& groups) {
  for (const VmGroup& group : groups) {
    const auto volumes = volumes_of(parts, datastore, group);
    const auto reconciled = volumes ? parts.tenancy.reconcile_volumes(group, datastore.url, *volumes)
                                    : std::unexpected(volumes.error());
    if (!reconciled)
      warn("could not compare a vmgroup's quota with its volumes", datastore, reconciled.error());
  }
}

/// The server has datastores of its own, and says who the VMs are. Errors: where it cannot be asked now.
Result<ServiceAssembly> assemble_vsphere(const ServiceConfig& config, const std::string& file) {
  ServiceAssembly assembly;
  ASSIGN_OR_RETURN(const VsphereConfig vsphere, load_vsphere_config(file));
  assembly.tenancy = make_sqlite_tenancy(config.database);
  ASSIGN_OR_RETURN(assembly.vsphere, VsphereSession::make(vsphere));
  ASSIGN_OR_RETURN(assembly.vsphere_watch, VsphereSession::make(vsphere));
  ASSIGN_OR_RETURN(assembly.datastores, make_vsphere_datastores(*assembly.vsphere));
  assembly.hypervisor = make_vsphere_hypervisor(*assembly.vsphere);
  assembly.vms = make_vsphere_vm_directory(*assembly.vsphere, *assembly.vsphere_watch);
  assembly.operations = std::make_unique<VolumeOperations>(*assembly.hypervisor, assembly.vms.get());
  return assembly;
}

}  // namespace

Result<ServiceAssembly> assemble_service(const ServiceConfig& config, bool makes_datastores) {
  constexpr std::string_view kVsphere = "vsphere:";
  if (config.hypervisor != "loop" && !config.vm_pid_files.empty())
    return fail(ErrorCode::kInvalid, "vm-pid-file: only with hypervisor 'loop', and it is '{}'", config.hypervisor);
  if (config.hypervisor.starts_with(kVsphere))
    return assemble_vsphere(config, config.hypervisor.substr(kVsphere.size()));
  ServiceAssembly assembly;
  assembly.tenancy = make_sqlite_tenancy(config.database);
  ASSIGN_OR_RETURN(assembly.marks, DatastoreMarks::open(config.state_dir));
  std::vector<DatastoreFolder> folders;
  for (const std::string& text : config.datastores) {
    ASSIGN_OR_RETURN(DatastoreFolder folder, parse_datastore_folder(text));
    folder.is_shared = config.is_shared;
    assembly.marks->watch(folder);
    folders.push_back(std::move(folder));
  }
  RETURN_IF_ERROR(assemble_hypervisor(config, assembly));
  ASSIGN_OR_RETURN(assembly.datastores, make_folder_datastores(std::move(folders), makes_datastores));
  assembly.operations = std::make_unique<VolumeOperations>(*assembly.hypervisor, assembly.vms.get());
  for (const Datastore& datastore : assembly.datastores->all()) {
    if (datastore.type != "vsan" || datastore.path.empty()) continue;
    assembly.policies = std::make_unique<PolicyStore>(datastore.path + "/dockvols/policies");
    break;
  }
  return assembly;
}

void settle_what_was_left(const ServiceParts& parts) {
  const std::vector<Datastore> datastores = parts.datastores.all();
  for (const Datastore& datastore : datastores) take_away_leftovers(parts, datastore);
  if (parts.tenancy.mode() == DbMode::kNotConfigured) return;  // there are no quotas
  const auto groups = parts.tenancy.groups();
  if (!groups) {
    base::log::warn("cannot compare quotas with volumes", {{"cause", groups.error().text()}});
    return;
  }
  name_members(parts);
  for (const Datastore& datastore : datastores) reconcile_quotas(parts, datastore, *groups);
}

}  // namespace vdvs::esx
