// The contract over the transports that every machine has.
#include "tests/esx-vmci/transport/transport_contract.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

INSTANTIATE_TEST_SUITE_P(Unix, TransportContract, ::testing::Values(transport_named<UnixTransport>("unix")));
INSTANTIATE_TEST_SUITE_P(Tcp, TransportContract, ::testing::Values(transport_named<TcpTransport>("tcp")));

}  // namespace
}  // namespace vdvs::esx::test
