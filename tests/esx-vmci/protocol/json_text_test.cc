#include "esx-vmci/protocol/json_text.h"

#include <gtest/gtest.h>

#include <string>

#include "base/json.h"

namespace vdvs::esx::testing {
namespace {

using namespace std::string_literals;

std::string go(std::string_view text) {
  std::string out;
  append_go_string(out, text);
  return out;
}

std::string python(std::string_view text) {
  std::string out;
  append_python_string(out, text);
  return out;
}

TEST(JsonText, GoEscapesHtmlAndKeepsOtherLetters) {
  EXPECT_EQ(go("a<b>&c"), R"("a\u003cb\u003e\u0026c")");
  EXPECT_EQ(go("\xE2\x80\xA8\xE2\x80\xA9"), R"("\u2028\u2029")");
  EXPECT_EQ(go("\"\\\n\r\t\b\f\x1f\x7f/"s), "\"\\\"\\\\\\n\\r\\t\\u0008\\u000c\\u001f\x7f/\"");
  EXPECT_EQ(go("ünï 😀"), "\"ünï 😀\"");
}

TEST(JsonText, PythonEscapesAllButPrintableAscii) {
  EXPECT_EQ(python("a<b>&c"), R"("a<b>&c")");
  EXPECT_EQ(python("\"\\\n\r\t\b\f\x1f\x7f/"s), R"("\"\\\n\r\t\b\f\u001f\u007f/")");
  EXPECT_EQ(python("ünï 😀"), R"("\u00fcn\u00ef \ud83d\ude00")");
}

TEST(JsonText, WhatIsNotUtf8BecomesTheReplacementCharacter) {
  EXPECT_EQ(python("a\xFFz"), R"("a\ufffdz")");
  EXPECT_EQ(go("a\xC0\x80z"), R"("a\ufffd\ufffdz")");
  EXPECT_EQ(python("\xED\xA0\x80"), R"("\ufffd\ufffd\ufffd")") << "a surrogate";
  EXPECT_EQ(python("\xF0\x9F\x98"), R"("\ufffd\ufffd\ufffd")") << "cut";
}

TEST(JsonText, PythonPrintsEveryKindOfValue) {
  auto value = base::parse_json(R"({"a":[1,-2,18446744073709551615,1.5,2.0,true,false,null],"b":{}})");
  ASSERT_TRUE(value);
  std::string spaced;
  append_python(spaced, *value, false);
  EXPECT_EQ(spaced, R"({"a": [1, -2, 18446744073709551615, 1.5, 2.0, true, false, null], "b": {}})");
  std::string compact;
  append_python(compact, *value, true);
  EXPECT_EQ(compact, R"({"a":[1,-2,18446744073709551615,1.5,2.0,true,false,null],"b":{}})");
}

TEST(JsonText, ReprOfBytesIsPythons) {
  EXPECT_EQ(python_repr_of_bytes("abc"), "b'abc'");
  EXPECT_EQ(python_repr_of_bytes("it's"), "b\"it's\"");
  EXPECT_EQ(python_repr_of_bytes("it's \"so\""), "b'it\\'s \"so\"'");
  EXPECT_EQ(python_repr_of_bytes("\\\t\n\r\x01\x7f\xC3\xBC"s), "b'\\\\\\t\\n\\r\\x01\\x7f\\xc3\\xbc'");
}

}  // namespace
}  // namespace vdvs::esx::testing
