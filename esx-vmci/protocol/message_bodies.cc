// What the replies say: addresses, volumes, lists.
#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <charconv>
#include <utility>

#include "base/json.h"
#include "esx-vmci/protocol/message.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::DiskAddress;
using base::ErrorCode;
using base::fail;
using base::LoopAddress;
using base::Result;
using base::ScsiAddress;

constexpr std::string_view kOurs = "vdvs";
constexpr std::string_view kUnit = "Unit";
constexpr std::string_view kSlot = "ControllerPciSlotNumber";
constexpr std::string_view kBus = "ControllerPciBusNumber";
constexpr std::string_view kDevice = "Device";
constexpr std::string_view kNoClone = "None";
constexpr std::string_view kInitStateOption = "state";
constexpr std::string_view kFsUuidOption = "fs_uuid";

std::unexpected<base::Error> odd(std::string_view what) {
  return fail(ErrorCode::kCorrupt, "read the service's reply: {}", what);
}

std::string text_or(const json::object& object, std::string_view key, std::string_view fallback = {}) {
  return base::find_string(object, key).value_or(std::string(fallback));
}

/// A number, or a string of digits, as the predecessor writes numbers.
std::optional<std::uint64_t> find_number(const json::object& object, std::string_view key) {
  const json::value* member = object.if_contains(key);
  if (member == nullptr) return std::nullopt;
  if (member->is_uint64()) return member->get_uint64();
  if (member->is_int64() && member->get_int64() >= 0) return static_cast<std::uint64_t>(member->get_int64());
  const json::string* text = member->if_string();
  if (text == nullptr || text->empty()) return std::nullopt;
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return number;
}

std::optional<std::uint32_t> find_small_number(const json::object& object, std::string_view key) {
  const auto number = find_number(object, key);
  if (!number || *number > UINT32_MAX) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

std::optional<InitState> find_init_state(std::string_view name) {
  for (InitState state :
       {InitState::kNew, InitState::kFormatting, InitState::kFormatted, InitState::kReady}) {
    if (init_state_name(state) == name) return state;
  }
  return std::nullopt;
}

/// "100MB" and the like; nullopt for anything else.
std::optional<std::uint64_t> parse_human_size(std::string_view text) {
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit(end, text.data() + text.size());
  constexpr std::array<std::pair<std::string_view, int>, 5> kUnits = {
      {{"", 0}, {"KB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}}};
  for (const auto& [name, shift] : kUnits) {
    if (unit != name) continue;
    if (number > UINT64_MAX >> shift) return std::nullopt;
    return number << shift;
  }
  return std::nullopt;
}

json::object encode_options(const OptionMap& options) {
  json::object object;
  for (const auto& [option, value] : options) object[option] = value;
  return object;
}

json::object encode_holder(const DiskHolder& holder) {
  return {{"uuid", holder.uuid}, {"name", holder.name}, {"since", holder.since}, {"what", holder.what}};
}

json::object encode_details(const VolumeInfo& info) {
  json::object ours{{"name", info.name.text()},
                    {"disk_uuid", info.disk_uuid},
                    {"size_bytes", info.size_bytes},
                    {"allocated_bytes", info.allocated_bytes},
                    {"options", encode_options(info.options)},
                    {"init", init_state_name(info.init)},
                    {"fs_uuid", info.fs_uuid},
                    {"attached_here", info.is_attached_here}};
  if (info.holder) ours["holder"] = encode_holder(*info.holder);
  if (info.address) ours["address"] = encode_address(*info.address);
  return ours;
}

void put_holder(const VolumeInfo& info, json::object& status) {
  status["status"] = info.holder ? "attached" : "detached";
  if (!info.holder) return;
  status["attached to VM"] = info.holder->name.empty() ? info.holder->uuid : info.holder->name;
  if (info.address && std::holds_alternative<ScsiAddress>(*info.address)) {
    status["attachedVMDevice"] = encode_attach(*info.address, false);
  }
}

OptionMap options_of(const json::object& object) {
  OptionMap options;
  for (const auto& member : object) {
    if (member.value().is_string()) options[member.key()] = std::string(member.value().get_string());
  }
  return options;
}

/// The "vdvs" of our own services, into what the Status said.
Result<void> read_details(const json::object& ours, VolumeInfo& info) {
  ASSIGN_OR_RETURN(info.name, VolumeName::parse(text_or(ours, "name")));
  if (!info.name.is_qualified()) return odd("a volume's name is without a datastore");
  info.disk_uuid = text_or(ours, "disk_uuid");
  info.size_bytes = find_number(ours, "size_bytes").value_or(0);
  info.allocated_bytes = find_number(ours, "allocated_bytes").value_or(0);
  if (const json::value* options = ours.if_contains("options"); options != nullptr && options->is_object()) {
    info.options = options_of(options->get_object());
  }
  // What we do not understand is data.
  info.init = find_init_state(text_or(ours, "init")).value_or(InitState::kReady);
  info.fs_uuid = text_or(ours, "fs_uuid");
  const json::value* here = ours.if_contains("attached_here");
  info.is_attached_here = here != nullptr && here->is_bool() && here->get_bool();
  info.holder.reset();
  if (const json::value* holder = ours.if_contains("holder"); holder != nullptr && holder->is_object()) {
    const json::object& who = holder->get_object();
    info.holder =
        DiskHolder{text_or(who, "uuid"), text_or(who, "name"), text_or(who, "since"), text_or(who, "what")};
  }
  info.address.reset();
  if (const json::value* address = ours.if_contains("address"); address != nullptr) {
    ASSIGN_OR_RETURN(info.address, decode_address(*address));
  }
  return {};
}

void read_capacity(const json::object& status, VolumeInfo& info) {
  const json::value* member = status.if_contains("capacity");
  if (member == nullptr || !member->is_object()) return;
  const json::object& capacity = member->get_object();
  info.size_bytes = parse_human_size(text_or(capacity, "size")).value_or(0);
  info.allocated_bytes = parse_human_size(text_or(capacity, "allocated")).value_or(0);
}

void read_options(const json::object& status, VolumeInfo& info) {
  for (std::string_view key :
       {"fstype", "vsan-policy-name", "diskformat", "attach-as", "access", "clone-from"}) {
    auto value = base::find_string(status, key);
    if (value && !(key == "clone-from" && *value == kNoClone)) info.options[std::string(key)] = *value;
  }
  // A volume's size is a whole number of megabytes, but what has a gigabyte or more was rounded.
  if (info.size_bytes >> 30 != 0) {
    info.options["size"] = fmt::format("{}gb", info.size_bytes >> 30);
  } else if (info.size_bytes >> 20 != 0) {
    info.options["size"] = fmt::format("{}mb", info.size_bytes >> 20);
  }
}

Result<DiskAddress> decode_scsi_reply(const json::object& body) {
  ScsiAddress address;
  const auto unit = find_small_number(body, kUnit);
  if (!unit) return odd("an attach without the disk's unit");
  address.unit = *unit;
  address.pci_slot = find_small_number(body, kSlot);
  address.pci_bus = text_or(body, kBus);
  if (!address.pci_slot && address.pci_bus.empty()) {
    if (!body.contains("Bus")) return odd("an attach without the disk's controller");
    return std::unexpected(base::Error(ErrorCode::kUnsupported,
                                       "read the service's reply: it names the disk by Bus and Unit, as the "
                                       "first releases did, which does not tell "
                                       "where the disk is",
                                       "update the service on the hypervisor"));
  }
  return address;
}

}  // namespace

std::string human_size(std::uint64_t bytes) {
  if (bytes >> 10 == 0) return fmt::format("{}", bytes);
  if (bytes >> 20 == 0) return fmt::format("{}KB", bytes >> 10);
  if (bytes >> 30 == 0) return fmt::format("{}MB", bytes >> 20);
  return fmt::format("{}GB", bytes >> 30);
}

json::object encode_address(const DiskAddress& address) {
  if (const auto* loop = std::get_if<LoopAddress>(&address)) {
    return {{"kind", "loop"},
            {"node", loop->node},
            {"diskseq", loop->diskseq},
            {"file_device", loop->file_device},
            {"file_inode", loop->file_inode}};
  }
  const auto& scsi = std::get<ScsiAddress>(address);
  json::object object{{"kind", "scsi"}, {"disk_uuid", scsi.disk_uuid}, {"unit", scsi.unit}};
  if (scsi.pci_slot) object["pci_slot"] = *scsi.pci_slot;
  if (!scsi.pci_bus.empty()) object["pci_bus"] = scsi.pci_bus;
  return object;
}

Result<DiskAddress> decode_address(const json::value& value) {
  if (!value.is_object()) return odd("a disk's address is not an object");
  const json::object& object = value.get_object();
  const std::string kind = text_or(object, "kind");
  if (kind == "loop") {
    LoopAddress address{.node = text_or(object, "node")};
    address.diskseq = find_number(object, "diskseq").value_or(0);
    address.file_device = find_number(object, "file_device").value_or(0);
    address.file_inode = find_number(object, "file_inode").value_or(0);
    if (address.node.empty()) return odd("a loop device without its node");
    return address;
  }
  if (kind != "scsi") return odd(fmt::format("a disk's address is of the unknown kind '{}'", kind));
  ScsiAddress address{.disk_uuid = text_or(object, "disk_uuid")};
  address.pci_slot = find_small_number(object, "pci_slot");
  address.pci_bus = text_or(object, "pci_bus");
  const auto unit = find_small_number(object, "unit");
  const bool is_found_by_place = unit && (address.pci_slot || !address.pci_bus.empty());
  if (address.disk_uuid.empty() && !is_found_by_place) return odd("a disk's address that leads nowhere");
  address.unit = unit.value_or(0);
  return address;
}

json::value encode_attach(const DiskAddress& address, bool with_details) {
  json::object body;
  if (const auto* scsi = std::get_if<ScsiAddress>(&address)) {
    body[kUnit] = fmt::format("{}", scsi->unit);
    if (scsi->pci_slot) body[kSlot] = fmt::format("{}", *scsi->pci_slot);
    if (!scsi->pci_bus.empty()) body[kBus] = scsi->pci_bus;
  } else {
    body[kDevice] = std::get<LoopAddress>(address).node;
  }
  if (with_details) body[kOurs] = encode_address(address);
  return body;
}

Result<DiskAddress> decode_attach(const json::value& body) {
  if (!body.is_object()) return odd("an attach that does not say where the disk is");
  const json::object& object = body.get_object();
  if (const json::value* ours = object.if_contains(kOurs)) return decode_address(*ours);
  if (auto node = base::find_string(object, kDevice); node && !node->empty())
    return LoopAddress{.node = *node};
  return decode_scsi_reply(object);
}

json::value encode_info(const VolumeInfo& info, bool with_details) {
  json::object status{
      {"created by VM", info.created_by},
      {"created", info.created},
      {"capacity", {{"size", human_size(info.size_bytes)}, {"allocated", human_size(info.allocated_bytes)}}},
      {"datastore", info.name.datastore()},
  };
  put_holder(info, status);
  auto stored = [&](std::string_view key, std::string_view fallback) {
    const auto found = info.options.find(std::string(key));
    if (found != info.options.end()) {
      status[key] = found->second;
    } else if (!fallback.empty()) {
      status[key] = fallback;
    }
  };
  stored("fstype", "");
  stored("vsan-policy-name", "");
  stored("diskformat", "thin");
  stored("attach-as", "independent_persistent");
  stored("access", "read-write");
  stored("clone-from", kNoClone);
  if (with_details) status[kOurs] = encode_details(info);
  return status;
}

Result<VolumeInfo> decode_info(const json::value& body, const VolumeName& asked) {
  if (!body.is_object()) {
    return fail(ErrorCode::kCorrupt, "get '{}': the service cannot read the volume's metadata", asked.text());
  }
  const json::object& status = body.get_object();
  VolumeInfo info{.name = asked};
  info.created = text_or(status, "created");
  info.created_by = text_or(status, "created by VM");
  if (const json::value* ours = status.if_contains(kOurs); ours != nullptr && ours->is_object()) {
    RETURN_IF_ERROR(read_details(ours->get_object(), info));
    return info;
  }
  auto name = VolumeName::parse(asked.volume() + "@" + text_or(status, "datastore"));
  if (!name) return odd("a volume without its datastore");
  info.name = *name;
  read_capacity(status, info);
  read_options(status, info);
  if (text_or(status, "status") == "attached") {
    info.holder = DiskHolder{.uuid = {}, .name = text_or(status, "attached to VM"), .since = {}, .what = {}};
    if (const json::value* device = status.if_contains("attachedVMDevice")) {
      if (auto address = decode_attach(*device)) info.address = std::move(*address);
    }
  }
  return info;
}

json::value encode_list(const std::vector<VolumeName>& names) {
  json::array list;
  list.reserve(names.size());
  for (const VolumeName& name : names) {
    list.push_back({{"Name", name.text()}, {"Attributes", json::object()}});
  }
  return list;
}

namespace {

Result<std::vector<VolumeName>> sorted_names(std::vector<std::string> texts) {
  std::vector<VolumeName> names;
  names.reserve(texts.size());
  for (const std::string& text : texts) {
    auto name = VolumeName::parse(text);
    if (!name) continue;  // the predecessor made volumes with such names, and nobody can use them here
    if (!name->is_qualified()) return odd(fmt::format("the name '{}' is without a datastore", text));
    names.push_back(std::move(*name));
  }
  std::ranges::sort(names);
  names.erase(std::ranges::unique(names).begin(), names.end());
  return names;
}

}  // namespace

Result<std::vector<VolumeName>> decode_list(const json::value& body) {
  if (!body.is_array()) return odd("a listing that is not an array");
  std::vector<std::string> texts;
  for (const json::value& element : body.get_array()) {
    auto name = element.is_object() ? base::find_string(element.get_object(), "Name") : std::nullopt;
    if (!name) return odd("a listing with an entry without a name");
    texts.push_back(std::move(*name));
  }
  return sorted_names(std::move(texts));
}

bool VersionReply::has(std::string_view capability) const {
  return std::ranges::find(capabilities, capability) != capabilities.end();
}

json::value encode_version(const VersionReply& reply) {
  json::object body{{"version", reply.version}};
  if (reply.capabilities.empty()) return body;
  json::array& list = body["capabilities"].emplace_array();
  for (const std::string& capability : reply.capabilities) list.emplace_back(capability);
  return body;
}

Result<VersionReply> decode_version(const json::value& body) {
  if (!body.is_object()) return odd("a version that is not an object");
  const json::object& object = body.get_object();
  VersionReply reply{.version = text_or(object, "version"), .capabilities = {}};
  const json::value* list = object.if_contains("capabilities");
  if (list == nullptr || !list->is_array()) return reply;
  for (const json::value& capability : list->get_array()) {
    if (capability.is_string()) reply.capabilities.emplace_back(capability.get_string());
  }
  return reply;
}

json::value encode_attached(const AttachedReply& reply) {
  json::array names;
  for (const VolumeName& name : reply.volumes) names.emplace_back(name.text());
  return json::object{{"volumes", std::move(names)}, {"default_datastore", reply.default_datastore}};
}

Result<AttachedReply> decode_attached(const json::value& body) {
  if (!body.is_object()) return odd("what is attached is not an object");
  const json::object& object = body.get_object();
  const json::value* list = object.if_contains("volumes");
  if (list == nullptr || !list->is_array()) return odd("what is attached is not a list");
  std::vector<std::string> texts;
  for (const json::value& element : list->get_array()) {
    if (!element.is_string()) return odd("what is attached has an entry that is not a name");
    texts.emplace_back(element.get_string());
  }
  AttachedReply reply;
  ASSIGN_OR_RETURN(reply.volumes, sorted_names(std::move(texts)));
  reply.default_datastore = text_or(object, "default_datastore");
  return reply;
}

OptionMap encode_init(const InitWish& wish) {
  OptionMap options{{std::string(kInitStateOption), std::string(init_state_name(wish.state))}};
  if (!wish.fs_uuid.empty()) options[std::string(kFsUuidOption)] = wish.fs_uuid;
  return options;
}

Result<InitWish> decode_init(const OptionMap& options) {
  InitWish wish;
  bool has_state = false;
  for (const auto& [option, value] : options) {
    if (option == kInitStateOption) {
      const auto state = find_init_state(value);
      if (!state) return fail(ErrorCode::kInvalid, "set_init: '{}' is not a state", value);
      wish.state = *state;
      has_state = true;
    } else if (option == kFsUuidOption) {
      wish.fs_uuid = value;
    } else {
      return fail(ErrorCode::kInvalid, "set_init: unknown option '{}'", option);
    }
  }
  if (!has_state) return fail(ErrorCode::kInvalid, "set_init: no state is given");
  return wish;
}

}  // namespace vdvs::esx
