// Mount accounting: which mount ids of Docker hold which volume. Docker sends one id several times (`docker cp` on a running
// container), sends it again after a crash, and sends none under live-restore, so neither a set nor a plain count is right:
// each id has a count, kept under /run with the boot id, and compared with the engine's containers when in doubt.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"

namespace vdvs::mountd {

/// A process by pid and start time, so that a reused pid is not mistaken for it. pid 0: not known.
struct ProcessIdentity {
  int pid = 0;
  std::uint64_t start_ticks = 0;  ///< Field 22 of /proc/<pid>/stat.
  bool operator==(const ProcessIdentity&) const = default;
};
/// Not known (pid 0) where there is no such process.
ProcessIdentity identify_process(int pid);
bool is_alive(const ProcessIdentity& process);

struct Holder {
  std::string id;               ///< Docker's mount id, or a name of ours where it was found without one.
  int count = 0;
  /// CLOCK_BOOTTIME of the last Mount, if nothing came after it: its container may still be starting. A holder whose last call was an
  /// Unmount, and one that was found without an id, is not.
  std::optional<std::chrono::milliseconds> mounted_at;
  ProcessIdentity engine;       ///< Who asked; pid 0 where that is not known.
  bool is_of_earlier_run = false;  ///< Read from the file: another mountd counted it.
};

class MountHolders {
 public:
  /// Reads `<folder>/holders.json`. A file of another boot, or one that cannot be read, counts as empty (logged); the truth is
  /// then found by asking the engine.
  /// Errors: the folder cannot be made or written.
  static base::Result<std::unique_ptr<MountHolders>> open(const std::string& folder, const std::string& boot_id);

  // `volume` is the qualified name everywhere. Changes are on disk before the call returns. Thread: any.
  base::Result<void> add(const std::string& volume, const std::string& id, ProcessIdentity engine);
  /// Holders whose ids nobody knows: `count` mounts of running containers, for which the engine vouches.
  base::Result<void> add_recovered(const std::string& volume, int count);
  /// Takes one of `id` away. An id that is not there takes a recovered holder, if there is one; otherwise nothing.
  base::Result<void> drop(const std::string& volume, const std::string& id);
  base::Result<void> drop_all_of(const std::string& volume, const std::string& id);
  /// The sum of the counts.
  int total(const std::string& volume) const;
  std::vector<Holder> of(const std::string& volume) const;
  std::vector<std::string> volumes() const;

 private:
  explicit MountHolders(std::string path, std::string boot_id) : path_(std::move(path)), boot_id_(std::move(boot_id)) {}
  base::Result<void> save() REQUIRES(mutex_);

  const std::string path_;
  const std::string boot_id_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::vector<Holder>> holders_ GUARDED_BY(mutex_);
};

/// CLOCK_BOOTTIME now.
std::chrono::milliseconds boot_time();

/// The text of holders.json and back. Pure. Errors: kCorrupt.
struct HoldersFile {
  std::string boot_id;
  std::map<std::string, std::vector<Holder>> volumes;
};
std::string encode_holders(const HoldersFile& file);
base::Result<HoldersFile> decode_holders(std::string_view text);

}  // namespace vdvs::mountd
