#include "cli/table.h"

#include <gtest/gtest.h>

namespace vdvs::cli {
namespace {

using Widths = std::vector<std::size_t>;

TEST(TableWidths, TheWidestColumnGivesFirst) {
  EXPECT_EQ(shrink_to_fit({64, 14}, 60), (Widths{46, 14}));
  EXPECT_EQ(shrink_to_fit({1, 64}, 50), (Widths{1, 49}));
}

TEST(TableWidths, EqualColumnsGiveTogether) {
  EXPECT_EQ(shrink_to_fit({64, 64}, 60), (Widths{30, 30}));
  EXPECT_EQ(shrink_to_fit({64, 64, 30}, 120), (Widths{45, 45, 30}));
}

TEST(TableWidths, AColumnThatBecomesTheWidestGivesToo) {
  EXPECT_EQ(shrink_to_fit({64, 64, 50}, 60), (Widths{20, 20, 20}));
}

TEST(TableWidths, WhatFitsIsLeftAsItIs) { EXPECT_EQ(shrink_to_fit({30, 20}, 50), (Widths{30, 20})); }

TEST(TableWidths, WhatDoesNotDivideIsTakenFromTheFirst) {
  EXPECT_EQ(shrink_to_fit({64, 64}, 61), (Widths{30, 31}));
  EXPECT_EQ(shrink_to_fit({64, 64, 64}, 61), (Widths{20, 20, 21}));
}

TEST(TableWidths, NeverExceedTheBudgetAndNeverGrow) {
  const Widths given{13, 1, 40, 40, 7, 0, 22};
  for (std::size_t total = 0; total < 130; ++total) {
    const Widths fitted = shrink_to_fit(given, total);
    std::size_t sum = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      EXPECT_LE(fitted[i], given[i]);
      sum += fitted[i];
    }
    EXPECT_EQ(sum, std::min<std::size_t>(total, 123));
  }
}

TEST(Table, HasHeaderDashesRowsAndAnEmptyLine) {
  EXPECT_EQ(render_table({"Uuid", "Name"}, {{"564d", "photon6"}, {"11111", ""}}, 80),
            "Uuid   Name     \n"
            "-----  -------  \n"
            "564d   photon6  \n"
            "11111           \n"
            "\n");
}

TEST(Table, WithoutRowsIsItsHeader) { EXPECT_EQ(render_table({"A", "BC"}, {}, 80), "A  BC  \n-  --  \n\n"); }

TEST(Table, CutsCellsWithTwoDots) {
  // 20 columns, less a gap of two: 18 for both, so that the first keeps 14.
  EXPECT_EQ(render_table({"Name", "Size"}, {{"a-very-long-volume-name", "100M"}}, 20),
            "Name            Size  \n"
            "--------------  ----  \n"
            "a-very-long-..  100M  \n"
            "\n");
}

TEST(Table, SurvivesATerminalThatIsTooNarrowForIt) {
  const std::string table = render_table({"Alpha", "Beta", "Gamma"}, {{"one", "two", "three"}}, 1);
  EXPECT_EQ(table, ".  .  .  \n-  -  -  \n.  .  .  \n\n");
}

TEST(TableText, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width("Volume-你"), 9u);
  EXPECT_EQ(display_width("größe"), 5u);
  EXPECT_EQ(display_width("e\u0301"), 1u);  // a combining accent stands on the letter before it
  EXPECT_EQ(display_width("\xff\xfe"), 2u);
}

TEST(TableText, PadsByColumns) {
  EXPECT_EQ(render_table({"Name"}, {{"你好"}, {"abcde"}}, 80), "Name   \n-----  \n你好   \nabcde  \n\n");
}

TEST(TableText, NeverCutsACharacterInHalf) {
  EXPECT_EQ(cut_to_width("你好世界", 7), "你好..");
  EXPECT_EQ(cut_to_width("你好世界", 6), "你好..");
  EXPECT_EQ(cut_to_width("你好世界", 5), "你..");
  EXPECT_EQ(cut_to_width("你好世界", 1), ".");
  EXPECT_EQ(cut_to_width("你好世界", 0), "");
}

TEST(TableText, ShowsNoControlCharactersOfOthers) {
  EXPECT_EQ(clean_text("vm\x1b[2J\n\x7f\xc2\x9b"), "vm?[2J???");
  EXPECT_EQ(clean_text("\xed\xa0\x80\xc0\x80\xf5"), "??????");
  EXPECT_EQ(clean_text("Volume-你 ok"), "Volume-你 ok");
}

}  // namespace
}  // namespace vdvs::cli
