// Compares what writers were told of their records with what is there. Pure: bytes in, findings out.
//
// What is a fault, in a writer's own file and in the common log alike:
//   lost        a record that was acknowledged is not there, or another life's stands in its place
//   doubled     one record is there twice
//   torn        bytes that are no record, with records behind them. (At the end, unacknowledged, they are
//   what a crash leaves.) disordered  a writer's records are not in the order of their numbers, or one
//   between them is missing two lives   a writer's session goes on after another one of the same writer has
//   begun: both wrote at one time foreign     a record that the file's writer did not write
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tests/swarm/writers/record.h"

namespace vdvs::writers {

enum class Fault { kLost, kDoubled, kTorn, kDisordered, kTwoLives, kForeign };
std::string_view fault_name(Fault fault);

struct Finding {
  Fault fault;
  std::string text;  ///< "log: lost: record 7 of writer 1 (session …), synced"
};

/// Of each fault at most this many are told in words; all are counted.
inline constexpr std::size_t kMaxFindingsOfAKind = 20;

struct Verdict {
  std::vector<Finding> findings;
  std::map<Fault, std::size_t> counts;
  std::size_t records = 0;
  std::size_t acknowledged = 0;  ///< Of those that had to be there.
  std::size_t sessions = 0;
  bool is_good() const { return counts.empty(); }
};

/// A report a line. A last line without a newline was cut, and does not count. Errors: kInvalid with the
/// line.
base::Result<std::vector<Report>> parse_reports(std::string_view text);

/// `must`: kSynced: what a crash of the writer's own host may not lose. kWritten: everything that was told,
/// as where only somebody else's host has died. `file`: of `writer` alone.
Verdict verify_file(std::string_view file, std::uint32_t writer, const std::vector<Report>& reports,
                    Stage must);
Verdict verify_log(std::string_view log, const std::vector<Report>& reports, Stage must);

}  // namespace vdvs::writers
