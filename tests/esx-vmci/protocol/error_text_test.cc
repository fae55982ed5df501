// Which kind of failure an original service's text is, and how our own services say it.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "esx-vmci/protocol/message.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

base::Result<boost::json::value> result_of_text(std::string_view payload) {
  auto reply = decode_reply(payload);
  if (!reply) return std::unexpected(reply.error());
  return result_of(reply->body);
}

TEST(ErrorText, TellsTheKindOfAnOriginalServicesError) {
  const std::vector<std::pair<std::string, std::string>> kTexts = {
      {"File /vmfs/volumes/ds1/dockvols/_DEFAULT/db.vmdk already exists", "E_EXISTS"},
      {"Volume db not found (file: /vmfs/volumes/ds1/dockvols/_DEFAULT/db.vmdk)", "E_NOT_FOUND"},
      {"Could not find volume for cloning src", "E_NOT_FOUND"},
      {"Failed to remove volume db, in use by VM = web-2.", "E_BUSY_ELSEWHERE"},
      {"Failed to lock the file disk /vmfs/x.vmdk already attached to VM=web-2", "E_BUSY_ELSEWHERE"},
      {"No access privilege exists", "E_DENIED"},
      {"No create privilege", "E_DENIED"},
      {"The total volume size exceeds the usage quota", "E_DENIED"},
      {"VM web-1 does not belong to any vmgroup", "E_DENIED"},
      {"Service is being stopped: operation declined!", "E_UNAVAILABLE"},
      {"Unknown command:attached", "E_UNSUPPORTED"},
      {"Failed to place new disk - The maximum number of supported volumes has been reached.", "E_LIMIT"},
      {"Invalid datastore 'x'.\\nKnown datastores: a.\\nDefault datastore: a.", "E_INVALID"},
      {"Policy gold does not exist.", "E_INVALID"},
      {"Server returned an error: KeyError('cmd',)", "E_IO"},
  };
  for (const auto& [text, code] : kTexts) {
    auto result = result_of_text("{\"Error\": \"" + text + "\"}");
    EXPECT_EQ(code_of(result), code) << text;
  }
  EXPECT_EQ(code_of(result_of_text(R"({"Error": ")" + std::string("There is a mismatch between VDVS client") +
                                   "\"}")),
            "E_UNSUPPORTED");
}

TEST(ErrorText, AFaultThatSaysNotFoundIsNoWordOnTheVolume) {
  EXPECT_EQ(code_of(result_of_text(R"({"Error": "File [ds1] dockvols/x was not found"})")), "E_IO");
  EXPECT_EQ(
      code_of(result_of_text(R"x({"Error": "Server returned an error: NotFound('Volume a not found')"})x")),
      "E_IO");
}

TEST(ErrorText, AnyErrorThatIsNotNullIsAFailure) {
  EXPECT_EQ(message_of(result_of_text(
                R"x({"Error": ["Failed to add PVSCSI Controller: %s", "(vim.fault) { msg = 'no' }"]})x")),
            "Failed to add PVSCSI Controller: (vim.fault) { msg = 'no' }");
  EXPECT_EQ(message_of(result_of_text(R"({"error": 12})")), "12");
  EXPECT_EQ(message_of(result_of_text(R"({"ERROR": {"a": 1}, "Unit": "0"})")), R"({"a":1})");
  EXPECT_EQ(message_of(result_of_text(R"({"Error": ""})")), "the service reports an error without a text");
  EXPECT_OK(result_of_text(R"({"Error": null})"));
  EXPECT_OK(result_of_text("null"));
  EXPECT_OK(result_of_text("[]"));
}

TEST(ErrorText, PythonsQuotesAreTakenOff) {
  auto result = result_of_text(R"({"Error": "'Volume name is too long (max len is 100)'"})");
  EXPECT_EQ(message_of(result), "Volume name is too long (max len is 100)");
  EXPECT_EQ(code_of(result), "E_INVALID");
}

TEST(ErrorText, OurServicesSayTheCodeAndWhatToDo) {
  const base::Error error(base::ErrorCode::kNoSpace, "create 'db': no room", "free some");
  auto result = result_of_text(encode_reply(error_reply(error, true)));
  EXPECT_EQ(result.error().text(), error.text());
  EXPECT_EQ(encode_reply(error_reply(error, false)), R"({"Error": "create 'db': no room"})")
      << "an original client gets nothing else";
  EXPECT_EQ(code_of(result_of_text(R"({"Error": "x already exists", "code": "E_NEW_ONE"})")), "E_EXISTS");
}

TEST(ErrorText, EveryCodeComesBack) {
  for (int i = 0; i <= static_cast<int>(base::ErrorCode::kInternal); ++i) {
    const base::Error error(static_cast<base::ErrorCode>(i), "text");
    EXPECT_EQ(result_of_text(encode_reply(error_reply(error, true))).error().code(), error.code());
  }
}

TEST(ErrorText, ADeclinedRequestIsOneThatWasNotDone) {
  EXPECT_TRUE(is_declined(result_of(error_reply(kStoppingText)).error()));
  EXPECT_TRUE(is_declined(result_of(error_reply(kHostAgentText)).error()));
  EXPECT_FALSE(is_declined(result_of(error_reply("DB access error at /etc/x: BrokenLink")).error()));
}

}  // namespace
}  // namespace vdvs::esx::testing
