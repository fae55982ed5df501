#include "esx-vmci/protocol/message.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

std::string refusal(std::string_view payload) {
  auto request = decode_request(payload);
  EXPECT_EQ(code_of(request), "E_INVALID") << payload;
  return message_of(request);
}

TEST(Request, EveryCommandHasOneName) {
  for (int i = 0; i <= static_cast<int>(Command::kReset); ++i) {
    const auto command = static_cast<Command>(i);
    EXPECT_EQ(find_command(command_name(command)), command);
  }
  EXPECT_EQ(find_command("Create"), std::nullopt);
}

TEST(Request, ExtensionsComeLast) {
  const Request request{.command = "get", .name = "db", .version = 2, .id = 7, .wants_details = true};
  EXPECT_EQ(encode_request(request), R"({"cmd":"get","details":{"Name":"db"},"version":"2","id":7,"ext":1})");
}

TEST(Request, IsReadInAnyOrderAndSpacing) {
  auto request = decode_request(
      " { \"version\" : 2 ,\n\"details\": {\"Opts\":{\"b\":\"2\",\"a\":\"1\"}, "
      "\"Name\":\"\\u0064b\"},\t\"cmd\":\"create\","
      "\"other\":[{\"x\":\":\"}]} ");
  ASSERT_OK(request);
  EXPECT_EQ(*request,
            (Request{.command = "create", .name = "db", .options = {{"a", "1"}, {"b", "2"}}, .version = 2}));
}

TEST(Request, VersionIsANumberOrItsTextOrAbsent) {
  EXPECT_EQ(decode_request(R"({"cmd":"list","version":2})")->version, 2);
  EXPECT_EQ(decode_request(R"({"cmd":"list","version":"3"})")->version, 3);
  EXPECT_EQ(decode_request(R"({"cmd":"list"})")->version, std::nullopt);
  for (const char* version : {"\"two\"", "\"\"", "null", "true", "1.5", "-1", "99999999999", "\"2 \""}) {
    EXPECT_EQ(refusal(fmt::format(R"({{"cmd":"list","version":{}}})", version)),
              "Failed to read the request: version is not a number");
  }
}

TEST(Request, AnUnknownCommandIsReadAsItIs) {
  EXPECT_EQ(decode_request(R"({"cmd":"dance","details":{"Name":"x"}})")->command, "dance");
}

TEST(Request, WhatIsNotJsonIsRefusedWithThePredecessorsText) {
  EXPECT_EQ(refusal("{\"cmd\":"), "Failed to parse json 'b'{\"cmd\":''.");
  EXPECT_EQ(refusal("it's"), "Failed to parse json 'b\"it's\"'.");
  EXPECT_EQ(refusal("\xff\x01"), "Failed to parse json 'b'\\xff\\x01''.");
  EXPECT_EQ(refusal(""), "Failed to parse json 'b'''.");
  EXPECT_EQ(refusal("{} {}"), "Failed to parse json 'b'{} {}''.");
  EXPECT_LT(refusal(std::string(60'000, '\x01')).size(), 20'000u);
}

TEST(Request, NestingHasALimit) {
  const std::string deep = std::string(2000, '[') + std::string(2000, ']');
  EXPECT_EQ(code_of(decode_request(R"({"cmd":"list","x":)" + deep + "}")), "E_INVALID");
}

TEST(Request, AMemberGivenTwiceIsRefused) {
  const std::string text = "Failed to read the request: a member is given twice";
  EXPECT_EQ(refusal(R"({"cmd":"get","cmd":"remove","details":{"Name":"x"}})"), text);
  EXPECT_EQ(refusal(R"({"cmd":"get","\u0063md":"remove"})"), text);
  EXPECT_EQ(refusal(R"({"cmd":"create","details":{"Name":"x","Opts":{"size":"1gb","size":"9tb"}}})"), text);
  EXPECT_OK(decode_request(R"({"cmd":"create","details":{"Name":"a\":\"b:\\","Opts":{"a:":":"}}})"));
}

TEST(Request, WrongTypesAndNulsAreNamed) {
  EXPECT_EQ(refusal("[]"), "Failed to read the request: it is not an object");
  EXPECT_EQ(refusal("{}"), "Failed to read the request: it has no cmd");
  EXPECT_EQ(refusal(R"({"cmd":1})"), "Failed to read the request: cmd is not a string");
  EXPECT_EQ(refusal(R"({"cmd":"get","details":7})"), "Failed to read the request: details is not an object");
  EXPECT_EQ(refusal(R"({"cmd":"get","details":{"Name":null}})"),
            "Failed to read the request: details.Name is not a string");
  EXPECT_EQ(refusal(R"({"cmd":"create","details":{"Name":"x","Opts":{"size":10}}})"),
            "Failed to read the request: option 'size' is not a string");
  EXPECT_EQ(refusal(R"({"cmd":"create","details":{"Name":"x","Opts":[]}})"),
            "Failed to read the request: details.Opts is not an object");
  EXPECT_EQ(refusal(R"({"cmd":"get","details":{"Name":"a\u0000b"}})"),
            "Failed to read the request: details.Name has a NUL inside");
  EXPECT_EQ(refusal(R"({"cmd":"get","id":-1})"), "Failed to read the request: id is not a number");
  EXPECT_EQ(refusal(R"({"cmd":"get","ext":"1"})"), "Failed to read the request: ext is not a number");
  EXPECT_OK(decode_request(R"({"cmd":"create","details":{"Name":"x","Opts":null}})"));
}

TEST(Request, ComesBackAsItWasSent) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  const std::vector<std::string> kLetters = {"a",    "<", "&",  "\"",           "\\", "\n",
                                             "\x7f", "ü", "😀", "\xE2\x80\xA8", ":",  "@"};
  auto word = [&] {
    std::string text;
    for (std::size_t i = below(8); i-- > 0;) text += kLetters[below(kLetters.size())];
    return text;
  };
  for (int round = 0; round < 500; ++round) {
    Request request{.command = word(), .name = word()};
    for (std::size_t i = below(4); i-- > 0;) request.options[word()] = word();
    if (below(2) == 0) request.version = static_cast<int>(below(9));
    if (below(2) == 0) request.id = below(SIZE_MAX);
    request.wants_details = below(2) == 0;
    auto again = decode_request(encode_request(request));
    ASSERT_OK(again);
    ASSERT_EQ(*again, request);
  }
}

TEST(Reply, AnEnvelopeSaysWhichRequestItAnswers) {
  const std::string text = encode_enveloped(7, encode_list({name_of("db@ds")}));
  EXPECT_EQ(text, R"({"id":7,"reply":[{"Name":"db@ds","Attributes":{}}]})");
  auto reply = decode_reply(text);
  ASSERT_OK(reply);
  EXPECT_EQ(reply->id, 7u);
  EXPECT_TRUE(reply->body.is_array());
  EXPECT_FALSE(decode_reply(R"({"id":7,"reply":1,"more":2})")->id);
  EXPECT_FALSE(decode_reply(R"({"id":"7","reply":1})")->id);
  EXPECT_EQ(code_of(decode_reply("{")), "E_INVALID");
}

TEST(Reply, CompactLeavesOutTheSpaces) {
  EXPECT_EQ(encode_reply(encode_list({name_of("ü@ds")}), true), R"([{"Name":"\u00fc@ds","Attributes":{}}])");
}

TEST(Version, TheTextOfAMismatchIsThePredecessors) {
  const std::string indent(36, ' ');
  EXPECT_EQ(version_mismatch_text(1, 2),
            "There is a mismatch between VDVS client (Docker plugin) protocol version\n" + indent +
                "(1) and server (ESXi) protocol version (2) which indicates different\n" + indent +
                "versions of the product are installed on Guest and ESXi sides,\n" + indent +
                "please make sure VDVS plugin and driver are from the same release version.\n" + indent);
}

TEST(Version, CapabilitiesAreOnlyThereWhereThereAreAny) {
  EXPECT_EQ(encode_reply(encode_version({.version = "0.21.2", .capabilities = {}})),
            R"({"version": "0.21.2"})");
  auto ours = decode_version(encode_version({.version = "1.0", .capabilities = {"envelope", "init"}}));
  ASSERT_OK(ours);
  EXPECT_EQ(ours->version, "1.0");
  EXPECT_TRUE(ours->has(kCapabilityInit));
  EXPECT_FALSE(ours->has(kCapabilityDetails));
  EXPECT_TRUE(decode_version({{"version", "N/A"}})->capabilities.empty());
  EXPECT_EQ(code_of(decode_version(nullptr)), "E_CORRUPT");
}

}  // namespace
}  // namespace vdvs::esx::testing
