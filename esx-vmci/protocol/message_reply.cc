// Replies: their text, their envelope, and which kind of failure an "Error" is.
#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cctype>

#include "base/json.h"
#include "esx-vmci/protocol/json_text.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kErrorMember = "error";

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

struct Phrase {
  std::string_view words;
  ErrorCode code;
};

/// What an original service says, in the order in which it is looked for. kNotFound is narrow: it is what
/// makes Docker forget a volume, and a fault text of hostd may say "not found" of anything.
constexpr std::array kPhrases = {
    Phrase{"mismatch between VDVS client", ErrorCode::kUnsupported},
    Phrase{"already attached to VM", ErrorCode::kBusyElsewhere},
    Phrase{"in use by VM", ErrorCode::kBusyElsewhere},
    Phrase{"already exists", ErrorCode::kExists},
    Phrase{kStoppingText, ErrorCode::kUnavailable},
    Phrase{"Service is presently unavailable", ErrorCode::kUnavailable},
    Phrase{"DB access error", ErrorCode::kUnavailable},
    Phrase{"Unknown command", ErrorCode::kUnsupported},
    Phrase{"No access privilege", ErrorCode::kDenied},
    Phrase{"No create privilege", ErrorCode::kDenied},
    Phrase{"No delete privilege", ErrorCode::kDenied},
    Phrase{"No mount privilege", ErrorCode::kDenied},
    Phrase{"Failed to authorize VM", ErrorCode::kDenied},
    Phrase{"exceeds the max volume size limit", ErrorCode::kDenied},
    Phrase{"exceeds the usage quota", ErrorCode::kDenied},
    Phrase{"does not belong to any vmgroup", ErrorCode::kDenied},
    Phrase{"maximum number of supported volumes", ErrorCode::kLimit},
    Phrase{"nsufficient disk space", ErrorCode::kNoSpace},
    Phrase{"No space left", ErrorCode::kNoSpace},
    Phrase{"Failed to parse json", ErrorCode::kInvalid},
    Phrase{"Invalid ", ErrorCode::kInvalid},
    Phrase{"is not supported", ErrorCode::kInvalid},
    Phrase{"are not supported", ErrorCode::kInvalid},
    Phrase{"name is too long", ErrorCode::kInvalid},
    Phrase{"contains illegal characters", ErrorCode::kInvalid},
    Phrase{"Cannot define the", ErrorCode::kInvalid},
    Phrase{"Cannot use a VSAN policy", ErrorCode::kInvalid},
    Phrase{"Default datastore is not set", ErrorCode::kInvalid},
    Phrase{"does not exist.", ErrorCode::kInvalid},  // of a policy
};

bool is_not_found(std::string_view text) {
  if (text.starts_with("Could not find volume")) return true;
  return text.starts_with("Volume ") && text.find(" not found") != std::string_view::npos;
}

ErrorCode code_of_text(std::string_view text) {
  if (is_not_found(text)) return ErrorCode::kNotFound;
  for (const Phrase& phrase : kPhrases) {
    if (text.find(phrase.words) != std::string_view::npos) return phrase.code;
  }
  return ErrorCode::kIo;
}

std::optional<ErrorCode> find_code(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
    if (base::code_name(static_cast<ErrorCode>(i)) == name) return static_cast<ErrorCode>(i);
  }
  return std::nullopt;
}

/// ["Failed to add ...: %s", "<fault>"]: an original service forgets to put the second into the first.
std::string text_of_list(const json::array& parts) {
  std::string text;
  for (const json::value& part : parts) {
    const std::string word = part.is_string() ? std::string(part.get_string()) : json::serialize(part);
    const std::size_t hole = text.find("%s");
    if (hole != std::string::npos) {
      text.replace(hole, 2, word);
    } else {
      text += (text.empty() ? "" : " ") + word;
    }
  }
  return text;
}

std::string text_of(const json::value& error) {
  std::string text;
  if (const json::string* string = error.if_string()) {
    text = std::string(*string);
  } else if (const json::array* parts = error.if_array()) {
    text = text_of_list(*parts);
  } else {
    text = json::serialize(error);
  }
  // Python's str() of an exception whose text is a repr.
  const bool is_quoted =
      text.size() > 2 && text.front() == text.back() && (text.front() == '\'' || text.front() == '"');
  if (is_quoted) text = text.substr(1, text.size() - 2);
  return text.empty() ? "the service reports an error without a text" : text;
}

const json::value* find_error(const json::object& object) {
  for (const auto& member : object) {
    if (equals_ignoring_case(member.key(), kErrorMember) && !member.value().is_null()) return &member.value();
  }
  return nullptr;
}

}  // namespace

std::string encode_reply(const json::value& reply, bool is_compact) {
  std::string text;
  append_python(text, reply, is_compact);
  return text;
}

json::value error_reply(std::string_view text) { return json::object{{"Error", text}}; }

json::value error_reply(const Error& error, bool with_details) {
  json::object body{{"Error", error.message()}};
  if (with_details) {
    body["code"] = base::code_name(error.code());
    if (!error.remedy().empty()) body["remedy"] = error.remedy();
  }
  return body;
}

std::string encode_enveloped(std::uint64_t id, const json::value& body) {
  std::string text = fmt::format("{{\"id\":{},\"reply\":", id);
  append_python(text, body, true);
  text += '}';
  return text;
}

Result<Reply> decode_reply(std::string_view payload) {
  auto value = base::parse_json(payload);
  if (!value) return std::unexpected(std::move(value).error().within("read the service's reply"));
  Reply reply;
  if (json::object* object = value->if_object(); object != nullptr && object->size() == 2) {
    const json::value* id = object->if_contains("id");
    json::value* body = object->if_contains("reply");
    if (id != nullptr && body != nullptr && (id->is_uint64() || (id->is_int64() && id->get_int64() >= 0))) {
      reply.id = id->to_number<std::uint64_t>();
      reply.body = std::move(*body);
      return reply;
    }
  }
  reply.body = std::move(*value);
  return reply;
}

Result<json::value> result_of(const json::value& body) {
  const json::object* object = body.if_object();
  const json::value* error = object == nullptr ? nullptr : find_error(*object);
  if (error == nullptr) return body;
  std::string text = text_of(*error);
  const auto ours = find_code(base::find_string(*object, "code").value_or(""));
  const ErrorCode code = ours ? *ours : code_of_text(text);
  return std::unexpected(Error(code, std::move(text), base::find_string(*object, "remedy").value_or("")));
}

bool is_declined(const Error& error) {
  return error.code() == ErrorCode::kUnavailable &&
         (error.message() == kStoppingText || error.message() == kHostAgentText);
}

}  // namespace vdvs::esx
