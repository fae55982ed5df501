// The contract over the transports that every machine has.
#include "tests/esx-vmci/transport/transport_contract.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

INSTANTIATE_TEST_SUITE_P(Unix, TransportContract,
                         ::testing::Values([] { return std::make_unique<UnixTransport>(); }),
                         name_of_transport);
INSTANTIATE_TEST_SUITE_P(Tcp, TransportContract,
                         ::testing::Values([] { return std::make_unique<TcpTransport>(); }),
                         name_of_transport);

}  // namespace
}  // namespace vdvs::esx::test
