// The predecessor's wire, byte by byte, from messages that it has sent.
#include <gtest/gtest.h>

#include <cctype>
#include <string>
#include <string_view>

#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/protocol/message.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

namespace json = boost::json;

/// The bytes of a hex dump.
std::string bytes_of(std::string_view hex) {
  std::string bytes;
  std::string pair;
  for (const char c : hex) {
    if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
    pair += c;
    if (pair.size() < 2) continue;
    bytes += static_cast<char>(std::stoi(pair, nullptr, 16));
    pair.clear();
  }
  EXPECT_TRUE(pair.empty());
  return bytes;
}

std::string payload_of(const std::string& frame) {
  FrameDecoder decoder(kMaxReplyBytes);
  decoder.feed(frame);
  auto payload = decoder.next();
  EXPECT_OK(payload);
  EXPECT_TRUE(decoder.is_between_frames());
  return payload && *payload ? **payload : std::string();
}

void expect_request(std::string_view hex, const Request& request) {
  const std::string frame = bytes_of(hex);
  auto encoded = encode_frame(encode_request(request), kMaxOriginalRequestBytes);
  ASSERT_OK(encoded);
  EXPECT_EQ(*encoded, frame);
  auto decoded = decode_request(payload_of(frame));
  ASSERT_OK(decoded);
  EXPECT_EQ(*decoded, request);
}

void expect_reply(std::string_view hex, const json::value& reply) {
  const std::string frame = bytes_of(hex);
  auto encoded = encode_frame(encode_reply(reply), kMaxReplyBytes);
  ASSERT_OK(encoded);
  EXPECT_EQ(*encoded, frame);
  auto decoded = decode_reply(payload_of(frame));
  ASSERT_OK(decoded);
  EXPECT_FALSE(decoded->id);
  EXPECT_EQ(decoded->body, reply);
}

TEST(WireExamples, ListRequest) {
  expect_request(
      "ef be ad 0b 33 00 00 00 7b 22 63 6d 64 22 3a 22 6c 69 73 74 22 2c 22 64 65 74 61 69 6c 73 22 3a 7b 22 "
      "4e 61 6d "
      "65 22 3a 22 22 7d 2c 22 76 65 72 73 69 6f 6e 22 3a 22 32 22 7d 00",
      {.command = "list", .version = 2});
}

TEST(WireExamples, CreateRequest) {
  expect_request(
      "ef be ad 0b 5f 00 00 00 7b 22 63 6d 64 22 3a 22 63 72 65 61 74 65 22 2c 22 64 65 74 61 69 6c 73 22 3a "
      "7b 22 4e "
      "61 6d 65 22 3a 22 76 6f 6c 31 22 2c 22 4f 70 74 73 22 3a 7b 22 66 73 74 79 70 65 22 3a 22 65 78 74 34 "
      "22 2c 22 "
      "73 69 7a 65 22 3a 22 31 67 62 22 7d 7d 2c 22 76 65 72 73 69 6f 6e 22 3a 22 32 22 7d 00",
      {.command = "create", .name = "vol1", .options = {{"size", "1gb"}, {"fstype", "ext4"}}, .version = 2});
}

TEST(WireExamples, AttachRequest) {
  expect_request(
      "ef be ad 0b 3d 00 00 00 7b 22 63 6d 64 22 3a 22 61 74 74 61 63 68 22 2c 22 64 65 74 61 69 6c 73 22 3a "
      "7b 22 4e "
      "61 6d 65 22 3a 22 76 6f 6c 31 40 64 73 31 22 7d 2c 22 76 65 72 73 69 6f 6e 22 3a 22 32 22 7d 00",
      {.command = "attach", .name = "vol1@ds1", .version = 2});
}

TEST(WireExamples, DetachAndRemoveRequestsAreAsLongAsAttach) {
  for (const char* command : {"detach", "remove"}) {
    auto frame = encode_frame(encode_request({.command = command, .name = "vol1@ds1", .version = 2}),
                              kMaxOriginalRequestBytes);
    ASSERT_OK(frame);
    EXPECT_EQ(frame->substr(0, kFrameHeaderBytes), bytes_of("ef be ad 0b 3d 00 00 00"));
  }
}

TEST(WireExamples, GetAndVersionRequestsHaveTheSameHeader) {
  const std::string header = bytes_of("ef be ad 0b 36 00 00 00");
  const std::string get = "{\"cmd\":\"get\",\"details\":{\"Name\":\"vol1\"},\"version\":\"2\"}";
  const std::string version = "{\"cmd\":\"version\",\"details\":{\"Name\":\"\"},\"version\":\"2\"}";
  auto nul = [](std::string text) { return text + '\0'; };
  EXPECT_EQ(*encode_frame(encode_request({.command = "get", .name = "vol1", .version = 2}), 4096),
            header + nul(get));
  EXPECT_EQ(*encode_frame(encode_request({.command = "version", .version = 2}), 4096), header + nul(version));
}

TEST(WireExamples, NullReply) { expect_reply("ef be ad 0b 05 00 00 00 6e 75 6c 6c 00", nullptr); }

TEST(WireExamples, EmptyListReply) { expect_reply("ef be ad 0b 03 00 00 00 5b 5d 00", encode_list({})); }

TEST(WireExamples, AttachReply) {
  const base::ScsiAddress address{.disk_uuid = "ignored", .pci_slot = 160, .pci_bus = "15.0", .unit = 0};
  expect_reply(
      "ef be ad 0b 52 00 00 00 7b 22 55 6e 69 74 22 3a 20 22 30 22 2c 20 22 43 6f 6e 74 72 6f 6c 6c 65 72 50 "
      "63 69 53 "
      "6c 6f 74 4e 75 6d 62 65 72 22 3a 20 22 31 36 30 22 2c 20 22 43 6f 6e 74 72 6f 6c 6c 65 72 50 63 69 42 "
      "75 73 4e "
      "75 6d 62 65 72 22 3a 20 22 31 35 2e 30 22 7d 00",
      encode_attach(address, false));
}

TEST(WireExamples, ListReply) {
  expect_reply(
      "ef be ad 0b 29 00 00 00 5b 7b 22 4e 61 6d 65 22 3a 20 22 76 6f 6c 31 40 64 73 31 22 2c 20 22 41 74 74 "
      "72 69 62 "
      "75 74 65 73 22 3a 20 7b 7d 7d 5d 00",
      encode_list({name_of("vol1@ds1")}));
}

TEST(WireExamples, ErrorReply) {
  const std::string text =
      "{\"Error\": \"Volume vol1 not found (file: /vmfs/volumes/ds1/dockvols/_DEFAULT/vol1.vmdk)\"}";
  auto frame = encode_frame(
      encode_reply(
          error_reply("Volume vol1 not found (file: /vmfs/volumes/ds1/dockvols/_DEFAULT/vol1.vmdk)")),
      4096);
  ASSERT_OK(frame);
  EXPECT_EQ(*frame, bytes_of("ef be ad 0b 59 00 00 00") + text + '\0');
}

}  // namespace
}  // namespace vdvs::esx::testing
