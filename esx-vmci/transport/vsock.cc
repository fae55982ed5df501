#include "esx-vmci/transport/vsock.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cerrno>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

// Of VMware's vSockets device; the numbers are the bare ones, not made by _IO().
constexpr unsigned long kIoctlVersion = 1972;
constexpr unsigned long kIoctlGetFamily = 1976;
constexpr const char* kDevices[] = {"/dev/vsock", "/vmfs/devices/char/vsock/vsock"};

std::unexpected<base::Error> no_vsock(std::string_view cause) {
  return std::unexpected(base::Error(
      ErrorCode::kUnsupported, fmt::format("look for VM sockets: {}", cause),
      "load the kernel module (vmw_vsock_vmci_transport or vmw_vsock_virtio_transport in a guest, "
      "vhost_vsock on a KVM host), or use unix: or tcp:"));
}

Result<UniqueFd> open_device(const VsockSystem& system) {
  Result<UniqueFd> device = fail(ErrorCode::kUnsupported, "");
  for (const char* path : kDevices) {
    device = system.open_device(path);
    if (device) break;
  }
  return device;
}

}  // namespace

VsockSystem real_vsock_system() {
  return {.has_family =
              [](int family) {
                return UniqueFd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)).is_open() ||
                       UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)).is_open();
              },
          .open_device = [](const std::string& path) { return base::open_file(path, O_RDONLY); },
          .ask =
              [](const UniqueFd& device, unsigned long request) {
                int value = 0;
                if (::ioctl(device.get(), request, &value) < 0) return -1;
                return value;
              }};
}

Result<VsockFamily> find_vsock_family(const VsockSystem& system) {
  if (system.has_family(kLinuxVsockFamily)) return VsockFamily{.number = kLinuxVsockFamily, .device = {}};
  auto device = open_device(system);
  if (!device) return no_vsock("this kernel has neither address family 40 nor a vSockets device");
  if (system.ask(*device, kIoctlVersion) < 0) return no_vsock("the vSockets device does not say its version");
  const int family = system.ask(*device, kIoctlGetFamily);
  if (family <= 0) return no_vsock("the vSockets device gives no address family");
  return VsockFamily{.number = family, .device = std::move(*device)};
}

Result<int> vsock_family() {
  // Found once and kept for the life of the process: on ESXi the number dies with its descriptor. A failure
  // is looked at again, since a module may be loaded later; two threads that meet here find the same.
  static std::atomic<int> known = 0;
  if (const int family = known.load(); family != 0) return family;
  ASSIGN_OR_RETURN(VsockFamily found, find_vsock_family(real_vsock_system()));
  int expected = 0;
  if (known.compare_exchange_strong(expected, found.number)) {
    static_cast<void>(found.device.release());  // Stays open on purpose.
    return found.number;
  }
  return expected;
}

sockaddr_vm vsock_address(int family, std::uint32_t cid, std::uint32_t port) {
  sockaddr_vm address = {};
  address.svm_family = static_cast<sa_family_t>(family);
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

std::uint32_t next_privileged_port() {
  static std::atomic<std::uint32_t> counter = 0;
  constexpr std::uint32_t kPorts = kLastPrivilegedPort - kFirstPrivilegedPort + 1;
  return kFirstPrivilegedPort + counter.fetch_add(1) % kPorts;
}

Result<void> bind_privileged_port(const std::function<int(std::uint32_t port)>& bind_to) {
  int last = 0;
  for (int attempt = 0; attempt < kMaxBindAttempts; ++attempt) {
    last = bind_to(next_privileged_port());
    if (last == 0) return {};
    if (last == EADDRINUSE) continue;
    if (last == EACCES || last == EPERM) {
      return std::unexpected(base::Error::from_errno("bind a privileged source port", last)
                                 .with_remedy("run this program as root: the service talks to root alone"));
    }
    return fail_errno(last, "bind a privileged source port");
  }
  return fail(ErrorCode::kUnavailable, "bind a privileged source port: all from {} to {} are in use",
              kFirstPrivilegedPort, kLastPrivilegedPort);
}

}  // namespace vdvs::esx
