#include "tests/swarm/writers/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "tests/swarm/writers/record.h"

namespace vdvs::writers {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr std::size_t kMaxFileBytes = 1ull << 30;

Result<std::uint64_t> size_of(const UniqueFd& file, const std::string& path) {
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return fail_errno(errno, "stat '{}'", path);
  return static_cast<std::uint64_t>(info.st_size);
}

/// flock(2) for a scope.
class Locked {
 public:
  static Result<Locked> take(const UniqueFd& file, const std::string& path) {
    while (::flock(file.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return fail_errno(errno, "lock '{}'", path);
    }
    return Locked(file.get());
  }
  Locked(Locked&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Locked& operator=(Locked&&) = delete;
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() {
    if (fd_ >= 0) ::flock(fd_, LOCK_UN);
  }

 private:
  explicit Locked(int fd) : fd_(fd) {}
  int fd_;
};

/// How far the file consists of whole records, and the last one of `writer`.
struct Found {
  std::uint64_t whole_bytes = 0;
  std::uint64_t last_number = 0;
};

Result<Found> look(const UniqueFd& file, const std::string& path, std::uint32_t writer) {
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "seek in '{}'", path);
  ASSIGN_OR_RETURN(const std::string bytes, base::read_all(file, kMaxFileBytes, path));
  Found found;
  for (std::size_t at = 0; at + kRecordBytes <= bytes.size(); at += kRecordBytes) {
    const auto record = decode(std::string_view(bytes).substr(at, kRecordBytes));
    if (!record) continue;
    found.whole_bytes = at + kRecordBytes;
    if (record->writer == writer) found.last_number = record->number;
  }
  return found;
}

/// Cuts off what a crash has left behind the last record.
Result<void> cut_tail(const UniqueFd& file, const std::string& path, std::uint64_t whole_bytes) {
  ASSIGN_OR_RETURN(const std::uint64_t size, size_of(file, path));
  if (size > whole_bytes && ::ftruncate(file.get(), static_cast<off_t>(whole_bytes)) != 0)
    return fail_errno(errno, "truncate '{}'", path);
  return {};
}

/// Where one writer's records go, one after the other.
class Stream {
 public:
  Stream(Where where, std::string path, const WriterOptions& options, std::uint64_t session)
      : where_(where), path_(std::move(path)), options_(options), last_{options.writer, session, 0} {}

  Result<void> open() {
    const bool is_at_end = where_ == Where::kLog && options_.appending == Appending::kAtEnd;
    ASSIGN_OR_RETURN(file_, base::open_file(path_, O_RDWR | O_CREAT | (is_at_end ? O_APPEND : 0)));
    std::optional<Locked> lock;
    if (is_locked()) {
      ASSIGN_OR_RETURN(Locked taken, Locked::take(file_, path_));
      lock.emplace(std::move(taken));
    }
    ASSIGN_OR_RETURN(const Found found, look(file_, path_, options_.writer));
    last_.number = found.last_number;
    // Without a lock another writer may be appending right now.
    if (is_at_end) return {};
    return cut_tail(file_, path_, found.whole_bytes);
  }

  /// The reports of it.
  Result<std::string> write_next(bool is_synced) {
    Record record = last_;
    ++record.number;
    std::optional<Locked> lock;
    if (is_locked()) {
      ASSIGN_OR_RETURN(Locked taken, Locked::take(file_, path_));
      lock.emplace(std::move(taken));
    }
    RETURN_IF_ERROR(write(record));
    last_ = record;
    if (is_synced) RETURN_IF_ERROR(base::sync_all(file_, path_));
    return encode(Report{where_, is_synced ? Stage::kSynced : Stage::kWritten, record});
  }

 private:
  bool is_locked() const { return where_ == Where::kLog && options_.appending == Appending::kLocked; }

  Result<void> write(const Record& record) {
    const std::string line = encode(record);
    if (where_ == Where::kFile)
      return base::write_all_at(file_, line, (record.number - 1) * kRecordBytes, path_);
    if (is_locked()) {
      ASSIGN_OR_RETURN(const std::uint64_t end, size_of(file_, path_));
      return base::write_all_at(file_, line, end, path_);
    }
    // One system call: a rest that is written by a second one would not be behind the first.
    ssize_t wrote = 0;
    while ((wrote = ::write(file_.get(), line.data(), line.size())) < 0) {
      if (errno != EINTR) return fail_errno(errno, "append to '{}'", path_);
    }
    if (static_cast<std::size_t>(wrote) != line.size())
      return fail(ErrorCode::kIo, "append to '{}': {} bytes of {}", path_, wrote, line.size());
    return {};
  }

  const Where where_;
  const std::string path_;
  const WriterOptions& options_;
  Record last_;
  UniqueFd file_;
};

/// Writes the whole of it, whatever signals come.
Result<void> send_all(const UniqueFd& socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return fail_errno(errno, "send reports");
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

}  // namespace

Result<void> write_records(const WriterOptions& given, const Tell& tell) {
  std::uint64_t session = 0;
  if (::getrandom(&session, sizeof session, 0) != sizeof session) return fail_errno(errno, "draw a session");
  WriterOptions options = given;
  if (options.writer == 0) options.writer = static_cast<std::uint32_t>(session >> 32) | 1;
  if (!options.folder.empty()) RETURN_IF_ERROR(base::make_folders(options.folder));
  if (!options.folder.empty()) options.file = fmt::format("{}/{}", options.folder, options.writer);
  std::vector<Stream> streams;
  if (!options.file.empty()) streams.emplace_back(Where::kFile, options.file, options, session);
  if (!options.log.empty()) streams.emplace_back(Where::kLog, options.log, options, session);
  if (streams.empty()) return fail(ErrorCode::kInvalid, "neither a file nor a log is named");
  for (Stream& stream : streams) RETURN_IF_ERROR(stream.open());
  for (std::uint64_t count = 1; options.records == 0 || count <= options.records; ++count) {
    const bool is_synced = options.sync_every != 0 && count % options.sync_every == 0;
    for (Stream& stream : streams) {
      ASSIGN_OR_RETURN(const std::string reports, stream.write_next(is_synced));
      RETURN_IF_ERROR(tell(reports));
    }
    if (options.pace.count() > 0) ::poll(nullptr, 0, static_cast<int>(options.pace.count()));
  }
  return {};
}

Result<Tell> open_reports(const std::string& target) {
  constexpr std::string_view kUnix = "unix:";
  if (target == "-") {
    return [output = std::make_shared<UniqueFd>(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0))](
               std::string_view lines) { return base::write_all(*output, lines, "standard output"); };
  }
  if (!target.starts_with(kUnix))
    return fail(ErrorCode::kInvalid, "report to '{}': - or unix:PATH is known", target);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = target.substr(kUnix.size());
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kLimit, "'{}' is too long for a socket", path);
  path.copy(address.sun_path, path.size());
  auto socket = std::make_shared<UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, "connect to '{}'", path);
  return [socket](std::string_view lines) { return send_all(*socket, lines); };
}

}  // namespace vdvs::writers
