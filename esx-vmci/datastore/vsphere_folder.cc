#include "esx-vmci/datastore/vsphere_folder.h"

#include <algorithm>

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;

}  // namespace

Result<std::optional<Element>> VsphereFolder::search(std::string_view query, std::string_view pattern,
                                                     Deadline deadline) const {
  const std::string details =
      soap::wrap("details", "",
                 soap::tag_bool("fileType", true) + soap::tag_bool("fileSize", true) +
                     soap::tag_bool("modification", false) + soap::tag_bool("fileOwner", false));
  const std::string specification =
      soap::wrap("searchSpec", "", std::string(query) + details + soap::tag("matchPattern", pattern));
  const std::string arguments = soap::tag("datastorePath", text()) + specification;
  for (int attempt = 1;; ++attempt) {
    auto found = session_.run_task("SearchDatastore_Task", datastore_.browser, arguments, deadline);
    if (found) return std::move(*found);
    if (found.error().code() == ErrorCode::kNotFound && found.error().message().contains("FileNotFound"))
      return std::nullopt;
    // Only reads: a second search does no harm.
    constexpr int kAttempts = 3;
    if (found.error().code() == ErrorCode::kUnavailable && attempt < kAttempts && !base::has_passed(deadline))
      continue;
    if (found.error().code() == ErrorCode::kNotFound)
      return fail(ErrorCode::kUnavailable, "list '{}': {}", text(), found.error().message());
    return std::unexpected(std::move(found).error().within(fmt::format("list '{}'", text())));
  }
}

Result<std::optional<std::vector<VsphereFolder::Entry>>> VsphereFolder::list(std::string_view pattern,
                                                                             Deadline deadline) const {
  ASSIGN_OR_RETURN(const auto found, search("", pattern, deadline));
  if (!found) return std::nullopt;
  std::vector<Entry> entries;
  for (const Element* file : found->all("file")) {
    if (file->xsi_type == "FolderFileInfo") continue;
    entries.push_back({.name = file->text_at("path"),
                       .size_bytes = static_cast<std::uint64_t>(file->number_at("fileSize").value_or(0))});
  }
  std::ranges::sort(entries, {}, &Entry::name);
  return entries;
}

Result<std::vector<std::string>> VsphereFolder::folders(Deadline deadline) const {
  ASSIGN_OR_RETURN(const auto found, search(soap::wrap("query", "FolderFileQuery", ""), "*", deadline));
  std::vector<std::string> names;
  if (!found) return names;
  for (const Element* file : found->all("file")) {
    if (file->xsi_type == "FolderFileInfo") names.push_back(file->text_at("path"));
  }
  std::ranges::sort(names);
  return names;
}

Result<std::vector<VsphereFolder::Entry>> VsphereFolder::beginning_with(std::string_view begin,
                                                                        Deadline deadline) const {
  // What stands for more than itself in a pattern becomes '?'; the names are compared below.
  std::string pattern(begin);
  for (char& c : pattern) {
    if (std::string_view("*?[]\\{}").contains(c)) c = '?';
  }
  // Nor is it known whether a server counts '?' in bytes or in characters.
  if (std::ranges::any_of(begin, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    pattern.clear();
  ASSIGN_OR_RETURN(auto entries, list(pattern + "*", deadline));
  if (!entries) return fail(ErrorCode::kUnavailable, "list '{}': the folder is not there", text());
  std::erase_if(*entries, [&](const Entry& entry) { return !entry.name.starts_with(begin); });
  return std::move(*entries);
}

Result<std::optional<std::string>> VsphereFolder::read(std::string_view file, std::size_t max_bytes,
                                                       Deadline deadline) const {
  return session_.get_file(datastore_.datacenter_path, datastore_.name, path_ + "/" + std::string(file),
                           max_bytes, deadline);
}

Result<void> VsphereFolder::write(std::string_view file, std::string_view bytes, Deadline deadline) const {
  return session_.put_file(datastore_.datacenter_path, datastore_.name, path_ + "/" + std::string(file),
                           bytes, deadline);
}

Result<void> VsphereFolder::erase_path(const std::string& path, Deadline deadline) const {
  ASSIGN_OR_RETURN(const VsphereRoots roots, session_.roots(deadline));
  const std::string arguments = soap::tag("name", path) + soap::tag("datacenter", datastore_.datacenter);
  for (int attempt = 1;; ++attempt) {
    auto done = session_.run_task("DeleteDatastoreFile_Task", roots.file_manager, arguments, deadline);
    if (done || done.error().code() == ErrorCode::kNotFound) return {};
    constexpr int kAttempts = 3;
    if (done.error().code() == ErrorCode::kUnavailable && attempt < kAttempts && !base::has_passed(deadline))
      continue;  // what is gone stays gone
    return std::unexpected(std::move(done).error().within(fmt::format("delete '{}'", path)));
  }
}

Result<void> VsphereFolder::erase(std::string_view file, Deadline deadline) const {
  return erase_path(text_of(file), deadline);
}

Result<void> VsphereFolder::erase_folder(Deadline deadline) const { return erase_path(text(), deadline); }

Result<void> VsphereFolder::make(Deadline deadline) const {
  ASSIGN_OR_RETURN(const VsphereRoots roots, session_.roots(deadline));
  const std::string arguments = soap::tag("name", text()) + soap::tag("datacenter", datastore_.datacenter) +
                                soap::tag_bool("createParentDirectories", true);
  auto made =
      session_.call("MakeDirectory", roots.file_manager, arguments, VsphereSession::Effect::kReads, deadline);
  if (made || made.error().code() == ErrorCode::kExists) return {};
  return std::unexpected(std::move(made).error().within(fmt::format("make '{}'", text())));
}

}  // namespace vdvs::esx
