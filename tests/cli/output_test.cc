#include "cli/output.h"

#include <gtest/gtest.h>

namespace vdvs::cli {
namespace {

using base::ErrorCode;

const esx::AdminOutput kTable{
    .columns = {"Name", "Size"}, .rows = {{"db", "100MB"}}, .lines = {"ds2 is away"}};

TEST(AdminOutputText, APlainTableKeepsItsNotesOutOfStandardOutput) {
  const Printed printed = print_output(kTable, OutputFormat::kPlain, 80);
  EXPECT_EQ(printed.out, "Name  Size   \n----  -----  \ndb    100MB  \n\n");
  EXPECT_EQ(printed.notes, "ds2 is away\n");
}

TEST(AdminOutputText, PlainLinesAreLines) {
  EXPECT_EQ(print_output({.lines = {"one", "two"}}, OutputFormat::kPlain, 80).out, "one\ntwo\n");
}

TEST(AdminOutputText, JsonHasEveryRowByItsColumns) {
  EXPECT_EQ(
      print_output(kTable, OutputFormat::kJson, 80).out,
      "{\"columns\":[\"Name\",\"Size\"],\"rows\":[{\"Name\":\"db\",\"Size\":\"100MB\"}],\"lines\":[\"ds2 is "
      "away\"]}\n");
}

TEST(AdminOutputText, XmlLinesAreOneString) {
  EXPECT_NE(
      print_output({.lines = {"one", "two"}}, OutputFormat::kXml, 80).out.find("<string>one\ntwo</string>"),
      std::string::npos);
}

TEST(AdminOutputText, AnErrorIsThePredecessorsTextBehindItsPrefix) {
  const base::Error error(ErrorCode::kInvalid, "This feature is not supported for vmgroup _DEFAULT.");
  for (const OutputFormat format : {OutputFormat::kPlain, OutputFormat::kXml})
    EXPECT_EQ(print_error(error, format), "ERROR:This feature is not supported for vmgroup _DEFAULT.\n");
}

TEST(AdminOutputText, AnErrorThatKnowsWhatToDoSaysIt) {
  const base::Error error(ErrorCode::kInUse, "in use", "stop it");
  EXPECT_EQ(print_error(error, OutputFormat::kPlain), "ERROR:in use\nstop it\n");
  EXPECT_EQ(print_error(error, OutputFormat::kJson),
            "{\"error\":{\"code\":\"E_IN_USE\",\"text\":\"in use\",\"remedy\":\"stop it\"}}\n");
}

}  // namespace
}  // namespace vdvs::cli
