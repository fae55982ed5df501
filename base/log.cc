#include "base/log.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace vdvs::base::log {
namespace {

thread_local std::string current_request;  // NOLINT: set by RequestScope alone

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  std::abort();
}

void append_value(std::string& line, std::string_view value) {
  bool is_plain = !value.empty() && std::ranges::all_of(value, [](unsigned char c) {
    return c > ' ' && c != '"' && c != '=' && c != '\\' && c != 127;
  });
  if (is_plain) {
    line += value;
    return;
  }
  line += '"';
  for (unsigned char c : value) {
    if (c == '"' || c == '\\') {
      line += '\\';
      line += static_cast<char>(c);
    } else if (c == '\n') {
      line += "\\n";
    } else if (c < ' ' || c == 127) {
      line += fmt::format("\\x{:02x}", c);
    } else {
      line += static_cast<char>(c);
    }
  }
  line += '"';
}

/// Where lines go; standard error until set_up. Made by whoever logs first: spdlog's own default would be made inside its library, where the
/// thread sanitizer does not see that threads wait for it.
std::shared_ptr<spdlog::logger>& current_logger() {
  static auto logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  return logger;
}

}  // namespace

Result<void> set_up(const Options& options) {
  try {
    spdlog::sink_ptr sink;
    if (options.path.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.path, options.max_file_bytes, options.max_files);
    }
    auto logger = std::make_shared<spdlog::logger>("", std::move(sink));
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%f%z [%L] %v");
    logger->set_level(spdlog_level(options.level));
    logger->flush_on(spdlog::level::debug);
    current_logger() = std::move(logger);
  } catch (const std::exception& error) {
    return fail(ErrorCode::kIo, "open log '{}': {}", options.path, error.what());
  }
  return {};
}

Result<Level> parse_level(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "debug") return Level::kDebug;
  if (lower == "info") return Level::kInfo;
  if (lower == "warn" || lower == "warning") return Level::kWarn;
  if (lower == "error") return Level::kError;
  return fail(ErrorCode::kInvalid, "log level '{}': not one of debug, info, warn, error", name);
}

void write(Level level, std::string_view message, Fields fields) {
  const auto& logger = current_logger();
  if (!logger->should_log(spdlog_level(level))) return;
  std::string line(message);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    append_value(line, field.value);
  }
  if (!current_request.empty()) {
    line += " request=";
    line += current_request;
  }
  logger->log(spdlog_level(level), "{}", line);
}

RequestScope::RequestScope(std::string id) : outer_(std::exchange(current_request, std::move(id))) {}
RequestScope::~RequestScope() { current_request = std::move(outer_); }

}  // namespace vdvs::base::log
