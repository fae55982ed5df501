// Whatever comes over the admin socket is a command, or an answer that says why not; both directions read
// back what they write.
#include <boost/json/serialize.hpp>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/admin/commands.h"

namespace {

/// Carries nothing out: what is tested is the way in and out.
class CheckOnly final : public vdvs::esx::Admin {
 public:
  vdvs::base::Result<vdvs::esx::AdminOutput> run(const vdvs::esx::AdminCommand& command) override {
    RETURN_IF_ERROR(vdvs::esx::check_command(command));
    return vdvs::esx::AdminOutput{.lines = {command.verb}};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckOnly admin;
  const auto reply = base::parse_json(esx::answer_admin_request(admin, text, "the fuzzer"));
  VDVS_CHECK(reply.has_value());
  (void)esx::admin_result(*reply);
  const auto value = base::parse_json(text);
  if (!value) return 0;
  if (const auto command = esx::admin_command_from_json(*value)) {
    const auto again = esx::admin_command_from_json(esx::to_json(*command));
    VDVS_CHECK(again.has_value() && again->verb == command->verb && again->flags == command->flags);
  }
  if (const auto output = esx::admin_result(*value)) {
    const auto again = esx::admin_result(esx::admin_reply(*output));
    VDVS_CHECK(again.has_value() && again->rows == output->rows && again->lines == output->lines);
  }
  return 0;
}
