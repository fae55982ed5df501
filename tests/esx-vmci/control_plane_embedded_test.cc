// The embedded control plane: the contract, with two of them as two hosts on one folder.
#include "tests/esx-vmci/control_plane_contract.h"

namespace vdvs::esx::testing {
namespace {

class EmbeddedWorld : public ControlPlaneWorld {
 public:
  EmbeddedWorld() : one_(embedded(folder_.path(), "host-a")), two_(embedded(folder_.path(), "host-b")) {}
  ~EmbeddedWorld() override { clear_loops_below(folder_.path()); }
  ControlPlane& one() override { return *one_; }
  ControlPlane& two() override { return *two_; }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<ControlPlane> one_;
  std::unique_ptr<ControlPlane> two_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Embedded, ControlPlaneContract, EmbeddedWorld);

}  // namespace
}  // namespace vdvs::esx::testing
