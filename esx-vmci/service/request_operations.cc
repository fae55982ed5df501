// The last step of a request: the operation itself, with what belongs around it (options, policies, quota).
#include <utility>

#include "base/log.h"
#include "esx-vmci/service/request_work.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kPolicyOption = "vsan-policy-name";
constexpr std::string_view kVsanType = "vsan";
constexpr std::uint64_t kMegabyte = 1ull << 20;

/// Where a disk's descriptor would be, for messages.
std::string descriptor_path(const Datastore& datastore, const std::string& group_uuid,
                            std::string_view volume) {
  if (datastore.path.empty())
    return fmt::format("[{}] dockvols/{}/{}.vmdk", datastore.name, group_uuid, volume);
  return fmt::format("{}/dockvols/{}/{}.vmdk", datastore.path, group_uuid, volume);
}

}  // namespace

Result<Place> RequestWork::place_of(const Target& target) const {
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, false));
  if (store != nullptr) return Place{store, target.name.volume()};
  return fail(ErrorCode::kNotFound, "Volume {} not found (file: {})", target.name.volume(),
              descriptor_path(target.datastore, group_.uuid, target.name.volume()));
}

// Looked at before the quota: a create that is sent again because its reply was lost must hear "already
// exists", also when the volume that it made took the last of the room.
Result<void> RequestWork::refuse_existing(const Target& target) {
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, false));
  if (store == nullptr) return {};
  const auto stored = store->load(target.name.volume());
  if (!stored) return {};  // what else may be there, the operation finds out under the lock
  return fail(ErrorCode::kExists, "File {} already exists", store->disk_of(*stored).descriptor_path);
}

Result<QuotaReservation> RequestWork::reserve(const Target& target, std::uint64_t size_bytes) {
  return parts_.tenancy.reserve(group_, target.rights_url, vm_datastore_.url, target.name.volume(),
                                (size_bytes + kMegabyte - 1) / kMegabyte);
}

Result<void> RequestWork::check_policy(const Target& target) const {
  const auto wish = request_.options.find(std::string(kPolicyOption));
  if (wish == request_.options.end()) return {};
  // A datastore that is no folder of ours is a server's, which has policies of its own and checks the name.
  if (target.datastore.path.empty()) return {};
  if (target.datastore.type != kVsanType || parts_.policies == nullptr) {
    return fail(ErrorCode::kInvalid, "Cannot use a VSAN policy on a non-VSAN datastore");
  }
  const auto policy = parts_.policies->find(wish->second);
  if (policy) return {};
  if (policy.error().code() != ErrorCode::kNotFound && policy.error().code() != ErrorCode::kInvalid) {
    return std::unexpected(policy.error());
  }
  ASSIGN_OR_RETURN(const auto policies, parts_.policies->list());
  std::string names;
  for (const Policy& each : policies) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", each.name);
  return fail(ErrorCode::kInvalid, "Policy {} does not exist.{}", wish->second,
              names.empty() ? "" : fmt::format(" Available policies are: [{}]", names));
}

// A create may fail when its disk is there already (the flush after it): then the room is taken.
Result<json::value> RequestWork::settle_reservation(const Place& place, QuotaReservation& reservation,
                                                    Result<void> made) {
  if (made || place.store->load(place.volume)) reservation.keep();
  RETURN_IF_ERROR(made);
  return json::value(nullptr);
}

Result<json::value> RequestWork::create(const Target& target) {
  std::uint64_t size_bytes = kDefaultSizeBytes;
  if (const auto wish = request_.options.find("size"); wish != request_.options.end()) {
    const auto parsed = parse_size(wish->second);
    // The predecessor's rights, where they are configured, came upon a bad size before its options did.
    if (!parsed && parts_.tenancy.mode() != DbMode::kNotConfigured) {
      return std::unexpected(tenancy_error(TenancyError::kVolumeSizeInvalid));
    }
    if (parsed) size_bytes = *parsed;
  }
  RETURN_IF_ERROR(refuse_existing(target));
  ASSIGN_OR_RETURN(QuotaReservation reservation, reserve(target, size_bytes));
  ASSIGN_OR_RETURN(const VolumeOptions options, VolumeOptions::parse(request_.options));
  RETURN_IF_ERROR(check_policy(target));
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, true));
  const Place place{store, target.name.volume()};
  auto made = parts_.operations.create(vm_, place, request_.options, options, {});
  return settle_reservation(place, reservation, std::move(made));
}

Result<RequestWork::Target> RequestWork::find_clone_source(const Target& target, const std::string& text) {
  const auto not_found = fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", text);
  auto name = VolumeName::parse(text);
  if (!name) return not_found;
  auto datastore = find_datastore(*name, target.datastore);  // a short name is looked for beside the clone
  if (!datastore && datastore.error().message().starts_with("Invalid datastore")) {
    return std::unexpected(unknown_datastore(name->datastore(), datastores_, "Default datastore_url",
                                             default_ ? default_->url : group_.default_datastore_url));
  }
  if (!datastore) return std::unexpected(datastore.error());
  std::string rights_url = name->is_qualified() ? datastore->url : target.rights_url;
  Target source{std::move(*name), std::move(*datastore), std::move(rights_url)};
  if (auto allowed = authorize(source, Access::kMount); !allowed) {
    return fail(allowed.error().code(), "Failed to authorize VM: {}, datastore: {}",
                allowed.error().message(), source.datastore.name);
  }
  return source;
}

Result<json::value> RequestWork::clone(const Target& target) {
  RETURN_IF_ERROR(refuse_existing(target));
  ASSIGN_OR_RETURN(const VolumeOptions options, VolumeOptions::parse(request_.options));
  RETURN_IF_ERROR(check_policy(target));
  ASSIGN_OR_RETURN(const Target source, find_clone_source(target, options.clone_from));
  ASSIGN_OR_RETURN(DiskStore * source_store, store_on(source.datastore, false));
  const auto stored =
      source_store == nullptr
          ? Result<StoredDisk>(fail(ErrorCode::kNotFound, "Volume {} not found", source.name.volume()))
          : source_store->load(source.name.volume());
  if (!stored && stored.error().code() == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound, "Could not find volume for cloning {}", options.clone_from);
  }
  if (!stored) return std::unexpected(stored.error());
  ASSIGN_OR_RETURN(QuotaReservation reservation, reserve(target, stored->descriptor.size_bytes));
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, true));
  const Place place{store, target.name.volume()};
  const Place source_place{source_store, source.name.volume()};
  auto made = parts_.operations.clone(vm_, place, source_place, request_.options, options, {});
  return settle_reservation(place, reservation, std::move(made));
}

Result<json::value> RequestWork::remove(const Target& target) {
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, false));
  ASSIGN_OR_RETURN(const auto row,
                   parts_.tenancy.row_of_volume(group_, target.datastore.url, target.name.volume()));
  if (store != nullptr) RETURN_IF_ERROR(parts_.operations.remove(vm_, {store, target.name.volume()}));
  // The disk is gone: that its room stays taken until the next start's comparison is no failure of the
  // remove.
  if (auto forgotten = parts_.tenancy.forget_volume(group_, target.datastore.url, target.name.volume(), row);
      !forgotten) {
    base::log::warn("a removed volume still counts in its vmgroup's quota",
                    {{"volume", target.name.text()}, {"cause", forgotten.error().text()}});
  }
  return json::value(nullptr);
}

Result<json::value> RequestWork::attach(const Target& target) {
  ASSIGN_OR_RETURN(const Place place, place_of(target));
  ASSIGN_OR_RETURN(const base::DiskAddress address, parts_.operations.attach(vm_, place));
  return encode_attach(address, request_.wants_details);
}

Result<json::value> RequestWork::detach(const Target& target) {
  ASSIGN_OR_RETURN(DiskStore * store, store_on(target.datastore, false));
  if (store != nullptr) RETURN_IF_ERROR(parts_.operations.detach(vm_, {store, target.name.volume()}));
  return json::value(nullptr);
}

Result<json::value> RequestWork::get(const Target& target) {
  ASSIGN_OR_RETURN(const Place place, place_of(target));
  ASSIGN_OR_RETURN(const VolumeInfo info, parts_.operations.get(vm_, place));
  return encode_info(info, request_.wants_details);
}

Result<json::value> RequestWork::set_init(const Target& target) {
  ASSIGN_OR_RETURN(const InitWish wish, decode_init(request_.options));
  ASSIGN_OR_RETURN(const Place place, place_of(target));
  RETURN_IF_ERROR(parts_.operations.set_init(place, wish.state, wish.fs_uuid));
  return json::value(nullptr);
}

Result<json::value> RequestWork::reset(const Target& target) {
  ASSIGN_OR_RETURN(const Place place, place_of(target));
  RETURN_IF_ERROR(parts_.operations.reset(place, &vm_));
  return json::value(nullptr);
}

}  // namespace vdvs::esx
