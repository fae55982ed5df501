// Formats, checks and grows by running the tools of each file system. What mkfs may be told is decided in
// mkfs_command.cc; here it is run, under the lock that proves the disk blank, and the result is probed before
// anybody is told that there is a file system.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>

#include "base/command.h"
#include "base/fault.h"
#include "fs-format/disk_lock.h"
#include "fs-format/fault_points.h"
#include "fs-format/formatter.h"
#include "fs-format/identify.h"
#include "fs-format/mkfs_command.h"

namespace vdvs::fsformat {
namespace {

using base::CommandOutcome;
using base::ErrorCode;
using base::Result;
using base::UniqueFd;

constexpr std::array kProgramFolders = {"/usr/sbin", "/usr/bin", "/sbin", "/bin"};
constexpr std::string_view kMkfsPrefix = "mkfs.";
/// Of a tool's words, as many as an error can carry.
constexpr std::size_t kMaxWordsBytes = 1200;

/// A tool's output as one line: "mkfs.ext4: invalid block size - 7; ...".
std::string words_of(const CommandOutcome& outcome) {
  std::string words;
  bool is_break = false;
  for (char byte : outcome.output) {
    const bool is_line_end = byte == '\n' || byte == '\r';
    if (is_line_end || byte == '\b') {
      is_break = is_break || (is_line_end && !words.empty());
      continue;
    }
    if (std::isspace(static_cast<unsigned char>(byte)) && (words.empty() || is_break || words.back() == ' '))
      continue;
    if (is_break) words += "; ";
    is_break = false;
    words += static_cast<unsigned char>(byte) < 0x20 ? ' ' : byte;
  }
  if (words.size() > kMaxWordsBytes) words = words.substr(0, kMaxWordsBytes) + "...";
  return words.empty() ? fmt::format("exit status {}, without a word", outcome.exit_status) : words;
}

bool says(const CommandOutcome& outcome, std::string_view text) {
  return std::ranges::search(outcome.output, text, [](char a, char b) {
           return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
         }).begin() != outcome.output.end();
}

/// What kind of failure a tool's words mean, or `otherwise`.
ErrorCode code_of(const CommandOutcome& outcome, ErrorCode otherwise) {
  if (says(outcome, "no space left")) return ErrorCode::kNoSpace;
  if (says(outcome, "input/output error")) return ErrorCode::kIo;
  if (says(outcome, "read-only file system") || says(outcome, "operation not permitted"))
    return ErrorCode::kReadOnly;
  if (says(outcome, "permission denied")) return ErrorCode::kDenied;
  return otherwise;
}

/// The same, for a tool that wants the disk for itself.
ErrorCode code_of_exclusive(const CommandOutcome& outcome, ErrorCode otherwise) {
  if (says(outcome, "is mounted") || says(outcome, "in use") || says(outcome, "resource busy"))
    return ErrorCode::kInUse;
  return code_of(outcome, otherwise);
}

bool is_ext(std::string_view fstype) { return fstype == "ext2" || fstype == "ext3" || fstype == "ext4"; }

/// What cannot be written cannot be repaired either.
Result<bool> is_read_only(const UniqueFd& fd, const std::string& node) {
  int value = 0;
  if (::ioctl(fd.get(), BLKROGET, &value) != 0) return base::fail_errno(errno, "check '{}': BLKROGET", node);
  return value != 0;
}

/// How a tool is run; `lock`, where it is given, goes with it.
base::CommandOptions until(base::Deadline deadline, int lock = -1) {
  base::CommandOptions options;
  options.deadline = deadline;
  options.inherited_fd = lock;
  return options;
}

class ToolFormatter final : public Formatter {
 public:
  Result<FileSystem> format(Blank blank, const FormatRequest& request, base::Deadline deadline) override {
    ASSIGN_OR_RETURN(const auto argv, make_mkfs_command(request, blank.node()));
    if (!base::find_program(argv[0])) return no_mkfs(request.fstype);
    RETURN_IF_ERROR(base::fault_point(kFaultMkfsBefore));
    ASSIGN_OR_RETURN(const CommandOutcome outcome, base::run_command(argv, until(deadline, blank.fd())));
    RETURN_IF_ERROR(base::fault_point(kFaultMkfsAfter));
    if (outcome.exit_status != 0) {
      return base::fail(code_of_exclusive(outcome, ErrorCode::kInvalid), "format '{}' with {}: {}",
                        blank.node(), argv[0], words_of(outcome));
    }
    return look_again(blank, argv[0]);
  }

  Result<void> check(const std::string& node, const FileSystem& fs, base::Deadline deadline) override {
    if (!is_ext(fs.type) && fs.type != "vfat") return {};  // They recover when they are mounted.
    ASSIGN_OR_RETURN(UniqueFd fd, base::open_file(node, O_RDONLY));
    ASSIGN_OR_RETURN(const bool is_fixed, is_read_only(fd, node));
    if (is_fixed) return {};
    RETURN_IF_ERROR(lock_disk(fd, node, LockKind::kExclusive, deadline));
    const base::CommandOptions options = until(deadline, fd.get());
    return is_ext(fs.type) ? run_e2fsck({"e2fsck", "-p", node}, node, options) : check_vfat(node, options);
  }

  Result<void> grow(const std::string& node, const std::string& mount_point, const std::string& fstype,
                    base::Deadline deadline) override {
    if (mount_point.empty() && is_ext(fstype)) return grow_unmounted_ext(node, deadline);
    std::vector<std::string> argv;
    if (mount_point.empty()) {
      return base::fail(ErrorCode::kUnsupported, "grow '{}': {} grows only while it is mounted", node,
                        fstype);
    }
    if (is_ext(fstype)) {
      argv = {"resize2fs", node};
    } else if (fstype == "xfs") {
      argv = {"xfs_growfs", "-d", mount_point};
    } else if (fstype == "btrfs") {
      argv = {"btrfs", "filesystem", "resize", "max", mount_point};
    } else {
      return base::fail(ErrorCode::kUnsupported, "grow '{}': a mounted {} file system cannot grow", node,
                        fstype);
    }
    return grow_by(argv, node, fstype, until(deadline));
  }

  std::vector<std::string> supported() const override {
    std::set<std::string> found;
    for (const char* folder : kProgramFolders) {
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(kMkfsPrefix)) found.insert(name.substr(kMkfsPrefix.size()));
      }
    }
    return {found.begin(), found.end()};
  }

  bool supports(const std::string& fstype) const override {
    const bool is_name = !fstype.empty() && fstype.find('/') == std::string::npos;
    return is_name && base::find_program(std::string(kMkfsPrefix) + fstype).has_value();
  }

 private:
  /// The predecessor's text, which its users' scripts look for.
  std::unexpected<base::Error> no_mkfs(const std::string& fstype) const {
    return base::fail(ErrorCode::kUnsupported, "Not found mkfs for {}\nSupported filesystems found: {}",
                      fstype, fmt::join(supported(), ", "));
  }

  static Result<FileSystem> look_again(const Blank& blank, const std::string& mkfs) {
    ASSIGN_OR_RETURN(UniqueFd fd, base::open_file(blank.node(), O_RDONLY));
    ASSIGN_OR_RETURN(auto seen, identify(fd, blank.node()));
    if (auto* fs = std::get_if<FileSystem>(&seen)) return std::move(*fs);
    const auto* foreign = std::get_if<Foreign>(&seen);
    return base::fail(ErrorCode::kInvalid, "format '{}' with {}: it ended well, but the disk now has {}",
                      blank.node(), mkfs, foreign != nullptr ? foreign->what : "no file system");
  }

  static Result<CommandOutcome> run_tool(const std::vector<std::string>& argv, std::string_view fstype,
                                         const base::CommandOptions& options) {
    auto outcome = base::run_command(argv, options);
    if (outcome || outcome.error().code() != ErrorCode::kNotFound) return outcome;
    return std::unexpected(base::Error(ErrorCode::kUnsupported, outcome.error().message(),
                                       fmt::format("install the tools of {} on this host", fstype)));
  }

  static Result<void> grow_by(const std::vector<std::string>& argv, const std::string& node,
                              std::string_view fstype, const base::CommandOptions& options) {
    ASSIGN_OR_RETURN(const CommandOutcome outcome, run_tool(argv, fstype, options));
    if (outcome.exit_status == 0) return {};
    return base::fail(code_of(outcome, ErrorCode::kIo), "grow '{}' with {}: {}", node, argv[0],
                      words_of(outcome));
  }

  // resize2fs wants a whole check (-f) of what is not mounted, just before.
  static Result<void> grow_unmounted_ext(const std::string& node, base::Deadline deadline) {
    ASSIGN_OR_RETURN(UniqueFd fd, base::open_file(node, O_RDONLY));
    RETURN_IF_ERROR(lock_disk(fd, node, LockKind::kExclusive, deadline));
    const base::CommandOptions options = until(deadline, fd.get());
    RETURN_IF_ERROR(run_e2fsck({"e2fsck", "-f", "-p", node}, node, options));
    return grow_by({"resize2fs", node}, node, "ext4", options);
  }

  static std::unexpected<base::Error> bad(const std::string& node, const std::string& tool,
                                          const CommandOutcome& outcome, const std::string& by_hand) {
    return std::unexpected(
        base::Error(code_of_exclusive(outcome, ErrorCode::kCorrupt),
                    fmt::format("check '{}' with {}: {}", node, tool, words_of(outcome)),
                    fmt::format("copy the disk if its data matters, then run '{}' by hand", by_hand)));
  }

  // e2fsck(8): 0 no errors, 1 corrected, 2 corrected and a reboot is due (of a root file system), 4 and up:
  // not mended.
  static Result<void> run_e2fsck(const std::vector<std::string>& argv, const std::string& node,
                                 const base::CommandOptions& options) {
    constexpr int kLastGoodStatus = 3;
    ASSIGN_OR_RETURN(const CommandOutcome outcome, run_tool(argv, "ext4", options));
    if (outcome.exit_status <= kLastGoodStatus) return {};
    return bad(node, "e2fsck", outcome, fmt::format("e2fsck {}", node));
  }

  // fsck.fat(8) says 1 both for what it mended and for what it could not, so that a second look decides.
  static Result<void> check_vfat(const std::string& node, const base::CommandOptions& options) {
    ASSIGN_OR_RETURN(CommandOutcome outcome, run_tool({"fsck.vfat", "-a", "-w", node}, "vfat", options));
    if (outcome.exit_status == 1) {
      ASSIGN_OR_RETURN(outcome, run_tool({"fsck.vfat", "-n", node}, "vfat", options));
    }
    if (outcome.exit_status == 0) return {};
    return bad(node, "fsck.vfat", outcome, fmt::format("fsck.vfat -r {}", node));
  }
};

}  // namespace

std::unique_ptr<Formatter> make_tool_formatter() { return std::make_unique<ToolFormatter>(); }

}  // namespace vdvs::fsformat
