// QMP's text, as it comes from QEMU and as it must not come.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "esx-vmci/hypervisor/qmp.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> lines_of(QmpLines& lines) {
  std::vector<std::string> found;
  for (auto line = lines.next(); line && *line; line = lines.next()) found.push_back(**line);
  return found;
}

TEST(QmpLines, GivesWholeLinesHoweverTheBytesCome) {
  const std::string text = "{\"a\":1}\r\n\r\n{\"b\":2}\n{\"c\"";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    QmpLines lines;
    std::vector<std::string> found;
    for (const std::string& part : {text.substr(0, cut), text.substr(cut)}) {
      lines.feed(part);
      std::ranges::copy(lines_of(lines), std::back_inserter(found));
    }
    EXPECT_THAT(found, ElementsAre("{\"a\":1}", "{\"b\":2}")) << "cut at " << cut;
    lines.feed(":3}\n");
    EXPECT_THAT(lines_of(lines), ElementsAre("{\"c\":3}"));
  }
}

TEST(QmpLines, ALineWithoutAnEndIsBounded) {
  QmpLines lines;
  lines.feed(std::string(kMaxQmpLineBytes, 'x'));
  EXPECT_OK(lines.next());
  lines.feed("x");
  EXPECT_EQ(code_of(lines.next()), "E_LIMIT");
  lines.feed("\n{}\n");
  EXPECT_EQ(code_of(lines.next()), "E_LIMIT") << "what comes after a broken line means nothing";
}

TEST(QmpMessage, AGreetingIsKnownByItsMember) {
  const auto message = decode_qmp(R"({"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}})");
  ASSERT_OK(message);
  EXPECT_EQ(message->kind, QmpMessage::Kind::kGreeting);
}

TEST(QmpMessage, AnAnswerHasItsCommandsId) {
  const auto message = decode_qmp(R"({"return": {"status": "running"}, "id": 17})");
  ASSERT_OK(message);
  EXPECT_EQ(message->kind, QmpMessage::Kind::kAnswer);
  EXPECT_EQ(message->id, 17u);
  EXPECT_EQ(message->result->at("status").as_string(), "running");
}

TEST(QmpMessage, AnIdThatIsNotOursIsNoId) {
  for (const char* id : {"\"17\"", "-1", "1.5", "null", "[17]", "18446744073709551616"}) {
    const auto message = decode_qmp(fmt::format(R"({{"return": {{}}, "id": {}}})", id));
    ASSERT_OK(message) << id;
    EXPECT_EQ(message->id, std::nullopt) << id;
  }
}

TEST(QmpMessage, AnEventHasANameAndWhatItIsAbout) {
  const auto message = decode_qmp(
      R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "DEVICE_DELETED", "data": {"device": "vdvs-a", "path": "/machine/peripheral/vdvs-a"}})");
  ASSERT_OK(message);
  EXPECT_EQ(message->kind, QmpMessage::Kind::kEvent);
  EXPECT_EQ(message->event.name, "DEVICE_DELETED");
  EXPECT_EQ(message->event.data.at("device").as_string(), "vdvs-a");
  EXPECT_THAT(decode_qmp(R"({"event": "STOP"})")->event.data, IsEmpty());
}

TEST(QmpMessage, QemusErrorsBecomeOursAndKeepTheirWords) {
  struct Case {
    const char* error_class;
    const char* text;
    const char* code;
  };
  const Case cases[] = {
      {"DeviceNotFound", "Device 'vdvs-a' not found", "E_NOT_FOUND"},
      {"GenericError", "Failed to get \"write\" lock", "E_BUSY_ELSEWHERE"},
      {"GenericError", "Failed to get shared \"consistent read\" lock", "E_BUSY_ELSEWHERE"},
      {"GenericError", "Node vdvs-a is in use", "E_IN_USE"},
      {"GenericError", "Could not open '/ds/x-flat.vmdk': No such file or directory", "E_IO"},
  };
  for (const Case& one : cases) {
    const auto message = decode_qmp(boost::json::serialize(
        boost::json::object{{"error", {{"class", one.error_class}, {"desc", one.text}}}, {"id", 3}}));
    ASSERT_OK(message);
    EXPECT_EQ(message->id, 3u);
    EXPECT_EQ(code_of(message->result), one.code) << one.text;
    EXPECT_EQ(message_of(message->result), one.text);
  }
}

TEST(QmpMessage, WhatIsNoMessageIsRefused) {
  for (const char* line :
       {"", "[]", "17", "\"QMP\"", "{}", "{\"id\": 1}", "{\"return\"", "{\"event\": 5}", "nonsense"})
    EXPECT_EQ(code_of(decode_qmp(line)), "E_INVALID") << line;
}

TEST(QmpMessage, ACommandIsOneLine) {
  EXPECT_EQ(encode_qmp({.name = "query-block"}, 5), "{\"execute\":\"query-block\",\"id\":5}\n");
  const std::string line = encode_qmp({.name = "device_del", .arguments = {{"id", "a\n\"b\\"}}}, 6);
  EXPECT_EQ(line.find('\n'), line.size() - 1) << "a line end in a name does not end the line";
  EXPECT_EQ(boost::json::parse(line).at("arguments").at("id").as_string(), "a\n\"b\\");
}

}  // namespace
}  // namespace vdvs::esx::testing
