// Real writers, as processes, on a local file system, which is what shared volumes are compared with: several
// at once, killed at any point and started again, and nothing that they were told is missing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "tests/support/temporary_folder.h"
#include "tests/swarm/writers/verifier.h"
#include "tests/swarm/writers/writer.h"

namespace vdvs::writers {
namespace {

constexpr std::size_t kMaxBytes = 1ull << 28;

class RecordWriter : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string read(const std::string& name) const {
    auto bytes = base::read_file(path(name), kMaxBytes);
    EXPECT_TRUE(bytes) << bytes.error().text();
    return bytes.value_or("");
  }
  WriterOptions options(std::uint32_t writer, std::uint64_t records) const {
    return {.writer = writer,
            .file = path("file" + std::to_string(writer)),
            .log = path("log"),
            .records = records,
            .sync_every = 8};
  }
  Tell teller() const {
    auto file = base::open_file(path("reports"), O_WRONLY | O_CREAT | O_APPEND);
    EXPECT_TRUE(file);
    return [fd = std::make_shared<base::UniqueFd>(std::move(*file))](std::string_view lines) {
      return base::write_all(*fd, lines, "reports");
    };
  }
  /// In a process of its own; 0 is its status where all went well.
  pid_t start(const WriterOptions& wanted) const {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto written = write_records(wanted, teller());
    if (!written)
      (void)base::write_all(base::UniqueFd(STDERR_FILENO), written.error().text() + "\n", "stderr");
    ::_exit(written ? 0 : 1);
  }
  static int status_of(pid_t pid) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    return status;
  }
  std::vector<Report> reports() const {
    auto parsed = parse_reports(read("reports"));
    EXPECT_TRUE(parsed) << parsed.error().text();
    return parsed.value_or(std::vector<Report>{});
  }
  void expect_all_is_there(int writers) const {
    const auto told = reports();
    for (int writer = 1; writer <= writers; ++writer) {
      const auto number = static_cast<std::uint32_t>(writer);
      const Verdict verdict =
          verify_file(read("file" + std::to_string(writer)), number, told, Stage::kWritten);
      for (const Finding& finding : verdict.findings) ADD_FAILURE() << finding.text;
    }
    const Verdict verdict = verify_log(read("log"), told, Stage::kWritten);
    for (const Finding& finding : verdict.findings) ADD_FAILURE() << finding.text;
    EXPECT_GT(verdict.acknowledged, 0u);
  }

  tests::TemporaryFolder folder_;
};

TEST_F(RecordWriter, SeveralWritersLoseNothingUnderALock) {
  std::vector<pid_t> pids;
  for (std::uint32_t writer = 1; writer <= 4; ++writer) pids.push_back(start(options(writer, 200)));
  for (const pid_t pid : pids) EXPECT_EQ(status_of(pid), 0);
  expect_all_is_there(4);
  EXPECT_EQ(read("log").size(), 4 * 200 * kRecordBytes);
}

TEST_F(RecordWriter, SeveralWritersLoseNothingByAppending) {
  std::vector<pid_t> pids;
  for (std::uint32_t writer = 1; writer <= 4; ++writer) {
    WriterOptions wanted = options(writer, 200);
    wanted.appending = Appending::kAtEnd;
    pids.push_back(start(wanted));
  }
  for (const pid_t pid : pids) EXPECT_EQ(status_of(pid), 0);
  expect_all_is_there(4);
  EXPECT_EQ(read("log").size(), 4 * 200 * kRecordBytes);
}

TEST_F(RecordWriter, AWriterThatWasKilledGoesOnBehindItsLastRecord) {
  for (int life = 0; life < 5; ++life) {
    const pid_t killed = start(options(1, 0));
    const pid_t other = start(options(2, 50));
    EXPECT_EQ(status_of(other), 0);
    ::kill(killed, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(status_of(killed)));
  }
  EXPECT_EQ(status_of(start(options(1, 10))), 0);
  expect_all_is_there(2);
  EXPECT_EQ(verify_file(read("file1"), 1, reports(), Stage::kWritten).sessions, 6u);
}

TEST_F(RecordWriter, CutsOffATornEndAndWritesItAnew) {
  EXPECT_EQ(status_of(start(options(1, 3))), 0);
  ASSERT_EQ(::truncate(path("file1").c_str(), 3 * kRecordBytes + 50), 0);
  ASSERT_EQ(::truncate(path("log").c_str(), 3 * kRecordBytes + 50), 0);
  EXPECT_EQ(status_of(start(options(1, 3))), 0);
  expect_all_is_there(1);
  EXPECT_EQ(read("file1").size(), 6 * kRecordBytes);
  EXPECT_EQ(read("log").size(), 6 * kRecordBytes);
}

TEST_F(RecordWriter, TwoThatTakeOneFileForTheirOwnAreFound) {
  // Each goes on behind what it found when it began, as two owners of one disk would.
  WriterOptions first = options(1, 4);
  first.log.clear();
  int told = 0;
  const auto written = write_records(first, [&](std::string_view lines) -> base::Result<void> {
    if (++told == 2) {
      WriterOptions other = first;
      other.records = 1;
      EXPECT_TRUE(write_records(other, teller()));
    }
    return teller()(lines);
  });
  ASSERT_TRUE(written) << written.error().text();
  const Verdict verdict = verify_file(read("file1"), 1, reports(), Stage::kWritten);
  EXPECT_THAT(verdict.counts, ::testing::Contains(::testing::Pair(Fault::kLost, 1u)))
      << "the other's, overwritten";
}

TEST_F(RecordWriter, AnErrorOfTheFileSystemEndsItWithWhatWasDone) {
  const auto refused = write_records({.file = folder_.path() + "/missing/file", .records = 1}, teller());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), ::testing::HasSubstr("missing/file"));
}

}  // namespace
}  // namespace vdvs::writers
