// Files of others, and reports of others: whatever they hold, the verifier says what it thinks of it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/swarm/writers/verifier.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::writers;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t half = size == 0 ? 0 : data[0] % size;
  const auto reports = parse_reports(input.substr(half));
  const std::vector<Report> told = reports ? *reports : std::vector<Report>{};
  (void)verify_file(input.substr(0, half), 1, told, Stage::kSynced);
  const Verdict verdict = verify_log(input, told, Stage::kWritten);
  // What is whole says so again.
  if (const auto record = decode(input); record && encode(*record) != input) __builtin_trap();
  return verdict.records * kRecordBytes > size ? 1 : 0;
}
