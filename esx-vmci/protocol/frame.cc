#include "esx-vmci/protocol/frame.h"

#include <algorithm>
#include <array>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::size_t kMagicBytes = 4;
/// A buffer that grew beyond this for one large frame is given back when it is empty.
constexpr std::size_t kKeptBufferBytes = 64 * 1024;

std::array<char, 4> little_endian(std::uint32_t number) {
  std::array<char, 4> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(number >> (8 * i) & 0xFF);
  return bytes;
}

std::uint32_t from_little_endian(std::string_view bytes) {
  std::uint32_t number = 0;
  for (std::size_t i = 4; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[i]);
  return number;
}

}  // namespace

Result<std::string> encode_frame(std::string_view payload, std::size_t max_bytes) {
  if (payload.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::kInvalid, "send a message: it has a NUL inside");
  }
  const std::size_t length = payload.size() + 1;
  if (length > std::min<std::size_t>(max_bytes, UINT32_MAX)) {
    return fail(ErrorCode::kLimit, "send a message: it has {} bytes (max is {})", length, max_bytes);
  }
  std::string frame;
  frame.reserve(kFrameHeaderBytes + length);
  for (std::uint32_t field : {kFrameMagic, static_cast<std::uint32_t>(length)}) {
    const std::array<char, 4> bytes = little_endian(field);
    frame.append(bytes.data(), bytes.size());
  }
  frame.append(payload);
  frame.push_back('\0');
  return frame;
}

void FrameDecoder::feed(std::string_view bytes) {
  if (broken_) return;
  if (position_ > 0) {
    buffer_.erase(0, position_);
    position_ = 0;
  }
  buffer_.append(bytes);
}

Result<std::optional<std::string>> FrameDecoder::next() {
  if (broken_) return std::unexpected(*broken_);
  auto payload = take();
  if (!payload) {
    broken_ = payload.error();
    buffer_.clear();
    buffer_.shrink_to_fit();
    position_ = 0;
  } else if (is_between_frames()) {
    position_ = 0;
    if (buffer_.capacity() > kKeptBufferBytes) {
      std::string().swap(buffer_);
    } else {
      buffer_.clear();
    }
  }
  return payload;
}

Result<std::optional<std::string>> FrameDecoder::take() {
  const std::string_view bytes = std::string_view(buffer_).substr(position_);
  static constexpr std::array<char, kMagicBytes> kMagic = {'\xEF', '\xBE', '\xAD', '\x0B'};
  const std::size_t seen = std::min(bytes.size(), kMagicBytes);
  if (bytes.substr(0, seen) != std::string_view(kMagic.data(), seen)) {
    return fail(ErrorCode::kInvalid, "read a message: wrong magic (the peer does not speak this protocol)");
  }
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const std::size_t length = from_little_endian(bytes.substr(kMagicBytes));
  if (length == 0) return fail(ErrorCode::kInvalid, "read a message: its length is 0");
  if (length > max_bytes_) {
    return fail(ErrorCode::kLimit, "read a message: it has {} bytes (max is {})", length, max_bytes_);
  }
  if (bytes.size() - kFrameHeaderBytes < length) return std::nullopt;
  const std::string_view payload = bytes.substr(kFrameHeaderBytes, length);
  if (payload.back() != '\0') return fail(ErrorCode::kInvalid, "read a message: it does not end with a NUL");
  if (payload.find('\0') != length - 1)
    return fail(ErrorCode::kInvalid, "read a message: it has a NUL inside");
  position_ += kFrameHeaderBytes + length;
  return std::string(payload.substr(0, length - 1));
}

}  // namespace vdvs::esx
