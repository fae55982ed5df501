#include "mountd/volume_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/fault.h"
#include "base/log.h"
#include "fs-format/mkfs_command.h"
#include "fs-format/mount_options.h"
#include "mountd/fault_points.h"
#include "mountd/volume_status.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace log = base::log;

constexpr std::string_view kDefaultFsType = "ext4";

}  // namespace

// ---- names and memory ----

std::string VolumeKeeper::qualify(const esx::VolumeName& name) {
  if (name.is_qualified() && catalogue_.find(name.text())) return name.text();
  const std::string standard = world_.control_plane.default_datastore();
  if (!name.is_qualified() && !standard.empty()) return name.on(standard).text();
  if (auto info = world_.control_plane.get(name)) return info->name.text();
  auto record = catalogue_.find_short(name.volume(), name.datastore());
  return record ? record->name : name.text();
}

std::string VolumeKeeper::display_name(const std::string& qualified) const {
  const std::string standard = world_.control_plane.default_datastore();
  const std::string suffix = "@" + standard;
  if (standard.empty() || !qualified.ends_with(suffix)) return qualified;
  return qualified.substr(0, qualified.size() - suffix.size());
}

void VolumeKeeper::remember(const esx::VolumeInfo& info, const std::string& driver) {
  CatalogueRecord record;
  record.name = info.name.text();
  if (auto old = catalogue_.find(record.name)) record.driver = old->driver;
  if (!driver.empty()) record.driver = driver;
  record.disk_uuid = info.disk_uuid;
  record.fs_uuid = info.fs_uuid;
  record.size_bytes = info.size_bytes;
  record.created = info.created;
  record.created_by = info.created_by;
  record.options = info.options;
  if (auto put = catalogue_.put(record); !put) {
    log::warn("catalogue is not written", {{"volume", record.name}, {"cause", put.error().text()}});
  }
}

void VolumeKeeper::sync() {
  if (auto synced = catalogue_.sync(); !synced) log::warn("catalogue is not written", {{"cause", synced.error().text()}});
}

WalkRequest VolumeKeeper::request_for(Goal goal, const esx::VolumeName& name) {
  WalkRequest request{.goal = goal, .name = name, .deadline = base::deadline_in(kWorkTime)};
  request.known_as = qualify(name);
  if (auto record = catalogue_.find(request.known_as)) {
    request.known_disk_uuid = record->disk_uuid;
    request.known_fs_uuid = record->fs_uuid;
  }
  request.is_held = holders_.total(request.known_as) > 0;
  return request;
}

Result<WalkEnd> VolumeKeeper::walk_to(Goal goal, const esx::VolumeName& name) {
  return walk(world_, request_for(goal, name));
}

// ---- create, remove ----

Result<void> VolumeKeeper::create(const esx::VolumeName& name, const esx::OptionMap& options, const std::string& driver,
                                  const esx::Progress& progress) {
  auto parsed = esx::VolumeOptions::parse(options);
  if (!parsed) return std::unexpected(std::move(parsed).error().within(fmt::format("create '{}'", name.text())));
  WalkRequest request = request_for(Goal::kPresent, name);
  request.options = options;
  request.progress = progress;
  if (parsed->clone_from.empty()) {
    request.options.try_emplace("fstype", kDefaultFsType);
    if (!world_.formatter.supports(parsed->fstype)) {
      return fail(ErrorCode::kUnsupported, "create '{}': Not found mkfs for {}\nSupported filesystems found: {}", name.text(),
                  parsed->fstype, fmt::join(world_.formatter.supported(), ", "));
    }
  }
  if (auto mountable = fsformat::parse_mount_options(parsed->mount_options, parsed->is_read_only); !mountable) {
    return std::unexpected(std::move(mountable).error().within(fmt::format("create '{}': option 'mountopts'", name.text())));
  }
  const fsformat::FormatRequest format{.fstype = parsed->fstype, .label = {}, .mkfs_options = parsed->mkfs_options};
  if (auto command = fsformat::make_mkfs_command(format, "the disk"); !command) {
    return std::unexpected(std::move(command).error().within(fmt::format("create '{}': option 'mkfsopts'", name.text())));
  }
  auto end = walk(world_, request);
  if (!end && end.error().code() == ErrorCode::kExists) end = walk_to(Goal::kPresent, name);  // another host was quicker
  if (!end) return std::unexpected(std::move(end).error());
  if (end->info && !end->has_created) {
    if (auto unlike = esx::differences(end->info->options, options); !unlike.empty()) {
      return std::unexpected(base::Error(ErrorCode::kExists,
                                         fmt::format("create '{}': the volume already exists and is not as you asked: {}",
                                                     name.text(), fmt::join(unlike, "; ")),
                                         "leave the options out to use it as it is, or choose another name"));
    }
  }
  if (end->info) remember(*end->info, driver);
  if (end->has_created) log::info("created", {{"volume", request.known_as}, {"size_bytes", end->info ? end->info->size_bytes : 0}});
  if (parsed->format_now) return format_now(name, end->has_created);
  return {};
}

Result<void> VolumeKeeper::format_now(const esx::VolumeName& name, bool has_created) {
  auto formatted = walk_to(Goal::kFormatted, name);
  auto settled = settle(name);
  if (formatted) {
    if (formatted->info) remember(*formatted->info);
    return settled;
  }
  if (has_created && settled) {
    if (auto removed = remove(name); !removed) {
      log::warn("a volume that could not be formatted stays", {{"volume", name.text()}, {"cause", removed.error().text()}});
    }
  }
  return std::unexpected(std::move(formatted).error());
}

Result<void> VolumeKeeper::remove(const esx::VolumeName& name, const std::vector<ContainerMount>& mounts) {
  const std::string qualified = qualify(name);
  auto end = walk_to(Goal::kRemoved, name);
  if (!end) {
    std::vector<std::string> containers;
    for (const ContainerMount& mount : mounts_of(qualified, mounts)) {
      if (mount.is_running) containers.push_back(mount.container);
    }
    if (end.error().code() != ErrorCode::kInUse || containers.empty()) return std::unexpected(std::move(end).error());
    return std::unexpected(std::move(end).error().with_remedy(fmt::format("stop {} first", fmt::join(containers, ", "))));
  }
  RETURN_IF_ERROR(clear_mount_point(name));
  if (auto erased = catalogue_.erase(qualified); !erased) {
    log::warn("catalogue is not written", {{"volume", qualified}, {"cause", erased.error().text()}});
  }
  log::info("removed", {{"volume", qualified}});
  return {};
}

// ---- mount, unmount ----

Result<std::string> VolumeKeeper::mount(const esx::VolumeName& name) {
  auto end = walk_to(Goal::kMounted, name);
  if (!end) {
    // What the walk had begun (an attached disk that turned out foreign, say) is not left behind.
    if (auto settled = settle(name); !settled) {
      log::warn("a failed mount is not cleaned up", {{"volume", name.text()}, {"cause", settled.error().text()}});
    }
    return std::unexpected(std::move(end).error());
  }
  if (end->info) remember(*end->info);
  return end->mount_point;
}

Result<void> VolumeKeeper::hold(const esx::VolumeName& name, const std::string& id, ProcessIdentity engine) {
  RETURN_IF_ERROR(base::fault_point(kFaultHoldBefore));
  RETURN_IF_ERROR(holders_.add(qualify(name), id, engine));
  return base::fault_point(kFaultHoldAfter);
}

Result<int> VolumeKeeper::unmount(const esx::VolumeName& name, const std::string& id) {
  const std::string qualified = qualify(name);
  RETURN_IF_ERROR(base::fault_point(kFaultDropBefore));
  RETURN_IF_ERROR(holders_.drop(qualified, id));
  RETURN_IF_ERROR(base::fault_point(kFaultDropAfter));
  const int left = holders_.total(qualified);
  if (left > 0) return left;
  auto end = walk_to(Goal::kUnmounted, name);
  if (!end) return std::unexpected(std::move(end).error());
  return 0;
}

Result<void> VolumeKeeper::settle(const esx::VolumeName& name) {
  if (holders_.total(qualify(name)) > 0) return {};
  auto end = walk_to(Goal::kDetached, name);
  if (!end) return std::unexpected(std::move(end).error());
  return clear_mount_point(name);
}

// A mountd that was killed between the mount and its folder leaves the folder; unmounting where nothing is mounted takes it away.
Result<void> VolumeKeeper::clear_mount_point(const esx::VolumeName& name) {
  const std::string target = mount_point_of(world_, qualify(name));
  std::error_code error;
  if (!std::filesystem::exists(target, error)) return {};
  return world_.mounter.unmount(target);
}

// ---- recovery ----

Result<VolumeKeeper::Traces> VolumeKeeper::traces() {
  Traces traces;
  std::set<std::string> names;
  for (std::string& name : holders_.volumes()) names.insert(std::move(name));
  ASSIGN_OR_RETURN(auto mounts, world_.mounter.list());
  const std::string prefix = world_.mount_root + "/";
  for (const fsformat::Mount& mount : mounts) {
    if (mount.target.starts_with(prefix)) names.insert(mount.target.substr(prefix.size()));
  }
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator(world_.mount_root, error)) {
    names.insert(folder.path().filename().string());
  }
  if (auto attached = world_.control_plane.attached_here()) {
    for (const esx::VolumeName& name : *attached) names.insert(name.text());
  } else {
    log::warn("what is attached here cannot be asked", {{"cause", attached.error().text()}});
    traces.is_whole = false;
  }
  for (const std::string& name : names) {
    if (auto volume = esx::VolumeName::parse(name)) traces.volumes.push_back(*volume);
  }
  return traces;
}

Result<void> VolumeKeeper::recover(const esx::VolumeName& name, bool has_engine) {
  const std::string qualified = qualify(name);
  const int count = holders_.total(qualified);
  auto seen = look_at(world_, request_for(Goal::kMounted, name));
  const bool is_mounted = seen && !seen->mount_point.empty();
  Result<void> outcome;
  if (count > 0 && !is_mounted) {
    log::info("Initiating recovery mount.", {{"name", qualified}});
    auto mounted = mount(name);
    if (!mounted) outcome = std::unexpected(std::move(mounted).error());
  } else if (count == 0 && (!is_mounted || !has_engine)) {
    outcome = settle(name);
  }
  log::info("Volume", {{"name", qualified},
                       {"count", count},
                       {"mounted", is_mounted},
                       {"device", seen ? seen->device : std::string()}});
  return outcome;
}

std::vector<ContainerMount> VolumeKeeper::mounts_of(const std::string& qualified,
                                                    const std::vector<ContainerMount>& mounts) const {
  const std::string target = mount_point_of(world_, qualified);
  const std::string shown = display_name(qualified);
  std::vector<ContainerMount> ours;
  std::ranges::copy_if(mounts, std::back_inserter(ours), [&](const ContainerMount& mount) {
    const bool is_same_place = mount.source == target || mount.source == target + "/";
    return is_same_place || mount.volume == qualified || mount.volume == shown;
  });
  return ours;
}

// Whether the engine may be about to start the container of this holder: the last that was heard of the holder is its Mount, not long ago, and
// the engine that asked for it lives. `docker create` mounts before the engine lists the container; only where this mountd did not see the Mount
// itself, and so may have missed the Unmount too, must there be a container for the volume.
bool VolumeKeeper::may_be_starting(const Holder& holder, bool has_container) const {
  const bool is_engine_alive = holder.engine.pid == 0 || is_alive(holder.engine);
  const bool has_cause = has_container || !holder.is_of_earlier_run;
  return has_cause && holder.mounted_at && boot_time() - *holder.mounted_at < kStartGrace && is_engine_alive;
}

Result<std::optional<std::chrono::milliseconds>> VolumeKeeper::drop_stale_holders(const std::string& qualified,
                                                                                  const EngineWord& word,
                                                                                  bool has_container) {
  constexpr std::chrono::milliseconds kSoon{1000};
  std::optional<std::chrono::milliseconds> look_again_in;
  for (const Holder& holder : holders_.of(qualified)) {
    const bool is_newer_than_word = holder.mounted_at && *holder.mounted_at >= word.asked_at;
    if (is_newer_than_word || may_be_starting(holder, has_container)) {
      const auto grace = std::chrono::duration_cast<std::chrono::milliseconds>(kStartGrace);
      const auto wait = is_newer_than_word ? kSoon : grace - (boot_time() - *holder.mounted_at);
      look_again_in = std::min(look_again_in.value_or(wait), std::max(wait, kSoon));
      continue;
    }
    log::info("a mount whose container is gone is dropped", {{"volume", qualified}, {"id", holder.id}, {"count", holder.count}});
    RETURN_IF_ERROR(holders_.drop_all_of(qualified, holder.id));
  }
  return look_again_in;
}

Result<VolumeKeeper::Reconciled> VolumeKeeper::reconcile(const esx::VolumeName& name, const EngineWord& word) {
  const std::string qualified = qualify(name);
  const auto mounts = mounts_of(qualified, word.mounts);
  const auto running = std::ranges::count_if(mounts, &ContainerMount::is_running);
  Reconciled outcome;
  if (running == 0) {
    ASSIGN_OR_RETURN(outcome.look_again_in, drop_stale_holders(qualified, word, !mounts.empty()));
  } else if (holders_.total(qualified) == 0) {
    RETURN_IF_ERROR(holders_.add_recovered(qualified, static_cast<int>(running)));
    log::info("holders found again", {{"volume", qualified}, {"count", running}});
  }
  outcome.holders_left = holders_.total(qualified);
  if (outcome.holders_left > 0) return outcome;
  auto end = walk_to(Goal::kUnmounted, name);
  if (!end) return std::unexpected(std::move(end).error());
  return outcome;
}

// ---- answers ----

/// A volume that this program has made says how far its first formatting has come, and then which file system it got.
bool is_made_by_us(const esx::VolumeInfo& info) { return info.init != esx::InitState::kReady || !info.fs_uuid.empty(); }

Result<VolumeView> VolumeKeeper::get(const esx::VolumeName& name) {
  ASSIGN_OR_RETURN(const esx::VolumeInfo info, find(name));
  return view_of(name, info);
}

Result<VolumeView> VolumeKeeper::get(const esx::VolumeName& name, const std::string& driver, const std::string& main_driver) {
  ASSIGN_OR_RETURN(const esx::VolumeInfo info, find(name));
  if (driver != main_driver && is_made_by_us(info)) {
    const auto record = catalogue_.find(info.name.text());
    if (!record || record->driver != driver)
      return fail(ErrorCode::kNotFound, "get '{}': it is a volume of driver '{}'", name.text(), main_driver);
  }
  return view_of(name, info);
}

Result<esx::VolumeInfo> VolumeKeeper::find(const esx::VolumeName& name) {
  auto info = world_.control_plane.get(name);
  if (!info) {
    if (info.error().code() == ErrorCode::kNotFound) {
      if (auto erased = catalogue_.erase(qualify(name)); !erased) {
        log::warn("catalogue is not written", {{"volume", name.text()}, {"cause", erased.error().text()}});
      }
    }
    return std::unexpected(std::move(info).error().within(fmt::format("get '{}'", name.text())));
  }
  remember(*info);
  return info;
}

VolumeView VolumeKeeper::view_of(const esx::VolumeName& name, const esx::VolumeInfo& info) const {
  VolumeView view{.name = name.text(), .mount_point = {}, .created_at = rfc3339_of_asctime(info.created), .status = status_of(info)};
  const std::string qualified = info.name.text();
  const std::string target = mount_point_of(world_, qualified);
  auto is_at_target = [&](const fsformat::Mount& mount) { return mount.target == target; };
  if (auto mounts = world_.mounter.list(); mounts && std::ranges::any_of(*mounts, is_at_target)) {
    view.mount_point = target;
    view.status["mounts"] = holders_.total(qualified);
  }
  return view;
}

std::optional<VolumeView> VolumeKeeper::remembered(const esx::VolumeName& name, const std::string& backend) const {
  const std::string standard = world_.control_plane.default_datastore();
  auto record = catalogue_.find_short(name.volume(), name.is_qualified() ? name.datastore() : standard);
  if (!record) return std::nullopt;
  return VolumeView{.name = name.text(),
                    .mount_point = {},
                    .created_at = rfc3339_of_asctime(record->created),
                    .status = status_of(*record, backend)};
}

VolumeList VolumeKeeper::views_of(const std::vector<std::string>& names, const std::string& driver,
                                  const std::string& main_driver) const {
  std::set<std::string> mounted;  // by qualified name
  const std::string prefix = mount_point_of(world_, "");
  if (auto mounts = world_.mounter.list()) {
    for (const fsformat::Mount& mount : *mounts) {
      if (mount.target.starts_with(prefix)) mounted.insert(mount.target.substr(prefix.size()));
    }
  }
  const std::map<std::string, std::string> other_drivers = catalogue_.other_drivers();
  const bool is_main = driver == main_driver;
  VolumeList list;
  list.volumes.reserve(names.size());
  for (const std::string& name : names) {
    const auto other = other_drivers.find(name);
    if (other == other_drivers.end() ? !is_main : other->second != driver) continue;
    list.volumes.push_back({.name = display_name(name),
                            .mount_point = mounted.contains(name) ? mount_point_of(world_, name) : std::string(),
                            .created_at = {},
                            .status = {}});
  }
  return list;
}

Result<VolumeList> VolumeKeeper::list(const std::string& driver, const std::string& main_driver) {
  ASSIGN_OR_RETURN(auto names, world_.control_plane.list());
  std::vector<std::string> texts;
  texts.reserve(names.size());
  for (const esx::VolumeName& name : names) texts.push_back(name.text());
  if (auto kept = catalogue_.keep_only(texts); !kept) {
    log::warn("catalogue is not written", {{"cause", kept.error().text()}});
  }
  return views_of(texts, driver, main_driver);
}

VolumeList VolumeKeeper::remembered_list(const std::string& driver, const std::string& main_driver) const {
  return views_of(catalogue_.names(), driver, main_driver);
}

}  // namespace vdvs::mountd
