#include "mountd/plugin_protocol.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <charconv>
#include <chrono>
#include <cstdlib>

#include "base/json.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::array kMethods = {Method::kCreate, Method::kGet,   Method::kList,    Method::kRemove,
                                 Method::kPath,   Method::kMount, Method::kUnmount, Method::kCapabilities};
constexpr std::string_view kInterface = "/VolumeDriver.";
/// How much of what a client sent is repeated in an error.
constexpr std::size_t kMaxEchoedBytes = 100;

char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_same_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, to_lower, to_lower);
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

bool needs_body(Method method) { return method != Method::kList && method != Method::kCapabilities; }

/// The last member of that name in any case, as Go takes it; null counts as absent.
const boost::json::value* find_member(const boost::json::object& object, std::string_view name) {
  const boost::json::value* found = nullptr;
  for (const auto& member : object) {
    if (is_same_ignoring_case(member.key(), name)) found = &member.value();
  }
  return found != nullptr && found->is_null() ? nullptr : found;
}

std::string_view kind_of(const boost::json::value& value) {
  if (value.is_bool()) return "a truth value";
  if (value.is_number()) return "a number";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  if (value.is_null()) return "null";
  return "a string";
}

Result<std::optional<std::string>> string_member(const boost::json::object& object, std::string_view name) {
  const boost::json::value* member = find_member(object, name);
  if (member == nullptr) return std::nullopt;
  if (!member->is_string()) {
    return fail(ErrorCode::kInvalid, "member '{}' must be a string, not {}", name, kind_of(*member));
  }
  return std::string(member->get_string());
}

Result<std::map<std::string, std::string>> options_member(const boost::json::object& object) {
  std::map<std::string, std::string> options;
  const boost::json::value* member = find_member(object, "Opts");
  if (member == nullptr) return options;
  if (!member->is_object()) {
    return fail(ErrorCode::kInvalid, "member 'Opts' must be an object of strings, not {}", kind_of(*member));
  }
  for (const auto& option : member->get_object()) {
    if (!option.value().is_string()) {
      return fail(ErrorCode::kInvalid, "option '{}' must be a string, not {}",
                  std::string_view(option.key()).substr(0, kMaxEchoedBytes), kind_of(option.value()));
    }
    options.insert_or_assign(option.key(), std::string(option.value().get_string()));
  }
  return options;
}

Result<PluginRequest> decode_members(Method method, std::string_view body) {
  ASSIGN_OR_RETURN(auto value, base::parse_json(body));
  if (!value.is_object())
    return fail(ErrorCode::kInvalid, "the body must be a JSON object, not {}", kind_of(value));
  const boost::json::object& members = value.get_object();
  PluginRequest request{.method = method};
  ASSIGN_OR_RETURN(auto name, string_member(members, "Name"));
  if (!name) return fail(ErrorCode::kInvalid, "the body has no member 'Name'");
  request.name = std::move(*name);
  if (method == Method::kMount || method == Method::kUnmount) {
    ASSIGN_OR_RETURN(auto mount_id, string_member(members, "ID"));
    request.mount_id = std::move(mount_id).value_or("");
  }
  if (method == Method::kCreate) {
    ASSIGN_OR_RETURN(request.options, options_member(members));
  }
  return request;
}

// Encoding. Everything is appended to one string: a List of thousands of volumes is one allocation or two.

/// How many bytes the valid UTF-8 character at the front has; 0 where there is none (RFC 3629: no overlong
/// forms, no surrogates).
std::size_t utf8_length(std::string_view text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  auto continues = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    const bool is_overlong = first == 0xE0 && byte(1) < 0xA0;
    const bool is_surrogate = first == 0xED && byte(1) >= 0xA0;
    return is_overlong || is_surrogate ? 0 : 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    const bool is_overlong = first == 0xF0 && byte(1) < 0x90;
    const bool is_beyond = first == 0xF4 && byte(1) >= 0x90;
    return is_overlong || is_beyond ? 0 : 4;
  }
  return 0;
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
      return;
  }
}

/// Bytes that are no UTF-8 become U+FFFD, as Go would read them.
void append_string(std::string& out, std::string_view text) {
  auto is_plain = [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\' && (c & 0x80) == 0;
  };
  out += '"';
  while (!text.empty()) {
    const auto end = std::ranges::find_if_not(text, is_plain);
    const auto plain_bytes = static_cast<std::size_t>(end - text.begin());
    out.append(text, 0, plain_bytes);
    text.remove_prefix(plain_bytes);
    if (text.empty()) break;
    if ((text.front() & 0x80) == 0) {
      append_escaped(out, text.front());
      text.remove_prefix(1);
    } else if (const std::size_t length = utf8_length(text); length > 0) {
      out.append(text, 0, length);
      text.remove_prefix(length);
    } else {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(1);
    }
  }
  out += '"';
}

void append_value(std::string& out, const boost::json::value& value) {
  if (const auto* text = value.if_string()) {
    append_string(out, *text);
  } else if (const auto* object = value.if_object()) {
    out += '{';
    for (const auto& member : *object) {
      if (out.back() != '{') out += ',';
      append_string(out, member.key());
      out += ':';
      append_value(out, member.value());
    }
    out += '}';
  } else if (const auto* array = value.if_array()) {
    out += '[';
    for (const auto& element : *array) {
      if (out.back() != '[') out += ',';
      append_value(out, element);
    }
    out += ']';
  } else {
    out += boost::json::serialize(value);
  }
}

int two_digits(std::string_view text, std::size_t at) {
  int number = -1;
  if (at + 2 > text.size() || text[at] < '0' || text[at] > '9') return -1;
  auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 2, number);
  return error == std::errc{} && end == text.data() + at + 2 ? number : -1;
}

bool is_zone(std::string_view zone) {
  if (zone == "Z") return true;
  if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':') return false;
  const int hours = two_digits(zone, 1);
  const int minutes = two_digits(zone, 4);
  return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

/// As strict as Go's time.Time.UnmarshalJSON: "2006-01-02T15:04:05Z", with a fraction or another zone if need
/// be.
bool is_rfc3339(std::string_view text) {
  constexpr std::string_view kPattern = "dddd-dd-ddTdd:dd:dd";
  if (text.size() <= kPattern.size()) return false;
  for (std::size_t i = 0; i < kPattern.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (kPattern[i] == 'd' ? !is_digit : text[i] != kPattern[i]) return false;
  }
  const std::chrono::year_month_day date(std::chrono::year(two_digits(text, 0) * 100 + two_digits(text, 2)),
                                         std::chrono::month(static_cast<unsigned>(two_digits(text, 5))),
                                         std::chrono::day(static_cast<unsigned>(two_digits(text, 8))));
  if (!date.ok() || two_digits(text, 11) > 23 || two_digits(text, 14) > 59 || two_digits(text, 17) > 59)
    return false;
  std::string_view rest = text.substr(kPattern.size());
  if (rest.front() == '.') {
    const std::size_t end = rest.find_first_not_of("0123456789", 1);
    if (end == std::string_view::npos || end == 1) return false;
    rest.remove_prefix(end);
  }
  return is_zone(rest);
}

enum class Detail { kListed, kInspected };

void append_volume(std::string& out, const VolumeView& volume, Detail detail) {
  out += R"({"Name":)";
  append_string(out, volume.name);
  out += R"(,"Mountpoint":)";
  append_string(out, volume.mount_point);
  if (is_rfc3339(volume.created_at)) {
    out += R"(,"CreatedAt":)";
    append_string(out, volume.created_at);
  }
  out += R"(,"Status":)";
  if (detail == Detail::kListed) {
    out += "null";
  } else {
    append_value(out, volume.status);
  }
  out += '}';
}

/// The parts of the common reply that differ, as JSON.
struct Parts {
  std::string_view mount_point;
  std::string_view error;
  std::string_view volumes = "null";
  std::string_view volume = "null";
  std::string_view scope;
};

std::string common_reply(const Parts& parts) {
  std::string body;
  body.reserve(160 + parts.mount_point.size() + parts.error.size() + parts.volumes.size() +
               parts.volume.size());
  body += R"({"Mountpoint":)";
  append_string(body, parts.mount_point);
  body += R"(,"Err":)";
  append_string(body, parts.error);
  body += R"(,"Volumes":)";
  body += parts.volumes;
  body += R"(,"Volume":)";
  body += parts.volume;
  body += R"(,"Capabilities":{"Scope":)";
  append_string(body, parts.scope);
  body += "}}\n";
  return body;
}

std::string encode_list(const VolumeList& list) {
  constexpr std::size_t kUsualVolumeBytes = 160;
  std::string volumes;
  volumes.reserve(2 + list.volumes.size() * kUsualVolumeBytes);
  volumes += '[';
  for (const VolumeView& volume : list.volumes) {
    if (volumes.size() > 1) volumes += ',';
    append_volume(volumes, volume, Detail::kListed);
  }
  volumes += ']';
  return common_reply({.volumes = volumes});
}

struct SuccessEncoder {
  std::optional<HttpReply> operator()(const Done&) const { return HttpReply{.body = common_reply({})}; }
  std::optional<HttpReply> operator()(const MountPoint& mount) const {
    return HttpReply{.body = common_reply({.mount_point = mount.path})};
  }
  std::optional<HttpReply> operator()(const VolumeView& view) const {
    std::string volume;
    append_volume(volume, view, Detail::kInspected);
    return HttpReply{.body = common_reply({.volume = volume})};
  }
  std::optional<HttpReply> operator()(const VolumeList& list) const {
    return HttpReply{.body = encode_list(list)};
  }
  std::optional<HttpReply> operator()(const Capabilities& capabilities) const {
    return HttpReply{.body = common_reply({.scope = capabilities.scope})};
  }
  std::optional<HttpReply> operator()(const NoAnswer&) const { return std::nullopt; }
};

}  // namespace

std::string_view method_name(Method method) {
  switch (method) {
    case Method::kCreate:
      return "Create";
    case Method::kGet:
      return "Get";
    case Method::kList:
      return "List";
    case Method::kRemove:
      return "Remove";
    case Method::kPath:
      return "Path";
    case Method::kMount:
      return "Mount";
    case Method::kUnmount:
      return "Unmount";
    case Method::kCapabilities:
      return "Capabilities";
  }
  std::abort();
}

std::optional<Endpoint> find_endpoint(std::string_view path) {
  if (path == "/Plugin.Activate") return Activate{};
  if (!path.starts_with(kInterface)) return std::nullopt;
  path.remove_prefix(kInterface.size());
  const auto method = std::ranges::find(kMethods, path, method_name);
  if (method == kMethods.end()) return std::nullopt;
  return *method;
}

Result<PluginRequest> decode_request(Method method, std::string_view body) {
  if (!needs_body(method)) return PluginRequest{.method = method};
  const std::string operation = fmt::format("decode 'VolumeDriver.{}'", method_name(method));
  if (is_blank(body)) {
    return std::unexpected(base::Error(
        ErrorCode::kInvalid,
        operation + ": the request has no body, as when the engine repeats it after a broken connection",
        "repeat the command"));
  }
  auto request = decode_members(method, body);
  if (!request) return std::unexpected(std::move(request).error().within(operation));
  return request;
}

bool is_better_dropped(Method method, std::string_view body) {
  return method == Method::kGet && is_blank(body);
}

std::optional<HttpReply> encode_reply(const PluginReply& reply) {
  if (!reply) return encode_refusal(500, reply.error());
  return std::visit(SuccessEncoder{}, *reply);
}

HttpReply encode_refusal(unsigned status, const base::Error& error) {
  return {.status = status, .body = common_reply({.error = error.text()})};
}

HttpReply encode_activation() { return {.body = "{\"Implements\": [\"VolumeDriver\"]}\n"}; }

base::Error unknown_endpoint(std::string_view path) {
  std::string known = "/Plugin.Activate";
  for (Method method : kMethods) known += fmt::format(", {}{}", kInterface, method_name(method));
  return {ErrorCode::kNotFound, fmt::format("serve '{}': no such endpoint", path.substr(0, kMaxEchoedBytes)),
          "the endpoints are " + known};
}

}  // namespace vdvs::mountd
