#include "mountd/datastore_memory.h"

#include <unistd.h>

#include <cerrno>
#include <map>
#include <sstream>

#include "base/fd.h"
#include "base/log.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::size_t kMaxMemoryBytes = 1024 * 1024;

std::string mark_path(const esx::DatastoreFolder& folder) { return folder.path + "/dockvols/.vdvs-datastore"; }
std::string memory_path(const std::string& state_dir) { return state_dir + "/datastores"; }

// Lines of "<id> <path>".
Result<std::map<std::string, std::string>> read_memory(const std::string& state_dir) {
  std::map<std::string, std::string> id_by_path;
  auto text = base::read_file(memory_path(state_dir), kMaxMemoryBytes);
  if (!text && text.error().code() == ErrorCode::kNotFound) return id_by_path;
  if (!text) return std::unexpected(std::move(text).error());
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) id_by_path[line.substr(space + 1)] = line.substr(0, space);
  }
  return id_by_path;
}

// Makes a mark where there is none; two hosts that do so at once end up with one mark.
Result<std::string> mark(const esx::DatastoreFolder& folder) {
  const std::string path = mark_path(folder);
  if (auto found = base::read_line_file(path)) return found;
  ASSIGN_OR_RETURN(const std::string id, base::read_line_file("/proc/sys/kernel/random/uuid"));
  const std::string temporary = path + "." + id;
  RETURN_IF_ERROR(base::replace_file_durably(temporary, id + "\n", 0644));
  const bool is_linked = ::link(temporary.c_str(), path.c_str()) == 0;
  const int error = errno;
  ::unlink(temporary.c_str());
  if (!is_linked && error != EEXIST) return base::fail_errno(error, "link '{}'", path);
  return base::read_line_file(path);
}

}  // namespace

Result<void> verify_datastores(const std::string& state_dir, const std::vector<esx::DatastoreFolder>& folders) {
  ASSIGN_OR_RETURN(const auto id_by_path, read_memory(state_dir));
  for (const esx::DatastoreFolder& folder : folders) {
    const auto known = id_by_path.find(folder.path);
    if (known == id_by_path.end()) continue;
    auto found = base::read_line_file(mark_path(folder));
    if (found && *found == known->second) continue;
    const std::string cause = found ? "it carries the mark of another datastore" : found.error().message();
    return std::unexpected(base::Error(
        ErrorCode::kUnavailable,
        fmt::format("open datastore '{}': '{}' is not the datastore that this host used there before ({})", folder.name,
                    folder.path, cause),
        fmt::format("mount its file system; if it was replaced on purpose, remove its line from '{}'", memory_path(state_dir))));
  }
  return {};
}

Result<void> remember_datastores(const std::string& state_dir, const std::vector<esx::DatastoreFolder>& folders) {
  ASSIGN_OR_RETURN(auto id_by_path, read_memory(state_dir));
  const auto before = id_by_path;
  for (const esx::DatastoreFolder& folder : folders) {
    auto id = mark(folder);
    if (!id) {
      base::log::warn("a datastore cannot be marked", {{"datastore", folder.name}, {"cause", id.error().text()}});
      continue;
    }
    id_by_path[folder.path] = *id;
  }
  if (id_by_path == before) return {};
  std::string text;
  for (const auto& [path, id] : id_by_path) text += id + " " + path + "\n";
  return base::replace_file_durably(memory_path(state_dir), text);
}

}  // namespace vdvs::mountd
