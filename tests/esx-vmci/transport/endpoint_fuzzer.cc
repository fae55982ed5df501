// Whatever is given as an endpoint is refused, or means the same when it is written out and read again.
#include <cstdint>
#include <cstdlib>

#include "esx-vmci/transport/endpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using vdvs::esx::Endpoint;
  const auto endpoint = Endpoint::parse({reinterpret_cast<const char*>(data), size});
  if (!endpoint) return 0;
  const auto again = Endpoint::parse(endpoint->text());
  if (!again || !(*again == *endpoint)) std::abort();
  return 0;
}
