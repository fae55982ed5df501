// VM sockets. On Linux they are address family 40; on ESXi the number is handed out by the VMCI device, and
// is valid only while the descriptor that asked for it is open. Whoever can bind a port below 1024 is root in
// its guest: that is the one proof of privilege that there is, so our clients bind one and our service asks
// for one (reference: the predecessor's protocol, which does the same).
#pragma once

#include <linux/vm_sockets.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace vdvs::esx {

inline constexpr int kLinuxVsockFamily = AF_VSOCK;
inline constexpr std::uint32_t kFirstPrivilegedPort = 100;
inline constexpr std::uint32_t kLastPrivilegedPort = 1023;
/// One less than there are ports between: as the predecessor counts.
inline constexpr int kMaxBindAttempts = 923;

/// The system calls by which the family is found; tests play ESXi with it.
struct VsockSystem {
  std::function<bool(int family)> has_family;
  std::function<base::Result<base::UniqueFd>(const std::string& path)> open_device;
  std::function<int(const base::UniqueFd& device, unsigned long request)>
      ask;  ///< ioctl(2); negative: error.
};
VsockSystem real_vsock_system();

struct VsockFamily {
  int number = 0;
  base::UniqueFd device;  ///< Keeps the number valid; closed where the number is Linux's own.
};
/// Errors: kUnsupported, with what to do.
base::Result<VsockFamily> find_vsock_family(const VsockSystem& system);
/// The same for this process, found once. Thread: any.
base::Result<int> vsock_family();

sockaddr_vm vsock_address(int family, std::uint32_t cid, std::uint32_t port);

/// The next source port to try: 100..1023, round and round. Thread: any.
std::uint32_t next_privileged_port();
/// Calls `bind_to` with ports until one is free. `bind_to` gives 0 or an errno. Errors: kUnavailable (all are
/// in use), kDenied (not root), or what bind(2) says.
base::Result<void> bind_privileged_port(const std::function<int(std::uint32_t port)>& bind_to);

}  // namespace vdvs::esx
