// The disks of one group on one datastore, whatever the datastore is: files in a folder of this machine
// (disk_store_folder.h), or something that is reached over the network. Makes, finds, copies and removes them
// so that a crash at any point leaves a disk that is there or one that is not, and proof of which.
//
// What can be done to a volume, and when, is VolumeOperations'; here is how it is kept.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/datastore/extent.h"
#include "esx-vmci/datastore/sidecar.h"
#include "esx-vmci/datastore/vmdk_descriptor.h"
#include "esx-vmci/hypervisor/hypervisor.h"

namespace vdvs::esx {

/// A disk as its descriptor and its sidecar say.
struct StoredDisk {
  std::string volume;
  VmdkDescriptor descriptor;
  std::string sidecar_name;
  Sidecar sidecar;
  bool has_sidecar = false;  ///< There is one, and it can be read.
};

/// What a new disk is to be.
struct NewDisk {
  ExtentShape shape{};
  Sidecar sidecar{};
};

/// Exclusive use of one volume's files among all who share the datastore. Move-only; how it excludes is the
/// store's.
class DiskLock {
 public:
  /// Whatever keeps the lock for as long as it lives.
  template <typename Held>
  explicit DiskLock(Held held) : held_(std::make_unique<Model<Held>>(std::move(held))) {}

 private:
  struct Concept {
    virtual ~Concept() = default;
  };
  template <typename Held>
  struct Model final : Concept {
    explicit Model(Held value) : held(std::move(value)) {}
    Held held;
  };
  std::unique_ptr<Concept> held_;
};

/// Thread: any, side by side; may block.
class DiskStore {
 public:
  virtual ~DiskStore() = default;

  /// The datastore's name, which qualifies the volumes'.
  virtual const std::string& name() const = 0;
  /// Whether its disks may be in VMs that our hypervisor does not see (another host's, on a file system that
  /// hosts share): then a record of such a VM counts, although nothing of it is to be seen here.
  virtual bool is_shared() const = 0;
  /// Where the disks are, as Hypervisor::attached_in takes it: a folder's path, "[ds1] dockvols/<group>".
  virtual const std::string& place() const = 0;

  /// Qualified names, sorted. All of them, or an error.
  virtual base::Result<std::vector<VolumeName>> list() = 0;
  /// Errors: kNotFound; kUnsupported, kCorrupt with the reason why the disk cannot be used.
  virtual base::Result<StoredDisk> load(std::string_view volume) const = 0;
  /// Checks that the data is all there, and says how much room it takes. Errors: kCorrupt, kUnsupported;
  /// kNotFound where the whole disk has gone since `load`.
  virtual base::Result<std::uint64_t> allocated_bytes(const StoredDisk& disk) const = 0;
  /// The volumes whose records say that `vm` has them. Where records are costly to read and count for nothing
  /// (the hypervisor sees every VM that could have a disk): none.
  virtual base::Result<std::vector<std::string>> recorded_to(const Vm& vm) = 0;

  /// As the hypervisor takes it.
  virtual Disk disk_of(const StoredDisk& disk) const = 0;
  /// What the name alone says: enough to find and to let go of a disk whose files were damaged.
  virtual Disk disk_named(std::string_view volume) const = 0;
  /// The volume to which an Attachment's path belongs.
  virtual std::optional<std::string> volume_of_file(std::string_view path) const = 0;

  /// Waits until this volume is free.
  virtual base::Result<DiskLock> lock(std::string_view volume) const = 0;
  /// Which lock that is, in one order over all stores: whoever needs two takes the lesser first, and equal
  /// ones once.
  struct LockKey {
    std::string place;
    std::uint64_t number = 0;
    auto operator<=>(const LockKey&) const = default;
  };
  virtual LockKey lock_key(std::string_view volume) const = 0;

  /// The volumes that somebody is making now, or has left half made (`clean_up` has not come by yet).
  virtual base::Result<std::vector<std::string>> in_the_making() const = 0;

  // The rest needs the volume's lock.

  /// Finishes or takes away what an interrupted create or remove of this volume has left.
  virtual base::Result<void> settle(const std::string& volume) const = 0;
  enum class Durability { kNow, kSoon };
  /// Writes the sidecar; durable before it returns, or (kSoon) when the kernel gets to it.
  virtual base::Result<void> save(StoredDisk& disk, Durability durability) const = 0;
  /// The disk that a new one is a copy of; in a store of the same kind. The caller has its lock too.
  struct CopySource {
    const DiskStore* store = nullptr;
    const StoredDisk* disk = nullptr;
  };
  /// Blank, or a copy of `source`. Errors: kExists; kForeignData (data is there that is not ours); kNoSpace;
  /// kBusyElsewhere where somebody uses the source.
  virtual base::Result<void> create(const std::string& volume, const NewDisk& wish,
                                    const std::optional<CopySource>& source,
                                    const Progress& progress) const = 0;
  /// Errors: kBusyElsewhere where somebody has the data locked.
  virtual base::Result<void> remove(const StoredDisk& disk) const = 0;
  /// All of it reads as zeros again.
  virtual base::Result<void> blank(const StoredDisk& disk) const = 0;

  /// Takes away what interrupted creates and removes have left; nothing that somebody is working on. Takes
  /// the locks itself.
  virtual base::Result<void> clean_up() const = 0;
};

/// The locks of two volumes (one, where they share it), in an order that two callers never wait for each
/// other.
base::Result<std::vector<DiskLock>> lock_both(const DiskStore& a, std::string_view volume_a,
                                              const DiskStore& b, std::string_view volume_b);

/// What the options of a disk say of how it is attached. Until it has a file system it must be writable:
/// nobody has data on it yet.
void apply_attach_options(const StoredDisk& stored, Disk& disk);

/// Whether that is one of the VM's ids: records hold the instance uuid, older ones the BIOS uuid.
bool is_id_of(std::string_view id, const Vm& vm);
/// What records hold.
const std::string& record_id(const Vm& vm);

}  // namespace vdvs::esx
