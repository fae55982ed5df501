// Each line is a word of the command line. Whatever it is, it is a command that the table allows, or it ends
// with a message; and its last word is completed to words that begin as it does.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/admin_arguments.h"
#include "cli/table.h"
#include "cli/xml_output.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  const cli::AdminArguments arguments = cli::parse_admin_arguments(words);
  if (arguments.exit_status)
    VDVS_CHECK(!arguments.message.empty());
  else
    VDVS_CHECK(esx::check_command(arguments.command).has_value());
  const cli::Completions completions = cli::complete_admin_arguments(words);
  for (const std::string& word : completions.words) VDVS_CHECK(word.starts_with(words.back()));
  // The same words as cells: a table is never wider than it may be, and XML takes everything.
  const std::string table = cli::render_table(
      {"Words"}, {words.begin() == words.end() ? std::vector<std::string>{""} : std::vector{words.front()}},
      20);
  VDVS_CHECK(cli::display_width(std::string_view(table).substr(0, table.find('\n'))) <= 22);
  (void)cli::xml_table({"Words"}, {{words.empty() ? "" : words.front()}});
  return 0;
}
