#include "esx-vmci/protocol/frame.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using namespace std::string_literals;

/// All that a decoder gives for `bytes` fed in pieces of `sizes` (the last one again and again); an error is
/// its text, and ends it.
std::vector<std::string> decode_all(FrameDecoder& decoder, std::string_view bytes, std::size_t piece) {
  std::vector<std::string> payloads;
  while (true) {
    auto payload = decoder.next();
    if (!payload) {
      payloads.push_back("error: " + payload.error().text());
      return payloads;
    }
    if (*payload) {
      payloads.push_back(**payload);
    } else if (bytes.empty()) {
      return payloads;
    } else {
      decoder.feed(bytes.substr(0, piece));
      bytes.remove_prefix(std::min(piece, bytes.size()));
    }
  }
}

std::string frame_of(std::string_view payload) { return *encode_frame(payload, kMaxReplyBytes); }

TEST(Frame, GivesWholePayloadsHoweverTheBytesArrive) {
  const std::string bytes = frame_of("one") + frame_of("") + frame_of(std::string(100'000, 'x'));
  for (std::size_t piece : {1u, 3u, 7u, 4096u, 1'000'000u}) {
    FrameDecoder decoder(kMaxReplyBytes);
    EXPECT_EQ(decode_all(decoder, bytes, piece),
              (std::vector<std::string>{"one", "", std::string(100'000, 'x')}));
    EXPECT_TRUE(decoder.is_between_frames());
  }
}

TEST(Frame, TellsACutFrameFromACleanEnd) {
  FrameDecoder decoder(kMaxReplyBytes);
  EXPECT_TRUE(decoder.is_between_frames());
  decoder.feed(frame_of("db").substr(0, 3));
  EXPECT_FALSE(*decoder.next());
  EXPECT_FALSE(decoder.is_between_frames());
}

TEST(Frame, RefusesAWrongMagicAtItsFirstWrongByte) {
  FrameDecoder decoder(kMaxRequestBytes);
  decoder.feed("\xEF\xBFxx"s);
  EXPECT_EQ(code_of(decoder.next()), "E_INVALID");
  FrameDecoder other(kMaxRequestBytes);
  other.feed("G"s);
  EXPECT_EQ(code_of(other.next()), "E_INVALID");
}

TEST(Frame, NeverGivesAnythingAfterAnError) {
  FrameDecoder decoder(kMaxRequestBytes);
  decoder.feed("GET / HTTP/1.0\r\n\r\n");
  const std::string error = decoder.next().error().text();
  decoder.feed(frame_of("fine"));
  EXPECT_EQ(decoder.next().error().text(), error);
}

TEST(Frame, RefusesALengthBeyondTheLimitBeforeItsBytesArrive) {
  FrameDecoder decoder(16);
  decoder.feed(frame_of(std::string(15, 'x')));
  EXPECT_EQ(**decoder.next(), std::string(15, 'x'));
  decoder.feed(frame_of(std::string(16, 'x')).substr(0, kFrameHeaderBytes));
  auto refused = decoder.next();
  EXPECT_EQ(code_of(refused), "E_LIMIT");
  EXPECT_EQ(message_of(refused), "read a message: it has 17 bytes (max is 16)");
}

TEST(Frame, RefusesWhatIsNotClosedByTheOneNul) {
  for (const std::string& bytes :
       {"\xEF\xBE\xAD\x0B\0\0\0\0"s, "\xEF\xBE\xAD\x0B\2\0\0\0ab"s, "\xEF\xBE\xAD\x0B\3\0\0\0\0b\0"s}) {
    FrameDecoder decoder(kMaxRequestBytes);
    decoder.feed(bytes);
    EXPECT_EQ(code_of(decoder.next()), "E_INVALID");
  }
}

TEST(Frame, AnOriginalRequestMayHave4096BytesWithItsNul) {
  EXPECT_OK(encode_frame(std::string(4095, 'x'), kMaxOriginalRequestBytes));
  auto refused = encode_frame(std::string(4096, 'x'), kMaxOriginalRequestBytes);
  EXPECT_EQ(message_of(refused), "send a message: it has 4097 bytes (max is 4096)");
  EXPECT_EQ(code_of(encode_frame("a\0b"s, 100)), "E_INVALID");
}

TEST(Frame, ADamagedStreamIsReadTheSameWholeAndInPieces) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (std::size_t i = below(6); i-- > 0;) bytes += frame_of(std::string(below(40), 'a'));
    if (below(2) == 0 && !bytes.empty()) bytes[below(bytes.size())] = static_cast<char>(below(256));
    FrameDecoder whole(64);
    FrameDecoder pieces(64);
    ASSERT_EQ(decode_all(whole, bytes, bytes.size() + 1), decode_all(pieces, bytes, 1 + below(9)));
  }
}

}  // namespace
}  // namespace vdvs::esx::testing
