#include "esx-vmci/datastore/extent.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr std::uint64_t kPieceBytes = 4ull << 20;
constexpr std::size_t kDirectAlignment = 4096;

std::string megabytes(std::uint64_t bytes) { return fmt::format("{}MB", bytes >> 20); }

void report(const Progress& progress, std::uint64_t done, std::uint64_t total) {
  if (progress) progress(total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total));
}

/// The same file with O_DIRECT, so that gigabytes of zeros do not push everything else out of the page cache;
/// not open where the file system has no direct I/O.
UniqueFd open_direct(const UniqueFd& extent) {
  return UniqueFd(
      ::open(fmt::format("/proc/self/fd/{}", extent.get()).c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
}

Result<void> set_size(const UniqueFd& extent, std::uint64_t size_bytes, std::string_view what) {
  if (::ftruncate(extent.get(), static_cast<off_t>(size_bytes)) == 0) return {};
  if (errno != EFBIG) return fail_errno(errno, "size '{}'", what);
  return fail(ErrorCode::kUnsupported, "size '{}': the datastore's file system has no files of {}", what,
              megabytes(size_bytes));
}

Result<void> write_zeros(const UniqueFd& extent, std::uint64_t size_bytes, const Progress& progress,
                         std::string_view what) {
  std::unique_ptr<char, decltype(&::free)> zeros(
      static_cast<char*>(std::aligned_alloc(kDirectAlignment, kPieceBytes)), &::free);
  VDVS_CHECK(zeros != nullptr);
  std::fill_n(zeros.get(), kPieceBytes, '\0');
  const UniqueFd direct = open_direct(extent);
  bool is_direct = direct.is_open();
  for (std::uint64_t done = 0; done < size_bytes;) {
    const std::size_t piece = static_cast<std::size_t>(std::min(kPieceBytes, size_bytes - done));
    const bool fits = piece % kDirectAlignment == 0;
    const UniqueFd& target = is_direct && fits ? direct : extent;
    auto put = base::write_all_at(target, {zeros.get(), piece}, done, what);
    if (!put && is_direct && put.error().system_errno() == EINVAL) {
      is_direct = false;  // it said yes at open and means no
      continue;
    }
    RETURN_IF_ERROR(std::move(put));
    if (!is_direct) RETURN_IF_ERROR(base::sync_data(extent, what));  // bounds the dirty pages
    done += piece;
    report(progress, done, size_bytes);
  }
  return {};
}

/// fallocate(2) for the whole; where the file system has none, the space is reserved by writing.
Result<void> reserve(const UniqueFd& extent, std::uint64_t size_bytes, const Progress& progress,
                     std::string_view what) {
  int result = 0;
  do {
    result = ::fallocate(extent.get(), 0, 0, static_cast<off_t>(size_bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  if (errno == EOPNOTSUPP) return write_zeros(extent, size_bytes, progress, what);
  return fail_errno(errno, "reserve {} for '{}'", megabytes(size_bytes), what);
}

/// One run of data, copied inside the kernel where that works.
Result<void> copy_range(const UniqueFd& source, const UniqueFd& target, std::uint64_t from, std::uint64_t to,
                        const Progress& progress, std::uint64_t total, std::string_view what) {
  while (from < to) {
    off_t in = static_cast<off_t>(from);
    off_t out = in;
    const std::size_t piece = static_cast<std::size_t>(std::min(kPieceBytes, to - from));
    ssize_t copied = ::copy_file_range(source.get(), &in, target.get(), &out, piece, 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
      std::string buffer(piece, '\0');
      copied = ::pread(source.get(), buffer.data(), piece, static_cast<off_t>(from));
      if (copied > 0)
        RETURN_IF_ERROR(
            base::write_all_at(target, {buffer.data(), static_cast<std::size_t>(copied)}, from, what));
    }
    if (copied < 0) return fail_errno(errno, "copy to '{}' at byte {}", what, from);
    if (copied == 0) return fail(ErrorCode::kIo, "copy to '{}': the source ended at byte {}", what, from);
    from += static_cast<std::uint64_t>(copied);
    report(progress, from, total);
  }
  return {};
}

Result<void> copy_data(const UniqueFd& source, const UniqueFd& target, std::uint64_t size_bytes,
                       const Progress& progress, std::string_view what) {
  for (std::uint64_t at = 0; at < size_bytes;) {
    const off_t begin = ::lseek(source.get(), static_cast<off_t>(at), SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break;  // a hole up to the end
    if (begin < 0) return fail_errno(errno, "find the data of the source of '{}'", what);
    const off_t end = ::lseek(source.get(), begin, SEEK_HOLE);
    if (end < 0) return fail_errno(errno, "find the data of the source of '{}'", what);
    const std::uint64_t stop = std::min(static_cast<std::uint64_t>(end), size_bytes);
    if (static_cast<std::uint64_t>(begin) >= stop) break;
    RETURN_IF_ERROR(
        copy_range(source, target, static_cast<std::uint64_t>(begin), stop, progress, size_bytes, what));
    at = stop;
  }
  report(progress, size_bytes, size_bytes);
  return {};
}

}  // namespace

Result<void> check_space(int folder_fd, const ExtentShape& shape) {
  struct statvfs space;
  if (::fstatvfs(folder_fd, &space) != 0) return fail_errno(errno, "look at the space of the datastore");
  if (space.f_blocks == 0) return {};  // btrfs and network file systems may not say
  const std::uint64_t total = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize;
  const std::uint64_t available = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  if (shape.size_bytes > total) {
    return fail(ErrorCode::kNoSpace, "a disk of {} is larger than the datastore ({})",
                megabytes(shape.size_bytes), megabytes(total));
  }
  if (shape.format != DiskFormat::kThin && shape.size_bytes > available) {
    return fail(ErrorCode::kNoSpace, "a {} disk of {} does not fit into the datastore ({} free)",
                disk_format_name(shape.format), megabytes(shape.size_bytes), megabytes(available));
  }
  return {};
}

Result<void> allocate_extent(const UniqueFd& extent, const ExtentShape& shape, const Progress& progress,
                             std::string_view what) {
  RETURN_IF_ERROR(set_size(extent, shape.size_bytes, what));
  switch (shape.format) {
    case DiskFormat::kThin:
      return {};
    case DiskFormat::kZeroedThick:
      return reserve(extent, shape.size_bytes, progress, what);
    case DiskFormat::kEagerZeroedThick:
      RETURN_IF_ERROR(reserve(extent, shape.size_bytes, {}, what));  // fails at once where there is no space
      return write_zeros(extent, shape.size_bytes, progress, what);
  }
  std::abort();
}

Result<void> copy_extent(const UniqueFd& source, const UniqueFd& target, const ExtentShape& shape,
                         const Progress& progress, std::string_view what) {
  // A reference shares its blocks, so it reserves nothing: thick disks are copied.
  if (shape.format == DiskFormat::kThin && ::ioctl(target.get(), FICLONE, source.get()) == 0) {
    RETURN_IF_ERROR(set_size(target, shape.size_bytes, what));
    report(progress, shape.size_bytes, shape.size_bytes);
    return {};
  }
  RETURN_IF_ERROR(allocate_extent(target, shape, {}, what));
  return copy_data(source, target, shape.size_bytes, progress, what);
}

Result<void> blank_extent(const UniqueFd& extent, const ExtentShape& shape, std::string_view what) {
  if (shape.format == DiskFormat::kEagerZeroedThick) return write_zeros(extent, shape.size_bytes, {}, what);
  const int mode =
      shape.format == DiskFormat::kThin ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
  int result = 0;
  do {
    result = ::fallocate(extent.get(), mode, 0, static_cast<off_t>(shape.size_bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  if (errno == EOPNOTSUPP) return write_zeros(extent, shape.size_bytes, {}, what);
  return fail_errno(errno, "blank '{}'", what);
}

}  // namespace vdvs::esx
