#include "esx-vmci/service/embedded.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "esx-vmci/datastore/disk_store_folder.h"
#include "esx-vmci/service/volume_operations.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

class EmbeddedControlPlane final : public ControlPlane {
 public:
  EmbeddedControlPlane(Vm vm, std::vector<std::unique_ptr<DiskStore>> stores,
                       std::unique_ptr<Hypervisor> hypervisor)
      : vm_(std::move(vm)),
        stores_(std::move(stores)),
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
  std::string default_datastore() const override { return stores_.front()->name(); }

 private:
  Result<Place> place_of(const VolumeName& name) const;

  const Vm vm_;
  const std::vector<std::unique_ptr<DiskStore>> stores_;
  const std::unique_ptr<Hypervisor> hypervisor_;
  VolumeOperations operations_;
};

Result<Place> EmbeddedControlPlane::place_of(const VolumeName& name) const {
  if (!name.is_qualified()) return Place{stores_.front().get(), name.volume()};
  std::string known;
  for (const auto& store : stores_) {
    if (equals_ignoring_case(store->name(), name.datastore())) return Place{store.get(), name.volume()};
    known += (known.empty() ? "" : ", ") + store->name();
  }
  return fail(ErrorCode::kInvalid, "Invalid datastore '{}'.\nKnown datastores: {}.\nDefault datastore: {}.",
              name.datastore(), known, stores_.front()->name());
}

Result<void> EmbeddedControlPlane::create(const VolumeName& name, const OptionMap& given,
                                          const Progress& progress) {
  ASSIGN_OR_RETURN(const Place place, place_of(name));
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
  if (stores_.size() == 1) return stores_.front()->list();
  std::vector<VolumeName> names;
  for (const auto& store : stores_) {
    ASSIGN_OR_RETURN(const auto volumes, store->list());
    names.insert(names.end(), volumes.begin(), volumes.end());
  }
  std::ranges::sort(names);
  return names;
}

Result<std::vector<VolumeName>> EmbeddedControlPlane::attached_here() {
  std::vector<VolumeName> names;
  for (const auto& store : stores_) {
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

Result<DatastoreFolder> parse_datastore_folder(std::string_view text) {
  const std::size_t equals = text.find('=');
  // A path may hold '=' too: a name never holds '/'.
  const bool has_name =
      equals != std::string_view::npos && text.substr(0, equals).find('/') == std::string_view::npos;
  std::filesystem::path path(has_name ? text.substr(equals + 1) : text);
  if (path.empty()) return fail(ErrorCode::kInvalid, "datastore '{}': no folder is given", text);
  if (!path.has_filename()) path = path.parent_path();
  DatastoreFolder folder{has_name ? std::string(text.substr(0, equals)) : path.filename().string(),
                         path.string()};
  auto name = VolumeName::parse("x@" + folder.name);
  if (!name || folder.name.find_first_of("@/\\") != std::string::npos) {
    return fail(ErrorCode::kInvalid, "datastore '{}': '{}' cannot be a datastore's name", text, folder.name);
  }
  return folder;
}

Result<std::unique_ptr<ControlPlane>> make_embedded_control_plane(EmbeddedOptions options,
                                                                  std::unique_ptr<Hypervisor> hypervisor) {
  if (options.datastores.empty()) return fail(ErrorCode::kInvalid, "no datastore is given");
  if (options.vm.uuid.empty() || options.vm.uuid.size() > kMaxVmUuidBytes) {
    return fail(ErrorCode::kInvalid, "this host's id '{}' must have 1 to {} bytes", options.vm.uuid,
                kMaxVmUuidBytes);
  }
  std::vector<std::unique_ptr<DiskStore>> stores;
  for (const DatastoreFolder& folder : options.datastores) {
    auto opened = VolumeFolder::open(folder.path);
    if (!opened)
      return std::unexpected(
          std::move(opened).error().within(fmt::format("open datastore '{}'", folder.name)));
    for (const auto& other : stores) {
      if (equals_ignoring_case(other->name(), folder.name)) {
        return fail(ErrorCode::kInvalid, "open datastore '{}': another datastore has that name", folder.name);
      }
      if (other->place() == opened->path()) {
        return fail(ErrorCode::kInvalid, "open datastore '{}': datastore '{}' is the same folder",
                    folder.name, other->name());
      }
    }
    auto store = make_folder_disk_store(folder.name, std::move(*opened), folder.is_shared);
    if (auto cleaned = store->clean_up(); !cleaned) {
      base::log::warn("could not take away what was left over",
                      {{"datastore", folder.name}, {"cause", cleaned.error().text()}});
    }
    stores.push_back(std::move(store));
  }
  return std::make_unique<EmbeddedControlPlane>(std::move(options.vm), std::move(stores),
                                                std::move(hypervisor));
}

}  // namespace vdvs::esx
