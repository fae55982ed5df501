#include "esx-vmci/hypervisor/qemu_config.h"

#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/json.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// 0 to 2 are the hypervisor's, the loopback's and the host's (vsock(7)); the last one means "any".
constexpr std::uint32_t kFirstGuestCid = 3;
constexpr std::size_t kMaxVmNameBytes = 255;

/// 8-4-4-4-12 hex digits, as lower case.
std::optional<std::string> normal_uuid(std::string_view text) {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  if (text.size() != kShape.size()) return std::nullopt;
  std::string uuid;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (kShape[i] == '-' ? c != '-' : std::isxdigit(c) == 0) return std::nullopt;
    uuid += static_cast<char>(std::tolower(c));
  }
  return uuid;
}

/// Takes the members of one VM, and can say what is wrong with them.
class Reader {
 public:
  Reader(const boost::json::object& object, std::size_t index)
      : object_(object), where_(fmt::format("vms[{}]", index)) {}

  Result<QemuVm> read() const {
    RETURN_IF_ERROR(check_members());
    QemuVm vm;
    ASSIGN_OR_RETURN(vm.vm.name, text("name", true));
    if (vm.vm.name.size() > kMaxVmNameBytes) return wrong("name", "is too long");
    ASSIGN_OR_RETURN(const std::string uuid, text("uuid", true));
    auto normal = normal_uuid(uuid);
    if (!normal) return wrong("uuid", "is not 8-4-4-4-12 hex digits");
    vm.vm.uuid = std::move(*normal);
    ASSIGN_OR_RETURN(vm.qmp_path, text("qmp", true));
    if (vm.qmp_path.front() != '/') return wrong("qmp", "is not an absolute path");
    if (vm.qmp_path.size() >= sizeof(sockaddr_un::sun_path)) return wrong("qmp", "is too long for a socket");
    ASSIGN_OR_RETURN(vm.cid, cid());
    ASSIGN_OR_RETURN(vm.certificate, text("certificate", false));
    if (vm.certificate.empty()) vm.certificate = vm.vm.name;
    ASSIGN_OR_RETURN(vm.vm.datastore, text("datastore", false));
    return vm;
  }

 private:
  std::unexpected<base::Error> wrong(std::string_view member, std::string_view why) const {
    return fail(ErrorCode::kInvalid, "{}: \"{}\" {}", where_, member, why);
  }

  Result<void> check_members() const {
    constexpr std::array<std::string_view, 6> kKnown{"name", "uuid",        "qmp",
                                                     "cid",  "certificate", "datastore"};
    for (const auto& member : object_) {
      if (std::ranges::find(kKnown, std::string_view(member.key())) == kKnown.end())
        return wrong(member.key(), "is not known (name, uuid, qmp, cid, certificate, datastore are)");
    }
    return {};
  }

  Result<std::string> text(std::string_view member, bool is_needed) const {
    const auto* value = object_.if_contains(member);
    if (value == nullptr && !is_needed) return std::string();
    if (value == nullptr) return wrong(member, "is missing");
    if (!value->is_string() || value->get_string().empty()) return wrong(member, "is not a text");
    std::string text(value->get_string());
    if (std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
      return wrong(member, "has control characters");
    return text;
  }

  Result<std::optional<std::uint32_t>> cid() const {
    const auto* value = object_.if_contains("cid");
    if (value == nullptr) return std::optional<std::uint32_t>();
    boost::json::error_code error;
    const auto number = value->to_number<std::uint32_t>(error);
    if (error || number < kFirstGuestCid || number == std::numeric_limits<std::uint32_t>::max())
      return wrong("cid", "is not a guest's context id (3 and above)");
    return std::optional(number);
  }

  const boost::json::object& object_;
  const std::string where_;
};

/// What must tell VMs apart.
Result<void> check_distinct(const std::vector<QemuVm>& vms) {
  std::set<std::string> seen;
  for (const QemuVm& vm : vms) {
    std::vector<std::pair<std::string_view, std::string>> keys{
        {"name", vm.vm.name}, {"uuid", vm.vm.uuid}, {"qmp", vm.qmp_path}, {"certificate", vm.certificate}};
    if (vm.cid) keys.emplace_back("cid", std::to_string(*vm.cid));
    for (const auto& [member, value] : keys) {
      if (!seen.insert(fmt::format("{}={}", member, value)).second)
        return fail(ErrorCode::kInvalid, "two VMs have \"{}\" '{}'", member, value);
    }
  }
  return {};
}

}  // namespace

Result<QemuConfig> parse_qemu_config(std::string_view text) {
  ASSIGN_OR_RETURN(const boost::json::value value, base::parse_json(text));
  const auto* object = value.if_object();
  const auto* list = object == nullptr ? nullptr : object->if_contains("vms");
  if (list == nullptr || !list->is_array() || object->size() != 1)
    return fail(ErrorCode::kInvalid, "wanted: an object whose only member, \"vms\", is an array");
  const auto& entries = list->get_array();
  if (entries.size() > kMaxQemuVms)
    return fail(ErrorCode::kLimit, "{} VMs are too many (max is {})", entries.size(), kMaxQemuVms);
  QemuConfig config;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto* entry = entries[i].if_object();
    if (entry == nullptr) return fail(ErrorCode::kInvalid, "vms[{}] is not an object", i);
    ASSIGN_OR_RETURN(QemuVm vm, Reader(*entry, i).read());
    config.vms.push_back(std::move(vm));
  }
  RETURN_IF_ERROR(check_distinct(config.vms));
  return config;
}

Result<QemuConfig> load_qemu_config(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, base::read_file(path, kMaxQemuConfigBytes));
  auto config = parse_qemu_config(text);
  if (!config)
    return std::unexpected(std::move(config).error().within(fmt::format("read VMs from '{}'", path)));
  return config;
}

}  // namespace vdvs::esx
