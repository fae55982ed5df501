// One line per event: time, level, message, key=value pairs, on standard error or in a rotated file. Log once, at the layer that
// decides. error: someone must act. warn: degraded but going on. info: a line per transition. debug: steps.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace vdvs::base::log {

enum class Level { kDebug, kInfo, kWarn, kError };

struct Options {
  Level level = Level::kInfo;
  std::string path;  ///< Empty: standard error.
  std::size_t max_file_bytes = 10 * 1024 * 1024;
  std::size_t max_files = 10;
};

/// Once, from main, before other threads start. Errors: the log file cannot be opened.
Result<void> set_up(const Options& options);

/// "debug", "info", "warn" ("warning"), "error" in any case.
Result<Level> parse_level(std::string_view name);

/// One key=value pair; a value with spaces, quotes or control characters is quoted and escaped.
struct Field {
  template <typename T>
  Field(std::string_view key_in, const T& value_in) : key(key_in), value(fmt::format("{}", value_in)) {}
  std::string_view key;
  std::string value;
};

using Fields = std::initializer_list<Field>;

void write(Level level, std::string_view message, Fields fields);

inline void debug(std::string_view message, Fields fields = {}) { write(Level::kDebug, message, fields); }
inline void info(std::string_view message, Fields fields = {}) { write(Level::kInfo, message, fields); }
inline void warn(std::string_view message, Fields fields = {}) { write(Level::kWarn, message, fields); }
inline void error(std::string_view message, Fields fields = {}) { write(Level::kError, message, fields); }

/// While it lives, every line of this thread carries `request=<id>`.
class RequestScope {
 public:
  explicit RequestScope(std::string id);
  ~RequestScope();
  RequestScope(const RequestScope&) = delete;
  RequestScope& operator=(const RequestScope&) = delete;

 private:
  std::string outer_;
};

}  // namespace vdvs::base::log
