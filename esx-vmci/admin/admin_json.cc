// Commands, outputs and errors as JSON: what travels over the admin socket.
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::size_t kMaxFlags = 32;

Result<std::vector<std::string>> strings_from(const json::value& value, std::string_view what) {
  const json::array* array = value.if_array();
  if (array == nullptr) return fail(ErrorCode::kInvalid, "admin reply: '{}' is not an array", what);
  std::vector<std::string> strings;
  strings.reserve(array->size());
  for (const json::value& item : *array) {
    const json::string* text = item.if_string();
    if (text == nullptr)
      return fail(ErrorCode::kInvalid, "admin reply: '{}' holds something else than text", what);
    strings.emplace_back(*text);
  }
  return strings;
}

ErrorCode code_from(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
    const auto code = static_cast<ErrorCode>(i);
    if (base::code_name(code) == name) return code;
  }
  return ErrorCode::kInternal;
}

}  // namespace

json::value to_json(const AdminCommand& command) {
  json::object flags;
  for (const auto& [name, value] : command.flags) flags.emplace(name, value);
  json::object object{{"cmd", "admin"}, {"verb", command.verb}, {"flags", std::move(flags)}};
  if (!command.asked_by.empty()) object.emplace("asked_by", command.asked_by);
  return object;
}

Result<AdminCommand> admin_command_from_json(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr || base::find_string(*object, "cmd") != "admin")
    return fail(ErrorCode::kInvalid, "this is the administrators' socket: \"cmd\" must be \"admin\"");
  AdminCommand command;
  auto verb = base::find_string(*object, "verb");
  if (!verb) return fail(ErrorCode::kInvalid, "admin request: no \"verb\"");
  command.verb = std::move(*verb);
  command.asked_by = base::find_string(*object, "asked_by").value_or("");
  const json::value* flags = object->if_contains("flags");
  if (flags == nullptr || flags->is_null()) return command;
  if (!flags->is_object()) return fail(ErrorCode::kInvalid, "admin request: \"flags\" is not an object");
  if (flags->get_object().size() > kMaxFlags)
    return fail(ErrorCode::kLimit, "admin request: more than {} flags", kMaxFlags);
  for (const auto& [name, content] : flags->get_object()) {
    const json::string* text = content.if_string();
    if (text == nullptr)
      return fail(ErrorCode::kInvalid, "admin request: flag '{}' is not text", std::string_view(name));
    command.flags.emplace(std::string(name), std::string(*text));
  }
  return command;
}

json::value to_json(const AdminOutput& output) {
  json::array rows;
  rows.reserve(output.rows.size());
  for (const auto& row : output.rows) rows.emplace_back(json::array(row.begin(), row.end()));
  return json::object{{"columns", json::array(output.columns.begin(), output.columns.end())},
                      {"rows", std::move(rows)},
                      {"lines", json::array(output.lines.begin(), output.lines.end())}};
}

Result<AdminOutput> admin_output_from_json(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return fail(ErrorCode::kInvalid, "admin reply: not an object");
  const json::value* columns = object->if_contains("columns");
  const json::value* rows = object->if_contains("rows");
  const json::value* lines = object->if_contains("lines");
  if (columns == nullptr || rows == nullptr || lines == nullptr || !rows->is_array())
    return fail(ErrorCode::kInvalid, "admin reply: 'columns', 'rows' and 'lines' are needed");
  AdminOutput output;
  ASSIGN_OR_RETURN(output.columns, strings_from(*columns, "columns"));
  ASSIGN_OR_RETURN(output.lines, strings_from(*lines, "lines"));
  output.rows.reserve(rows->get_array().size());
  for (const json::value& row : rows->get_array()) {
    ASSIGN_OR_RETURN(auto cells, strings_from(row, "rows"));
    if (cells.size() != output.columns.size())
      return fail(ErrorCode::kInvalid, "admin reply: a row of {} cells in a table of {} columns",
                  cells.size(), output.columns.size());
    output.rows.push_back(std::move(cells));
  }
  return output;
}

json::value admin_reply(const Result<AdminOutput>& result) {
  if (result) return to_json(*result);
  const base::Error& error = result.error();
  return json::object{
      {"Error", error.message()}, {"code", base::code_name(error.code())}, {"remedy", error.remedy()}};
}

Result<AdminOutput> admin_result(const json::value& reply) {
  const json::object* object = reply.if_object();
  if (object == nullptr) return fail(ErrorCode::kInvalid, "admin reply: not an object");
  if (!object->contains("Error")) return admin_output_from_json(reply);
  return std::unexpected(base::Error(code_from(base::find_string(*object, "code").value_or("")),
                                     base::find_string(*object, "Error").value_or("unknown error"),
                                     base::find_string(*object, "remedy").value_or("")));
}

std::string answer_admin_request(Admin& admin, std::string_view payload, std::string asked_by) {
  const Result<AdminOutput> result = [&]() -> Result<AdminOutput> {
    ASSIGN_OR_RETURN(const json::value value, base::parse_json(payload));
    ASSIGN_OR_RETURN(AdminCommand command, admin_command_from_json(value));
    command.asked_by = std::move(asked_by);
    return admin.run(command);
  }();
  return json::serialize(admin_reply(result));
}

}  // namespace vdvs::esx
