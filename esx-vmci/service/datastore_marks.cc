#include "esx-vmci/service/datastore_marks.h"

#include <map>
#include <sstream>

#include "base/fd.h"

namespace vdvs::esx {
namespace {

using base::Result;

constexpr std::size_t kMaxMemoryBytes = 1024 * 1024;

std::string memory_path(const std::string& state_dir) { return state_dir + "/datastores"; }

/// Lines of "<mark> <path>".
Result<std::map<std::string, std::string>> read_memory(const std::string& state_dir) {
  std::map<std::string, std::string> mark_by_path;
  auto text = base::read_file(memory_path(state_dir), kMaxMemoryBytes);
  if (!text && text.error().code() == base::ErrorCode::kNotFound) return mark_by_path;
  if (!text) return std::unexpected(std::move(text).error());
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) mark_by_path[line.substr(space + 1)] = line.substr(0, space);
  }
  return mark_by_path;
}

}  // namespace

Result<void> recall_marks(const std::string& state_dir, std::vector<DatastoreFolder>& folders) {
  ASSIGN_OR_RETURN(const auto mark_by_path, read_memory(state_dir));
  for (DatastoreFolder& folder : folders) {
    if (const auto known = mark_by_path.find(folder.path); known != mark_by_path.end()) {
      folder.known_mark = known->second;
    }
  }
  return {};
}

Result<void> remember_marks(const std::string& state_dir, const std::vector<std::string>& datastore_paths) {
  ASSIGN_OR_RETURN(auto mark_by_path, read_memory(state_dir));
  const auto before = mark_by_path;
  for (const std::string& path : datastore_paths) {
    const auto mark = base::read_line_file(path + "/dockvols/.vdvs-datastore");
    if (mark && !mark->empty()) mark_by_path.emplace(path, *mark);
  }
  if (mark_by_path == before) return {};
  std::string text;
  for (const auto& [path, mark] : mark_by_path) text += mark + " " + path + "\n";
  RETURN_IF_ERROR(base::make_folders(state_dir));
  return base::replace_file_durably(memory_path(state_dir), text);
}

}  // namespace vdvs::esx
