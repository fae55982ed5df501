// The checker is only worth what it finds: each kind of loss is planted, and must be found.
#include "tests/swarm/writers/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vdvs::writers {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr std::uint64_t kFirstLife = 0xaa;
constexpr std::uint64_t kSecondLife = 0xbb;

std::string records(std::uint32_t writer, std::uint64_t session, std::uint64_t first, std::uint64_t last) {
  std::string bytes;
  for (std::uint64_t number = first; number <= last; ++number)
    bytes += encode(Record{writer, session, number});
  return bytes;
}

Report told(Where where, Stage stage, std::uint32_t writer, std::uint64_t session, std::uint64_t number) {
  return {where, stage, {writer, session, number}};
}

std::vector<Report> all_told(Where where, Stage stage, std::uint32_t writer, std::uint64_t session,
                             std::uint64_t first, std::uint64_t last) {
  std::vector<Report> reports;
  for (std::uint64_t number = first; number <= last; ++number)
    reports.push_back(told(where, stage, writer, session, number));
  return reports;
}

/// Ten records of writer 1, all synced.
class VerifyFile : public ::testing::Test {
 protected:
  Verdict verify(Stage must = Stage::kSynced) const { return verify_file(file_, 1, reports_, must); }
  std::string file_ = records(1, kFirstLife, 1, 10);
  std::vector<Report> reports_ = all_told(Where::kFile, Stage::kSynced, 1, kFirstLife, 1, 10);
};

TEST_F(VerifyFile, FindsNothingWhereAllIsWell) {
  const Verdict verdict = verify();
  EXPECT_TRUE(verdict.is_good());
  EXPECT_EQ(verdict.records, 10u);
  EXPECT_EQ(verdict.acknowledged, 10u);
  EXPECT_EQ(verdict.sessions, 1u);
}

TEST_F(VerifyFile, FindsALostEnd) {
  file_.resize(8 * kRecordBytes);
  const Verdict verdict = verify();
  EXPECT_THAT(verdict.counts, UnorderedElementsAre(Pair(Fault::kLost, 2u)));
  EXPECT_THAT(verdict.findings.front().text,
              HasSubstr("file: lost: record 9 of writer 1 (session 00000000000000aa), synced"));
}

TEST_F(VerifyFile, FindsALostFile) {
  file_.clear();
  EXPECT_EQ(verify().counts.at(Fault::kLost), 10u);
}

TEST_F(VerifyFile, FindsAHole) {
  file_.replace(4 * kRecordBytes, kRecordBytes, kRecordBytes, '\0');
  EXPECT_THAT(verify().counts, UnorderedElementsAre(Pair(Fault::kLost, 1u), Pair(Fault::kTorn, 1u),
                                                    Pair(Fault::kDisordered, 1u)));
}

TEST_F(VerifyFile, FindsASingleChangedBit) {
  file_[5 * kRecordBytes + 100] ^= 1;
  EXPECT_THAT(verify().counts, Contains(Pair(Fault::kTorn, 1u)));
}

TEST_F(VerifyFile, TakesOnlyTheVeryBytesThatWereWritten) {
  // The same numbers and the same checksum, in other digits.
  const std::size_t digit = file_.find_first_of("abcdef");
  ASSERT_LT(digit, 8u) << "a digit of the first record's checksum";
  file_[digit] = static_cast<char>(file_[digit] - 'a' + 'A');
  EXPECT_THAT(verify().counts, Contains(Pair(Fault::kTorn, 1u)));
}

TEST_F(VerifyFile, FindsARecordThatConsistsOfTwo) {
  const std::string other = encode(Record{1, kSecondLife, 3});
  file_.replace(2 * kRecordBytes + kRecordBytes / 2, kRecordBytes / 2, other.substr(kRecordBytes / 2));
  EXPECT_THAT(verify().counts, Contains(Pair(Fault::kTorn, 1u)));
}

TEST_F(VerifyFile, FindsAnAcknowledgedRecordThatALaterLifeHasOverwritten) {
  file_ = records(1, kFirstLife, 1, 8) + records(1, kSecondLife, 9, 12);
  const auto second = all_told(Where::kFile, Stage::kSynced, 1, kSecondLife, 9, 12);
  reports_.insert(reports_.end(), second.begin(), second.end());
  EXPECT_THAT(verify().counts, UnorderedElementsAre(Pair(Fault::kLost, 2u)));
}

TEST_F(VerifyFile, FindsTwoWritersAtOneTime) {
  file_ = records(1, kFirstLife, 1, 4) + records(1, kSecondLife, 5, 6) + records(1, kFirstLife, 7, 10);
  reports_.clear();
  EXPECT_EQ(verify().counts.at(Fault::kTwoLives), 1u);
}

TEST_F(VerifyFile, FindsAnotherWritersRecord) {
  file_ += encode(Record{2, kFirstLife, 11});
  EXPECT_THAT(verify().counts, Contains(Pair(Fault::kForeign, 1u)));
}

TEST_F(VerifyFile, TakesALaterLifeThatGoesOnBehindTheFirst) {
  file_ += records(1, kSecondLife, 11, 20);
  const Verdict verdict = verify();
  EXPECT_TRUE(verdict.is_good());
  EXPECT_EQ(verdict.sessions, 2u);
}

TEST_F(VerifyFile, TakesAnUnacknowledgedTornEndForWhatACrashLeaves) {
  file_ += records(1, kFirstLife, 11, 11).substr(0, 50);
  EXPECT_TRUE(verify().is_good());
}

TEST_F(VerifyFile, AsksForWhatWasOnlyWrittenWhereItMustBeThere) {
  reports_.push_back(told(Where::kFile, Stage::kWritten, 1, kFirstLife, 11));
  EXPECT_TRUE(verify(Stage::kSynced).is_good()) << "its writer's host may have died";
  EXPECT_EQ(verify(Stage::kWritten).counts.at(Fault::kLost), 1u);
}

TEST_F(VerifyFile, ASyncTakesAllOfItsLifeBeforeItAlong) {
  reports_ = {told(Where::kFile, Stage::kWritten, 1, kFirstLife, 9),
              told(Where::kFile, Stage::kSynced, 1, kFirstLife, 10)};
  file_ = records(1, kFirstLife, 1, 8);
  EXPECT_EQ(verify().counts.at(Fault::kLost), 2u);
}

/// Two writers, one record in turn.
class VerifyLog : public ::testing::Test {
 protected:
  VerifyLog() {
    for (std::uint64_t number = 1; number <= 10; ++number) {
      for (const std::uint32_t writer : {1u, 2u}) {
        log_ += encode(Record{writer, kFirstLife, number});
        reports_.push_back(told(Where::kLog, Stage::kSynced, writer, kFirstLife, number));
      }
    }
  }
  Verdict verify() const { return verify_log(log_, reports_, Stage::kSynced); }
  std::string log_;
  std::vector<Report> reports_;
};

TEST_F(VerifyLog, FindsNothingWhereAllIsWell) {
  const Verdict verdict = verify();
  EXPECT_THAT(verdict.findings, IsEmpty());
  EXPECT_EQ(verdict.records, 20u);
  EXPECT_EQ(verdict.sessions, 2u);
}

TEST_F(VerifyLog, FindsAnAppendThatWasOverwrittenByAnother) {
  log_.replace(6 * kRecordBytes, kRecordBytes,
               encode(Record{2, kFirstLife, 4}));  // both took the same place for the end
  log_.erase(7 * kRecordBytes, kRecordBytes);
  EXPECT_THAT(verify().counts, UnorderedElementsAre(Pair(Fault::kLost, 1u), Pair(Fault::kDisordered, 1u)));
}

TEST_F(VerifyLog, FindsAReplayedAppend) {
  log_ += encode(Record{2, kFirstLife, 10});
  const Verdict verdict = verify();
  EXPECT_THAT(verdict.counts, UnorderedElementsAre(Pair(Fault::kDoubled, 1u)));
  EXPECT_THAT(verdict.findings.front().text, HasSubstr("log: doubled: record 10 of writer 2"));
}

TEST_F(VerifyLog, FindsAnOlderAppendThatComesLate) {
  log_ += encode(Record{1, kFirstLife, 5});
  EXPECT_THAT(verify().counts, UnorderedElementsAre(Pair(Fault::kDoubled, 1u), Pair(Fault::kDisordered, 1u)));
}

TEST_F(VerifyLog, FindsATornAppendInTheMiddleAndTheRecordsBehindIt) {
  log_.erase(3 * kRecordBytes + 40, 60);
  const Verdict verdict = verify();
  EXPECT_EQ(verdict.records, 19u);
  EXPECT_THAT(verdict.counts, UnorderedElementsAre(Pair(Fault::kTorn, 1u), Pair(Fault::kLost, 1u),
                                                   Pair(Fault::kDisordered, 1u)));
}

TEST_F(VerifyLog, CountsAllButTellsOnlyTheFirstOfManyFaults) {
  for (int i = 0; i < 100; ++i) log_ += encode(Record{2, kFirstLife, 10});
  const Verdict verdict = verify();
  EXPECT_EQ(verdict.counts.at(Fault::kDoubled), 100u);
  EXPECT_EQ(verdict.findings.size(), kMaxFindingsOfAKind);
}

TEST(ParseReports, ReadsWhatWritersTellAndLeavesACutEndOut) {
  const Report report = told(Where::kLog, Stage::kSynced, 3, kFirstLife, 7);
  const auto parsed = parse_reports(encode(report) + encode(report).substr(0, 9));
  ASSERT_TRUE(parsed);
  EXPECT_THAT(*parsed, ::testing::ElementsAre(report));
}

TEST(ParseReports, SaysWhichLineIsNoReport) {
  for (const char* line :
       {"error open\n", "file synced 1 aa\n", "file synced 1 aa 2 3\n", "file synced -1 aa 2\n", "\n"}) {
    const auto parsed = parse_reports("file synced 1 aa 2\n" + std::string(line));
    ASSERT_FALSE(parsed) << line;
    EXPECT_THAT(parsed.error().message(), HasSubstr("line 2 is no report")) << line;
  }
}

}  // namespace
}  // namespace vdvs::writers
