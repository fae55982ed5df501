// Requests, both ways.
#include <array>
#include <boost/json/array.hpp>
#include <charconv>
#include <utility>

#include "base/json.h"
#include "esx-vmci/protocol/json_text.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

/// Of a request that is not JSON, an error shows no more than an original service could have received.
constexpr std::size_t kMaxShownBytes = 4096;

constexpr std::array kCommands = {
    std::pair{Command::kCreate, std::string_view("create")},
    std::pair{Command::kRemove, std::string_view("remove")},
    std::pair{Command::kAttach, std::string_view("attach")},
    std::pair{Command::kDetach, std::string_view("detach")},
    std::pair{Command::kList, std::string_view("list")},
    std::pair{Command::kGet, std::string_view("get")},
    std::pair{Command::kVersion, std::string_view("version")},
    std::pair{Command::kAttached, std::string_view("attached")},
    std::pair{Command::kSetInit, std::string_view("set_init")},
    std::pair{Command::kReset, std::string_view("reset")},
};
static_assert([] {
  for (std::size_t i = 0; i < kCommands.size(); ++i) {
    if (static_cast<std::size_t>(kCommands[i].first) != i) return false;
  }
  return true;
}());

std::unexpected<base::Error> bad(std::string_view what) {
  return fail(ErrorCode::kInvalid, "Failed to read the request: {}", what);
}

std::size_t count_members(const json::value& value) {
  std::size_t count = 0;
  if (const json::object* object = value.if_object()) {
    count = object->size();
    for (const auto& member : *object) count += count_members(member.value());
  } else if (const json::array* array = value.if_array()) {
    for (const json::value& element : *array) count += count_members(element);
  }
  return count;
}

/// In JSON that was parsed already, each member has one colon outside of strings.
std::size_t count_colons(std::string_view text) {
  std::size_t count = 0;
  bool is_inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_inside && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      is_inside = !is_inside;
    } else if (text[i] == ':' && !is_inside) {
      ++count;
    }
  }
  return count;
}

Result<std::string> text_of(const json::value& value, std::string_view what) {
  const json::string* text = value.if_string();
  if (text == nullptr)
    return fail(ErrorCode::kInvalid, "Failed to read the request: {} is not a string", what);
  if (text->find('\0') != json::string::npos) {
    return fail(ErrorCode::kInvalid, "Failed to read the request: {} has a NUL inside", what);
  }
  return std::string(*text);
}

std::optional<std::uint64_t> unsigned_of(const json::value& value) {
  if (value.is_uint64()) return value.get_uint64();
  if (value.is_int64() && value.get_int64() >= 0) return static_cast<std::uint64_t>(value.get_int64());
  return std::nullopt;
}

/// 2 or "2", as Python's int() takes both.
Result<int> version_of(const json::value& value) {
  int version = 0;
  if (const json::string* text = value.if_string()) {
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), version);
    if (error == std::errc() && end == text->data() + text->size()) return version;
  } else if (auto number = unsigned_of(value); number && *number <= INT32_MAX) {
    return static_cast<int>(*number);
  }
  return bad("version is not a number");
}

Result<OptionMap> options_of(const json::value& value) {
  OptionMap options;
  if (value.is_null()) return options;
  if (!value.is_object()) return bad("details.Opts is not an object");
  for (const auto& member : value.get_object()) {
    const std::string key(member.key());
    if (key.find('\0') != std::string::npos) return bad("the name of an option has a NUL inside");
    ASSIGN_OR_RETURN(options[key], text_of(member.value(), fmt::format("option '{}'", key)));
  }
  return options;
}

Result<void> read_details(const json::value& value, Request& request) {
  if (!value.is_object()) return bad("details is not an object");
  const json::object& details = value.get_object();
  if (const json::value* name = details.if_contains("Name")) {
    ASSIGN_OR_RETURN(request.name, text_of(*name, "details.Name"));
  }
  if (const json::value* options = details.if_contains("Opts")) {
    ASSIGN_OR_RETURN(request.options, options_of(*options));
  }
  return {};
}

Result<void> read_extensions(const json::object& root, Request& request) {
  if (const json::value* id = root.if_contains("id")) {
    request.id = unsigned_of(*id);
    if (!request.id) return bad("id is not a number");
  }
  if (const json::value* ext = root.if_contains("ext")) {
    const auto level = unsigned_of(*ext);
    if (!level) return bad("ext is not a number");
    request.wants_details = *level > 0;
  }
  return {};
}

}  // namespace

std::string_view command_name(Command command) {
  return kCommands.at(static_cast<std::size_t>(command)).second;
}

std::optional<Command> find_command(std::string_view name) {
  for (const auto& [command, known] : kCommands) {
    if (known == name) return command;
  }
  return std::nullopt;
}

std::string encode_request(const Request& request) {
  std::string text = "{\"cmd\":";
  append_go_string(text, request.command);
  text += ",\"details\":{\"Name\":";
  append_go_string(text, request.name);
  if (!request.options.empty()) {
    char separator = '{';
    text += ",\"Opts\":";
    for (const auto& [option, value] : request.options) {
      text += std::exchange(separator, ',');
      append_go_string(text, option);
      text += ':';
      append_go_string(text, value);
    }
    text += '}';
  }
  text += '}';
  if (request.version) text += fmt::format(",\"version\":\"{}\"", *request.version);
  if (request.id) text += fmt::format(",\"id\":{}", *request.id);
  if (request.wants_details) text += ",\"ext\":1";
  text += '}';
  return text;
}

Result<Request> decode_request(std::string_view payload) {
  auto value = base::parse_json(payload);
  if (!value) {
    return fail(ErrorCode::kInvalid, "Failed to parse json '{}'{}",
                python_repr_of_bytes(payload.substr(0, kMaxShownBytes)),
                payload.size() > kMaxShownBytes ? "..." : ".");
  }
  if (!value->is_object()) return bad("it is not an object");
  if (count_members(*value) != count_colons(payload)) return bad("a member is given twice");
  const json::object& root = value->get_object();
  const json::value* command = root.if_contains("cmd");
  if (command == nullptr) return bad("it has no cmd");
  Request request;
  ASSIGN_OR_RETURN(request.command, text_of(*command, "cmd"));
  if (const json::value* details = root.if_contains("details"))
    RETURN_IF_ERROR(read_details(*details, request));
  if (const json::value* version = root.if_contains("version")) {
    ASSIGN_OR_RETURN(request.version, version_of(*version));
  }
  RETURN_IF_ERROR(read_extensions(root, request));
  return request;
}

std::string version_mismatch_text(int client, int server) {
  const std::string newline = "\n" + std::string(36, ' ');
  return fmt::format(
      "There is a mismatch between VDVS client (Docker plugin) protocol version{0}({1}) and server (ESXi) "
      "protocol "
      "version ({2}) which indicates different{0}versions of the product are installed on Guest and ESXi "
      "sides,{0}"
      "please make sure VDVS plugin and driver are from the same release version.{0}",
      newline, client, server);
}

}  // namespace vdvs::esx
