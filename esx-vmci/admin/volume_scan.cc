#include "esx-vmci/admin/volume_scan.h"

#include <fnmatch.h>

#include <algorithm>

#include "esx-vmci/admin/handlers.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// Whose name stands in messages of operations that need none: reading.
const Vm kNobody{.uuid = {}, .name = "administrator"};

struct StorePlace {
  Datastore datastore;
  Group group;
  DiskStore* store;
};

Group group_by_uuid(const std::vector<VmGroup>& groups, const std::string& uuid) {
  const auto found = std::ranges::find_if(
      groups, [&](const VmGroup& group) { return equals_ignoring_case(group.uuid, uuid); });
  return {.uuid = uuid, .name = found == groups.end() ? "" : found->name};
}

bool fits(const ScanWish& wish, const Group& group) {
  if (!wish.group_uuid.empty()) return equals_ignoring_case(wish.group_uuid, group.uuid);
  const std::string name = group.name.empty() ? std::string(kNotAvailable) : group.name;
  return ::fnmatch(wish.group_glob.c_str(), name.c_str(), 0) == 0;
}

/// The stores of one datastore's groups. Errors: the datastore does not say.
Result<std::vector<StorePlace>> stores_of(Datastores& datastores, const Datastore& datastore,
                                          const std::vector<VmGroup>& groups, const ScanWish& wish) {
  std::vector<StorePlace> stores;
  ASSIGN_OR_RETURN(std::vector<std::string> uuids, datastores.groups(datastore.name));
  std::ranges::sort(uuids);
  for (const std::string& uuid : uuids) {
    Group group = group_by_uuid(groups, uuid);
    if (!fits(wish, group)) continue;
    ASSIGN_OR_RETURN(DiskStore * store, datastores.store(datastore.name, group, false));
    if (store != nullptr) stores.push_back({datastore, std::move(group), store});
  }
  return stores;
}

Result<void> scan_store(const ServiceParts& parts, const StorePlace& place, const ScanWish& wish,
                        Scan& scan) {
  if (!wish.with_info) {
    ASSIGN_OR_RETURN(const std::vector<VolumeName> names, place.store->list());
    for (const VolumeName& name : names)
      scan.volumes.push_back({place.datastore, place.group, place.store, name.volume(), std::nullopt});
    return {};
  }
  ASSIGN_OR_RETURN(auto all, parts.operations.get_all(kNobody, *place.store));
  for (VolumeOperations::Listed& listed : all) {
    ScannedVolume volume{place.datastore, place.group, place.store, std::move(listed.volume), std::nullopt};
    if (listed.info) {
      volume.info = std::move(*listed.info);
    } else {
      scan.notes.push_back(fmt::format("{}: {}", volume.text(), listed.info.error().message()));
    }
    scan.volumes.push_back(std::move(volume));
  }
  return {};
}

}  // namespace

std::string ScannedVolume::text() const {
  return fmt::format("{}@{} of vmgroup {}", volume, datastore.name,
                     group.name.empty() ? group.uuid : group.name);
}

Result<Scan> scan_volumes(const ServiceParts& parts, const ScanWish& wish) {
  ASSIGN_OR_RETURN(const std::vector<VmGroup> groups, parts.tenancy.groups());
  Scan scan;
  for (const Datastore& datastore : parts.datastores.all()) {
    const Result<void> scanned = [&]() -> Result<void> {
      ASSIGN_OR_RETURN(const auto stores, stores_of(parts.datastores, datastore, groups, wish));
      for (const StorePlace& place : stores) RETURN_IF_ERROR(scan_store(parts, place, wish, scan));
      return {};
    }();
    if (!scanned) {
      scan.notes.push_back(
          fmt::format("Datastore {} cannot be listed: {}", datastore.name, scanned.error().message()));
    }
  }
  return scan;
}

Result<ScannedVolume> find_volume(const ServiceParts& parts, std::string_view name, std::string_view group) {
  ASSIGN_OR_RETURN(const VolumeName wanted, VolumeName::parse(name));
  std::vector<Datastore> datastores = parts.datastores.all();
  if (wanted.is_qualified()) {
    ASSIGN_OR_RETURN(Datastore datastore, parts.datastores.find(wanted.datastore()));
    datastores = {std::move(datastore)};
  }
  ASSIGN_OR_RETURN(const std::vector<VmGroup> groups, parts.tenancy.groups());
  ScanWish wish;
  if (!group.empty()) {
    const auto named = std::ranges::find(groups, group, &VmGroup::name);
    wish.group_uuid =
        named == groups.end() ? std::string(group) : named->uuid;  // one that is gone has a uuid only
  }
  std::vector<ScannedVolume> found;
  bool is_group_there = group.empty() || std::ranges::find(groups, group, &VmGroup::name) != groups.end();
  for (const Datastore& datastore : datastores) {
    ASSIGN_OR_RETURN(const auto stores, stores_of(parts.datastores, datastore, groups, wish));
    is_group_there = is_group_there || !stores.empty();
    for (const StorePlace& place : stores) {
      ASSIGN_OR_RETURN(const std::vector<VolumeName> names, place.store->list());
      for (const VolumeName& there : names)
        if (there.volume() == wanted.volume())
          found.push_back({place.datastore, place.group, place.store, there.volume(), std::nullopt});
    }
  }
  if (!is_group_there) return std::unexpected(tenancy_error(TenancyError::kTenantNotExist, {group}));
  if (found.empty()) {
    return fail(ErrorCode::kNotFound, "Volume {} not found{}", name,
                group.empty() ? "" : fmt::format(" in vmgroup {}", group));
  }
  if (found.size() > 1) {
    std::vector<std::string> texts;
    for (const ScannedVolume& volume : found) texts.push_back(volume.text());
    return std::unexpected(base::Error(
        ErrorCode::kInvalid, fmt::format("Volume {} is not one volume: {}", name, join(texts, ", ")),
        "name its datastore (volume@datastore) and its vmgroup (--vmgroup)"));
  }
  return std::move(found.front());
}

Result<bool> has_disks(const ServiceParts& parts, const Vm& vm) {
  for (const Datastore& datastore : parts.datastores.all()) {
    ASSIGN_OR_RETURN(const auto stores, stores_of(parts.datastores, datastore, {}, {}));
    for (const StorePlace& place : stores) {
      ASSIGN_OR_RETURN(const auto attached, parts.operations.attached(vm, *place.store));
      if (!attached.empty()) return true;
    }
  }
  return false;
}

}  // namespace vdvs::esx::admin
