// An administrator's output as text: for people, for esxcli, for programs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::cli {

enum class OutputFormat { kPlain, kXml, kJson };
std::optional<OutputFormat> find_output_format(std::string_view name);  ///< "plain", "xml", "json"

struct Printed {
  std::string out;    ///< For standard output.
  std::string notes;  ///< For standard error: what a table could not show.
};

Printed print_output(const esx::AdminOutput& output, OutputFormat format, std::size_t terminal_width);
/// "ERROR:<text>", as the predecessor, and what to do on a line of its own; {"error": {...}} with kJson.
std::string print_error(const base::Error& error, OutputFormat format);

}  // namespace vdvs::cli
