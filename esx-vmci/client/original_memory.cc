#include "esx-vmci/client/original_memory.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "base/checksum.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::Result;

constexpr std::size_t kMaxFileBytes = 64 * 1024 * 1024;

json::object encode(const std::string& volume, const OriginalRecord& record) {
  json::object object{{"volume", volume}, {"created", record.created}, {"created_by", record.created_by}};
  object["init"] = init_state_name(record.init);
  object["fs_uuid"] = record.fs_uuid;
  json::object& options = object["options"].emplace_object();
  for (const auto& [option, value] : record.options) options[option] = value;
  object["attached"] = record.is_attached;
  if (record.address) object["address"] = encode_address(*record.address);
  return object;
}

std::string text_of(const json::object& object, std::string_view key) {
  return base::find_string(object, key).value_or(std::string());
}

OriginalRecord decode(const json::object& object) {
  OriginalRecord record{.created = text_of(object, "created"), .created_by = text_of(object, "created_by")};
  // What we do not understand is data.
  if (auto wish = decode_init({{"state", text_of(object, "init")}})) record.init = wish->state;
  record.fs_uuid = text_of(object, "fs_uuid");
  if (const json::value* options = object.if_contains("options");
      options != nullptr && options->is_object()) {
    for (const auto& member : options->get_object()) {
      if (member.value().is_string()) record.options[member.key()] = std::string(member.value().get_string());
    }
  }
  const json::value* attached = object.if_contains("attached");
  record.is_attached = attached != nullptr && attached->is_bool() && attached->get_bool();
  if (const json::value* address = object.if_contains("address")) {
    if (auto decoded = decode_address(*address)) record.address = std::move(*decoded);
  }
  return record;
}

std::optional<json::object> read_line(std::string_view line) {
  const auto text = base::open_checked_line(line);
  if (!text) return std::nullopt;
  auto value = base::parse_json(*text);
  if (!value || !value->is_object()) return std::nullopt;
  return std::move(value->get_object());
}

/// Nothing is remembered by it.
bool is_worthless(const OriginalRecord& record) {
  return record.init == InitState::kReady && record.options.empty() && !record.is_attached &&
         record.fs_uuid.empty();
}

}  // namespace

OriginalMemory::Content OriginalMemory::parse(std::string_view text, const std::string& path) {
  Content content;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    auto object = read_line(line);
    if (!object) {
      base::log::warn("a damaged line is left out: its volume counts as one that has data",
                      {{"file", path}, {"bytes", line.size()}});
      continue;
    }
    if (auto name = base::find_string(*object, "vm")) content.vm_name = *name;
    if (auto datastore = base::find_string(*object, "default_datastore"))
      content.default_datastore = *datastore;
    if (auto volume = base::find_string(*object, "volume")) content.records[*volume] = decode(*object);
  }
  return content;
}

std::string OriginalMemory::print(const Content& content) {
  std::string text = base::checked_line(json::serialize(
      json::object{{"vm", content.vm_name}, {"default_datastore", content.default_datastore}}));
  for (const auto& [volume, record] : content.records) {
    text += base::checked_line(json::serialize(encode(volume, record)));
  }
  return text;
}

Result<std::unique_ptr<OriginalMemory>> OriginalMemory::open(std::string path) {
  Content content;
  if (!path.empty()) {
    auto text = base::read_file(path, kMaxFileBytes);
    if (!text && text.error().code() != ErrorCode::kNotFound) return std::unexpected(std::move(text).error());
    if (text) content = parse(*text, path);
  }
  return std::unique_ptr<OriginalMemory>(new OriginalMemory(std::move(path), std::move(content)));
}

std::optional<OriginalRecord> OriginalMemory::find(const std::string& volume) const {
  base::MutexLock lock(mutex_);
  const auto found = content_.records.find(volume);
  if (found == content_.records.end()) return std::nullopt;
  return found->second;
}

Result<void> OriginalMemory::put(const std::string& volume, const OriginalRecord& record) {
  base::MutexLock lock(mutex_);
  Content content = content_;
  if (is_worthless(record)) {
    content.records.erase(volume);
  } else {
    content.records[volume] = record;
  }
  return replace(std::move(content));
}

Result<void> OriginalMemory::erase(const std::string& volume) {
  base::MutexLock lock(mutex_);
  if (!content_.records.contains(volume)) return {};
  Content content = content_;
  content.records.erase(volume);
  return replace(std::move(content));
}

std::vector<std::string> OriginalMemory::attached() const {
  base::MutexLock lock(mutex_);
  std::vector<std::string> volumes;
  for (const auto& [volume, record] : content_.records) {
    if (record.is_attached) volumes.push_back(volume);
  }
  return volumes;
}

std::string OriginalMemory::vm_name() const {
  base::MutexLock lock(mutex_);
  return content_.vm_name;
}

Result<void> OriginalMemory::set_vm_name(const std::string& name) {
  base::MutexLock lock(mutex_);
  if (content_.vm_name == name) return {};
  Content content = content_;
  content.vm_name = name;
  return replace(std::move(content));
}

std::string OriginalMemory::default_datastore() const {
  base::MutexLock lock(mutex_);
  return content_.default_datastore;
}

Result<void> OriginalMemory::set_default_datastore(const std::string& datastore) {
  base::MutexLock lock(mutex_);
  if (content_.default_datastore == datastore) return {};
  Content content = content_;
  content.default_datastore = datastore;
  return replace(std::move(content));
}

Result<void> OriginalMemory::replace(Content content) {
  if (content == content_) return {};
  if (!path_.empty()) RETURN_IF_ERROR(base::replace_file_durably(path_, print(content)));
  content_ = std::move(content);
  return {};
}

}  // namespace vdvs::esx
