#include "tests/swarm/writers/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

namespace vdvs::writers {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// One life of one writer.
using Life = std::pair<std::uint32_t, std::uint64_t>;

struct Placed {
  std::size_t offset;
  Record record;
};

class Check {
 public:
  Check(std::string_view what, std::string_view bytes) : what_(what), bytes_(bytes) { find_records(); }

  const std::vector<Placed>& records() const { return records_; }

  void add(Fault fault, std::string_view detail) {
    if (++verdict_.counts[fault] <= kMaxFindingsOfAKind)
      verdict_.findings.push_back({fault, fmt::format("{}: {}: {}", what_, fault_name(fault), detail)});
  }

  /// All that was told of `where` and has to be there, is.
  void find_lost(const std::vector<Report>& reports, Where where, Stage must) {
    std::set<Record> there;
    for (const Placed& placed : records_) there.insert(placed.record);
    for (const auto& [record, stage] : acknowledged(reports, where)) {
      if (stage < must) continue;
      ++verdict_.acknowledged;
      if (!there.contains(record))
        add(Fault::kLost,
            fmt::format("{}, {}", text_of(record), stage == Stage::kSynced ? "synced" : "written"));
    }
  }

  /// A writer's numbers go up by one, and a session that another one follows never comes again.
  void find_disorder() {
    std::map<std::uint32_t, Record> last;
    std::set<Life> lives;
    std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
    for (const auto& [offset, record] : records_) {
      const std::string at = fmt::format("{} at byte {}", text_of(record), offset);
      if (!seen.emplace(record.writer, record.number).second) add(Fault::kDoubled, at);
      const auto before = last.find(record.writer);
      const std::uint64_t previous = before == last.end() ? 0 : before->second.number;
      if (record.number != previous + 1 && record.number != previous)
        add(Fault::kDisordered, fmt::format("{}, after its number {}", at, previous));
      const bool is_same_life = before != last.end() && before->second.session == record.session;
      if (!lives.emplace(record.writer, record.session).second && !is_same_life) add(Fault::kTwoLives, at);
      last.insert_or_assign(record.writer, record);
    }
    verdict_.sessions = lives.size();
  }

  Verdict verdict() && {
    verdict_.records = records_.size();
    return std::move(verdict_);
  }

 private:
  /// Records stand one behind the other. After bytes that are none, the next newline may end what is torn.
  void find_records() {
    std::optional<std::size_t> torn_at;
    for (std::size_t at = 0; at < bytes_.size();) {
      const auto record = decode(bytes_.substr(at, kRecordBytes));
      if (!record) {
        if (!torn_at) torn_at = at;
        at = next_start(at);
        continue;
      }
      if (torn_at) add(Fault::kTorn, fmt::format("bytes {} to {}", *torn_at, at));
      torn_at.reset();
      records_.push_back({at, *record});
      at += kRecordBytes;
    }
  }

  /// Where a record could begin again: behind a newline, or at the place of a whole number of records.
  std::size_t next_start(std::size_t at) const {
    const std::size_t newline = bytes_.find('\n', at);
    const std::size_t slot = (at / kRecordBytes + 1) * kRecordBytes;
    return std::min({bytes_.size(), slot, newline == std::string_view::npos ? bytes_.size() : newline + 1});
  }

  /// Each record that was told, with the strongest promise. What is synced takes all of its life before it
  /// along.
  static std::map<Record, Stage> acknowledged(const std::vector<Report>& reports, Where where) {
    std::map<Life, std::uint64_t> synced;
    std::map<Record, Stage> records;
    for (const Report& report : reports) {
      if (report.where != where) continue;
      const Record& record = report.record;
      auto& number = synced[{record.writer, record.session}];
      if (report.stage == Stage::kSynced) number = std::max(number, record.number);
      records.emplace(record, Stage::kWritten);
    }
    for (auto& [record, stage] : records) {
      if (record.number <= synced[{record.writer, record.session}]) stage = Stage::kSynced;
    }
    return records;
  }

  const std::string_view what_;
  const std::string_view bytes_;
  std::vector<Placed> records_;
  Verdict verdict_;
};

}  // namespace

std::string_view fault_name(Fault fault) {
  switch (fault) {
    case Fault::kLost:
      return "lost";
    case Fault::kDoubled:
      return "doubled";
    case Fault::kTorn:
      return "torn";
    case Fault::kDisordered:
      return "disordered";
    case Fault::kTwoLives:
      return "two lives";
    case Fault::kForeign:
      return "foreign";
  }
  return {};
}

Result<std::vector<Report>> parse_reports(std::string_view text) {
  std::vector<Report> reports;
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const auto report = decode_report(text.substr(0, end));
    if (!report)
      return fail(ErrorCode::kInvalid, "line {} is no report: '{}'", line,
                  text.substr(0, std::min<std::size_t>(end, kRecordBytes)));
    reports.push_back(*report);
    text.remove_prefix(end + 1);
  }
  return reports;
}

Verdict verify_file(std::string_view file, std::uint32_t writer, const std::vector<Report>& reports,
                    Stage must) {
  Check check("file", file);
  for (const auto& [offset, record] : check.records()) {
    if (record.writer != writer)
      check.add(Fault::kForeign, fmt::format("{} at byte {}", text_of(record), offset));
    if (offset != (record.number - 1) * kRecordBytes && offset % kRecordBytes != 0)
      check.add(Fault::kTorn, fmt::format("{} begins at byte {}", text_of(record), offset));
  }
  std::vector<Report> own = reports;
  std::erase_if(own, [&](const Report& report) { return report.record.writer != writer; });
  check.find_lost(own, Where::kFile, must);
  check.find_disorder();
  return std::move(check).verdict();
}

Verdict verify_log(std::string_view log, const std::vector<Report>& reports, Stage must) {
  Check check("log", log);
  check.find_lost(reports, Where::kLog, must);
  check.find_disorder();
  return std::move(check).verdict();
}

}  // namespace vdvs::writers
