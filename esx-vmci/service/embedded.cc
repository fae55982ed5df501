#include "esx-vmci/service/embedded.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/service/volume_operations.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

const Group& default_group() {
  static const Group group{std::string(kDefaultGroupUuid), std::string(kDefaultGroupName)};
  return group;
}

class EmbeddedControlPlane final : public ControlPlane {
 public:
  EmbeddedControlPlane(Vm vm, std::unique_ptr<Datastores> datastores, std::unique_ptr<Hypervisor> hypervisor)
      : vm_(std::move(vm)),
        datastores_(std::move(datastores)),
        default_datastore_(datastores_->all().front().name),
        hypervisor_(std::move(hypervisor)),
        operations_(*hypervisor_, nullptr) {}

  Result<void> create(const VolumeName& name, const OptionMap& options, const Progress& progress) override;
  Result<void> remove(const VolumeName& name) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.remove(vm_, place);
  }
  Result<base::DiskAddress> attach(const VolumeName& name) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.attach(vm_, place);
  }
  Result<void> detach(const VolumeName& name) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.detach(vm_, place);
  }
  Result<VolumeInfo> get(const VolumeName& name) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.get(vm_, place);
  }
  Result<void> set_init(const VolumeName& name, InitState state, const std::string& fs_uuid) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.set_init(place, state, fs_uuid);
  }
  Result<void> reset(const VolumeName& name) override {
    ASSIGN_OR_RETURN(const Place place, place_of(name));
    return operations_.reset(place, &vm_);
  }
  Result<std::vector<VolumeName>> list() override;
  Result<std::vector<VolumeName>> attached_here() override;
  std::string default_datastore() const override { return default_datastore_; }

 private:
  /// `make`: the folders, for an operation that needs them.
  Result<Place> place_of(const VolumeName& name, bool make = false) const;
  /// All of them, or an error.
  Result<std::vector<DiskStore*>> stores() const;

  const Vm vm_;
  const std::unique_ptr<Datastores> datastores_;
  const std::string default_datastore_;
  const std::unique_ptr<Hypervisor> hypervisor_;
  VolumeOperations operations_;
};

Result<Place> EmbeddedControlPlane::place_of(const VolumeName& name, bool make) const {
  const std::string& datastore = name.is_qualified() ? name.datastore() : default_datastore_;
  ASSIGN_OR_RETURN(DiskStore * store, datastores_->store(datastore, default_group(), make));
  if (store != nullptr) return Place{store, name.volume()};
  // Its folder was there when we started, or was not yet: without it nothing can be said about volumes.
  return fail(ErrorCode::kUnavailable, "datastore '{}' has no folder of volumes now", datastore);
}

Result<std::vector<DiskStore*>> EmbeddedControlPlane::stores() const {
  std::vector<DiskStore*> stores;
  for (const Datastore& datastore : datastores_->all()) {
    ASSIGN_OR_RETURN(DiskStore * store, datastores_->store(datastore.name, default_group(), false));
    if (store == nullptr)
      return fail(ErrorCode::kUnavailable, "datastore '{}' has no folder of volumes now", datastore.name);
    stores.push_back(store);
  }
  return stores;
}

Result<void> EmbeddedControlPlane::create(const VolumeName& name, const OptionMap& given,
                                          const Progress& progress) {
  ASSIGN_OR_RETURN(const Place place, place_of(name, true));
  ASSIGN_OR_RETURN(const VolumeOptions options, VolumeOptions::parse(given));
  if (options.policy != VolumeOptions().policy)
    return fail(ErrorCode::kInvalid, "Cannot use a VSAN policy on a non-VSAN datastore");
  if (options.clone_from.empty()) return operations_.create(vm_, place, given, options, progress);
  const auto source_name = VolumeName::parse(options.clone_from);
  if (!source_name)
    return fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", options.clone_from);
  Place source{place.store, source_name->volume()};  // a short name is looked for beside the clone
  if (source_name->is_qualified()) {
    ASSIGN_OR_RETURN(source, place_of(*source_name));
  }
  return operations_.clone(vm_, place, source, given, options, progress);
}

Result<std::vector<VolumeName>> EmbeddedControlPlane::list() {
  ASSIGN_OR_RETURN(const std::vector<DiskStore*> stores, this->stores());
  if (stores.size() == 1) return stores.front()->list();
  std::vector<VolumeName> names;
  for (DiskStore* store : stores) {
    ASSIGN_OR_RETURN(const auto volumes, store->list());
    names.insert(names.end(), volumes.begin(), volumes.end());
  }
  std::ranges::sort(names);
  return names;
}

Result<std::vector<VolumeName>> EmbeddedControlPlane::attached_here() {
  ASSIGN_OR_RETURN(const std::vector<DiskStore*> stores, this->stores());
  std::vector<VolumeName> names;
  for (DiskStore* store : stores) {
    ASSIGN_OR_RETURN(const std::vector<std::string> volumes, operations_.attached(vm_, *store));
    for (const std::string& volume : volumes) {
      ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(volume + "@" + store->name()));
      names.push_back(std::move(name));
    }
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

Result<std::unique_ptr<ControlPlane>> make_embedded_control_plane(EmbeddedOptions options,
                                                                  std::unique_ptr<Hypervisor> hypervisor) {
  if (options.vm.uuid.empty() || options.vm.uuid.size() > kMaxVmUuidBytes) {
    return fail(ErrorCode::kInvalid, "this host's id '{}' must have 1 to {} bytes", options.vm.uuid,
                kMaxVmUuidBytes);
  }
  ASSIGN_OR_RETURN(auto datastores, make_folder_datastores(std::move(options.datastores), true));
  std::optional<base::Error> first_error;
  bool is_any_there = false;
  for (const Datastore& datastore : datastores->all()) {
    auto store = datastores->store(datastore.name, default_group(), true);
    if (!store) {
      base::log::warn("a datastore cannot be opened now",
                      {{"datastore", datastore.name}, {"cause", store.error().text()}});
      if (!first_error)
        first_error = std::move(store).error().within(fmt::format("open datastore '{}'", datastore.name));
      continue;
    }
    is_any_there = true;
    if (auto cleaned = (*store)->clean_up(); !cleaned) {
      base::log::warn("could not take away what was left over",
                      {{"datastore", datastore.name}, {"cause", cleaned.error().text()}});
    }
  }
  if (!is_any_there) return std::unexpected(std::move(*first_error));
  return std::make_unique<EmbeddedControlPlane>(std::move(options.vm), std::move(datastores),
                                                std::move(hypervisor));
}

}  // namespace vdvs::esx
