#include "mountd/volume_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/fault.h"
#include "base/log.h"
#include "mountd/fault_points.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace log = base::log;

struct Observation {
  Seen seen = Seen::kAbsent;
  std::optional<esx::VolumeInfo> info;
  std::optional<base::Error> unreachable;
  std::optional<blockdev::Device> device;
  std::optional<fsformat::Content> content;
  std::string mount_point;
  std::string mounted_device;
};

std::string since(const esx::DiskHolder& holder) { return holder.since.empty() ? "" : " since " + holder.since; }

std::string_view verb(Goal goal) {
  switch (goal) {
    case Goal::kPresent: return "create";
    case Goal::kFormatted: return "format";
    case Goal::kMounted: return "mount";
    case Goal::kUnmounted: return "unmount";
    case Goal::kDetached: return "detach";
    case Goal::kRemoved: return "remove";
  }
  std::abort();
}

/// One walk: what was asked, and what lives from one step to the next.
class Walk {
 public:
  Walk(World& world, const WalkRequest& request) : world_(world), request_(request) {}

  Result<WalkEnd> run();
  Result<Observation> look();
  WalkEnd end_of(const Observation& seen) const;

 private:
  Result<void> look_at_device(Observation& seen);
  /// Whether the goal depends on what is on the disk. Where it does not, the disk is not read: a dead one can be detached.
  bool wants_content() const { return request_.goal == Goal::kFormatted || request_.goal == Goal::kMounted; }
  Seen classify(const esx::VolumeInfo& info, const blockdev::Device& device, const fsformat::Content& content) const;
  bool is_expected(const esx::VolumeInfo& info, const fsformat::FileSystem& fs) const;

  Result<void> act(Step step, Observation& seen);
  Result<void> create();
  Result<void> attach(const Observation& seen);
  Result<void> await_device(const Observation& seen);
  Result<void> format(Observation& seen);
  Result<void> mount(const Observation& seen);
  Result<void> detach(const Observation& seen);
  base::Error refusal(Step step, const Observation& seen) const;

  std::string title() const { return request_.name.text(); }
  base::Deadline device_deadline() const { return std::min(request_.deadline, base::deadline_in(kDeviceWait)); }

  World& world_;
  const WalkRequest& request_;
  std::unique_ptr<blockdev::DeviceWatch> watch_;  // armed before an attach, used by the wait after it
  bool has_created_ = false;
};

// ---- look ----

const fsformat::Mount* find_mount(const std::vector<fsformat::Mount>& mounts, const std::string& target) {
  auto last = std::find_if(mounts.rbegin(), mounts.rend(), [&](const auto& mount) { return mount.target == target; });
  return last == mounts.rend() ? nullptr : &*last;
}

Result<Observation> Walk::look() {
  Observation seen;
  auto info = world_.control_plane.get(request_.name);
  if (info) {
    seen.info = std::move(*info);
  } else if (info.error().code() != ErrorCode::kNotFound) {
    seen.unreachable = std::move(info).error();
  }
  const std::string qualified = seen.info ? seen.info->name.text() : request_.known_as;
  if (!qualified.empty()) {
    ASSIGN_OR_RETURN(auto mounts, world_.mounter.list());
    const std::string target = mount_point_of(world_, qualified);
    if (const fsformat::Mount* mount = find_mount(mounts, target)) {
      seen.mount_point = target;
      seen.mounted_device = mount->source;
      seen.seen = request_.is_held ? Seen::kHeld : Seen::kMounted;
      if (!seen.info || !seen.info->address) return seen;
      ASSIGN_OR_RETURN(auto device, world_.watcher.find(*seen.info->address));
      // btrfs shows a device number of its own in mountinfo, so its source is compared instead.
      if (device && device->number != mount->device && device->node != mount->source) {
        return fail(ErrorCode::kBusyElsewhere, "look at '{}': '{}' is mounted at '{}', but the disk of this volume is {}",
                    qualified, mount->source, target, device->node);
      }
      seen.device = std::move(device);
      return seen;
    }
  }
  if (!seen.info) {
    seen.seen = seen.unreachable ? Seen::kUnreachable : Seen::kAbsent;
    return seen;
  }
  if (!seen.info->is_attached_here) {
    const bool is_halfway = seen.info->init == esx::InitState::kFormatting;
    seen.seen = seen.info->holder ? Seen::kElsewhere : is_halfway ? Seen::kDetachedHalfway : Seen::kDetached;
    return seen;
  }
  RETURN_IF_ERROR(look_at_device(seen));
  return seen;
}

Result<void> Walk::look_at_device(Observation& seen) {
  seen.seen = Seen::kNoDevice;
  if (!seen.info->address) return {};
  ASSIGN_OR_RETURN(seen.device, world_.watcher.find(*seen.info->address));
  if (!seen.device || !wants_content()) return {};
  if (seen.info->init == esx::InitState::kFormatting) {
    seen.seen = Seen::kHalfway;  // not probed: a mkfs whose mountd died may still be writing
    return {};
  }
  ASSIGN_OR_RETURN(seen.content, world_.prober.probe(seen.device->node));
  seen.seen = classify(*seen.info, *seen.device, *seen.content);
  return {};
}

bool Walk::is_expected(const esx::VolumeInfo& info, const fsformat::FileSystem& fs) const {
  if (!info.fs_uuid.empty() && fs.uuid != info.fs_uuid) return false;
  const bool is_same_disk = info.disk_uuid == request_.known_disk_uuid;
  return !is_same_disk || request_.known_fs_uuid.empty() || fs.uuid == request_.known_fs_uuid;
}

Seen Walk::classify(const esx::VolumeInfo& info, const blockdev::Device& device,
                    const fsformat::Content& content) const {
  const bool was_never_mounted = info.init == esx::InitState::kFormatted;
  if (const auto* fs = std::get_if<fsformat::FileSystem>(&content)) {
    if (!is_expected(info, *fs)) return Seen::kWrongFileSystem;
    return fs->needs_check && !device.is_read_only ? Seen::kUnclean : Seen::kFormatted;
  }
  if (was_never_mounted) return Seen::kHalfway;
  if (std::holds_alternative<fsformat::Foreign>(content)) return Seen::kForeign;
  return info.init == esx::InitState::kNew ? Seen::kBlank : Seen::kBlankNotNew;
}

// ---- act ----

// The options that a volume was made with. Where it came from matters only then: a clone has the size and the file system of its source.
Result<esx::VolumeOptions> stored_options(const esx::VolumeInfo& info) {
  esx::OptionMap options = info.options;
  options.erase("clone-from");
  return esx::VolumeOptions::parse(options);
}

Result<void> Walk::create() {
  RETURN_IF_ERROR(world_.control_plane.create(request_.name, request_.options, request_.progress));
  has_created_ = true;
  return {};
}

Result<void> Walk::attach(const Observation& seen) {
  ASSIGN_OR_RETURN(watch_, world_.watcher.arm());
  auto address = world_.control_plane.attach(seen.info->name);
  if (!address) return std::unexpected(std::move(address).error());
  return {};
}

Result<void> Walk::await_device(const Observation& seen) {
  if (!seen.info->address) {
    return fail(ErrorCode::kUnavailable, "the disk is attached, but the control plane does not say where");
  }
  if (!watch_) {
    ASSIGN_OR_RETURN(watch_, world_.watcher.arm());
  }
  ASSIGN_OR_RETURN(auto device, watch_->wait_for(*seen.info->address, device_deadline()));
  log::debug("device is there", {{"volume", title()}, {"device", device.node}});
  return {};
}

Result<void> Walk::format(Observation& seen) {
  ASSIGN_OR_RETURN(auto options, stored_options(*seen.info));
  fsformat::FormatRequest request;
  request.fstype = options.fstype;
  request.label = seen.info->name.volume();
  request.mkfs_options = options.mkfs_options;
  // From here to the end of mkfs the record says that the content is ours to throw away; the lock inside Blank says so to everybody else.
  RETURN_IF_ERROR(world_.control_plane.set_init(seen.info->name, esx::InitState::kFormatting, ""));
  RETURN_IF_ERROR(base::fault_point(kFaultFormatMarked));
  fsformat::Blank blank = std::get<fsformat::Blank>(std::move(*seen.content));
  ASSIGN_OR_RETURN(auto fs, world_.formatter.format(std::move(blank), request, request_.deadline));
  RETURN_IF_ERROR(base::fault_point(kFaultFormatMade));
  RETURN_IF_ERROR(world_.control_plane.set_init(seen.info->name, esx::InitState::kFormatted, fs.uuid));
  log::info("formatted", {{"volume", title()}, {"device", seen.device->node}, {"fstype", fs.type}, {"uuid", fs.uuid}});
  return {};
}

Result<void> Walk::mount(const Observation& seen) {
  const auto& fs = std::get<fsformat::FileSystem>(*seen.content);
  ASSIGN_OR_RETURN(auto options, stored_options(*seen.info));
  fsformat::MountRequest request;
  request.node = seen.device->node;
  request.fstype = fs.type;
  request.is_read_only = options.is_read_only;
  request.options = options.mount_options;
  const bool is_first_use = seen.info->init == esx::InitState::kFormatted;
  // A read-only volume is prepared too: its root is made ready once, through a writable mount that nobody sees.
  if (is_first_use && !seen.device->is_read_only) request.is_read_only = false;
  ASSIGN_OR_RETURN(auto mount, world_.mounter.open(request));
  if (is_first_use && !seen.device->is_read_only) {
    fsformat::RootOwner owner;
    if (options.uid) owner.uid = *options.uid;
    if (options.gid) owner.gid = *options.gid;
    if (options.mode) owner.mode = *options.mode;
    RETURN_IF_ERROR(world_.mounter.prepare_root(mount, owner));
    RETURN_IF_ERROR(base::fault_point(kFaultMountPrepared));
  }
  if (seen.info->init != esx::InitState::kReady) {
    RETURN_IF_ERROR(world_.control_plane.set_init(seen.info->name, esx::InitState::kReady, fs.uuid));
    RETURN_IF_ERROR(base::fault_point(kFaultMountReady));
  }
  const std::string target = mount_point_of(world_, seen.info->name.text());
  if (options.is_read_only && !request.is_read_only) {
    { auto dropped = std::move(mount); }
    request.is_read_only = true;
    ASSIGN_OR_RETURN(auto read_only, world_.mounter.open(request));
    RETURN_IF_ERROR(world_.mounter.attach(std::move(read_only), target));
  } else {
    RETURN_IF_ERROR(world_.mounter.attach(std::move(mount), target));
  }
  log::info("mounted", {{"volume", title()}, {"device", seen.device->node}, {"fstype", fs.type}, {"at", target}});
  return {};
}

Result<void> Walk::detach(const Observation& seen) {
  std::unique_ptr<blockdev::DeviceWatch> watch;
  if (seen.device) {
    ASSIGN_OR_RETURN(watch, world_.watcher.arm());
    RETURN_IF_ERROR(world_.watcher.release(*seen.device, device_deadline()));
    RETURN_IF_ERROR(base::fault_point(kFaultDetachReleased));
  }
  RETURN_IF_ERROR(world_.control_plane.detach(seen.info->name));
  if (watch) RETURN_IF_ERROR(watch->wait_gone(*seen.device, device_deadline()));
  log::info("detached", {{"volume", title()}, {"device", seen.device ? seen.device->node : std::string()}});
  return {};
}

Result<void> Walk::act(Step step, Observation& seen) {
  switch (step) {
    case Step::kCreate: return create();
    case Step::kReset: return world_.control_plane.reset(seen.info->name);
    case Step::kAttach: return attach(seen);
    case Step::kAwaitDevice: return await_device(seen);
    case Step::kFormat: return format(seen);
    case Step::kCheck:
      return world_.formatter.check(seen.device->node, std::get<fsformat::FileSystem>(*seen.content), request_.deadline);
    case Step::kMount: return mount(seen);
    case Step::kUnmount: return world_.mounter.unmount(seen.mount_point);
    case Step::kDetach: return detach(seen);
    case Step::kRemove: return world_.control_plane.remove(seen.info->name);
    case Step::kDone:
    case Step::kRefuseUnreachable:
    case Step::kRefuseAbsent:
    case Step::kRefuseElsewhere:
    case Step::kRefuseBlankNotNew:
    case Step::kRefuseForeign:
    case Step::kRefuseWrongFileSystem:
    case Step::kRefuseHeld: break;
  }
  std::abort();
}

base::Error Walk::refusal(Step step, const Observation& seen) const {
  using base::Error;
  switch (step) {
    case Step::kRefuseUnreachable: return *seen.unreachable;
    case Step::kRefuseAbsent: return Error(ErrorCode::kNotFound, "there is no such volume", "create it, or look at 'docker volume ls'");
    case Step::kRefuseElsewhere: {
      const esx::DiskHolder& holder = *seen.info->holder;
      if (holder.name.empty()) {
        return Error(ErrorCode::kBusyElsewhere, fmt::format("disk is in use by {}, which vDVS did not make", holder.what),
                     "take that away (losetup -d), then try again");
      }
      return Error(ErrorCode::kBusyElsewhere,
                   fmt::format("disk is attached to '{}'{}{}", holder.name, since(holder),
                               holder.what.empty() ? "" : " (" + holder.what + ")"),
                   fmt::format("stop its container on '{}', then try again", holder.name));
    }
    case Step::kRefuseBlankNotNew:
      return seen.info->fs_uuid.empty()
                 ? Error(ErrorCode::kForeignData, "disk is blank, but was not made as a new volume here, so it is not formatted",
                         "put a file system on its extent by hand (mkfs on the -flat.vmdk file) while it is detached")
                 : Error(ErrorCode::kCorrupt,
                         fmt::format("disk is blank, but file system {} was made on it", seen.info->fs_uuid),
                         "restore it from a backup; nothing was written to it now");
    case Step::kRefuseForeign:
      return Error(ErrorCode::kForeignData,
                   fmt::format("disk carries {}, so it is neither formatted nor mounted", std::get<fsformat::Foreign>(*seen.content).what),
                   "save what is on it and remove the volume, or put one file system on the whole disk");
    case Step::kRefuseWrongFileSystem:
      return Error(ErrorCode::kCorrupt,
                   fmt::format("disk carries file system {}, but {} was made on it",
                               std::get<fsformat::FileSystem>(*seen.content).uuid,
                               seen.info->fs_uuid.empty() ? request_.known_fs_uuid : seen.info->fs_uuid),
                   "if the file system was replaced on purpose, give it the old uuid (tune2fs -U, xfs_admin -U)");
    case Step::kRefuseHeld:
      return Error(ErrorCode::kInUse, fmt::format("volume is mounted at '{}' and containers hold it", seen.mount_point),
                   "stop the containers that use it, then try again");
    case Step::kDone:
    case Step::kCreate:
    case Step::kReset:
    case Step::kAttach:
    case Step::kAwaitDevice:
    case Step::kFormat:
    case Step::kCheck:
    case Step::kMount:
    case Step::kUnmount:
    case Step::kDetach:
    case Step::kRemove: break;
  }
  std::abort();
}

WalkEnd Walk::end_of(const Observation& seen) const {
  WalkEnd end;
  end.seen = seen.seen;
  end.info = seen.info;
  end.mount_point = seen.mount_point;
  end.device = seen.device ? seen.device->node : seen.mounted_device;
  end.has_created = has_created_;
  return end;
}

Result<WalkEnd> Walk::run() {
  std::optional<Step> previous;
  for (int count = 0; count < kMaxSteps; ++count) {
    ASSIGN_OR_RETURN(Observation seen, look());
    const Step step = decide(request_.goal, seen.seen);
    log::debug("step", {{"volume", title()}, {"goal", goal_name(request_.goal)}, {"seen", seen_name(seen.seen)}, {"step", step_name(step)}});
    if (step == Step::kDone) return end_of(seen);
    if (!changes_the_world(step) && step != Step::kAwaitDevice) return std::unexpected(refusal(step, seen));
    if (step == previous) {
      return fail(ErrorCode::kInternal, "{} changed nothing: still {}", step_name(step), seen_name(seen.seen));
    }
    previous = step;
    RETURN_IF_ERROR(base::fault_point(fmt::format("walk.{}.before", step_name(step))));
    if (auto acted = act(step, seen); !acted) {
      if (step_name(step) == verb(request_.goal)) return std::unexpected(std::move(acted).error());
      return std::unexpected(std::move(acted).error().within(step_name(step)));
    }
    RETURN_IF_ERROR(base::fault_point(fmt::format("walk.{}.after", step_name(step))));
  }
  return fail(ErrorCode::kInternal, "no end after {} steps", kMaxSteps);
}

}  // namespace

std::string mount_point_of(const World& world, const std::string& qualified_name) {
  return world.mount_root + "/" + qualified_name;
}

Result<WalkEnd> walk(World& world, const WalkRequest& request) {
  Walk one(world, request);
  auto end = one.run();
  if (!end) return std::unexpected(std::move(end).error().within(fmt::format("{} '{}'", verb(request.goal), request.name.text())));
  return end;
}

Result<WalkEnd> look_at(World& world, const WalkRequest& request) {
  Walk one(world, request);
  ASSIGN_OR_RETURN(auto seen, one.look());
  return one.end_of(seen);
}

}  // namespace vdvs::mountd
