#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "esx-vmci/client/client.h"
#include "esx-vmci/client/original_memory.h"
#include "esx-vmci/client/original_service.h"
#include "esx-vmci/client/service_link.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::Result;

/// The administrator may give this host another default datastore at any time.
constexpr base::Clock::duration kDefaultDatastoreAge = std::chrono::minutes(1);

class ClientControlPlane final : public ControlPlane {
 public:
  ClientControlPlane(const ClientOptions& options, std::unique_ptr<OriginalMemory> memory)
      : request_time_(options.request_time),
        memory_(std::move(memory)),
        link_(make_service_link(options.endpoint, options.tls)),
        original_(*link_, *memory_, options.vm_name, options.request_time) {}

  Result<void> create(const VolumeName& name, const OptionMap& options, const Progress& progress) override;
  Result<void> remove(const VolumeName& name) override;
  Result<base::DiskAddress> attach(const VolumeName& name) override;
  Result<void> detach(const VolumeName& name) override;
  Result<VolumeInfo> get(const VolumeName& name) override;
  Result<std::vector<VolumeName>> list() override;
  std::string default_datastore() const override { return memory_->default_datastore(); }
  Result<std::vector<VolumeName>> attached_here() override;
  Result<void> set_init(const VolumeName& name, InitState state, const std::string& fs_uuid) override;
  Result<void> reset(const VolumeName& name) override;

 private:
  Result<bool> is_original(std::string_view operation, const std::string& name);
  Result<void> create_on_ours(const VolumeName& name, const OptionMap& options);
  Result<json::value> command(Command command, const VolumeName& name, OptionMap options = {}) {
    return command_service(*link_, command, name.text(), std::move(options), request_time_);
  }
  Result<AttachedReply> ask_attached();
  void learn_default_datastore();

  const std::chrono::milliseconds request_time_;
  const std::unique_ptr<OriginalMemory> memory_;
  const std::unique_ptr<ServiceLink> link_;
  OriginalService original_;

  mutable base::Mutex mutex_;
  std::optional<base::Deadline> known_until_ GUARDED_BY(mutex_);
};

/// Which service there is. Asks a service of ours for the default datastore where that is old.
Result<bool> ClientControlPlane::is_original(std::string_view operation, const std::string& name) {
  auto service = link_->service(base::deadline_in(request_time_));
  if (!service) {
    return std::unexpected(std::move(service).error().within(
        name.empty() ? std::string(operation) : fmt::format("{} '{}'", operation, name)));
  }
  if (!service->is_original && service->version.has(kCapabilityInit)) learn_default_datastore();
  return service->is_original;
}

Result<AttachedReply> ClientControlPlane::ask_attached() {
  ASSIGN_OR_RETURN(const json::value body,
                   command_service(*link_, Command::kAttached, "", {}, request_time_));
  ASSIGN_OR_RETURN(AttachedReply reply, decode_attached(body));
  if (auto kept = memory_->set_default_datastore(reply.default_datastore); !kept) {
    base::log::warn("the default datastore is not remembered", {{"cause", kept.error().text()}});
  }
  return reply;
}

void ClientControlPlane::learn_default_datastore() {
  {
    base::MutexLock lock(mutex_);
    if (known_until_ && !base::has_passed(*known_until_)) return;
    known_until_ = base::deadline_in(kDefaultDatastoreAge);
  }
  if (ask_attached()) return;
  base::MutexLock lock(mutex_);
  known_until_.reset();  // asked again with the next operation, whose answer says what is wrong
}

Result<void> ClientControlPlane::create(const VolumeName& name, const OptionMap& options,
                                        const Progress& progress) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("create", name.text()));
  RETURN_IF_ERROR(is_old ? original_.create(name, options) : create_on_ours(name, options));
  if (progress) progress(1.0);
  return {};
}

Result<void> ClientControlPlane::create_on_ours(const VolumeName& name, const OptionMap& options) {
  ASSIGN_OR_RETURN(const Answer answer,
                   ask_service(*link_, Command::kCreate, name.text(), options, request_time_));
  if (answer.result) return {};
  const base::Error& error = answer.result.error();
  if (error.code() == ErrorCode::kExists && answer.was_repeated) {
    // Perhaps the lost try has made it. One that somebody has used is another one.
    auto info = get(name);
    if (info && !info->holder && is_as_asked(*info, options, false)) return {};
  }
  return std::unexpected(error);
}

Result<void> ClientControlPlane::remove(const VolumeName& name) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("remove", name.text()));
  if (is_old) return original_.remove(name);
  RETURN_IF_ERROR(command(Command::kRemove, name));
  return {};
}

Result<base::DiskAddress> ClientControlPlane::attach(const VolumeName& name) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("attach", name.text()));
  if (is_old) return original_.attach(name);
  ASSIGN_OR_RETURN(const json::value body, command(Command::kAttach, name));
  return decode_attach(body);
}

Result<void> ClientControlPlane::detach(const VolumeName& name) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("detach", name.text()));
  if (is_old) return original_.detach(name);
  RETURN_IF_ERROR(command(Command::kDetach, name));
  return {};
}

Result<VolumeInfo> ClientControlPlane::get(const VolumeName& name) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("get", name.text()));
  if (is_old) return original_.get(name);
  ASSIGN_OR_RETURN(const json::value body, command(Command::kGet, name));
  return decode_info(body, name);
}

Result<std::vector<VolumeName>> ClientControlPlane::list() {
  RETURN_IF_ERROR(is_original("list", ""));
  ASSIGN_OR_RETURN(const json::value body, command_service(*link_, Command::kList, "", {}, request_time_));
  return decode_list(body);
}

Result<std::vector<VolumeName>> ClientControlPlane::attached_here() {
  ASSIGN_OR_RETURN(const bool is_old, is_original("attached", ""));
  if (is_old) return original_.attached_here();
  ASSIGN_OR_RETURN(AttachedReply reply, ask_attached());
  return std::move(reply.volumes);
}

Result<void> ClientControlPlane::set_init(const VolumeName& name, InitState state,
                                          const std::string& fs_uuid) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("set_init", name.text()));
  if (is_old) return original_.set_init(name, state, fs_uuid);
  RETURN_IF_ERROR(command(Command::kSetInit, name, encode_init({state, fs_uuid})));
  return {};
}

Result<void> ClientControlPlane::reset(const VolumeName& name) {
  ASSIGN_OR_RETURN(const bool is_old, is_original("reset", name.text()));
  if (is_old) return original_.reset(name);
  ASSIGN_OR_RETURN(const Answer answer, ask_service(*link_, Command::kReset, name.text(), {}, request_time_));
  if (answer.result) return {};
  if (answer.result.error().code() == ErrorCode::kInvalid && answer.was_repeated) {
    // A blank disk cannot be reset: perhaps the lost try has made it one.
    auto info = get(name);
    if (info && info->init == InitState::kNew) return {};
  }
  return std::unexpected(answer.result.error());
}

}  // namespace

Result<std::unique_ptr<ControlPlane>> make_client_control_plane(ClientOptions options) {
  if (options.request_time <= std::chrono::milliseconds(0)) {
    return base::fail(ErrorCode::kInvalid, "control plane '{}': the time for a request must be above 0",
                      options.endpoint.text());
  }
  ASSIGN_OR_RETURN(auto memory, OriginalMemory::open(options.state_file));
  return std::make_unique<ClientControlPlane>(options, std::move(memory));
}

}  // namespace vdvs::esx
