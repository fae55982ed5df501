#include "base/checksum.h"

#include <fmt/format.h>

#include <boost/crc.hpp>
#include <charconv>
#include <cstdint>

namespace vdvs::base {
namespace {

constexpr std::size_t kChecksumDigits = 8;

// CRC-32C (Castagnoli), as iSCSI and ext4 use it.
std::uint32_t crc32c(std::string_view text) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(text.data(), text.size());
  return crc.checksum();
}

}  // namespace

std::string checked_line(std::string_view text) { return fmt::format("{:08x} {}\n", crc32c(text), text); }

std::optional<std::string_view> open_checked_line(std::string_view line) {
  if (line.size() < kChecksumDigits + 1 || line[kChecksumDigits] != ' ') return std::nullopt;
  std::uint32_t sum = 0;
  auto [end, error] = std::from_chars(line.data(), line.data() + kChecksumDigits, sum, 16);
  if (error != std::errc() || end != line.data() + kChecksumDigits) return std::nullopt;
  std::string_view text = line.substr(kChecksumDigits + 1);
  if (crc32c(text) != sum) return std::nullopt;
  return text;
}

}  // namespace vdvs::base
