#include "esx-vmci/datastore/folder_listing.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>

#include "esx-vmci/datastore/vmdk_descriptor.h"

namespace vdvs::esx {
namespace {

using base::Result;

/// File systems stamp a folder with a clock that ticks every few milliseconds: a listing made this soon after
/// a change may have missed another change under the same stamp.
constexpr std::int64_t kSettledNanoseconds = 50'000'000;

std::int64_t nanoseconds(const struct timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

bool is_settled(std::int64_t newest_change) {
  struct timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return nanoseconds(now) - newest_change >= kSettledNanoseconds;
}

}  // namespace

std::optional<std::string> volume_of(std::string_view file, std::string_view ending) {
  if (!file.ends_with(ending)) return std::nullopt;
  file.remove_suffix(ending.size());
  // Qualified, because "a@b" is a volume's name only before a datastore's.
  if (!VolumeName::parse(std::string(file) + "@x")) return std::nullopt;
  return std::string(file);
}

Result<void> FolderListing::add(const VolumeFolder& folder, const std::string& file, ino_t inode,
                                std::vector<const Known*>& fresh) {
  const std::optional<std::string> volume = volume_of(file, kDescriptorEnding);
  if (!volume) return {};
  ASSIGN_OR_RETURN(const std::optional<struct stat> info, folder.look(file));
  if (!info || !S_ISREG(info->st_mode) || static_cast<std::size_t>(info->st_size) > kMaxDescriptorBytes)
    return {};
  ASSIGN_OR_RETURN(VolumeName name, VolumeName::parse(*volume + "@" + datastore_));
  const auto [at, is_new] = known_.insert_or_assign(file, Known{std::move(name), inode, reading_});
  fresh.push_back(&at->second);
  return {};
}

Result<void> FolderListing::read(const VolumeFolder& folder) {
  ++reading_;
  std::vector<std::pair<std::string, ino_t>> unknown;
  RETURN_IF_ERROR(
      folder.for_each([&](std::string_view file, ino_t inode, unsigned char type) REQUIRES(mutex_) {
        if (!file.ends_with(kDescriptorEnding)) return;
        const auto found = known_.find(file);
        const bool is_same =
            found != known_.end() && found->second.inode == inode && (type == DT_REG || type == DT_UNKNOWN);
        if (is_same) {
          found->second.seen_in = reading_;
        } else {
          unknown.emplace_back(file, inode);
        }
      }));
  // Forgotten first: what has another inode now comes in again as new.
  auto is_gone = [reading = reading_](const Known& known) { return known.seen_in != reading; };
  std::erase_if(sorted_, [&](const Known* known) { return is_gone(*known); });
  std::erase_if(known_, [&](const auto& entry) { return is_gone(entry.second); });
  std::vector<const Known*> fresh;
  for (const auto& [file, inode] : unknown) RETURN_IF_ERROR(add(folder, file, inode, fresh));
  auto by_name = [](const Known* known) -> const VolumeName& { return known->name; };
  std::ranges::sort(fresh, std::less<>(), by_name);
  std::vector<const Known*> all(sorted_.size() + fresh.size());
  std::ranges::merge(sorted_, fresh, all.begin(), std::less<>(), by_name, by_name);
  sorted_ = std::move(all);
  return {};
}

Result<std::vector<VolumeName>> FolderListing::volumes(const VolumeFolder& folder) {
  ASSIGN_OR_RETURN(const struct stat now, folder.status());
  const Times times{nanoseconds(now.st_mtim), nanoseconds(now.st_ctim)};
  base::MutexLock lock(mutex_);
  if (settled_ != times) {
    settled_.reset();
    if (auto done = read(folder); !done) {
      sorted_.clear();
      known_.clear();
      return std::unexpected(std::move(done).error());
    }
    // The clock of a server cannot be compared with ours.
    if (!is_shared_ && is_settled(std::max(times.modified, times.changed))) settled_ = times;
  }
  std::vector<VolumeName> names;
  names.reserve(sorted_.size());
  for (const Known* known : sorted_) names.push_back(known->name);
  return names;
}

}  // namespace vdvs::esx
