#include "blockdev/scsi_identity.h"

#include <algorithm>

namespace vdvs::blockdev {
namespace {

constexpr std::size_t kHeaderBytes = 4;
constexpr unsigned char kSerialPage = 0x80;
constexpr unsigned char kIdentificationPage = 0x83;
constexpr std::size_t kUuidBytes = 16;

/// The page without its header, cut to the length that the header states; nullopt where there is less than
/// that.
std::optional<Bytes> page_body(Bytes page, unsigned char code) {
  if (page.size() < kHeaderBytes || page[1] != code) return std::nullopt;
  const std::size_t length = static_cast<std::size_t>(page[2]) << 8 | page[3];
  if (page.size() - kHeaderBytes < length) return std::nullopt;
  return page.subspan(kHeaderBytes, length);
}

bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

std::string to_hex(Bytes bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 0xf];
  }
  return text;
}

/// Binary, of the logical unit (not of a port), kind 3 (NAA), 16 bytes.
bool is_naa_uuid(Bytes descriptor_header) {
  const unsigned code_set = descriptor_header[0] & 0x0fu;
  const unsigned association = descriptor_header[1] >> 4 & 0x03u;
  const unsigned kind = descriptor_header[1] & 0x0fu;
  return code_set == 1 && association == 0 && kind == 3 && descriptor_header[3] == kUuidBytes;
}

}  // namespace

std::string normal_id(std::string_view text) {
  std::string id;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) id += c;
  }
  return id;
}

std::optional<std::string> decode_vpd_serial(Bytes page) {
  const auto body = page_body(page, kSerialPage);
  if (!body) return std::nullopt;
  std::string serial = normal_id(std::string(body->begin(), body->end()));
  if (serial.empty()) return std::nullopt;
  return serial;
}

std::optional<std::string> decode_vpd_naa(Bytes page) {
  auto body = page_body(page, kIdentificationPage);
  while (body && body->size() >= kHeaderBytes) {
    const std::size_t length = (*body)[3];
    if (body->size() - kHeaderBytes < length) return std::nullopt;
    if (is_naa_uuid(*body)) return to_hex(body->subspan(kHeaderBytes, length));
    body = body->subspan(kHeaderBytes + length);
  }
  return std::nullopt;
}

std::optional<std::string> decode_wwid(std::string_view text) {
  constexpr std::string_view kKind = "naa.";
  if (!text.starts_with(kKind)) return std::nullopt;
  std::string id = normal_id(text.substr(kKind.size()));
  if (id.size() != 2 * kUuidBytes || !std::ranges::all_of(id, is_hex_digit)) return std::nullopt;
  return id;
}

}  // namespace vdvs::blockdev
