// The contract over vsock, in one kernel: context id 1 is the loopback. A host without vsock skips; a Debian
// guest runs it after `modprobe vsock_loopback`, as root (the source ports are privileged).
#include <sys/socket.h>

#include "esx-vmci/transport/vsock.h"
#include "tests/esx-vmci/transport/transport_contract.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

constexpr std::uint32_t kLoopbackCid = 1;  ///< VMADDR_CID_LOCAL

base::UniqueFd connect_vsock(const Endpoint& endpoint, bool is_privileged) {
  auto family = vsock_family();
  if (!family) return {};
  base::UniqueFd fd(::socket(*family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (is_privileged) {
    auto bound = bind_privileged_port([&](std::uint32_t port) {
      const sockaddr_vm source = vsock_address(*family, VMADDR_CID_ANY, port);
      return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0 ? 0 : errno;
    });
    if (!bound) return {};
  }
  const sockaddr_vm address = vsock_address(*family, endpoint.cid, endpoint.port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

class VsockTransport : public Transport {
 public:
  Endpoint listening() override {
    static std::uint32_t last = 5000;
    return {.kind = Endpoint::Kind::kVsock, .port = ++last};
  }
  Endpoint reached_at(Endpoint bound) override {
    bound.cid = kLoopbackCid;
    return bound;
  }
  std::unique_ptr<RawStream> raw(const Endpoint& endpoint) override {
    base::UniqueFd fd = connect_vsock(endpoint, true);
    return fd.is_open() ? std::make_unique<RawSocket>(std::move(fd)) : nullptr;
  }
  void expect_peer(const Peer& peer) override {
    EXPECT_EQ(peer.kind, Peer::Kind::kVsock);
    EXPECT_EQ(peer.cid, kLoopbackCid);
    EXPECT_GE(peer.port, kFirstPrivilegedPort);
    EXPECT_LE(peer.port, kLastPrivilegedPort);
  }
  /// There are 924 privileged source ports.
  std::size_t max_idle() const override { return 800; }
};

INSTANTIATE_TEST_SUITE_P(Vsock, TransportContract,
                         ::testing::Values(transport_named<VsockTransport>("vsock")));

class VsockDoor : public TransportContract {};

TEST_P(VsockDoor, ACallerWithoutAPrivilegedPortIsClosedWithoutAReplyAndCounted) {
  std::string got = "something";
  std::atomic<bool> is_over = false;
  std::thread caller([&] {
    RawSocket raw(connect_vsock(endpoint_, false));
    raw.send(frame_of("x"));
    got = raw.receive(1);
    is_over = true;
  });
  EXPECT_TRUE(run_until([&] { return is_over.load(); }));
  caller.join();
  EXPECT_EQ(got, "");
  EXPECT_EQ(listener_->counters().refused_port, 1);
  EXPECT_TRUE(served_.empty());
}

INSTANTIATE_TEST_SUITE_P(Vsock, VsockDoor, ::testing::Values(transport_named<VsockTransport>("vsock")));

}  // namespace
}  // namespace vdvs::esx::test
