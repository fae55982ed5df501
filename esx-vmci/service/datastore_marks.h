// Which datastore was at which path when this service last used it: an empty mount point must not pass for a
// datastore without volumes, since guests' engines would forget all they have. The id is in the datastore's
// own mark; here is the memory of it, "<state_dir>/datastores", with lines of "<mark> <path>".
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/mutex.h"
#include "esx-vmci/datastore/datastores_folder.h"

namespace vdvs::esx {

/// Thread: any.
class DatastoreMarks {
 public:
  /// Errors: kIo, kDenied; not where nothing is remembered yet.
  static base::Result<std::unique_ptr<DatastoreMarks>> open(std::string state_dir);

  /// Gives the folder the mark that is remembered, and has a new one remembered, durably, when it is seen.
  /// The folder's datastore must not outlive this.
  void watch(DatastoreFolder& folder);

 private:
  using MarkByPath = std::map<std::string, std::string>;

  DatastoreMarks(std::string state_dir, MarkByPath marks)
      : state_dir_(std::move(state_dir)), marks_(std::move(marks)) {}
  base::Result<void> remember(const std::string& path, const std::string& mark) EXCLUDES(mutex_);

  const std::string state_dir_;
  base::Mutex mutex_;
  MarkByPath marks_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::esx
