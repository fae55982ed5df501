#include "esx-vmci/client/original_service.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::array<std::string_view, 7> kOriginalOptions = {
    "size", "vsan-policy-name", "diskformat", "attach-as", "access", "fstype", "clone-from"};
constexpr std::string_view kCloneFrom = "clone-from";
constexpr std::string_view kFsType = "fstype";

std::string option_or_empty(const OptionMap& options, std::string_view name) {
  const auto found = options.find(std::string(name));
  return found == options.end() ? std::string() : found->second;
}

/// What an original service takes. Its own guests always name a file system.
OptionMap options_to_send(const OptionMap& given) {
  OptionMap sent;
  for (const auto& [option, value] : given) {
    if (std::ranges::find(kOriginalOptions, option) != kOriginalOptions.end()) sent[option] = value;
  }
  if (!sent.contains(std::string(kCloneFrom))) sent.emplace(kFsType, VolumeOptions().fstype);
  return sent;
}

bool is_same_volume(const OriginalRecord& record, const VolumeInfo& info) {
  // Of a record from a create whose answer was not followed by a look, the volume was just made.
  if (record.created.empty()) return record.init == InitState::kNew || record.is_attached;
  return record.created == info.created && record.created_by == info.created_by;
}

}  // namespace

Result<Answer> ask_service(ServiceLink& link, Command command, const std::string& name, OptionMap options,
                           std::chrono::milliseconds time) {
  Request request{.command = std::string(command_name(command)),
                  .name = name,
                  .options = std::move(options),
                  .version = kProtocolVersion,
                  .id = {},
                  .wants_details = true};
  auto answer = link.ask(std::move(request), base::deadline_in(time));
  if (answer) return answer;
  const std::string what =
      name.empty() ? std::string(command_name(command)) : fmt::format("{} '{}'", command_name(command), name);
  return std::unexpected(std::move(answer).error().within(what));
}

Result<json::value> command_service(ServiceLink& link, Command command, const std::string& name,
                                    OptionMap options, std::chrono::milliseconds time) {
  ASSIGN_OR_RETURN(Answer answer, ask_service(link, command, name, std::move(options), time));
  return std::move(answer.result);
}

bool is_as_asked(const VolumeInfo& info, const OptionMap& asked, bool is_size_rounded) {
  OptionMap wish = asked;
  if (auto source = wish.find(std::string(kCloneFrom)); source != wish.end()) {
    if (auto name = VolumeName::parse(source->second)) source->second = name->volume();
  }
  if (is_size_rounded) {
    const auto size = parse_size(option_or_empty(asked, "size"));
    if (size && human_size(*size) != human_size(info.size_bytes)) return false;
    wish.erase("size");
    std::erase_if(wish, [](const auto& option) {
      return std::ranges::find(kOriginalOptions, option.first) == kOriginalOptions.end();
    });
  }
  return differences(info.options, wish).empty();
}

/// What the service says, and nothing else.
Result<VolumeInfo> OriginalService::look(const VolumeName& name) {
  ASSIGN_OR_RETURN(const json::value body, command(Command::kGet, name));
  return decode_info(body, name);
}

Result<VolumeName> OriginalService::qualify(const VolumeName& name) {
  if (name.is_qualified()) return name;
  ASSIGN_OR_RETURN(const VolumeInfo info, look(name));
  return info.name;
}

/// What this host knows of the volume, laid over what the service says.
void OriginalService::merge(const VolumeName& name, VolumeInfo& info) {
  const bool is_held_by_us = info.holder && !own_name().empty() && info.holder->name == own_name();
  const std::optional<base::DiskAddress> recorded = std::exchange(info.address, std::nullopt);
  info.is_attached_here = is_held_by_us;
  if (is_held_by_us) info.address = recorded;
  const auto record = memory_.find(name.text());
  if (!record || !is_same_volume(*record, info)) return;
  info.init = record->init;
  info.fs_uuid = record->fs_uuid;
  for (const auto& [option, value] : record->options) info.options[option] = value;
  if (auto size = parse_size(option_or_empty(record->options, "size"))) info.size_bytes = *size;
  if (!info.holder || !record->is_attached) return;
  info.is_attached_here = is_held_by_us || own_name().empty();
  if (info.is_attached_here && record->address) info.address = record->address;
}

Result<VolumeInfo> OriginalService::get(const VolumeName& name) {
  ASSIGN_OR_RETURN(VolumeInfo info, look(name));
  merge(info.name, info);
  if (info.is_attached_here && !info.address) {
    // Attached before this host kept records: to attach again does nothing but say where.
    ASSIGN_OR_RETURN(info.address, attach(info.name));
  }
  return info;
}

/// The state in which a volume starts that this host makes. Of a clone nothing is known but that of a volume
/// which was never written to.
Result<InitState> OriginalService::first_state(const OptionMap& given, const VolumeName& clone) {
  const std::string source = option_or_empty(given, kCloneFrom);
  if (source.empty()) return InitState::kNew;
  auto name = VolumeName::parse(source);
  if (!name) return InitState::kReady;  // the service will not find it
  if (!name->is_qualified() && clone.is_qualified()) name = name->on(clone.datastore());
  auto info = get(*name);
  if (!info && info.error().code() == ErrorCode::kUnavailable)
    return std::unexpected(std::move(info).error());
  return info && info->init == InitState::kNew ? InitState::kNew : InitState::kReady;
}

Result<void> OriginalService::create(const VolumeName& name, const OptionMap& given) {
  RETURN_IF_ERROR(VolumeOptions::parse(given));
  ASSIGN_OR_RETURN(const InitState state, first_state(given, name));
  ASSIGN_OR_RETURN(const Answer answer,
                   ask_service(link_, Command::kCreate, name.text(), options_to_send(given), request_time_));
  const bool exists = !answer.result && answer.result.error().code() == ErrorCode::kExists;
  if (!answer.result && !(exists && answer.was_repeated)) return std::unexpected(answer.result.error());
  auto info = look(name);
  if (exists) {
    if (!info || !is_as_asked(*info, given, true)) return std::unexpected(answer.result.error());
    // It may be a volume that somebody has used: only one that holds nothing yet is taken for the one just
    // made.
    if (info->holder) return std::unexpected(answer.result.error());
  }
  OriginalRecord record{.init = state, .options = given};
  if (info) {
    record.created = info->created;
    record.created_by = info->created_by;
  } else if (!name.is_qualified()) {
    return std::unexpected(
        std::move(info).error());  // where it was made is not known, so neither is its name
  }
  return memory_.put(info ? info->name.text() : name.text(), record);
}

Result<void> OriginalService::remove(const VolumeName& name) {
  auto qualified = qualify(name);
  auto removed = command(Command::kRemove, name);
  if (!removed) {
    base::Error error = std::move(removed).error();
    if (qualified && error.code() == ErrorCode::kBusyElsewhere) {
      const auto record = memory_.find(qualified->text());
      if (record && record->is_attached) {
        return std::unexpected(
            base::Error(ErrorCode::kInUse, error.message(), "stop the containers that use it"));
      }
    }
    return std::unexpected(std::move(error));
  }
  return qualified ? memory_.erase(qualified->text()) : Result<void>();
}

void OriginalService::learn_own_name(const VolumeInfo& info) {
  if (!own_name().empty() || !info.holder || info.holder->name.empty()) return;
  if (auto kept = memory_.set_vm_name(info.holder->name); !kept) {
    base::log::warn("this host's name is not remembered", {{"cause", kept.error().text()}});
  }
}

Result<base::DiskAddress> OriginalService::attach(const VolumeName& name) {
  ASSIGN_OR_RETURN(const VolumeName qualified, qualify(name));
  ASSIGN_OR_RETURN(const json::value body, command(Command::kAttach, qualified));
  auto address = decode_attach(body);
  if (!address) {
    // Nobody can use a disk that is nowhere to be found; it should not stay in this VM.
    if (auto detached = command(Command::kDetach, qualified); !detached) {
      base::log::warn("a disk stays attached that cannot be found",
                      {{"volume", qualified.text()}, {"cause", detached.error().text()}});
    }
    return std::unexpected(std::move(address).error().within(fmt::format("attach '{}'", name.text())));
  }
  OriginalRecord record = memory_.find(qualified.text()).value_or(OriginalRecord());
  if (own_name().empty() || record.created.empty()) {
    if (auto info = look(qualified)) {
      learn_own_name(*info);
      if (!is_same_volume(record, *info)) record = OriginalRecord();
      record.created = info->created;
      record.created_by = info->created_by;
    }
  }
  record.is_attached = true;
  record.address = *address;
  RETURN_IF_ERROR(memory_.put(qualified.text(), record));
  return *address;
}

Result<void> OriginalService::detach(const VolumeName& name) {
  auto detached = command(Command::kDetach, name);
  // A volume that is not there is attached nowhere.
  if (!detached && detached.error().code() != ErrorCode::kNotFound)
    return std::unexpected(std::move(detached).error());
  auto qualified = qualify(name);
  if (!qualified) return {};
  auto record = memory_.find(qualified->text());
  if (!record || !record->is_attached) return {};
  record->is_attached = false;
  record->address.reset();
  return memory_.put(qualified->text(), *record);
}

Result<std::vector<VolumeName>> OriginalService::attached_here() {
  std::vector<VolumeName> candidates;
  if (own_name().empty()) {
    for (const std::string& volume : memory_.attached()) {
      if (auto name = VolumeName::parse(volume)) candidates.push_back(*name);
    }
  } else {
    ASSIGN_OR_RETURN(const json::value body, command_service(link_, Command::kList, "", {}, request_time_));
    ASSIGN_OR_RETURN(candidates, decode_list(body));
  }
  std::vector<VolumeName> attached;
  for (const VolumeName& name : candidates) {
    auto info = look(name);
    if (!info && info.error().code() == ErrorCode::kNotFound) continue;  // removed meanwhile
    if (!info) return std::unexpected(std::move(info).error());
    merge(name, *info);
    if (info->is_attached_here) attached.push_back(name);
  }
  return attached;
}

Result<void> OriginalService::set_init(const VolumeName& name, InitState state, const std::string& fs_uuid) {
  ASSIGN_OR_RETURN(VolumeInfo info, look(name));
  merge(info.name, info);
  if (state < info.init) {
    return fail(ErrorCode::kInvalid, "mark '{}' as {}: it is {} already", name.text(), init_state_name(state),
                init_state_name(info.init));
  }
  OriginalRecord record = memory_.find(info.name.text()).value_or(OriginalRecord());
  if (!is_same_volume(record, info)) record = OriginalRecord();
  record.created = info.created;
  record.created_by = info.created_by;
  record.init = state;
  record.fs_uuid = fs_uuid;
  return memory_.put(info.name.text(), record);
}

/// The service cannot blank a disk. The record stays until the new disk is made, so that whoever died in
/// between, or was refused, finds by it what to make.
Result<void> OriginalService::reset(const VolumeName& name) {
  auto info = look(name);
  const VolumeName known = info ? info->name : name;
  const auto record = memory_.find(known.text());
  const bool is_half_done = !info && info.error().code() == ErrorCode::kNotFound && record &&
                            (record->init == InitState::kFormatting || record->init == InitState::kFormatted);
  if (is_half_done) return create(known, record->options);
  if (!info) return std::unexpected(std::move(info).error());
  merge(known, *info);
  if (info->init != InitState::kFormatting && info->init != InitState::kFormatted) {
    return fail(ErrorCode::kInvalid,
                "reset '{}': its state is {}, and only a disk that was being formatted can be reset",
                name.text(), init_state_name(info->init));
  }
  if (info->holder) {
    return fail(ErrorCode::kInUse, "reset '{}': disk is attached to vm '{}'", name.text(),
                info->holder->name);
  }
  VDVS_CHECK(record.has_value());
  RETURN_IF_ERROR(command(Command::kRemove, known));
  return create(known, record->options);
}

}  // namespace vdvs::esx
