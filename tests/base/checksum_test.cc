#include "base/checksum.h"

#include <gtest/gtest.h>

namespace vdvs::base {
namespace {

TEST(CheckedLine, OpensToWhatWasPutIn) {
  const std::string line = checked_line("some text");
  EXPECT_EQ(line.back(), '\n');
  EXPECT_EQ(open_checked_line(line.substr(0, line.size() - 1)), "some text");
}

TEST(CheckedLine, HasTheChecksumOfTheStandard) {  // RFC 3720, B.4: CRC-32C of "123456789"
  EXPECT_EQ(checked_line("123456789"), "e3069283 123456789\n");
}

TEST(CheckedLine, NoticesEveryFlippedBitAndEveryCut) {
  const std::string line = checked_line("{\"name\":\"db\"}");
  const std::string whole = line.substr(0, line.size() - 1);
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const auto opened = open_checked_line(damaged);
    // Bit 5 of a hex digit of the checksum is its case, which does not matter.
    EXPECT_TRUE(!opened || (bit / 8 < 8 && *opened == whole.substr(9))) << "bit " << bit;
  }
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(open_checked_line(whole.substr(0, size))) << size;
}

}  // namespace
}  // namespace vdvs::base
