// What the writers of the shared-volume tests write: records of one size, each of which says who wrote it, in
// which life, as which number, and whether it is whole. A file of them shows by itself what was lost,
// doubled, torn or overwritten.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vdvs::writers {

/// A checked line (base/checksum.h), its newline included. No divisor of a page but 128, so that records
/// cross no page; `kRecordBytes` is what both ends agree on.
inline constexpr std::size_t kRecordBytes = 128;

struct Record {
  std::uint32_t writer = 0;
  std::uint64_t session = 0;  ///< One life of a writer: drawn at its start.
  std::uint64_t number = 0;   ///< From 1, without a gap, over all sessions of a writer.
  auto operator<=>(const Record&) const = default;
};

/// kRecordBytes long.
std::string encode(const Record& record);
/// nullopt: not a whole record.
std::optional<Record> decode(std::string_view bytes);
/// "record 7 of writer 1 (session 00000000000000ab)"
std::string text_of(const Record& record);

// What a writer tells of a record: lines of text, so that a person can read them, and a socket can carry
// them.

enum class Where { kFile, kLog };  ///< The writer's own file, or the log that all append to.
enum class Stage {
  kWritten,
  kSynced
};  ///< write(2) has returned; fsync(2) has: for all of the session up to that number.

struct Report {
  Where where = Where::kFile;
  Stage stage = Stage::kWritten;
  Record record;
  auto operator<=>(const Report&) const = default;
};

/// "file synced 1 00000000000000ab 7\n"
std::string encode(const Report& report);
/// Without its newline. nullopt: something else.
std::optional<Report> decode_report(std::string_view line);

}  // namespace vdvs::writers
