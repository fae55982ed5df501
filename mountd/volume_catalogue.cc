#include "mountd/volume_catalogue.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <filesystem>

#include "base/checksum.h"
#include "base/json.h"
#include "base/log.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::MutexLock;
using base::Result;
namespace json = boost::json;

constexpr std::size_t kMaxCatalogueBytes = 256 * 1024 * 1024;
/// At start the log is rewritten when it has more lines than twice the records, and this many besides.
constexpr std::size_t kLogSlackLines = 256;

// Makes the names of `records` those of `wanted` (sorted), and returns the lines of the log that say so. One pass over both sides in
// order: this runs at every List, and mostly finds nothing to change.
std::string make_names_equal(std::map<std::string, CatalogueRecord>& records, const std::vector<std::string_view>& wanted) {
  std::string lines;
  auto record = records.begin();
  auto erase_record = [&] {
    lines += encode_entry({CatalogueRecord{.name = record->first}, true});
    record = records.erase(record);
  };
  for (std::string_view name : wanted) {
    while (record != records.end() && record->first < name) erase_record();
    if (record == records.end() || record->first != name) {
      record = records.emplace_hint(record, name, CatalogueRecord{.name = std::string(name)});
      lines += encode_entry({record->second});
    }
    ++record;
  }
  while (record != records.end()) erase_record();
  return lines;
}

}  // namespace

std::string encode_entry(const CatalogueEntry& entry) {
  const CatalogueRecord& record = entry.record;
  json::object object{{"name", record.name}};
  if (entry.is_erased) {
    object["erased"] = true;
    return base::checked_line(json::serialize(object));
  }
  auto set = [&object](std::string_view key, const std::string& value) {
    if (!value.empty()) object[key] = value;
  };
  set("disk_uuid", record.disk_uuid);
  set("fs_uuid", record.fs_uuid);
  set("created", record.created);
  set("created_by", record.created_by);
  set("driver", record.driver);
  if (record.size_bytes != 0) object["size_bytes"] = record.size_bytes;
  json::object options;
  for (const auto& [key, value] : record.options) options[key] = value;
  if (!options.empty()) object["options"] = std::move(options);
  return base::checked_line(json::serialize(object));
}

Result<CatalogueEntry> decode_entry(std::string_view line) {
  auto text = base::open_checked_line(line);
  if (!text) return fail(ErrorCode::kCorrupt, "catalogue: the checksum of a line does not match");
  ASSIGN_OR_RETURN(json::value value, base::parse_json(*text));
  const json::object* object = value.if_object();
  if (object == nullptr) return fail(ErrorCode::kCorrupt, "catalogue: a line is not an object");
  CatalogueEntry entry;
  auto get = [object](std::string_view key) { return base::find_string(*object, key).value_or(""); };
  entry.record.name = get("name");
  if (entry.record.name.empty()) return fail(ErrorCode::kCorrupt, "catalogue: a line has no name");
  const json::value* erased = object->if_contains("erased");
  entry.is_erased = erased != nullptr && erased->is_bool() && erased->get_bool();
  entry.record.disk_uuid = get("disk_uuid");
  entry.record.fs_uuid = get("fs_uuid");
  entry.record.created = get("created");
  entry.record.created_by = get("created_by");
  entry.record.driver = get("driver");
  if (const json::value* size = object->if_contains("size_bytes")) {
    json::error_code error;
    entry.record.size_bytes = size->to_number<std::uint64_t>(error);
    if (error) return fail(ErrorCode::kCorrupt, "catalogue: the size of '{}' is no number", entry.record.name);
  }
  if (const json::value* options = object->if_contains("options"); options != nullptr && options->is_object()) {
    for (const auto& [key, option] : options->get_object()) {
      if (option.is_string()) entry.record.options[std::string(key)] = std::string(option.get_string());
    }
  }
  return entry;
}

Result<std::unique_ptr<VolumeCatalogue>> VolumeCatalogue::open(const std::string& path) {
  std::unique_ptr<VolumeCatalogue> catalogue(new VolumeCatalogue(path));
  MutexLock lock(catalogue->mutex_);
  RETURN_IF_ERROR(catalogue->load());
  return catalogue;
}

Result<void> VolumeCatalogue::load() {
  auto text = base::read_file(path_, kMaxCatalogueBytes);
  if (!text && text.error().code() != ErrorCode::kNotFound) return std::unexpected(std::move(text).error());
  std::string_view rest = text ? std::string_view(*text) : std::string_view();
  std::size_t lines = 0;
  std::size_t damaged = 0;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    auto entry = decode_entry(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    ++lines;
    if (!entry) {
      ++damaged;
    } else if (entry->is_erased) {
      records_.erase(entry->record.name);
    } else {
      records_[entry->record.name] = std::move(entry->record);
    }
  }
  if (damaged > 0) {
    base::log::warn("catalogue has damaged lines; they are left out and will be learned again",
                    {{"file", path_}, {"lines", lines}, {"damaged", damaged}});
  }
  const bool is_open_ended = !text || !text->ends_with('\n');  // the next line would be joined to the last
  if (is_open_ended || damaged > 0 || lines > 2 * records_.size() + kLogSlackLines) return compact();
  ASSIGN_OR_RETURN(log_, base::open_file(path_, O_WRONLY | O_APPEND));
  return {};
}

Result<void> VolumeCatalogue::compact() {
  std::string lines;
  for (const auto& [name, record] : records_) lines += encode_entry({record});
  RETURN_IF_ERROR(base::replace_file_durably(path_, lines));
  ASSIGN_OR_RETURN(log_, base::open_file(path_, O_WRONLY | O_APPEND));
  return {};
}

Result<void> VolumeCatalogue::append(std::string_view lines, Durability durability) {
  const off_t end = ::lseek(log_.get(), 0, SEEK_END);
  auto written = base::write_all(log_, lines, path_);
  if (written && durability == Durability::kNow) written = base::sync_data(log_, path_);
  if (durability == Durability::kAtSync) is_synced_ = false;
  if (written && durability == Durability::kNow) is_synced_ = true;
  if (!written && end >= 0 && ::ftruncate(log_.get(), end) != 0) {
    // A torn last line would swallow the next one: it is closed with a newline, and skipped at the next start.
    (void)base::write_all(log_, "\n", path_);
  }
  return written;
}

Result<void> VolumeCatalogue::put(const CatalogueRecord& record) {
  MutexLock lock(mutex_);
  auto found = records_.find(record.name);
  if (found != records_.end() && found->second == record) return {};
  records_[record.name] = record;
  return append(encode_entry({record}), Durability::kAtSync);
}

Result<void> VolumeCatalogue::sync() {
  base::UniqueFd log;
  {
    MutexLock lock(mutex_);
    if (std::exchange(is_synced_, true)) return {};
    log = base::UniqueFd(::fcntl(log_.get(), F_DUPFD_CLOEXEC, 0));
  }
  // Without the lock: whoever looks something up does not wait for the disk.
  if (log.get() < 0) return base::fail_errno(errno, "sync '{}'", path_);
  return base::sync_data(log, path_);
}

Result<void> VolumeCatalogue::erase(const std::string& name) {
  MutexLock lock(mutex_);
  if (records_.erase(name) == 0) return {};
  return append(encode_entry({CatalogueRecord{.name = name}, true}), Durability::kNow);
}

Result<void> VolumeCatalogue::keep_only(const std::vector<std::string>& names) {
  std::vector<std::string_view> wanted(names.begin(), names.end());
  if (!std::ranges::is_sorted(wanted)) std::ranges::sort(wanted);
  MutexLock lock(mutex_);
  const std::string lines = make_names_equal(records_, wanted);
  if (lines.empty()) return {};
  return append(lines, Durability::kNow);
}

std::optional<CatalogueRecord> VolumeCatalogue::find(const std::string& name) const {
  MutexLock lock(mutex_);
  auto found = records_.find(name);
  if (found == records_.end()) return std::nullopt;
  return found->second;
}

std::optional<CatalogueRecord> VolumeCatalogue::find_short(const std::string& short_name,
                                                           const std::string& datastore) const {
  if (!datastore.empty()) return find(short_name + "@" + datastore);
  MutexLock lock(mutex_);
  const std::string prefix = short_name + "@";
  for (auto at = records_.lower_bound(prefix); at != records_.end() && at->first.starts_with(prefix); ++at) {
    if (at->first.find('@', prefix.size()) == std::string::npos) return at->second;
  }
  return std::nullopt;
}

std::map<std::string, std::string> VolumeCatalogue::other_drivers() const {
  MutexLock lock(mutex_);
  std::map<std::string, std::string> drivers;
  for (const auto& [name, record] : records_) {
    if (!record.driver.empty()) drivers.emplace_hint(drivers.end(), name, record.driver);
  }
  return drivers;
}

std::vector<std::string> VolumeCatalogue::names() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  names.reserve(records_.size());
  for (const auto& [name, record] : records_) names.push_back(name);
  return names;
}

}  // namespace vdvs::mountd
