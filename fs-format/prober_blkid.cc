// Probing with libblkid's low-level interface, superblocks and partition tables, on a node that this file
// opened itself.
//
// Three looks, from quick to thorough. A healthy volume is met on every mount: for it libblkid asks for the
// few types that volumes have and for what could contradict them (partition tables, RAID, LVM, swap), from
// bytes that the kernel reads ahead side by side; all that libblkid knows is some sixty reads one after the
// other, more than the mount itself. Anything else gets that whole look. During both the lock is shared (as
// udevd takes it), so that a mkfs in another process is noticed.
//
// A disk that seems to carry nothing is then proven blank: the exclusive lock, nobody else has claimed it,
// the page cache dropped, the whole look again, and zeros in its first and its last MiB by direct reads,
// which see the device and not what this host cached.
#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "fs-format/disk_lock.h"
#include "fs-format/identify.h"
#include "fs-format/superblock.h"

namespace vdvs::fsformat {
namespace {

using base::Result;
using base::UniqueFd;

constexpr std::uint64_t kZeroEndBytes = 1024 * 1024;
constexpr std::size_t kDirectAlignment = 4096;
/// How many signatures are named in the reason why a disk is foreign.
constexpr std::size_t kMaxSignatures = 8;

using Probe =
    std::unique_ptr<std::remove_pointer_t<blkid_probe>, decltype([](blkid_probe p) { blkid_free_probe(p); })>;
using Seen = std::variant<NoSignature, FileSystem, Foreign>;

std::string value_of(const Probe& probe, const char* name) {
  const char* data = nullptr;
  if (blkid_probe_lookup_value(probe.get(), name, &data, nullptr) != 0 || data == nullptr) return {};
  return data;
}

/// How far a look goes: kQuick knows the types that volumes have, and what could contradict them, from few
/// bytes.
enum class Look { kQuick, kWhole };

// ONLYIN takes an array of char*, which it does not change. LUKS is not here, since libblkid looks for its
// second header in ten places that are read one by one; has_clear_beginning() stands for it.
constexpr std::array kQuickTypes = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "linux_raid_member", "LVM2_member", "swap"};

Result<Probe> make_probe(const UniqueFd& fd, const std::string& node, Look look) {
  Probe probe(blkid_new_probe());
  errno = 0;
  if (probe == nullptr || blkid_probe_set_device(probe.get(), fd.get(), 0, 0) != 0) {
    return base::fail_errno(errno != 0 ? errno : EIO, "probe '{}'", node);
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL |
                                                     BLKID_SUBLKS_USAGE | BLKID_SUBLKS_BADCSUM);
  if (look == Look::kQuick) {
    std::array<char*, kQuickTypes.size() + 1> types = {};
    std::ranges::transform(kQuickTypes, types.begin(),
                           [](const char* type) { return const_cast<char*>(type); });
    blkid_probe_filter_superblocks_type(probe.get(), BLKID_FLTR_ONLYIN, types.data());
  }
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_FORCE_GPT);
  return probe;
}

/// What a look reads at the beginning and at the end of a disk.
struct Ends {
  std::uint64_t head_bytes;
  std::uint64_t tail_bytes;
};

constexpr Ends kQuickLookEnds = {.head_bytes = 72 * 1024, .tail_bytes = 128 * 1024};
constexpr Ends kWholeLookEnds = {.head_bytes = 512 * 1024, .tail_bytes = 2048 * 1024};

/// Lets the kernel read both ends side by side, where libblkid would wait for one small read after the other.
void read_ahead(const UniqueFd& fd, std::uint64_t size_bytes, const Ends& ends) {
  ::posix_fadvise(fd.get(), 0, static_cast<off_t>(ends.head_bytes), POSIX_FADV_WILLNEED);
  const std::uint64_t tail = std::max(size_bytes, ends.tail_bytes) - ends.tail_bytes;
  ::posix_fadvise(fd.get(), static_cast<off_t>(tail), static_cast<off_t>(ends.tail_bytes),
                  POSIX_FADV_WILLNEED);
}

std::string table_name(const std::string& table) {
  if (table == "gpt") return "GPT partition table";
  if (table == "dos") return "MBR partition table";
  return table + " partition table";
}

/// Every signature on the disk, one by one: "ext4, swap".
std::string list_signatures(const Probe& probe) {
  blkid_reset_probe(probe.get());
  std::vector<std::string> names;
  while (names.size() < kMaxSignatures && blkid_do_probe(probe.get()) == 0) {
    const std::string table = value_of(probe, "PTTYPE");
    std::string name = table.empty() ? value_of(probe, "TYPE") : table_name(table);
    if (!name.empty() && std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return names.empty() ? "contradicting signatures" : fmt::format("{}", fmt::join(names, " and "));
}

Result<std::string> read_at(const UniqueFd& fd, const std::string& node, std::uint64_t offset,
                            std::size_t count) {
  std::string bytes(count, '\0');
  ssize_t got = ::pread(fd.get(), bytes.data(), count, static_cast<off_t>(offset));
  if (got < 0) return base::fail_errno(errno, "probe '{}': read at byte {}", node, offset);
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

/// ext and btrfs leave the beginning of the disk to boot loaders, and their mkfs clears it. Where it is not
/// clear, something else may have been put over them (LUKS1, a boot sector), and only the whole look can
/// tell.
Result<bool> has_clear_beginning(const UniqueFd& fd, const std::string& node, std::string_view type) {
  const std::size_t count = type.starts_with("ext") ? 1024 : type == "btrfs" ? 65536 : 0;
  ASSIGN_OR_RETURN(const std::string bytes, read_at(fd, node, 0, count));
  return std::ranges::all_of(bytes, [](char byte) { return byte == 0; });
}

/// Whether somebody has the disk open exclusively. A file system that is mounted, here or in another mount
/// namespace, always looks unclean; it shares its superblock with further mounts, and a checker must not
/// touch it.
bool is_claimed(const std::string& node) {
  const UniqueFd claim(::open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  return !claim.is_open() && errno == EBUSY;
}

Result<Seen> describe_file_system(const Probe& probe, const UniqueFd& fd, const std::string& node) {
  FileSystem fs = {
      .type = value_of(probe, "TYPE"), .uuid = value_of(probe, "UUID"), .label = value_of(probe, "LABEL")};
  if (fs.type == "btrfs") {
    ASSIGN_OR_RETURN(std::string bytes, read_at(fd, node, kBtrfsDeviceCountOffset, 1));
    if (bytes != "\x01") return Foreign{"btrfs that spans several disks"};
  }
  ASSIGN_OR_RETURN(std::string head, read_at(fd, node, 0, kSuperblockHeadBytes));
  fs.needs_check = superblock_needs_check(fs.type, std::as_bytes(std::span(head))) && !is_claimed(node);
  return fs;
}

Result<Seen> look_at(const UniqueFd& fd, const std::string& node, Look look) {
  ASSIGN_OR_RETURN(Probe probe, make_probe(fd, node, look));
  errno = 0;
  switch (blkid_do_safeprobe(probe.get())) {
    case 0:
      break;
    case 1:
      return NoSignature{};
    case -2:
      return Foreign{list_signatures(probe)};
    default:
      return base::fail_errno(errno != 0 ? errno : EIO, "probe '{}'", node);
  }
  const std::string type = value_of(probe, "TYPE");
  const std::string table = value_of(probe, "PTTYPE");
  if (type.empty() && table.empty()) return NoSignature{};
  if (type.empty()) return Foreign{table_name(table)};
  if (!table.empty()) return Foreign{fmt::format("{} and {}", type, table_name(table))};
  // A member of a pool is no file system that could be mounted by itself, though libblkid files some under
  // that usage.
  if (value_of(probe, "USAGE") != "filesystem" || type.ends_with("_member")) return Foreign{type};
  return describe_file_system(probe, fd, node);
}

}  // namespace

Result<Seen> identify(const UniqueFd& fd, const std::string& node) { return look_at(fd, node, Look::kWhole); }

namespace {

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};

std::optional<std::size_t> find_nonzero(std::string_view bytes) {
  // Equal to itself shifted by one: all bytes are the first one. memcmp is as quick as memory.
  if (bytes.empty() ||
      (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0)) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(std::ranges::find_if(bytes, [](char byte) { return byte != 0; }) -
                                  bytes.begin());
}

/// Where in [begin, end) the first byte that is not zero stands.
Result<std::optional<std::uint64_t>> find_data(const UniqueFd& fd, const std::string& node,
                                               std::uint64_t begin, std::uint64_t end) {
  std::unique_ptr<char, FreeDeleter> buffer(
      static_cast<char*>(std::aligned_alloc(kDirectAlignment, kZeroEndBytes)));
  if (buffer == nullptr) return base::fail_errno(ENOMEM, "probe '{}'", node);
  while (begin < end) {
    const std::size_t wanted = std::min<std::uint64_t>(kZeroEndBytes, end - begin);
    ssize_t got = ::pread(fd.get(), buffer.get(), wanted, static_cast<off_t>(begin));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::fail_errno(errno, "probe '{}': read at byte {}", node, begin);
    if (got == 0)
      return base::fail(base::ErrorCode::kIo, "probe '{}': the disk ends at byte {}, before its size", node,
                        begin);
    if (const auto data = find_nonzero({buffer.get(), static_cast<std::size_t>(got)})) return begin + *data;
    begin += static_cast<std::uint64_t>(got);
  }
  return std::nullopt;
}

Result<std::uint64_t> disk_size_bytes(const UniqueFd& fd, const std::string& node) {
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "probe '{}'", node);
  if (!S_ISBLK(status.st_mode))
    return base::fail(base::ErrorCode::kInvalid, "probe '{}': not a block device", node);
  std::uint64_t size_bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &size_bytes) != 0)
    return base::fail_errno(errno, "probe '{}': BLKGETSIZE64", node);
  if (size_bytes == 0) return base::fail(base::ErrorCode::kIo, "probe '{}': the disk has no size", node);
  return size_bytes;
}

/// The first byte that is not zero in the disk's first and last MiB, read past this host's page cache.
Result<std::optional<std::uint64_t>> find_data_at_ends(const std::string& node, std::uint64_t size_bytes) {
  ASSIGN_OR_RETURN(UniqueFd direct, base::open_file(node, O_RDONLY | O_DIRECT));
  ASSIGN_OR_RETURN(auto data, find_data(direct, node, 0, std::min(size_bytes, kZeroEndBytes)));
  if (data || size_bytes <= kZeroEndBytes) return data;
  // Direct reads begin at a multiple of the alignment; they end with the disk, which is a multiple of its
  // sectors.
  const std::uint64_t last =
      std::max(kZeroEndBytes, size_bytes - kZeroEndBytes) / kDirectAlignment * kDirectAlignment;
  return find_data(direct, node, last, size_bytes);
}

class BlkidProber final : public Prober, private BlankMint {
 public:
  explicit BlkidProber(ProberOptions options) : options_(options) {}

  Result<Content> probe(const std::string& node) override {
    const base::Deadline deadline = base::deadline_in(options_.lock_wait);
    ASSIGN_OR_RETURN(UniqueFd fd, base::open_file(node, O_RDONLY));
    ASSIGN_OR_RETURN(const std::uint64_t size_bytes, disk_size_bytes(fd, node));
    RETURN_IF_ERROR(lock_disk(fd, node, LockKind::kShared, deadline));
    read_ahead(fd, size_bytes, kQuickLookEnds);
    ASSIGN_OR_RETURN(Seen seen, look_at(fd, node, Look::kQuick));
    if (const auto* fs = std::get_if<FileSystem>(&seen)) {
      ASSIGN_OR_RETURN(const bool is_sure, has_clear_beginning(fd, node, fs->type));
      if (is_sure) return as_content(std::move(seen));
    }
    // The proof has the whole look in it, so a new disk is not looked at in full twice.
    if (std::holds_alternative<NoSignature>(seen)) return prove_blank(std::move(fd), node, size_bytes, deadline);
    ASSIGN_OR_RETURN(seen, identify(fd, node));
    if (std::holds_alternative<NoSignature>(seen))
      return prove_blank(std::move(fd), node, size_bytes, deadline);
    return as_content(std::move(seen));
  }

 private:
  static Content as_content(Seen seen) {
    if (auto* fs = std::get_if<FileSystem>(&seen)) return std::move(*fs);
    return std::get<Foreign>(std::move(seen));
  }

  static Result<Content> prove_blank(UniqueFd fd, const std::string& node, std::uint64_t size_bytes,
                                     base::Deadline deadline) {
    RETURN_IF_ERROR(lock_disk(fd, node, LockKind::kExclusive, deadline));
    if (::ioctl(fd.get(), BLKFLSBUF, 0) != 0) return base::fail_errno(errno, "probe '{}': BLKFLSBUF", node);
    read_ahead(fd, size_bytes, kWholeLookEnds);
    ASSIGN_OR_RETURN(Seen seen, identify(fd, node));
    if (!std::holds_alternative<NoSignature>(seen)) return as_content(std::move(seen));
    ASSIGN_OR_RETURN(auto data, find_data_at_ends(node, size_bytes));
    if (data) return Foreign{fmt::format("data that is not zero at byte {}", *data)};
    // Mounts, device-mapper, RAID and swap claim their disks; what they keep there need not have a signature.
    if (UniqueFd claim(::open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)); !claim.is_open()) {
      return base::fail_errno(errno, "probe '{}': claim the disk", node);
    }
    return make_blank(node, std::move(fd));
  }

  ProberOptions options_;
};

}  // namespace

std::unique_ptr<Prober> make_blkid_prober(ProberOptions options) {
  return std::make_unique<BlkidProber>(options);
}

}  // namespace vdvs::fsformat
