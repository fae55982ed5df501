#include "mountd/volume_status.h"

#include <fmt/format.h>
#include <time.h>

#include <variant>

namespace vdvs::mountd {
namespace {

namespace json = boost::json;

std::string option_or(const esx::OptionMap& options, const std::string& key, std::string_view fallback) {
  auto found = options.find(key);
  return found == options.end() ? std::string(fallback) : found->second;
}

void add_options(json::object& status, const esx::OptionMap& options) {
  for (const char* key : {"fstype", "vsan-policy-name", "mkfsopts", "mountopts", "uid", "gid", "mode"}) {
    if (auto found = options.find(key); found != options.end()) status[key] = found->second;
  }
  status["diskformat"] = option_or(options, "diskformat", "thin");
  status["attach-as"] = option_or(options, "attach-as", "independent_persistent");
  status["access"] = option_or(options, "access", "read-write");
  status["clone-from"] = option_or(options, "clone-from", "None");
}

std::string datastore_of(const std::string& qualified_name) {
  const std::size_t at = qualified_name.rfind('@');
  return at == std::string::npos ? std::string() : qualified_name.substr(at + 1);
}

}  // namespace

std::string human_size(std::uint64_t bytes) {
  constexpr std::uint64_t kKiB = 1024;
  if (bytes < kKiB) return fmt::format("{}", bytes);
  if (bytes < kKiB * kKiB) return fmt::format("{}KB", bytes / kKiB);
  if (bytes < kKiB * kKiB * kKiB) return fmt::format("{}MB", bytes / kKiB / kKiB);
  return fmt::format("{}GB", bytes / kKiB / kKiB / kKiB);
}

std::string rfc3339_of_asctime(std::string_view text) {
  const std::string copy(text);
  tm time{};
  const char* end = ::strptime(copy.c_str(), "%a %b %d %H:%M:%S %Y", &time);
  if (end == nullptr || *end != '\0') return {};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", time.tm_year + 1900, time.tm_mon + 1, time.tm_mday,
                     time.tm_hour, time.tm_min, time.tm_sec);
}

json::object status_of(const esx::VolumeInfo& info) {
  json::object status{
      {"created by VM", info.created_by},
      {"created", info.created},
      {"status", info.holder ? "attached" : "detached"},
      {"capacity", {{"size", human_size(info.size_bytes)}, {"allocated", human_size(info.allocated_bytes)}}},
      {"datastore", info.name.datastore()},
      {"disk uuid", info.disk_uuid},
  };
  if (info.holder) {
    status["attached to VM"] = info.holder->name;
    if (!info.holder->since.empty()) status["attached since"] = info.holder->since;
  }
  if (info.address) {
    if (const auto* loop = std::get_if<base::LoopAddress>(&*info.address)) status["device"] = loop->node;
  }
  add_options(status, info.options);
  if (!info.fs_uuid.empty()) status["file system uuid"] = info.fs_uuid;
  if (info.init == esx::InitState::kNew) status["file system"] = "will be made at the first mount";
  return status;
}

json::object status_of(const CatalogueRecord& record, const std::string& backend) {
  json::object status{{"datastore", datastore_of(record.name)}, {"backend", backend}};
  if (record.disk_uuid.empty()) return status;
  status["created by VM"] = record.created_by;
  status["created"] = record.created;
  status["capacity"] = {{"size", human_size(record.size_bytes)}};
  status["disk uuid"] = record.disk_uuid;
  add_options(status, record.options);
  if (!record.fs_uuid.empty()) status["file system uuid"] = record.fs_uuid;
  return status;
}

}  // namespace vdvs::mountd
