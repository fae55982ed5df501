#include "cli/xml_output.h"

#include <pugixml.hpp>
#include <sstream>

#include "cli/table.h"

namespace vdvs::cli {
namespace {

constexpr const char* kNamespace = "http://www.vmware.com/Products/ESX/6.0/esxcli/";
constexpr const char* kStructureName = "vdvs";

pugi::xml_node add_output(pugi::xml_document& document) {
  document.append_child(pugi::node_declaration).append_attribute("version") = "1.0";
  pugi::xml_node output = document.append_child("output");
  output.append_attribute("xmlns") = kNamespace;
  return output;
}

/// XML 1.0 has no way to write control characters: those but line breaks become '?'.
std::string cleaned(std::string_view text) {
  std::string result;
  while (true) {
    const std::size_t end = text.find('\n');
    result += clean_text(text.substr(0, end));
    if (end == std::string_view::npos) return result;
    result += '\n';
    text.remove_prefix(end + 1);
  }
}

void add_string(pugi::xml_node parent, std::string_view text) {
  pugi::xml_node node = parent.append_child("string");
  if (!text.empty()) node.append_child(pugi::node_pcdata).set_value(cleaned(text).c_str());
}

std::string print(const pugi::xml_document& document) {
  std::ostringstream stream;
  document.save(stream, "\t", pugi::format_default, pugi::encoding_utf8);
  return std::move(stream).str();
}

}  // namespace

std::string xml_table(const std::vector<std::string>& header,
                      const std::vector<std::vector<std::string>>& rows) {
  pugi::xml_document document;
  pugi::xml_node list = add_output(document).append_child("list");
  list.append_attribute("type") = "structure";
  const std::vector<std::vector<std::string>> no_rows{std::vector<std::string>(header.size())};
  for (const auto& row : rows.empty() ? no_rows : rows) {
    pugi::xml_node structure = list.append_child("structure");
    structure.append_attribute("typeName") = kStructureName;
    for (std::size_t i = 0; i < header.size() && i < row.size(); ++i) {
      pugi::xml_node field = structure.append_child("field");
      field.append_attribute("name") = header[i].c_str();
      add_string(field, row[i]);
    }
  }
  return print(document);
}

std::string xml_text(std::string_view text) {
  pugi::xml_document document;
  add_string(add_output(document), text);
  return print(document);
}

}  // namespace vdvs::cli
