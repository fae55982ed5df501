#include "esx-vmci/tenancy/connections.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "esx-vmci/tenancy/schema.h"

namespace vdvs::esx {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

/// More than the service's threads are never in use at once.
constexpr std::size_t kMaxIdleConnections = 32;

}  // namespace

DbMode look_at_database(const std::string& path) {
  struct stat link;
  if (::lstat(path.c_str(), &link) != 0) {
    return errno == ENOENT || errno == ENOTDIR ? DbMode::kNotConfigured : DbMode::kBrokenLink;
  }
  struct stat target;
  if (::stat(path.c_str(), &target) != 0 || !S_ISREG(target.st_mode) || ::access(path.c_str(), R_OK) != 0)
    return DbMode::kBrokenLink;
  return S_ISLNK(link.st_mode) ? DbMode::kMultiNode : DbMode::kSingleNode;
}

Error broken_database(const std::string& path, std::string remedy) {
  return Error(ErrorCode::kCorrupt,
               fmt::format("DB access error at {}: {}", path, db_mode_text(DbMode::kBrokenLink)),
               std::move(remedy));
}

Connections::Lease::~Lease() {
  if (file_) from_->give_back(Idle{std::move(file_), device_, inode_});
}

Result<Connections::Lease> Connections::lease() {
  struct stat now;
  if (::stat(path_.c_str(), &now) != 0)
    return std::unexpected(broken_database(path_, "the link's target is missing: is its datastore there?"));
  std::vector<Idle> stale;  // of a database that was replaced; closed after the mutex is free
  std::unique_ptr<SqliteFile> file;
  {
    const base::MutexLock lock(mutex_);
    while (!idle_.empty() && !file) {
      Idle last = std::move(idle_.back());
      idle_.pop_back();
      if (last.device == now.st_dev && last.inode == now.st_ino) {
        file = std::move(last.file);
      } else {
        stale.push_back(std::move(last));
      }
    }
  }
  if (!file) {
    ASSIGN_OR_RETURN(file, SqliteFile::open(path_, SqliteFile::How::kExisting));
    RETURN_IF_ERROR(check_schema(*file, path_));
  }
  return Lease(*this, std::move(file), now.st_dev, now.st_ino);
}

void Connections::give_back(Idle idle) {
  std::optional<Idle> surplus(std::move(idle));
  const base::MutexLock lock(mutex_);
  if (idle_.size() >= kMaxIdleConnections) return;
  idle_.push_back(std::move(*surplus));
  surplus.reset();
}

Result<Connections::WriterTurn> Connections::writer_turn() {
  const auto deadline = std::chrono::steady_clock::now() + kDatabaseBusyTime;
  mutex_.lock();
  while (has_writer_) {
    if (turn_ended_.wait_until(mutex_, deadline) == std::cv_status::timeout && has_writer_) {
      mutex_.unlock();
      return base::fail(ErrorCode::kUnavailable, "change '{}': other changes took more than {} s", path_,
                        std::chrono::duration_cast<std::chrono::seconds>(kDatabaseBusyTime).count());
    }
  }
  has_writer_ = true;
  mutex_.unlock();
  return WriterTurn(*this);
}

Connections::WriterTurn::~WriterTurn() {
  if (of_ != nullptr) of_->end_turn();
}

void Connections::end_turn() {
  {
    const base::MutexLock lock(mutex_);
    has_writer_ = false;
  }
  turn_ended_.notify_one();
}

}  // namespace vdvs::esx
