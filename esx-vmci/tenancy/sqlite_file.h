// One connection to a SQLite database file: statements that are prepared once, rows as values, transactions
// that are whole or nothing. The only way to SQLite in this project; its exceptions end here.
//
// How it is opened follows from where the file may lie, which is a datastore that several hosts share (NFS,
// VMFS): a rollback journal and never a WAL, whose shared memory ends at the host; everything synchronised
// before a commit counts; foreign keys are enforced.
//
// Never open(2) and close(2) a database in this process by other means while connections are open: POSIX
// drops all locks of the process on a file with the first descriptor that is closed (SQLite: "How To Corrupt
// An SQLite Database File", 2.2).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace vdvs::esx {

/// How long a statement waits for another connection's lock.
inline constexpr std::chrono::milliseconds kDatabaseBusyTime{5000};

using SqlValue = std::variant<std::monostate, std::int64_t, std::string>;

class SqlRow {
 public:
  explicit SqlRow(std::vector<SqlValue> values) : values_(std::move(values)) {}
  /// "" for NULL.
  std::string text(std::size_t column) const;
  /// 0 for NULL and for what is no number.
  std::int64_t integer(std::size_t column) const;

 private:
  std::vector<SqlValue> values_;
};

/// Thread: one at a time.
class SqliteFile {
 public:
  enum class How { kExisting, kNew };
  /// Errors: kCorrupt (no database), kUnavailable (locked for too long), kNotFound, kDenied, kIo.
  static base::Result<std::unique_ptr<SqliteFile>> open(const std::string& path, How how);
  ~SqliteFile();

  base::Result<std::vector<SqlRow>> rows(std::string_view sql, std::initializer_list<SqlValue> values = {});
  /// The number of rows that changed.
  base::Result<std::int64_t> run(std::string_view sql, std::initializer_list<SqlValue> values = {});
  std::int64_t last_insert_id() const;

  /// BEGIN IMMEDIATE, `work`, COMMIT; rolled back where one of them fails.
  base::Result<void> transaction(const std::function<base::Result<void>()>& work);
  /// The same with nobody else in the file, not even a reader.
  base::Result<void> alone(const std::function<base::Result<void>()>& work);

 private:
  struct Impl;  // SQLiteCpp's types stay in the source file
  explicit SqliteFile(std::unique_ptr<Impl> impl);
  base::Result<void> within(std::string_view begin, const std::function<base::Result<void>()>& work);

  std::unique_ptr<Impl> impl_;
};

}  // namespace vdvs::esx
