// The connections to a tenancy database that may appear, move and go while the service runs: which mode it is
// in, a connection for each thread that needs one, and one writer at a time.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "esx-vmci/tenancy/sqlite_file.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {

/// What lies at a database's path, by stat(2) alone.
DbMode look_at_database(const std::string& path);
/// "DB access error at <path>: BrokenLink (...)".
base::Error broken_database(const std::string& path, std::string remedy);

/// Thread: any.
class Connections {
 public:
  explicit Connections(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  /// A connection that is open while this lives. Move-only.
  class Lease {
   public:
    Lease(Connections& from, std::unique_ptr<SqliteFile> file, dev_t device, ino_t inode)
        : from_(&from), file_(std::move(file)), device_(device), inode_(inode) {}
    Lease(Lease&&) = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    SqliteFile& file() const { return *file_; }
    /// Does not go back to the others: it has seen an error.
    void discard() { file_.reset(); }

   private:
    Connections* from_;
    std::unique_ptr<SqliteFile> file_;
    dev_t device_;
    ino_t inode_;
  };
  /// Opened and its schema checked, unless one is idle. Errors: as SqliteFile::open and check_schema.
  base::Result<Lease> lease() EXCLUDES(mutex_);

  /// Writers of one process wait here, woken in turn, and not in SQLite, where they would poll.
  class WriterTurn {
   public:
    explicit WriterTurn(Connections& of) : of_(&of) {}
    WriterTurn(WriterTurn&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
    WriterTurn& operator=(WriterTurn&&) = delete;
    ~WriterTurn();

   private:
    Connections* of_;
  };
  /// Errors: kUnavailable after kDatabaseBusyTime.
  base::Result<WriterTurn> writer_turn() EXCLUDES(mutex_);

 private:
  struct Idle {
    std::unique_ptr<SqliteFile> file;
    dev_t device;
    ino_t inode;
  };
  void give_back(Idle idle) EXCLUDES(mutex_);
  void end_turn() EXCLUDES(mutex_);

  const std::string path_;
  base::Mutex mutex_;  ///< Nothing is opened, read or waited for in SQLite while it is held.
  base::ConditionVariable turn_ended_;
  std::vector<Idle> idle_ GUARDED_BY(mutex_);
  bool has_writer_ GUARDED_BY(mutex_) = false;
};

}  // namespace vdvs::esx
