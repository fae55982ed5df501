// What esxcli reads from a command and shows as its own: one document in its namespace, either a list of
// structures (a table's rows) or one string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vdvs::cli {

/// A table without rows is one structure of empty fields: esxcli takes no empty list.
std::string xml_table(const std::vector<std::string>& header,
                      const std::vector<std::vector<std::string>>& rows);
std::string xml_text(std::string_view text);

}  // namespace vdvs::cli
