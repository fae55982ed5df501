// What an original service does not keep for us: how far the first formatting of a volume has come, the
// options that only we know, and which disks this host has attached, where.
//
// Besides, from any service: which datastore short names mean, so that they mean the same while it is away.
//
// A file of checked lines (base/checksum.h), one JSON object each: first this host's name as the service
// shows it and the default datastore, then one line for each volume of which there is something to say. It is
// replaced as a whole. A line that is damaged is left out, and so the volume is one of which nothing is
// known: ready, its content is data.
//
// Volumes are told apart from later ones of the same name by when and by whom they were made.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk_address.h"
#include "base/error.h"
#include "base/mutex.h"
#include "esx-vmci/control_plane.h"

namespace vdvs::esx {

struct OriginalRecord {
  std::string created;     ///< As the service shows it; empty until it was asked.
  std::string created_by;  ///< Likewise.
  InitState init = InitState::kReady;
  std::string fs_uuid;
  OptionMap options;  ///< As given; empty where it was not this host that made the volume.
  bool is_attached = false;
  std::optional<base::DiskAddress> address;
  bool operator==(const OriginalRecord&) const = default;
};

/// Thread: any. Volumes are named by their qualified names.
class OriginalMemory {
 public:
  /// An empty path: memory alone. Errors: those of reading the file; a damaged line is logged.
  static base::Result<std::unique_ptr<OriginalMemory>> open(std::string path);

  std::optional<OriginalRecord> find(const std::string& volume) const EXCLUDES(mutex_);
  /// Durable before it returns; where it cannot be written nothing changes.
  base::Result<void> put(const std::string& volume, const OriginalRecord& record) EXCLUDES(mutex_);
  base::Result<void> erase(const std::string& volume) EXCLUDES(mutex_);
  std::vector<std::string> attached() const EXCLUDES(mutex_);

  /// This host's name, as the service shows holders; empty where that is not known.
  std::string vm_name() const EXCLUDES(mutex_);
  base::Result<void> set_vm_name(const std::string& name) EXCLUDES(mutex_);

  /// As a service last said; empty where none has.
  std::string default_datastore() const EXCLUDES(mutex_);
  base::Result<void> set_default_datastore(const std::string& datastore) EXCLUDES(mutex_);

 private:
  struct Content {
    std::string vm_name;
    std::string default_datastore;
    std::map<std::string, OriginalRecord> records;
    bool operator==(const Content&) const = default;
  };
  OriginalMemory(std::string path, Content content) : path_(std::move(path)), content_(std::move(content)) {}
  base::Result<void> replace(Content content) REQUIRES(mutex_);
  static Content parse(std::string_view text, const std::string& path);
  static std::string print(const Content& content);

  const std::string path_;
  mutable base::Mutex mutex_;
  Content content_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::esx
