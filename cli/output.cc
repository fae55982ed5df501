#include "cli/output.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "cli/table.h"
#include "cli/xml_output.h"

namespace vdvs::cli {
namespace {

namespace json = boost::json;

std::string lines_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string json_of(const esx::AdminOutput& output) {
  json::array rows;
  for (const auto& row : output.rows) {
    json::object object;
    for (std::size_t i = 0; i < row.size() && i < output.columns.size(); ++i)
      object.emplace(output.columns[i], row[i]);
    rows.emplace_back(std::move(object));
  }
  json::object all{{"columns", json::array(output.columns.begin(), output.columns.end())},
                   {"rows", std::move(rows)},
                   {"lines", json::array(output.lines.begin(), output.lines.end())}};
  return json::serialize(all) + "\n";
}

}  // namespace

std::optional<OutputFormat> find_output_format(std::string_view name) {
  if (name == "plain") return OutputFormat::kPlain;
  if (name == "xml") return OutputFormat::kXml;
  if (name == "json") return OutputFormat::kJson;
  return std::nullopt;
}

Printed print_output(const esx::AdminOutput& output, OutputFormat format, std::size_t terminal_width) {
  const bool is_table = !output.columns.empty();
  switch (format) {
    case OutputFormat::kJson:
      return {.out = json_of(output), .notes = {}};
    case OutputFormat::kXml:
      if (is_table) return {.out = xml_table(output.columns, output.rows), .notes = lines_of(output.lines)};
      return {.out = xml_text(fmt::format("{}", fmt::join(output.lines, "\n"))), .notes = {}};
    case OutputFormat::kPlain:
      if (!is_table) return {.out = lines_of(output.lines), .notes = {}};
      return {.out = render_table(output.columns, output.rows, terminal_width),
              .notes = lines_of(output.lines)};
  }
  return {};
}

std::string print_error(const base::Error& error, OutputFormat format) {
  if (format == OutputFormat::kJson) {
    const json::object body{
        {"code", base::code_name(error.code())}, {"text", error.message()}, {"remedy", error.remedy()}};
    return json::serialize(json::object{{"error", body}}) + "\n";
  }
  // esxcli takes what follows the prefix for an error in every format.
  std::string text = "ERROR:" + error.message() + "\n";
  if (!error.remedy().empty()) text += error.remedy() + "\n";
  return text;
}

}  // namespace vdvs::cli
