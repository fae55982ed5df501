// Which vCenter or ESXi host, as whom, how it is recognised, and which of its datastores are ours: one JSON
// object in a file. The password is never in it: it is in a file of its own or in the environment.
//
//   {"url": "https://vcenter.example/sdk", "user": "vdvs@vsphere.local", "password_file":
//   "/etc/vdvs/vcenter",
//    "thumbprint": "3F:...", "datacenter": "DC0", "datastores": ["ds1", "ds2"], "policies": {"gold": "<id>"}}
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/hypervisor/soap_https.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxVsphereConfigBytes = 64 * 1024;

struct VsphereConfig {
  soap::HttpsServer server;
  std::string path = "/sdk";
  std::string user;
  std::string password;
  std::string datacenter;               ///< Empty: there is one, or all of them.
  std::vector<std::string> datastores;  ///< The first is the default; empty: all that are seen, by name.
  /// Storage policies by name; what is not here is asked from vCenter's policy service.
  std::map<std::string, std::string> policies;
};

/// Everything but the password, of which it says where it is.
struct VsphereConfigText {
  VsphereConfig config;
  std::string password_file;
  std::string password_env;
};

/// Errors: kInvalid: which member, and why.
base::Result<VsphereConfigText> parse_vsphere_config(std::string_view json);

/// Reads the file and the password. Errors: as above, kNotFound, kDenied: others can read the password's
/// file.
base::Result<VsphereConfig> load_vsphere_config(const std::string& path);

}  // namespace vdvs::esx
