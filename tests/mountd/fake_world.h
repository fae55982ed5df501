// A machine in memory: one datastore, its disks, the devices and mounts of this host. Each interface of a walk has a fake that
// works on it, and any operation can be made to fail, or to "kill" the caller, before or after it took effect.
#pragma once

#include <sys/sysmacros.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "blockdev/device_watcher.h"
#include "esx-vmci/control_plane.h"
#include "fs-format/formatter.h"
#include "fs-format/mounter.h"
#include "fs-format/prober.h"
#include "mountd/volume_walk.h"

namespace vdvs::mountd {

struct Killed {};  ///< Thrown where a fake "kills" the daemon.

enum class FaultKind { kNone, kFailBefore, kFailAfter, kKillBefore, kKillAfter };

enum class FakeContent { kBlank, kForeign, kFileSystem };

struct FakeDisk {
  std::string uuid = "00112233445566778899aabbccddeeff";
  esx::OptionMap options;
  esx::InitState init = esx::InitState::kNew;
  std::string fs_uuid;                ///< In the record.
  FakeContent content = FakeContent::kBlank;
  std::string fs_on_disk;             ///< The uuid of the file system on it.
  bool is_unclean = false;
  bool has_user_data = false;         ///< Must never be lost.
  enum { kNowhere, kHere, kElsewhere } place = kNowhere;
  bool is_device_visible = true;
  bool is_mounted = false;
  bool is_root_prepared = false;
};

struct FakeMachine {
  std::recursive_mutex mutex;             ///< Queries look while a volume's strand changes it.
  std::map<std::string, FakeDisk> disks;  ///< By short name.
  bool is_reachable = true;
  int calls = 0;                          ///< Of operations that change something.
  int fault_at = -1;
  FaultKind fault = FaultKind::kNone;
  std::vector<std::string> broken_promises;  ///< What must never happen, and did.
  int formats = 0;

  FakeDisk* find(const std::string& name) {
    auto found = disks.find(name);
    return found == disks.end() ? nullptr : &found->second;
  }
  void promise(bool kept, const std::string& what) {
    if (!kept) broken_promises.push_back(what);
  }

  template <typename Effect>
  base::Result<void> change(const char* name, Effect effect) {
    const bool is_hit = calls++ == fault_at;
    if (is_hit && fault == FaultKind::kKillBefore) throw Killed();
    if (is_hit && fault == FaultKind::kFailBefore) return base::fail(base::ErrorCode::kIo, "{}: failed on request", name);
    effect();
    if (is_hit && fault == FaultKind::kKillAfter) throw Killed();
    if (is_hit && fault == FaultKind::kFailAfter) return base::fail(base::ErrorCode::kIo, "{}: failed after it was done", name);
    return {};
  }
};

inline constexpr const char* kFakeNode = "/dev/fake0";

class FakeControlPlane : public esx::ControlPlane {
 public:
  explicit FakeControlPlane(FakeMachine& machine) : machine_(machine) {}

  base::Result<void> create(const esx::VolumeName& name, const esx::OptionMap& options, const esx::Progress&) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    if (machine_.find(name.volume()) != nullptr) return base::fail(base::ErrorCode::kExists, "already exists");
    return machine_.change("create", [&] { machine_.disks[name.volume()].options = options; });
  }
  base::Result<void> remove(const esx::VolumeName& name) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    FakeDisk* disk = machine_.find(name.volume());
    if (disk == nullptr) return {};
    machine_.promise(disk->place == FakeDisk::kNowhere, "an attached disk was removed");
    return machine_.change("remove", [&] { machine_.disks.erase(name.volume()); });
  }
  base::Result<base::DiskAddress> attach(const esx::VolumeName& name) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    FakeDisk* disk = machine_.find(name.volume());
    if (disk == nullptr) return base::fail(base::ErrorCode::kNotFound, "no disk");
    if (disk->place == FakeDisk::kElsewhere) return base::fail(base::ErrorCode::kBusyElsewhere, "attached elsewhere");
    RETURN_IF_ERROR(machine_.change("attach", [&] { disk->place = FakeDisk::kHere; }));
    return address_of(*disk);
  }
  base::Result<void> detach(const esx::VolumeName& name) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    FakeDisk* disk = machine_.find(name.volume());
    if (disk == nullptr || disk->place != FakeDisk::kHere) return {};
    machine_.promise(!disk->is_mounted, "a mounted disk was detached");
    return machine_.change("detach", [&] { disk->place = FakeDisk::kNowhere; });
  }
  base::Result<esx::VolumeInfo> get(const esx::VolumeName& name) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    FakeDisk* disk = machine_.find(name.volume());
    if (disk == nullptr) return base::fail(base::ErrorCode::kNotFound, "Volume {} not found", name.volume());
    esx::VolumeInfo info{.name = name.on("ds"), .disk_uuid = disk->uuid, .size_bytes = 1 << 30, .options = disk->options,
                         .init = disk->init, .fs_uuid = disk->fs_uuid};
    info.options.emplace("size", "1gb");
    if (disk->place == FakeDisk::kElsewhere) info.holder = esx::DiskHolder{"id-2", "web-2", "2026-01-01T10:41:00Z", ""};
    if (disk->place == FakeDisk::kHere) {
      info.holder = esx::DiskHolder{"id-1", "web-1", "", ""};
      info.is_attached_here = true;
      info.address = address_of(*disk);
    }
    return info;
  }
  base::Result<std::vector<esx::VolumeName>> list() override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    std::vector<esx::VolumeName> names;
    for (const auto& [name, disk] : machine_.disks) names.push_back(esx::VolumeName::parse(name)->on("ds"));
    return names;
  }
  std::string default_datastore() const override { return "ds"; }
  base::Result<std::vector<esx::VolumeName>> attached_here() override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    std::vector<esx::VolumeName> names;
    for (const auto& [name, disk] : machine_.disks) {
      if (disk.place == FakeDisk::kHere) names.push_back(esx::VolumeName::parse(name)->on("ds"));
    }
    return names;
  }
  base::Result<void> set_init(const esx::VolumeName& name, esx::InitState state, const std::string& fs_uuid) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    return machine_.change("set_init", [&] {
      machine_.find(name.volume())->init = state;
      machine_.find(name.volume())->fs_uuid = fs_uuid;
    });
  }
  base::Result<void> reset(const esx::VolumeName& name) override {
    std::lock_guard lock(machine_.mutex);
    RETURN_IF_ERROR(reach());
    FakeDisk* disk = machine_.find(name.volume());
    machine_.promise(!disk->has_user_data, "a disk with data was made blank");
    machine_.promise(disk->place == FakeDisk::kNowhere, "an attached disk was made blank");
    return machine_.change("reset", [&] {
      disk->content = FakeContent::kBlank;
      disk->init = esx::InitState::kNew;
      disk->fs_uuid.clear();
    });
  }

 private:
  base::Result<void> reach() {
    if (machine_.is_reachable) return {};
    return base::fail(base::ErrorCode::kUnavailable, "control plane: no answer");
  }
  static base::DiskAddress address_of(const FakeDisk& disk) { return base::ScsiAddress{.disk_uuid = disk.uuid, .pci_slot = {}, .pci_bus = {}}; }
  FakeMachine& machine_;
};

class FakeWatcher : public blockdev::DeviceWatcher {
 public:
  explicit FakeWatcher(FakeMachine& machine) : machine_(machine) {}
  base::Result<std::unique_ptr<blockdev::DeviceWatch>> arm() override { return std::make_unique<Watch>(machine_); }
  base::Result<std::optional<blockdev::Device>> find(const base::DiskAddress& address) override {
    FakeDisk* disk = disk_at(machine_, address);
    if (disk == nullptr || !disk->is_device_visible || disk->place != FakeDisk::kHere) return std::nullopt;
    return device();
  }
  base::Result<std::vector<blockdev::Device>> coldplug() override { return std::vector<blockdev::Device>{}; }
  base::Result<void> release(const blockdev::Device&, base::Deadline) override {
    return machine_.change("release", [] {});
  }

 private:
  static blockdev::Device device() { return {.node = kFakeNode, .number = makedev(7, 0), .diskseq = 1, .size_bytes = 1 << 30}; }
  static FakeDisk* disk_at(FakeMachine& machine, const base::DiskAddress& address) {
    for (auto& [name, disk] : machine.disks) {
      if (disk.uuid == std::get<base::ScsiAddress>(address).disk_uuid) return &disk;
    }
    return nullptr;
  }
  class Watch : public blockdev::DeviceWatch {
   public:
    explicit Watch(FakeMachine& machine) : machine_(machine) {}
    base::Result<blockdev::Device> wait_for(const base::DiskAddress& address, base::Deadline) override {
      FakeDisk* disk = disk_at(machine_, address);
      if (disk == nullptr || disk->place != FakeDisk::kHere) return base::fail(base::ErrorCode::kTimeout, "no device");
      RETURN_IF_ERROR(machine_.change("wait", [&] { disk->is_device_visible = true; }));
      return device();
    }
    base::Result<void> wait_gone(const blockdev::Device&, base::Deadline) override { return {}; }

   private:
    FakeMachine& machine_;
  };
  FakeMachine& machine_;
};

/// The one disk of the machine that is attached here.
inline FakeDisk& attached_disk(FakeMachine& machine) {
  for (auto& [name, disk] : machine.disks) {
    if (disk.place == FakeDisk::kHere) return disk;
  }
  std::abort();
}

class FakeProber : public fsformat::Prober, fsformat::BlankMint {
 public:
  explicit FakeProber(FakeMachine& machine) : machine_(machine) {}
  bool is_broken = false;  ///< Every read fails.

  base::Result<fsformat::Content> probe(const std::string& node) override {
    if (is_broken) return base::fail(base::ErrorCode::kIo, "read '{}': Input/output error", node);
    const FakeDisk& disk = attached_disk(machine_);
    machine_.promise(disk.init != esx::InitState::kFormatting, "a disk that mkfs may be writing was probed");
    switch (disk.content) {
      case FakeContent::kBlank: return make_blank(node, base::UniqueFd());
      case FakeContent::kForeign: return fsformat::Foreign{"LVM2_member"};
      case FakeContent::kFileSystem: break;
    }
    return fsformat::FileSystem{.type = "ext4", .uuid = disk.fs_on_disk, .label = {}, .needs_check = disk.is_unclean};
  }

 private:
  FakeMachine& machine_;
};

class FakeFormatter : public fsformat::Formatter {
 public:
  explicit FakeFormatter(FakeMachine& machine) : machine_(machine) {}
  base::Result<fsformat::FileSystem> format(fsformat::Blank, const fsformat::FormatRequest& request, base::Deadline) override {
    FakeDisk& disk = attached_disk(machine_);
    machine_.promise(disk.content == FakeContent::kBlank && !disk.has_user_data, "a disk with data was formatted");
    machine_.promise(disk.init == esx::InitState::kFormatting, "a disk was formatted before the record said so");
    RETURN_IF_ERROR(machine_.change("mkfs", [&] {
      disk.content = FakeContent::kFileSystem;
      disk.fs_on_disk = "fs-" + std::to_string(++machine_.formats);
    }));
    return fsformat::FileSystem{.type = request.fstype, .uuid = disk.fs_on_disk, .label = {}};
  }
  base::Result<void> check(const std::string&, const fsformat::FileSystem&, base::Deadline) override {
    return machine_.change("check", [&] { attached_disk(machine_).is_unclean = false; });
  }
  base::Result<void> grow(const std::string&, const std::string&, const std::string&, base::Deadline) override { return {}; }
  std::vector<std::string> supported() const override { return {"btrfs", "ext4", "xfs"}; }
  bool supports(const std::string& fstype) const override { return fstype == "btrfs" || fstype == "ext4" || fstype == "xfs"; }

 private:
  FakeMachine& machine_;
};

class FakeMounter : public fsformat::Mounter {
 public:
  explicit FakeMounter(FakeMachine& machine, std::string root) : machine_(machine), root_(std::move(root)) {}
  base::Result<fsformat::DetachedMount> open(const fsformat::MountRequest&) override {
    const FakeDisk& disk = attached_disk(machine_);
    machine_.promise(disk.content == FakeContent::kFileSystem && !disk.is_unclean, "something unclean was mounted");
    RETURN_IF_ERROR(machine_.change("open", [] {}));
    return fsformat::DetachedMount(base::UniqueFd());
  }
  base::Result<void> prepare_root(const fsformat::DetachedMount&, const fsformat::RootOwner&) override {
    FakeDisk& disk = attached_disk(machine_);
    machine_.promise(!disk.has_user_data, "the root of a disk with data was prepared again");
    return machine_.change("prepare", [&] { disk.is_root_prepared = true; });
  }
  base::Result<void> attach(fsformat::DetachedMount, const std::string&) override {
    FakeDisk& disk = attached_disk(machine_);
    machine_.promise(disk.init == esx::InitState::kReady, "a disk was mounted that the record does not call ready");
    return machine_.change("place", [&] { disk.is_mounted = true; });
  }
  base::Result<void> unmount(const std::string& target) override {
    return machine_.change("unmount", [&] {
      for (auto& [name, disk] : machine_.disks) {
        if (target == root_ + "/" + name + "@ds") disk.is_mounted = false;
      }
    });
  }
  base::Result<std::vector<fsformat::Mount>> list() override {
    std::vector<fsformat::Mount> mounts;
    for (const auto& [name, disk] : machine_.disks) {
      if (disk.is_mounted) {
        mounts.push_back({.target = root_ + "/" + name + "@ds", .source = kFakeNode, .fstype = "ext4", .root = "/",
                          .device = makedev(7, 0)});
      }
    }
    return mounts;
  }
  base::Result<void> share(const std::string&) override { return {}; }

 private:
  FakeMachine& machine_;
  std::string root_;
};

/// All of them on one machine.
struct FakeWorld {
  FakeMachine machine;
  FakeControlPlane control_plane{machine};
  FakeWatcher watcher{machine};
  FakeProber prober{machine};
  FakeFormatter formatter{machine};
  FakeMounter mounter{machine, "/mnt/fake"};
  World world{control_plane, watcher, prober, formatter, mounter, "/mnt/fake"};
};

}  // namespace vdvs::mountd
