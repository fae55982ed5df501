// The volume plugin API in our own terms: what the HTTP server decodes a request to, and what it encodes a reply from. The server
// knows nothing of volumes, and the volumes know nothing of HTTP.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"

namespace vdvs::mountd {

/// The endpoints of VolumeDriver, and Plugin.Activate, which the server answers itself.
enum class Method { kCreate, kGet, kList, kRemove, kPath, kMount, kUnmount, kCapabilities };
std::string_view method_name(Method method);  ///< "Create", ...

struct PluginRequest {
  Method method = Method::kList;
  std::string driver;                          ///< The plugin name under which it came: "vsphere", "vmdk".
  std::string name;                            ///< Not checked; empty for List and Capabilities.
  std::string mount_id;                        ///< Mount and Unmount.
  std::map<std::string, std::string> options;  ///< Create.
  int peer_pid = 0;                            ///< The process that asks (SO_PEERCRED); 0 where not known.
  std::string request_id;                      ///< For the log: unique in this process.
};

struct VolumeView {
  std::string name;
  std::string mount_point;     ///< Empty where it is not mounted.
  std::string created_at;      ///< RFC 3339, or empty: Docker cannot decode a reply with anything else.
  boost::json::object status;  ///< Only for Get.
};

struct Done {};  ///< Success without a body.
struct MountPoint {
  std::string path;
};
struct VolumeList {
  std::vector<VolumeView> volumes;
};
struct Capabilities {
  std::string scope = "global";
};
/// The connection is dropped without an answer: to Docker a transport error, which, unlike any error reply to Get, does not make it forget the volume.
struct NoAnswer {};

using PluginReply = base::Result<std::variant<Done, MountPoint, VolumeView, VolumeList, Capabilities, NoAnswer>>;
using Respond = std::function<void(PluginReply)>;

class PluginHandler {
 public:
  virtual ~PluginHandler() = default;
  /// Called on the server's loop thread; must not block. `respond` is called exactly once, from any thread, now or later.
  virtual void handle(PluginRequest request, Respond respond) = 0;
};

}  // namespace vdvs::mountd
