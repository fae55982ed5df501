// A service as the predecessor's is seen from a guest: one request a connection, no extension, its texts, its
// replies in three pieces, at most 4096 bytes a request. Its datastore "ds1" is in memory, its disks are only
// their records: what is tested is the client.
#pragma once

#include <map>

#include "tests/esx-vmci/client/served.h"

namespace vdvs::esx::testing {

struct OriginalVolume {
  OptionMap options;
  std::string created;
  std::string created_by;
  std::string attached_vm;  ///< Empty: detached.
  json::object device;
};

/// What all of a service's guests share. Thread: any.
struct OriginalStore {
  std::mutex mutex;
  std::map<std::string, OriginalVolume> volumes;
  int clock = 0;  ///< "created" differs from one volume to the next.
};

class OriginalPeer {
 public:
  /// Instead of what it would do: the text of the reply; "" closes without one.
  using Intercept = std::function<std::optional<std::string>(const Request&)>;

  OriginalPeer(const std::string& path, std::string vm, OriginalStore& store, Intercept intercept = {})
      : vm_(std::move(vm)),
        store_(store),
        intercept_(std::move(intercept)),
        front_(path, [this](RawConnection& connection, std::size_t) { serve(connection); }) {}

  Endpoint endpoint() const { return front_.endpoint(); }
  std::size_t connections() const { return front_.accepted(); }
  /// The payloads of all requests, as they came.
  std::vector<std::string> payloads() const {
    std::lock_guard lock(mutex_);
    return payloads_;
  }
  std::size_t most_at_once() const { return most_at_once_; }

 private:
  void serve(RawConnection& connection) {
    const std::size_t at_once = ++at_once_;
    for (std::size_t most = most_at_once_;
         at_once > most && !most_at_once_.compare_exchange_weak(most, at_once);) {
    }
    if (auto request = connection.read_request(); request && connection.last_payload.size() < 4096) {
      {
        std::lock_guard lock(mutex_);
        payloads_.push_back(connection.last_payload);
      }
      const auto scripted = intercept_ ? intercept_(*request) : std::nullopt;
      const std::string reply = scripted ? *scripted : encode_reply(answer(*request));
      --at_once_;
      if (!reply.empty()) {
        const std::string frame = *encode_frame(reply, kMaxReplyBytes);
        connection.send_bytes(frame.substr(0, 4));
        connection.send_bytes(frame.substr(4, 4));
        connection.send_bytes(frame.substr(8));
      }
    } else {
      --at_once_;
    }
  }

  json::value answer(const Request& request) {
    if (request.command == "version") return {{"version", "0.21.2"}};
    if (request.version && *request.version != kProtocolVersion)
      return error_reply(version_mismatch_text(*request.version, kProtocolVersion));
    std::lock_guard lock(store_.mutex);
    if (request.command == "list") return list();
    const std::string name = request.name.substr(0, request.name.rfind('@'));
    if (request.command == "create") return create(name, request.options);
    if (request.command == "remove") return remove(name);
    if (request.command == "attach") return attach(name);
    if (request.command == "detach") return detach(name);
    if (request.command == "get") return get(name);
    return error_reply("Unknown command:" + request.command);
  }

  static std::string file_of(const std::string& name) {
    return "/vmfs/volumes/ds1/dockvols/_DEFAULT/" + name + ".vmdk";
  }
  static json::value not_found(const std::string& name) {
    return error_reply(fmt::format("Volume {} not found (file: {})", name, file_of(name)));
  }

  json::value list() const {
    json::array names;
    for (const auto& [name, volume] : store_.volumes)
      names.push_back({{"Name", name + "@ds1"}, {"Attributes", json::object()}});
    return names;
  }

  json::value create(const std::string& name, const OptionMap& options) {
    static constexpr std::string_view kKnown[] = {"size",   "vsan-policy-name", "diskformat", "attach-as",
                                                  "access", "fstype",           "clone-from"};
    for (const auto& [option, value] : options) {
      if (std::ranges::find(kKnown, option) == std::end(kKnown))
        return error_reply(fmt::format("Invalid options: ['{}'] \nValid options and defaults: []", option));
    }
    if (store_.volumes.contains(name))
      return error_reply(fmt::format("File {} already exists", file_of(name)));
    OriginalVolume volume{.options = options, .created_by = vm_};
    volume.created = fmt::format("Tue Mar 27 18:02:{:02} 2018", store_.clock++);
    if (const auto source = options.find("clone-from"); source != options.end()) {
      const auto found = store_.volumes.find(source->second.substr(0, source->second.rfind('@')));
      if (found == store_.volumes.end())
        return error_reply("Could not find volume for cloning " + source->second);
      volume.options = found->second.options;
      volume.options["clone-from"] = found->first;
    }
    store_.volumes[name] = std::move(volume);
    return nullptr;
  }

  json::value remove(const std::string& name) {
    const auto found = store_.volumes.find(name);
    if (found == store_.volumes.end()) return nullptr;
    if (!found->second.attached_vm.empty()) {
      return error_reply(
          fmt::format("Failed to remove volume {}, in use by VM = {}.", name, found->second.attached_vm));
    }
    store_.volumes.erase(found);
    return nullptr;
  }

  json::value attach(const std::string& name) {
    const auto found = store_.volumes.find(name);
    if (found == store_.volumes.end()) return not_found(name);
    OriginalVolume& volume = found->second;
    if (!volume.attached_vm.empty() && volume.attached_vm != vm_) {
      return error_reply(fmt::format("Failed to lock the file disk {} already attached to VM={}",
                                     file_of(name), volume.attached_vm));
    }
    volume.attached_vm = vm_;
    volume.device = {{"Unit", "0"}, {"ControllerPciSlotNumber", "160"}, {"ControllerPciBusNumber", "15.0"}};
    return volume.device;
  }

  json::value detach(const std::string& name) {
    const auto found = store_.volumes.find(name);
    if (found == store_.volumes.end()) return not_found(name);
    if (found->second.attached_vm == vm_) {
      found->second.attached_vm.clear();
      found->second.device.clear();
    }
    return nullptr;
  }

  json::value get(const std::string& name) const {
    const auto found = store_.volumes.find(name);
    if (found == store_.volumes.end()) return not_found(name);
    const OriginalVolume& volume = found->second;
    const auto size = parse_size(volume.options.contains("size") ? volume.options.at("size") : "100mb");
    json::object status{{"created by VM", volume.created_by},
                        {"created", volume.created},
                        {"status", volume.attached_vm.empty() ? "detached" : "attached"},
                        {"capacity", {{"size", human_size(*size)}, {"allocated", "13MB"}}},
                        {"datastore", "ds1"},
                        {"diskformat", "thin"},
                        {"attach-as", "independent_persistent"},
                        {"access", "read-write"},
                        {"clone-from", "None"}};
    for (const auto& [option, value] : volume.options)
      if (option != "size") status[option] = value;
    if (!volume.attached_vm.empty()) {
      status["attached to VM"] = volume.attached_vm;
      status["attachedVMDevice"] = volume.device;
    }
    return status;
  }

  const std::string vm_;
  OriginalStore& store_;
  const Intercept intercept_;
  mutable std::mutex mutex_;
  std::vector<std::string> payloads_;
  std::atomic<std::size_t> at_once_ = 0;
  std::atomic<std::size_t> most_at_once_ = 0;
  RawService front_;  // Last: its threads use the rest.
};

}  // namespace vdvs::esx::testing
