// Frames between a guest and the service, the same in both directions (the predecessor's wire, version "2"):
//
//   offset  size  field
//   0       4     0x0BADBEEF, little-endian: EF BE AD 0B
//   4       4     length of what follows, little-endian, the closing NUL included
//   8       len   JSON as UTF-8, closed by one NUL; no other NUL inside
//
// Neither original side loops on recv or send. So a frame goes out in one write, and ours is read however it
// arrives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::uint32_t kFrameMagic = 0x0BADBEEF;
inline constexpr std::size_t kFrameHeaderBytes = 8;
/// An original service closes on a longer request, NUL included.
inline constexpr std::size_t kMaxOriginalRequestBytes = 4096;
/// Ours takes that.
inline constexpr std::size_t kMaxRequestBytes = 64 * 1024;
/// A listing of 62,000 volumes with the longest names.
inline constexpr std::size_t kMaxReplyBytes = 16 * 1024 * 1024;

/// Header, payload and NUL. `payload` without NUL. Errors: kLimit, with `max_bytes` counting the NUL;
/// kInvalid for a NUL inside.
base::Result<std::string> encode_frame(std::string_view payload, std::size_t max_bytes);

/// Takes bytes as they come and gives whole payloads. After an error it gives only that error: the stream has
/// lost its frames. Memory: one incomplete frame and what the last `feed` brought, if `next` is called until
/// it has none; nothing is set aside for a length that only a header claims.
class FrameDecoder {
 public:
  explicit FrameDecoder(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  void feed(std::string_view bytes);
  /// The next payload, without its NUL; nullopt until it is complete.
  /// Errors: kInvalid (wrong magic, no closing NUL, a NUL inside, length 0), kLimit (longer than max_bytes).
  base::Result<std::optional<std::string>> next();
  /// Nothing of a frame has arrived: a close here is a clean end.
  bool is_between_frames() const { return buffer_.size() == position_; }

 private:
  base::Result<std::optional<std::string>> take();

  const std::size_t max_bytes_;
  std::string buffer_;
  std::size_t position_ = 0;
  std::optional<base::Error> broken_;
};

}  // namespace vdvs::esx
