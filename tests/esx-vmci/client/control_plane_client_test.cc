// The client's control plane: the contract, against the whole service, over a unix socket for each of two VMs
// and over TLS with a certificate for each.
#include "tests/esx-vmci/client/served.h"
#include "tests/esx-vmci/control_plane_contract.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::testing {
namespace {

class UnixWorld : public ControlPlaneWorld {
 public:
  ~UnixWorld() override { clear_loops_below(folder_.path()); }
  ControlPlane& one() override { return *one_; }
  ControlPlane& two() override { return *two_; }

 private:
  TemporaryFolder folder_;
  RealService service_{folder_.path()};
  Served served_{
      {unix_at(folder_.path() + "/a.sock", "host-a"), unix_at(folder_.path() + "/b.sock", "host-b")},
      service_.handler(),
      service_.vms()};
  std::unique_ptr<ControlPlane> one_ = client_of(served_.endpoint(0));
  std::unique_ptr<ControlPlane> two_ = client_of(served_.endpoint(1));
};

class TlsWorld : public ControlPlaneWorld {
 public:
  ~TlsWorld() override { clear_loops_below(folder_.path()); }
  ControlPlane& one() override { return *one_; }
  ControlPlane& two() override { return *two_; }

 private:
  TemporaryFolder folder_;
  test::Pki pki_;
  RealService service_{folder_.path()};
  Served served_{{{.kind = Endpoint::Kind::kTcp, .port = 0, .host = "127.0.0.1"}},
                 service_.handler(),
                 service_.vms(),
                 pki_.service()};
  std::unique_ptr<ControlPlane> one_ = client_of(served_.endpoint(), pki_.guest("host-a"));
  std::unique_ptr<ControlPlane> two_ = client_of(served_.endpoint(), pki_.guest("host-b"));
};

INSTANTIATE_TYPED_TEST_SUITE_P(Unix, ControlPlaneContract, UnixWorld);
INSTANTIATE_TYPED_TEST_SUITE_P(Tls, ControlPlaneContract, TlsWorld);

}  // namespace
}  // namespace vdvs::esx::testing
