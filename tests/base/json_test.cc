#include "base/json.h"

#include <gtest/gtest.h>

namespace vdvs::base {
namespace {

TEST(Json, RefusesWhatIsBrokenDeepOrFollowedBySomething) {
  for (const std::string& text : {std::string(""), std::string("{"), std::string("{} {}"), std::string("nul"),
                                  std::string(1000, '['), std::string("{\"a\":1,}"), std::string("\xff\xfe")}) {
    EXPECT_FALSE(parse_json(text)) << text.substr(0, 20);
  }
}

TEST(Json, AcceptsSpaceAroundTheValue) { EXPECT_TRUE(parse_json(" {\"a\": [1, 2]}\n")); }

TEST(Json, FindsOnlyStrings) {
  auto value = parse_json(R"({"a":"text","b":1,"c":null})");
  ASSERT_TRUE(value);
  EXPECT_EQ(find_string(value->as_object(), "a"), "text");
  EXPECT_EQ(find_string(value->as_object(), "b"), std::nullopt);
  EXPECT_EQ(find_string(value->as_object(), "c"), std::nullopt);
  EXPECT_EQ(find_string(value->as_object(), "d"), std::nullopt);
}

}  // namespace
}  // namespace vdvs::base
