#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::base::log {
namespace {

TEST(Log, WritesOneQuotedLineForAnEventWhateverItsFieldsHold) {
  tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/log";
  ASSERT_TRUE(set_up({.level = Level::kInfo, .path = path}));
  {
    RequestScope scope("r7");
    info("mounted", {{"volume", "db@ds"}, {"note", "two words\nand \"more\""}, {"count", 3}, {"empty", ""}});
  }
  debug("not at this level");
  info("later");
  ASSERT_TRUE(set_up({}));
  const std::string text = *read_file(path, 1 << 20);
  EXPECT_NE(text.find(R"( mounted volume=db@ds note="two words\nand \"more\"" count=3 empty="" request=r7)" "\n"), std::string::npos)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(Log, KnowsItsLevels) {
  EXPECT_EQ(*parse_level("WARNING"), Level::kWarn);
  EXPECT_FALSE(parse_level("loud"));
}

TEST(Log, AFileThatCannotBeOpenedIsAnError) { EXPECT_FALSE(set_up({.path = "/proc/no-such-folder/log"})); }

}  // namespace
}  // namespace vdvs::base::log
