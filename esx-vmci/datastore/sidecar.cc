#include "esx-vmci/datastore/sidecar.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cctype>
#include <cmath>
#include <cstdint>

#include "base/json.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kOurs = "vdvs";
constexpr std::size_t kHashDigits = 16;
constexpr std::string_view kExtension = ".vmfd";

std::string text_of(const json::object& object, std::string_view key) {
  return base::find_string(object, key).value_or(std::string());
}

InitState parse_init(const json::object& ours) {
  const std::string text = text_of(ours, "init");
  for (InitState state : {InitState::kNew, InitState::kFormatting, InitState::kFormatted}) {
    if (text == init_state_name(state)) return state;
  }
  return InitState::kReady;  // what we do not understand is data
}

void print_string(std::string_view text, std::string& out) {
  // Boost escapes what JSON demands; Python escapes all that is not ASCII as well.
  const std::string quoted = json::serialize(json::value(json::string(text)));
  for (std::size_t i = 0; i < quoted.size();) {
    const auto lead = static_cast<unsigned char>(quoted[i]);
    if (lead < 0x80) {
      out += quoted[i++];
      continue;
    }
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    std::uint32_t point = lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length && i + k < quoted.size(); ++k) {
      point = (point << 6) | (static_cast<unsigned char>(quoted[i + k]) & 0x3Fu);
    }
    i += length;
    if (point >= 0x10000) {
      point -= 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (point >> 10), 0xDC00 + (point & 0x3FF));
    } else {
      out += fmt::format("\\u{:04x}", point);
    }
  }
}

/// With ", " and ": ", as json.dumps does.
void print(const json::value& value, std::string& out) {
  std::string_view separator;
  if (const json::object* object = value.if_object()) {
    out += '{';
    for (const auto& member : *object) {
      out += separator;
      print_string(member.key(), out);
      out += ": ";
      print(member.value(), out);
      separator = ", ";
    }
    out += '}';
  } else if (const json::array* array = value.if_array()) {
    out += '[';
    for (const json::value& element : *array) {
      out += separator;
      print(element, out);
      separator = ", ";
    }
    out += ']';
  } else if (const json::string* string = value.if_string()) {
    print_string(*string, out);
  } else if (const double* number = value.if_double(); number != nullptr && !std::isfinite(*number)) {
    out += "null";  // was too large for a double when it was read, and JSON has no word for that
  } else {
    out += json::serialize(value);
  }
}

json::object& member_object(json::object& parent, std::string_view key) {
  json::value& member = parent[key];
  if (!member.is_object()) member.emplace_object();
  return member.get_object();
}

void set_or_erase(json::object& object, std::string_view key, const std::string& text) {
  if (text.empty()) {
    object.erase(key);
  } else {
    object[key] = text;
  }
}

void put_attachment(const Sidecar& sidecar, json::object& root, json::object& ours) {
  root["status"] = sidecar.attached ? "attached" : "detached";
  if (!sidecar.attached) {
    for (std::string_view key : {"attachedVMUuid", "attachedVMName", "attachedVMDevice"}) root.erase(key);
    ours.erase("attached-since");
    return;
  }
  if (sidecar.attached->device.empty()) {
    root.erase("attachedVMDevice");
  } else {
    root["attachedVMDevice"] = sidecar.attached->device;
  }
  root["attachedVMUuid"] = sidecar.attached->vm_uuid;
  set_or_erase(root, "attachedVMName", sidecar.attached->vm_name);
  set_or_erase(ours, "attached-since", sidecar.attached->since);
}

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) != 0; });
}

}  // namespace

std::optional<Sidecar> decode_sidecar(std::string_view content) {
  if (content.size() > kMaxSidecarBytes) return std::nullopt;
  auto value = base::parse_json(content);
  if (!value || !value->is_object()) return std::nullopt;
  Sidecar sidecar;
  sidecar.others = std::move(value->get_object());
  const json::object& root = sidecar.others;
  if (const json::value* options = root.if_contains("volOpts"); options != nullptr && options->is_object()) {
    for (const auto& member : options->get_object()) {
      if (member.value().is_string())
        sidecar.options[member.key()] = std::string(member.value().get_string());
    }
  }
  sidecar.created = text_of(root, "created");
  sidecar.created_by = text_of(root, "created-by");
  json::object none;
  const json::value* member = root.if_contains(kOurs);
  const json::object& ours = member != nullptr && member->is_object() ? member->get_object() : none;
  if (text_of(root, "status") == "attached") {
    sidecar.attached = AttachRecord{text_of(root, "attachedVMUuid"), text_of(root, "attachedVMName"),
                                    text_of(ours, "attached-since")};
    const json::value* device = root.if_contains("attachedVMDevice");
    if (device != nullptr && device->is_object()) sidecar.attached->device = device->get_object();
  }
  sidecar.init = parse_init(ours);
  sidecar.fs_uuid = text_of(ours, "fs-uuid");
  return sidecar;
}

Result<std::string> encode_sidecar(const Sidecar& sidecar, std::size_t min_bytes) {
  json::object root = sidecar.others;
  json::object ours;
  if (const json::value* member = root.if_contains(kOurs); member != nullptr && member->is_object())
    ours = member->get_object();
  json::object& options = member_object(root, "volOpts");
  for (const auto& [name, value] : sidecar.options) options[name] = value;
  set_or_erase(root, "created", sidecar.created);
  set_or_erase(root, "created-by", sidecar.created_by);
  put_attachment(sidecar, root, ours);
  if (sidecar.init == InitState::kReady) {
    ours.erase("init");
  } else {
    ours["init"] = init_state_name(sidecar.init);
  }
  set_or_erase(ours, "fs-uuid", sidecar.fs_uuid);
  if (ours.empty()) {
    root.erase(kOurs);
  } else {
    root[kOurs] = std::move(ours);
  }
  std::string text;
  print(root, text);
  const std::size_t needed = std::max(text.size() + 1, min_bytes);
  const std::size_t padded = (needed + kSidecarBlockBytes - 1) / kSidecarBlockBytes * kSidecarBlockBytes;
  if (padded > kMaxSidecarBytes) {
    return fail(ErrorCode::kLimit, "metadata of {} bytes (max is {})", text.size(), kMaxSidecarBytes);
  }
  text.resize(padded, ' ');
  text.back() = '\n';
  return text;
}

std::string sidecar_file_name(std::string_view volume, std::string_view key) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  const std::string hashed = std::string(volume) + std::string(key);
  VDVS_CHECK(EVP_Digest(hashed.data(), hashed.size(), digest.data(), &length, EVP_sha1(), nullptr) == 1);
  std::uint64_t number = 0;
  for (std::size_t i = 8; i-- > 0;) number = (number << 8) | digest[i];
  return fmt::format("{}-{:016x}{}", volume, number, kExtension);
}

std::string sidecars_line(std::string_view file_name) {
  return fmt::format("{}_1,{};", kSidecarKey, file_name);
}

std::optional<std::string> find_sidecar_name(std::string_view sidecars, std::string_view volume) {
  std::optional<std::string> found;
  const std::size_t length = volume.size() + 1 + kHashDigits + kExtension.size();
  for (std::size_t comma = sidecars.find(','); comma != std::string_view::npos;
       comma = sidecars.find(',', comma + 1)) {
    const std::string_view name = sidecars.substr(comma + 1, length);
    const std::string_view rest = sidecars.substr(comma + 1 + name.size());
    if (name.size() != length || !name.starts_with(volume) || name[volume.size()] != '-' ||
        !name.ends_with(kExtension) || !is_hash(name.substr(volume.size() + 1, kHashDigits)) ||
        (!rest.empty() && rest.front() != ';')) {
      continue;
    }
    const std::size_t semicolon = sidecars.rfind(';', comma);
    const std::string_view key = sidecars.substr(semicolon == std::string_view::npos ? 0 : semicolon + 1);
    if (key.starts_with(kSidecarKey) || key.starts_with(kOldSidecarKey)) return std::string(name);
    if (!found) found = std::string(name);
  }
  return found;
}

}  // namespace vdvs::esx
