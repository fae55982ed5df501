// record_writer: writes numbered, checked records, and says afterwards whether all that was acknowledged is
// there. Static, so that it runs in an image that has nothing else. Only wires.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/fd.h"
#include "tests/swarm/writers/verifier.h"
#include "tests/swarm/writers/writer.h"

namespace vdvs::writers {
namespace {

constexpr std::size_t kMaxFileBytes = 1ull << 32;

struct VerifyOptions {
  std::string reports;
  std::map<std::uint32_t, std::string> files;
  std::string folder;
  std::string log;
  Stage must = Stage::kSynced;
};

void print(std::string_view text) {
  std::fprintf(stdout, "%.*s\n", static_cast<int>(text.size()), text.data());
}

bool show(const std::string& path, const Verdict& verdict) {
  for (const Finding& finding : verdict.findings) print(path + ": " + finding.text);
  std::size_t faults = 0;
  for (const auto& [fault, count] : verdict.counts) faults += count;
  print(fmt::format("{}: {} records in {} sessions, {} acknowledged, {} faults", path, verdict.records,
                    verdict.sessions, verdict.acknowledged, faults));
  return verdict.is_good();
}

/// The files of a folder, and those that reports tell of: one that is lost as a whole is not overlooked.
base::Result<std::map<std::uint32_t, std::string>> files_in(const std::string& folder,
                                                            const std::vector<Report>& reports) {
  std::map<std::uint32_t, std::string> files;
  for (const Report& report : reports) {
    if (report.where == Where::kFile)
      files.emplace(report.record.writer, fmt::format("{}/{}", folder, report.record.writer));
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    std::uint32_t writer = 0;
    const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), writer);
    if (wrong != std::errc() || end != name.data() + name.size())
      return base::fail(base::ErrorCode::kInvalid, "'{}' is not a writer's file", entry.path().string());
    files.emplace(writer, entry.path().string());
  }
  if (error) return base::fail(base::ErrorCode::kIo, "list '{}': {}", folder, error.message());
  return files;
}

/// A file that is not there has no records.
base::Result<std::string> read_or_nothing(const std::string& path) {
  auto bytes = base::read_file(path, kMaxFileBytes);
  if (!bytes && bytes.error().code() == base::ErrorCode::kNotFound) return std::string();
  return bytes;
}

/// True: nothing is wrong.
base::Result<bool> verify(const VerifyOptions& options) {
  ASSIGN_OR_RETURN(const std::string text, base::read_file(options.reports, kMaxFileBytes));
  ASSIGN_OR_RETURN(const auto reports, parse_reports(text));
  bool is_good = true;
  auto files = options.files;
  if (!options.folder.empty()) {
    ASSIGN_OR_RETURN(auto more, files_in(options.folder, reports));
    files.merge(more);
  }
  for (const auto& [writer, path] : files) {
    ASSIGN_OR_RETURN(const std::string bytes, read_or_nothing(path));
    is_good &= show(path, verify_file(bytes, writer, reports, options.must));
  }
  if (options.log.empty()) return is_good;
  ASSIGN_OR_RETURN(const std::string bytes, read_or_nothing(options.log));
  is_good &= show(options.log, verify_log(bytes, reports, options.must));
  return is_good;
}

base::Result<bool> write(const WriterOptions& options, const std::string& target) {
  ASSIGN_OR_RETURN(const Tell tell, open_reports(target));
  RETURN_IF_ERROR(write_records(options, tell));
  return true;
}

int run(int argc, char** argv) {
  CLI::App app("Writes numbered records, and finds those that were lost.");
  app.require_subcommand(1);

  WriterOptions writer;
  std::string target = "-";
  bool is_at_end = false;
  long long pace_ms = 0;
  auto* write_command = app.add_subcommand("write", "Write records and report what is acknowledged");
  write_command->add_option("--writer", writer.writer, "Its number; 0: one is drawn");
  auto* own = write_command->add_option("--file", writer.file, "File of its own");
  write_command
      ->add_option("--folder", writer.folder, "Folder of such files, each named by its writer's number")
      ->excludes(own);
  write_command->add_option("--log", writer.log, "Log that all writers append to");
  write_command->add_flag("--append", is_at_end, "Append to the log by O_APPEND, not under a lock");
  write_command->add_option("--records", writer.records, "How many of each; 0: until it is ended");
  write_command->add_option("--sync-every", writer.sync_every, "fsync after so many; 0: never");
  write_command->add_option("--pace-ms", pace_ms, "Pause between two records")->check(CLI::Range(0, 60'000));
  write_command->add_option("--report", target, "Where reports go: - or unix:PATH");

  VerifyOptions verifier;
  std::vector<std::pair<std::uint32_t, std::string>> files;
  auto* verify_command =
      app.add_subcommand("verify", "Compare files with reports; exit status 1 where something is wrong");
  verify_command->add_option("--reports", verifier.reports, "File of reports")->required();
  verify_command->add_option("--file", files, "WRITER PATH: a writer's own file; repeat it for more");
  verify_command->add_option("--folder", verifier.folder,
                             "Folder of writers' own files, all of which are looked at");
  verify_command->add_option("--log", verifier.log, "The common log");
  const std::map<std::string, Stage> stages{{"synced", Stage::kSynced}, {"written", Stage::kWritten}};
  verify_command->add_option("--must", verifier.must, "What has to be there: synced, or all that was written")
      ->transform(CLI::CheckedTransformer(stages));
  CLI11_PARSE(app, argc, argv);

  writer.appending = is_at_end ? Appending::kAtEnd : Appending::kLocked;
  writer.pace = std::chrono::milliseconds(pace_ms);
  verifier.files = {files.begin(), files.end()};
  const auto done = write_command->parsed() ? write(writer, target) : verify(verifier);
  if (done) return *done ? 0 : 1;
  std::fprintf(stderr, "record_writer: %s\n", done.error().text().c_str());
  return 2;
}

}  // namespace
}  // namespace vdvs::writers

int main(int argc, char** argv) { return vdvs::writers::run(argc, argv); }
