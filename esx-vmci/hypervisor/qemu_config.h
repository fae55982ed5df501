// The file that names the QEMU VMs of a service:
//
//   {"vms": [{"name": "web-1", "uuid": "11111111-aaaa-4bbb-8ccc-000000000001", "qmp": "/run/vms/web-1.qmp",
//             "cid": 5, "certificate": "web-1", "datastore": "ds1"}]}
//
// "cid" is the guest-cid of its vhost-vsock device, "certificate" the common name of its certificate
// (default: its name), "datastore" where the VM itself lives, for groups whose default is _VM_DS; all three
// are optional. A VM also may have a unix socket of its own (transport/endpoint.h), which names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/hypervisor/hypervisor.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxQemuVms = 4096;
inline constexpr std::size_t kMaxQemuConfigBytes = 1024 * 1024;

struct QemuVm {
  Vm vm;
  std::string qmp_path;
  std::optional<std::uint32_t> cid{};
  std::string certificate{};
};

struct QemuConfig {
  std::vector<QemuVm> vms;
};

/// Errors: kInvalid, which says where: an unknown or missing member, a value of the wrong kind, a name, uuid,
/// socket, cid or certificate that two VMs have; kLimit.
base::Result<QemuConfig> parse_qemu_config(std::string_view text);
base::Result<QemuConfig> load_qemu_config(const std::string& path);

}  // namespace vdvs::esx
