// The first line is a policy's name, the rest its content. A valid name is a plain file name; valid content
// has balanced parentheses, known characters and no end too early.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esx-vmci/tenancy/policies.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view name = text.substr(0, end);
  const std::string_view content = text.substr(std::min(end + 1, text.size()));
  if (validate_policy_name(name)) {
    VDVS_CHECK(!name.empty() && name.size() <= kMaxPolicyNameBytes && name.front() != '.');
    VDVS_CHECK(name.find_first_of(std::string_view("/\0\n", 3)) == std::string_view::npos);
  }
  if (const auto valid = validate_policy_content(content); valid) {
    VDVS_CHECK(content.find_first_of("';$`\\&|<>") == std::string_view::npos);
    VDVS_CHECK(content.find_first_not_of(" \t\n") == content.find('('));
  } else {
    VDVS_CHECK(valid.error().message().starts_with("Error: Invalid policy string: "));
  }
  return 0;
}
