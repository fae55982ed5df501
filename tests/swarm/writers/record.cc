#include "tests/swarm/writers/record.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "base/checksum.h"

namespace vdvs::writers {
namespace {

constexpr std::size_t kChecksumBytes = 9;  // eight digits and a space
constexpr std::size_t kFieldsBytes = 10 + 1 + 16 + 1 + 20 + 1;
constexpr std::size_t kFillerBytes = kRecordBytes - kChecksumBytes - kFieldsBytes - 1;

/// Takes the next word of `text`, and the space behind it.
std::string_view next_word(std::string_view& text) {
  const std::size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return word;
}

template <typename Number>
bool read_number(std::string_view word, int base, Number& number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number, base);
  return !word.empty() && error == std::errc() && end == word.data() + word.size();
}

std::optional<Record> read_fields(std::string_view& text) {
  Record record;
  if (!read_number(next_word(text), 10, record.writer)) return std::nullopt;
  if (!read_number(next_word(text), 16, record.session)) return std::nullopt;
  if (!read_number(next_word(text), 10, record.number)) return std::nullopt;
  return record;
}

}  // namespace

std::string encode(const Record& record) {
  // Bytes that differ from record to record: parts of two are not one.
  const std::string filler(kFillerBytes, static_cast<char>('a' + (record.number + record.session) % 26));
  return base::checked_line(
      fmt::format("{:010} {:016x} {:020} {}", record.writer, record.session, record.number, filler));
}

std::optional<Record> decode(std::string_view bytes) {
  if (bytes.size() != kRecordBytes || bytes.back() != '\n') return std::nullopt;
  auto text = base::open_checked_line(bytes.substr(0, kRecordBytes - 1));
  if (!text) return std::nullopt;
  const auto record = read_fields(*text);
  // Byte for byte as it was written: not merely something with the same checksum and the same numbers.
  return record && record->number > 0 && encode(*record) == bytes ? record : std::nullopt;
}

std::string text_of(const Record& record) {
  return fmt::format("record {} of writer {} (session {:016x})", record.number, record.writer,
                     record.session);
}

std::string encode(const Report& report) {
  return fmt::format("{} {} {} {:016x} {}\n", report.where == Where::kFile ? "file" : "log",
                     report.stage == Stage::kSynced ? "synced" : "written", report.record.writer,
                     report.record.session, report.record.number);
}

std::optional<Report> decode_report(std::string_view line) {
  Report report;
  const std::string_view where = next_word(line);
  const std::string_view stage = next_word(line);
  if ((where != "file" && where != "log") || (stage != "synced" && stage != "written")) return std::nullopt;
  report.where = where == "file" ? Where::kFile : Where::kLog;
  report.stage = stage == "synced" ? Stage::kSynced : Stage::kWritten;
  const auto record = read_fields(line);
  if (!record || !line.empty()) return std::nullopt;
  report.record = *record;
  return report;
}

}  // namespace vdvs::writers
