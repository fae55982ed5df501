// The text of QMP, as pure functions.
#include <boost/json/serialize.hpp>
#include <utility>

#include "base/json.h"
#include "esx-vmci/hypervisor/qmp.h"

namespace vdvs::esx {

using base::ErrorCode;
using base::fail;
using base::Result;

void QmpLines::feed(std::string_view bytes) { buffer_ += bytes; }

Result<std::optional<std::string>> QmpLines::next() {
  for (;;) {
    const std::size_t end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
      buffer_.erase(0, begin_);
      begin_ = 0;
      scanned_ = buffer_.size();
      if (buffer_.size() > kMaxQmpLineBytes)
        return fail(ErrorCode::kLimit, "read QMP: a line of more than {} bytes", kMaxQmpLineBytes);
      return std::nullopt;
    }
    std::string_view line(buffer_.data() + begin_, end - begin_);
    if (line.size() > kMaxQmpLineBytes)
      return fail(ErrorCode::kLimit, "read QMP: a line of more than {} bytes", kMaxQmpLineBytes);
    begin_ = scanned_ = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) return std::string(line);
  }
}

namespace {

/// QEMU has one error class for nearly everything; what is meant is only in the text.
ErrorCode code_of(std::string_view error_class, std::string_view text) {
  if (error_class == "DeviceNotFound") return ErrorCode::kNotFound;
  if (text.find("Failed to get") != std::string_view::npos && text.find("lock") != std::string_view::npos)
    return ErrorCode::kBusyElsewhere;
  if (text.find("is in use") != std::string_view::npos) return ErrorCode::kInUse;
  return ErrorCode::kIo;
}

base::Error decode_error(const boost::json::value& error) {
  const auto* object = error.if_object();
  const std::string text = object ? base::find_string(*object, "desc").value_or("") : "";
  const std::string error_class = object ? base::find_string(*object, "class").value_or("") : "";
  return {code_of(error_class, text), text.empty() ? "QEMU reports an error without a text" : text};
}

}  // namespace

Result<QmpMessage> decode_qmp(std::string_view line) {
  ASSIGN_OR_RETURN(boost::json::value value, base::parse_json(line));
  auto* object = value.if_object();
  if (object == nullptr) return fail(ErrorCode::kInvalid, "read QMP: a line that is not an object");
  QmpMessage message;
  if (object->contains("QMP")) {
    message.kind = QmpMessage::Kind::kGreeting;
    return message;
  }
  if (auto name = base::find_string(*object, "event")) {
    message.kind = QmpMessage::Kind::kEvent;
    message.event.name = std::move(*name);
    auto* data = object->if_contains("data");
    if (data != nullptr && data->is_object()) message.event.data = std::move(data->get_object());
    return message;
  }
  auto* returned = object->if_contains("return");
  const auto* error = object->if_contains("error");
  if (returned == nullptr && error == nullptr)
    return fail(ErrorCode::kInvalid,
                "read QMP: a line that is neither a greeting nor an answer nor an event");
  if (const auto* id = object->if_contains("id")) {
    boost::json::error_code not_a_number;
    const auto number = id->to_number<std::uint64_t>(not_a_number);
    if (!not_a_number) message.id = number;
  }
  if (error != nullptr) {
    message.result = std::unexpected(decode_error(*error));
  } else {
    message.result = std::move(*returned);
  }
  return message;
}

std::string encode_qmp(const QmpCommand& command, std::uint64_t id) {
  boost::json::object line{{"execute", command.name}};
  if (!command.arguments.empty()) line["arguments"] = command.arguments;
  line["id"] = id;
  return boost::json::serialize(line) + "\n";
}

}  // namespace vdvs::esx
