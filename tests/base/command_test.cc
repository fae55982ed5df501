#include "base/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::base {
namespace {

using namespace std::chrono_literals;

TEST(Command, GivesTheExitStatusAndBothOutputs) {
  auto outcome = run_command({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->exit_status, 3);
  EXPECT_EQ(outcome->output, "out\nerr\n");
}

TEST(Command, PassesArgumentsAsTheyAre) {
  auto outcome = run_command({"printf", "%s|", "a b", "$HOME", "; rm -rf /", "*"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->output, "a b|$HOME|; rm -rf /|*|");
}

TEST(Command, AProgramThatIsNotThereIsNotFound) {
  auto outcome = run_command({"mkfs.no-such-type"});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::kNotFound);
}

TEST(Command, IsKilledAtItsDeadlineAndSaysWhatItPrinted) {
  auto outcome = run_command({"sh", "-c", "echo begun; exec sleep 1000"}, {.deadline = deadline_in(200ms), .on_output = {}});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::kTimeout);
  EXPECT_NE(outcome.error().message().find("begun"), std::string::npos);
}

TEST(Command, KeepsABoundedPartOfALongOutput) {
  std::size_t seen = 0;
  auto outcome = run_command({"head", "-c", "1000000", "/dev/zero"},
                             {.max_output_bytes = 1000, .on_output = [&](std::string_view piece) { seen += piece.size(); }});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->output.size(), 1000u);
  EXPECT_EQ(seen, 1'000'000u);
}

TEST(Command, DoesNotWaitForADaemonThatItLeavesBehind) {
  auto outcome = run_command({"sh", "-c", "sleep 2 & echo done"}, {.deadline = deadline_in(60s), .on_output = {}});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->output, "done\n");
}

TEST(Command, ReportsASignalAsTheShellDoes) {
  auto outcome = run_command({"sh", "-c", "kill -9 $$"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->exit_status, 128 + 9);
}

TEST(Command, HandsADescriptorOnAndNoOther) {
  tests::TemporaryFolder folder;
  auto file = open_file(folder.path() + "/lock", O_RDWR | O_CREAT);
  auto other = open_file("/dev/null", O_RDONLY);
  const std::string ours = std::to_string(file->get());
  const std::string not_ours = std::to_string(other->get());
  auto outcome = run_command({"sh", "-c", "readlink /proc/$$/fd/" + ours + "; test -e /proc/$$/fd/" + not_ours},
                             {.on_output = {}, .inherited_fd = file->get()});
  ASSERT_TRUE(outcome);
  EXPECT_NE(outcome->exit_status, 0) << "a descriptor that nobody handed on is open in the child";
  EXPECT_NE(outcome->output.find("/lock"), std::string::npos);
}

}  // namespace
}  // namespace vdvs::base
