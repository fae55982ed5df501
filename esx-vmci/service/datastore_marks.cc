#include "esx-vmci/service/datastore_marks.h"

#include <sstream>
#include <utility>

#include "base/fd.h"
#include "base/log.h"

namespace vdvs::esx {
namespace {

using base::Result;

constexpr std::size_t kMaxMemoryBytes = 1024 * 1024;

std::string memory_path(const std::string& state_dir) { return state_dir + "/datastores"; }

}  // namespace

Result<std::unique_ptr<DatastoreMarks>> DatastoreMarks::open(std::string state_dir) {
  MarkByPath marks;
  auto text = base::read_file(memory_path(state_dir), kMaxMemoryBytes);
  if (!text && text.error().code() != base::ErrorCode::kNotFound)
    return std::unexpected(std::move(text).error());
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) marks[line.substr(space + 1)] = line.substr(0, space);
  }
  return std::unique_ptr<DatastoreMarks>(new DatastoreMarks(std::move(state_dir), std::move(marks)));
}

void DatastoreMarks::watch(DatastoreFolder& folder) {
  base::MutexLock lock(mutex_);
  if (const auto known = marks_.find(folder.path); known != marks_.end()) folder.known_mark = known->second;
  folder.remember = [this, path = folder.path](const std::string& mark) {
    if (auto remembered = remember(path, mark); !remembered) {
      base::log::warn(
          "cannot remember a datastore: where it is missing at a start, an empty folder may pass for it",
          {{"path", path}, {"cause", remembered.error().text()}});
    }
  };
}

Result<void> DatastoreMarks::remember(const std::string& path, const std::string& mark) {
  base::MutexLock lock(mutex_);
  marks_[path] = mark;
  std::string text;
  for (const auto& [each, its_mark] : marks_) text += its_mark + " " + each + "\n";
  RETURN_IF_ERROR(base::make_folders(state_dir_));
  return base::replace_file_durably(memory_path(state_dir_), text);
}

}  // namespace vdvs::esx
