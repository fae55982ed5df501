#include "esx-vmci/tenancy/sqlite_file.h"

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <sqlite3.h>

#include <map>

#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

ErrorCode code_of(int sqlite_code) {
  if (sqlite_code == SQLITE_READONLY_DBMOVED)
    return ErrorCode::kUnavailable;  // the next call opens the new one
  switch (sqlite_code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      return ErrorCode::kUnavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_ERROR:  // a table or a column that is not there: our statements are right
    case SQLITE_SCHEMA:
      return ErrorCode::kCorrupt;
    case SQLITE_FULL:
      return ErrorCode::kNoSpace;
    case SQLITE_READONLY:
      return ErrorCode::kReadOnly;
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return ErrorCode::kDenied;
    case SQLITE_CONSTRAINT:
      return ErrorCode::kExists;
    default:
      return ErrorCode::kIo;
  }
}

/// `what`: "database '/etc/…/auth-db'".
Error error_of(const std::string& path, const SQLite::Exception& exception) {
  const ErrorCode code = code_of(exception.getExtendedErrorCode());
  if (code == ErrorCode::kCorrupt) {
    return Error(code, fmt::format("DB access error at {}: {}", path, db_mode_text(DbMode::kBrokenLink)),
                 fmt::format("sqlite says: {}; bring a copy of the file back, or make a new one with 'config "
                             "rm' and 'config init'",
                             exception.what()));
  }
  return Error(code, fmt::format("{}: {}: {}", tenancy_error(TenancyError::kSqliteError).message(), path,
                                 exception.what()));
}

void bind(SQLite::Statement& statement, int index, const SqlValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    statement.bind(index, *number);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    statement.bind(index, *text);
  } else {
    statement.bind(index);
  }
}

SqlRow row_of(const SQLite::Statement& statement) {
  std::vector<SqlValue> values;
  for (int i = 0; i < statement.getColumnCount(); ++i) {
    const SQLite::Column column = statement.getColumn(i);
    if (column.isNull()) {
      values.emplace_back(std::monostate());
    } else if (column.isInteger() || column.isFloat()) {
      values.emplace_back(column.getInt64());
    } else {
      values.emplace_back(column.getString());
    }
  }
  return SqlRow(std::move(values));
}

/// Resets at its end, so that no lock outlives the call. Owns nothing.
class Running {
 public:
  Running(SQLite::Statement& statement, std::initializer_list<SqlValue> values) : statement_(statement) {
    int index = 0;
    for (const SqlValue& value : values) bind(statement_, ++index, value);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { statement_.tryReset(); }

 private:
  SQLite::Statement& statement_;
};

}  // namespace

std::string SqlRow::text(std::size_t column) const {
  if (const auto* number = std::get_if<std::int64_t>(&values_.at(column))) return std::to_string(*number);
  const auto* text = std::get_if<std::string>(&values_.at(column));
  return text == nullptr ? std::string() : *text;
}

std::int64_t SqlRow::integer(std::size_t column) const {
  const auto* number = std::get_if<std::int64_t>(&values_.at(column));
  return number == nullptr ? 0 : *number;
}

struct SqliteFile::Impl {
  Impl(const std::string& file, int flags)
      : path(file), database(file, flags, static_cast<int>(kDatabaseBusyTime.count())) {}

  SQLite::Statement& statement(std::string_view sql) {
    auto found = statements.find(sql);
    if (found == statements.end())
      found = statements.emplace(sql, SQLite::Statement(database, std::string(sql))).first;
    return found->second;
  }

  const std::string path;
  SQLite::Database database;
  std::map<std::string, SQLite::Statement, std::less<>> statements;  // after the database: they go first
};

SqliteFile::SqliteFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SqliteFile::~SqliteFile() = default;

Result<std::unique_ptr<SqliteFile>> SqliteFile::open(const std::string& path, How how) {
  try {
    auto impl = std::make_unique<Impl>(
        path, how == How::kNew ? SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE : SQLite::OPEN_READWRITE);
    sqlite3* handle = impl->database.getHandle();
    ::sqlite3_extended_result_codes(handle, 1);
    ::sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    // The file may come from elsewhere: nothing in its schema is run, and its pages are checked when read.
    impl->database.exec(
        "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON; PRAGMA "
        "synchronous=FULL");
    const std::string journal = impl->database.execAndGet("PRAGMA journal_mode=DELETE").getString();
    if (journal != "delete") {
      return base::fail(ErrorCode::kUnsupported,
                        "open '{}': the database has a journal of the kind '{}', which cannot be changed now",
                        path, journal);
    }
    return std::unique_ptr<SqliteFile>(new SqliteFile(std::move(impl)));
  } catch (const SQLite::Exception& exception) {
    return std::unexpected(error_of(path, exception));
  }
}

Result<std::vector<SqlRow>> SqliteFile::rows(std::string_view sql, std::initializer_list<SqlValue> values) {
  try {
    SQLite::Statement& statement = impl_->statement(sql);
    const Running running(statement, values);
    std::vector<SqlRow> rows;
    while (statement.executeStep()) rows.push_back(row_of(statement));
    return rows;
  } catch (const SQLite::Exception& exception) {
    return std::unexpected(error_of(impl_->path, exception));
  }
}

Result<std::int64_t> SqliteFile::run(std::string_view sql, std::initializer_list<SqlValue> values) {
  try {
    SQLite::Statement& statement = impl_->statement(sql);
    const Running running(statement, values);
    while (statement.executeStep()) {
    }
    return statement.getChanges();
  } catch (const SQLite::Exception& exception) {
    return std::unexpected(error_of(impl_->path, exception));
  }
}

std::int64_t SqliteFile::last_insert_id() const { return impl_->database.getLastInsertRowid(); }

Result<void> SqliteFile::within(std::string_view begin, const std::function<Result<void>()>& work) {
  RETURN_IF_ERROR(run(begin));
  Result<void> done = work();
  if (done) {
    if (auto committed = run("COMMIT"); !committed) done = std::unexpected(committed.error());
  }
  // An error may have rolled back already (SQLITE_FULL, SQLITE_IOERR); a second time then does nothing.
  if (!done && ::sqlite3_get_autocommit(impl_->database.getHandle()) == 0) (void)run("ROLLBACK");
  return done;
}

Result<void> SqliteFile::transaction(const std::function<Result<void>()>& work) {
  return within("BEGIN IMMEDIATE", work);
}

Result<void> SqliteFile::alone(const std::function<Result<void>()>& work) {
  return within("BEGIN EXCLUSIVE", work);
}

}  // namespace vdvs::esx
