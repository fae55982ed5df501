#include "esx-vmci/service/request_work.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/log.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// The VM is in no group and there is no default one. Any other error of the look-up (a broken database) is
/// not an answer to the question whose the VM is.
bool is_groupless(const base::Error& error) {
  return error.code() == tenancy_error(TenancyError::kVmNotBelongToTenant, {""}).code() &&
         error.message().ends_with(" does not belong to any vmgroup");
}

}  // namespace

base::Error unknown_datastore(std::string_view name, const std::vector<Datastore>& known,
                              std::string_view default_label, std::string_view default_text) {
  std::string names;
  for (const Datastore& datastore : known) names += (names.empty() ? "" : ", ") + datastore.name;
  return {ErrorCode::kInvalid, fmt::format("Invalid datastore '{}'.\nKnown datastores: {}.\n{}: {}", name,
                                           names, default_label, default_text)};
}

Result<json::value> RequestWork::run() {
  if (request_.version && *request_.version != kProtocolVersion) {
    return fail(ErrorCode::kUnsupported, "{}", version_mismatch_text(*request_.version, kProtocolVersion));
  }
  const std::optional<Command> command = find_command(request_.command);
  if (command == Command::kVersion) {
    return encode_version({VDVS_VERSION,
                           {std::string(kCapabilityEnvelope), std::string(kCapabilityDetails),
                            std::string(kCapabilityInit), std::string(kCapabilityQuick)}});
  }
  auto group = parts_.tenancy.group_of(vm_.uuid, vm_.name);
  if (!group) return run_without_group(command, group.error());
  group_ = std::move(*group);
  RETURN_IF_ERROR(find_datastores());
  if (command == Command::kList) return list();
  if (command == Command::kAttached) return attached();
  ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(request_.name));
  ASSIGN_OR_RETURN(Datastore datastore, find_datastore(name, default_));
  std::string rights_url = name.is_qualified() ? datastore.url : group_.default_datastore_url;
  return dispatch(command, {std::move(name), std::move(datastore), std::move(rights_url)});
}

Result<json::value> RequestWork::run_without_group(std::optional<Command> command, const base::Error& error) {
  if (!is_groupless(error)) return std::unexpected(error);
  if (command == Command::kList) return encode_list({});
  if (command == Command::kAttached) return encode_attached({});
  if (command != Command::kDetach) return std::unexpected(error);
  ASSIGN_OR_RETURN(const VolumeName name, VolumeName::parse(request_.name));
  datastores_ = parts_.datastores.all();
  return detach_own(name);
}

Result<void> RequestWork::find_datastores() {
  if (group_.default_datastore_url.empty()) {
    return std::unexpected(tenancy_error(TenancyError::kDsDefaultNotSet, {group_.name}));
  }
  datastores_ = parts_.datastores.all();
  if (datastores_.empty()) return fail(ErrorCode::kUnavailable, "this service has no datastore");
  const auto where_the_vm_is = std::ranges::find(datastores_, vm_.datastore, &Datastore::name);
  vm_datastore_ = where_the_vm_is != datastores_.end() ? *where_the_vm_is : datastores_.front();
  if (group_.default_datastore_url == kVmDatastoreUrl) {
    default_ = vm_datastore_;
    return {};
  }
  const auto found = std::ranges::find(datastores_, group_.default_datastore_url, &Datastore::url);
  if (found != datastores_.end()) default_ = *found;
  return {};
}

Result<Datastore> RequestWork::find_datastore(const VolumeName& name,
                                              const std::optional<Datastore>& short_names) const {
  const std::string& default_text = default_ ? default_->name : group_.default_datastore_url;
  if (!name.is_qualified()) {
    if (short_names) return *short_names;
    return std::unexpected(unknown_datastore(default_text, datastores_, "Default datastore", default_text));
  }
  const bool is_known = std::ranges::any_of(
      datastores_, [&](const Datastore& each) { return equals_ignoring_case(each.name, name.datastore()); });
  if (!is_known) {
    return std::unexpected(
        unknown_datastore(name.datastore(), datastores_, "Default datastore", default_text));
  }
  return parts_.datastores.find(name.datastore());
}

Result<void> RequestWork::authorize(const Target& target, Access access) {
  RETURN_IF_ERROR(parts_.tenancy.authorize(group_, target.rights_url, vm_datastore_.url, access));
  return {};
}

Result<DiskStore*> RequestWork::store_on(const Datastore& datastore, bool make) const {
  return parts_.datastores.store(datastore.name, {.uuid = group_.uuid, .name = group_.name}, make);
}

// A volume that is left out of a listing is one that Docker forgets. So one datastore that does not answer
// makes the whole listing an error.
Result<json::value> RequestWork::list() {
  std::vector<VolumeName> names;
  for (const Datastore& datastore : datastores_) {
    ASSIGN_OR_RETURN(DiskStore * store, store_on(datastore, false));
    if (store == nullptr) continue;
    ASSIGN_OR_RETURN(auto volumes, store->list());
    names.insert(names.end(), std::make_move_iterator(volumes.begin()),
                 std::make_move_iterator(volumes.end()));
  }
  std::ranges::sort(names);
  return encode_list(names);
}

Result<json::value> RequestWork::attached() {
  AttachedReply reply;
  if (default_) reply.default_datastore = default_->name;
  for (const Datastore& datastore : datastores_) {
    ASSIGN_OR_RETURN(DiskStore * store, store_on(datastore, false));
    if (store == nullptr) continue;
    ASSIGN_OR_RETURN(const auto volumes, parts_.operations.attached(vm_, *store));
    for (const std::string& volume : volumes) {
      ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(volume + "@" + datastore.name));
      reply.volumes.push_back(std::move(name));
    }
  }
  std::ranges::sort(reply.volumes);
  return encode_attached(reply);
}

Result<json::value> RequestWork::dispatch(std::optional<Command> command, const Target& target) {
  if (!command) {
    RETURN_IF_ERROR(authorize(target, Access::kGet));
    return fail(ErrorCode::kInvalid, "Unknown command:{}", request_.command);
  }
  switch (*command) {
    case Command::kCreate:
      RETURN_IF_ERROR(authorize(target, Access::kCreate));
      return request_.options.contains("clone-from") ? clone(target) : create(target);
    case Command::kRemove:
      RETURN_IF_ERROR(authorize(target, Access::kRemove));
      return remove(target);
    case Command::kAttach:
      RETURN_IF_ERROR(authorize(target, Access::kMount));
      return attach(target);
    case Command::kDetach:
      RETURN_IF_ERROR(authorize(target, Access::kMount));
      return detach(target);
    case Command::kGet:
      RETURN_IF_ERROR(authorize(target, Access::kGet));
      return get(target);
    // The first mount of a volume formats it, so who may mount may also say how far that has come.
    case Command::kSetInit:
      RETURN_IF_ERROR(authorize(target, Access::kMount));
      return set_init(target);
    case Command::kReset:
      RETURN_IF_ERROR(authorize(target, Access::kMount));
      return reset(target);
    case Command::kList:
    case Command::kVersion:
    case Command::kAttached:
      break;  // answered before a name is looked at
  }
  return fail(ErrorCode::kInternal, "Unknown command:{}", request_.command);
}

// A VM that belongs to no group any more (its group, or the default one, was deleted) must still be able to
// let go of the disks that it has. They are looked for among its own, whatever group they are of.
Result<json::value> RequestWork::detach_own(const VolumeName& name) {
  std::vector<Place> places;
  std::string found_in;
  for (const Datastore& datastore : datastores_) {
    if (name.is_qualified() && !equals_ignoring_case(datastore.name, name.datastore())) continue;
    ASSIGN_OR_RETURN(const auto groups, parts_.datastores.groups(datastore.name));
    for (const std::string& group : groups) {
      ASSIGN_OR_RETURN(DiskStore * store,
                       parts_.datastores.store(datastore.name, {.uuid = group, .name = {}}, false));
      if (store == nullptr) continue;
      ASSIGN_OR_RETURN(const auto volumes, parts_.operations.attached(vm_, *store));
      if (std::ranges::find(volumes, name.volume()) == volumes.end()) continue;
      places.push_back({store, name.volume()});
      found_in += fmt::format("{}'{}' of vmgroup {}", found_in.empty() ? "" : ", ", datastore.name, group);
    }
  }
  if (places.size() > 1) {
    return std::unexpected(base::Error(
        ErrorCode::kInvalid,
        fmt::format("detach '{}': this VM has several disks of that name, on {}", name.text(), found_in),
        "name its datastore, or let the administrator detach it"));
  }
  if (places.empty()) return json::value(nullptr);
  RETURN_IF_ERROR(parts_.operations.detach(vm_, places.front()));
  base::log::warn("a VM of no vmgroup let go of a disk",
                  {{"vm", vm_.name}, {"volume", name.text()}, {"found_on", found_in}});
  return json::value(nullptr);
}

}  // namespace vdvs::esx
