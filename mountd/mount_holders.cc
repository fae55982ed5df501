#include "mountd/mount_holders.h"

#include <fmt/format.h>
#include <stdio.h>
#include <time.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <charconv>

#include "base/checksum.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::MutexLock;
using base::Result;
namespace json = boost::json;

constexpr std::string_view kRecovered = "recovered:engine";
constexpr std::size_t kMaxHoldersFileBytes = 16 * 1024 * 1024;

template <typename Number>
Number number_of(const json::object& object, std::string_view key) {
  const json::value* member = object.if_contains(key);
  boost::json::error_code error;
  Number number = member == nullptr ? Number{} : member->to_number<Number>(error);
  return error ? Number{} : number;
}

Result<Holder> decode_holder(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return fail(ErrorCode::kCorrupt, "holders: a holder is not an object");
  Holder holder;
  holder.id = base::find_string(*object, "id").value_or("");
  holder.count = number_of<int>(*object, "count");
  if (object->contains("mounted_at_ms")) {
    holder.mounted_at = std::chrono::milliseconds(number_of<std::int64_t>(*object, "mounted_at_ms"));
  }
  holder.engine.pid = number_of<int>(*object, "engine_pid");
  holder.engine.start_ticks = number_of<std::uint64_t>(*object, "engine_start");
  if (holder.count < 1) return fail(ErrorCode::kCorrupt, "holders: '{}' has a count of {}", holder.id, holder.count);
  return holder;
}

}  // namespace

ProcessIdentity identify_process(int pid) {
  if (pid <= 0) return {};
  auto stat = base::read_line_file(fmt::format("/proc/{}/stat", pid));
  if (!stat) return {};
  // The second field is the name in parentheses, which may itself hold spaces and parentheses; the 20th after it is the start time.
  constexpr int kFieldsBeforeStart = 20;
  std::size_t at = stat->rfind(')');
  for (int field = 0; field < kFieldsBeforeStart && at != std::string::npos; ++field) at = stat->find(' ', at + 1);
  if (at == std::string::npos) return {};
  ProcessIdentity process{pid, 0};
  std::from_chars(stat->data() + at + 1, stat->data() + stat->size(), process.start_ticks);
  return process;
}

bool is_alive(const ProcessIdentity& process) { return process.pid > 0 && identify_process(process.pid) == process; }

std::chrono::milliseconds boot_time() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::seconds(now.tv_sec) +
                                                               std::chrono::nanoseconds(now.tv_nsec));
}

std::string encode_holders(const HoldersFile& file) {
  json::object volumes;
  for (const auto& [volume, holders] : file.volumes) {
    json::array list;
    for (const Holder& holder : holders) {
      json::object entry{{"id", holder.id},
                         {"count", holder.count},
                         {"engine_pid", holder.engine.pid},
                         {"engine_start", holder.engine.start_ticks}};
      if (holder.mounted_at) entry["mounted_at_ms"] = holder.mounted_at->count();
      list.push_back(std::move(entry));
    }
    volumes[volume] = std::move(list);
  }
  return base::checked_line(json::serialize(json::object{{"boot_id", file.boot_id}, {"volumes", std::move(volumes)}}));
}

Result<HoldersFile> decode_holders(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  auto line = base::open_checked_line(text);
  if (!line) return fail(ErrorCode::kCorrupt, "holders: the checksum does not match");
  ASSIGN_OR_RETURN(json::value value, base::parse_json(*line));
  const json::object* object = value.if_object();
  const json::value* volumes = object == nullptr ? nullptr : object->if_contains("volumes");
  if (volumes == nullptr || !volumes->is_object()) return fail(ErrorCode::kCorrupt, "holders: no 'volumes'");
  HoldersFile file;
  file.boot_id = base::find_string(*object, "boot_id").value_or("");
  for (const auto& [volume, list] : volumes->get_object()) {
    if (!list.is_array()) return fail(ErrorCode::kCorrupt, "holders: '{}' has no list", std::string_view(volume));
    for (const json::value& entry : list.get_array()) {
      ASSIGN_OR_RETURN(Holder holder, decode_holder(entry));
      file.volumes[std::string(volume)].push_back(std::move(holder));
    }
  }
  return file;
}

Result<std::unique_ptr<MountHolders>> MountHolders::open(const std::string& folder, const std::string& boot_id) {
  RETURN_IF_ERROR(base::make_folders(folder));
  const std::string path = folder + "/holders.json";
  std::unique_ptr<MountHolders> holders(new MountHolders(path, boot_id));
  auto text = base::read_file(path, kMaxHoldersFileBytes);
  MutexLock lock(holders->mutex_);
  if (text) {
    auto file = decode_holders(*text);
    if (!file) {
      base::log::warn("mount counts cannot be read; the engine will be asked", {{"file", path}, {"cause", file.error().text()}});
    } else if (file->boot_id == boot_id) {
      holders->holders_ = std::move(file->volumes);
      for (auto& [volume, list] : holders->holders_) {
        for (Holder& holder : list) holder.is_of_earlier_run = true;
      }
    }
  } else if (text.error().code() != ErrorCode::kNotFound) {
    base::log::warn("mount counts cannot be read; the engine will be asked", {{"file", path}, {"cause", text.error().text()}});
  }
  RETURN_IF_ERROR(holders->save());
  return holders;
}

// Whole for a reader or a killed writer by the rename; a power cut needs no fsync, since the file is of this boot only.
Result<void> MountHolders::save() {
  const std::string temporary = path_ + ".new";
  RETURN_IF_ERROR(base::write_file(temporary, encode_holders({boot_id_, holders_})));
  if (::rename(temporary.c_str(), path_.c_str()) != 0) return base::fail_errno(errno, "rename '{}'", temporary);
  return {};
}

Result<void> MountHolders::add(const std::string& volume, const std::string& id, ProcessIdentity engine) {
  MutexLock lock(mutex_);
  std::vector<Holder>& holders = holders_[volume];
  auto found = std::ranges::find(holders, id, &Holder::id);
  if (found == holders.end()) found = holders.insert(found, Holder{.id = id});
  ++found->count;
  found->mounted_at = boot_time();
  found->is_of_earlier_run = false;
  found->engine = engine;
  return save();
}

Result<void> MountHolders::add_recovered(const std::string& volume, int count) {
  MutexLock lock(mutex_);
  holders_[volume].push_back({.id = std::string(kRecovered), .count = count, .mounted_at = {}, .engine = {}});
  return save();
}

Result<void> MountHolders::drop(const std::string& volume, const std::string& id) {
  MutexLock lock(mutex_);
  auto entry = holders_.find(volume);
  if (entry == holders_.end()) return {};
  std::vector<Holder>& holders = entry->second;
  auto found = std::ranges::find(holders, id, &Holder::id);
  if (found == holders.end()) {
    found = std::ranges::find_if(holders, [](const Holder& holder) { return holder.id == kRecovered; });
  }
  if (found == holders.end()) return {};
  found->mounted_at.reset();
  if (--found->count == 0) holders.erase(found);
  if (holders.empty()) holders_.erase(entry);
  return save();
}

Result<void> MountHolders::drop_all_of(const std::string& volume, const std::string& id) {
  MutexLock lock(mutex_);
  auto entry = holders_.find(volume);
  if (entry == holders_.end()) return {};
  std::erase_if(entry->second, [&](const Holder& holder) { return holder.id == id; });
  if (entry->second.empty()) holders_.erase(entry);
  return save();
}

int MountHolders::total(const std::string& volume) const {
  MutexLock lock(mutex_);
  auto entry = holders_.find(volume);
  if (entry == holders_.end()) return 0;
  int sum = 0;
  for (const Holder& holder : entry->second) sum += holder.count;
  return sum;
}

std::vector<Holder> MountHolders::of(const std::string& volume) const {
  MutexLock lock(mutex_);
  auto entry = holders_.find(volume);
  return entry == holders_.end() ? std::vector<Holder>() : entry->second;
}

std::vector<std::string> MountHolders::volumes() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [volume, holders] : holders_) names.push_back(volume);
  return names;
}

}  // namespace vdvs::mountd
