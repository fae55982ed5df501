#include "esx-vmci/datastore/disk_store.h"

#include <algorithm>
#include <cctype>

namespace vdvs::esx {
namespace {

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

base::Result<std::vector<DiskLock>> lock_both(const DiskStore& a, std::string_view volume_a,
                                              const DiskStore& b, std::string_view volume_b) {
  const auto order = a.lock_key(volume_a) <=> b.lock_key(volume_b);
  std::vector<DiskLock> locks;
  ASSIGN_OR_RETURN(DiskLock first, order <= 0 ? a.lock(volume_a) : b.lock(volume_b));
  locks.push_back(std::move(first));
  if (order == 0) return locks;
  ASSIGN_OR_RETURN(DiskLock second, order < 0 ? b.lock(volume_b) : a.lock(volume_a));
  locks.push_back(std::move(second));
  return locks;
}

void apply_attach_options(const StoredDisk& stored, Disk& disk) {
  const OptionMap& options = stored.sidecar.options;
  if (auto access = options.find("access"); access != options.end()) {
    disk.is_read_only = access->second == "read-only" && stored.sidecar.init == InitState::kReady;
  }
  if (auto mode = options.find("attach-as"); mode != options.end()) disk.mode = mode->second;
}

bool is_id_of(std::string_view id, const Vm& vm) {
  if (id.empty()) return false;
  return equals_ignoring_case(id, vm.uuid) || equals_ignoring_case(id, vm.instance_uuid);
}

const std::string& record_id(const Vm& vm) { return vm.instance_uuid.empty() ? vm.uuid : vm.instance_uuid; }

}  // namespace vdvs::esx
