// Errors are values here: a function that can fail returns Result<T>, and the Error inside says what was tried, on what,
// why it failed, and what the user can do. The code decides the mapping to HTTP, errno and exit status; the
// message is for people. docs/errors.md explains every code, and a test holds the two together.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace vdvs::base {

/// What kind of failure this is. Each has a line in docs/errors.md under the name that `code_name` gives.
enum class ErrorCode {
  kInvalid,        ///< The request itself is wrong: a name, a size, an option, a body.
  kNotFound,       ///< No such volume, datastore, file or device.
  kExists,         ///< It is there already, and differs from what was asked for.
  kInUse,          ///< Held on this host: a container has it mounted, a process has it open.
  kBusyElsewhere,  ///< Held by another host, or by something that is not ours.
  kNoSpace,        ///< The datastore cannot hold it.
  kReadOnly,       ///< The datastore or the disk cannot be written.
  kUnavailable,    ///< The other side does not answer now; asking again later may work.
  kTimeout,        ///< The deadline passed; the work may still be going on.
  kCorrupt,        ///< What was read breaks its own format or checksum.
  kForeignData,    ///< The disk carries data that we did not put there, so it is not formatted.
  kUnsupported,    ///< A valid wish that this build, kernel or datastore cannot grant.
  kDenied,         ///< Not allowed: privileges, ownership, policy.
  kLimit,          ///< A named limit was reached.
  kIo,             ///< The kernel or a device reported an error.
  kInternal,       ///< Our own mistake.
};

/// "E_INVALID", "E_NOT_FOUND", ...: the name that users see and that docs/errors.md lists.
std::string_view code_name(ErrorCode code);

class [[nodiscard]] Error {
 public:
  /// `message` has the shape "operation 'subject': cause (facts)"; `remedy` says what to do next, or is empty.
  Error(ErrorCode code, std::string message, std::string remedy = {});

  /// The error of a system call: "what: strerror(errnum)", with the code that fits errnum.
  static Error from_errno(std::string_view what, int errnum);

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& remedy() const { return remedy_; }
  /// The errno of the system call behind this error, or 0.
  int system_errno() const { return system_errno_; }

  /// Puts the outer operation in front: "mount 'db': open /dev/loop3: Permission denied".
  Error within(std::string_view operation) &&;
  Error with_remedy(std::string remedy) &&;

  /// What a user sees: "message [E_CODE]; remedy".
  std::string text() const;

 private:
  ErrorCode code_;
  int system_errno_ = 0;
  std::string message_;
  std::string remedy_;
};

template <typename T>
using Result = std::expected<T, Error>;

/// `return fail(ErrorCode::kInvalid, "parse size '{}': no unit", text);`
template <typename... Args>
std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

/// `return fail_errno(errno, "open '{}'", path);`: evaluates errno first, since formatting may change it.
template <typename... Args>
std::unexpected<Error> fail_errno(int errnum, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error::from_errno(fmt::format(format, std::forward<Args>(args)...), errnum));
}

/// Aborts with the expression and the place: for our own bugs only, never for input. Always on.
[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace vdvs::base

#define VDVS_CHECK(expression) \
  (static_cast<bool>(expression) ? void(0) : ::vdvs::base::check_failed(#expression, __FILE__, __LINE__))

#define VDVS_CONCAT_INNER(a, b) a##b
#define VDVS_CONCAT(a, b) VDVS_CONCAT_INNER(a, b)

/// Leaves the function with the error of `expression`, if it has one.
#define RETURN_IF_ERROR(expression)                                               \
  do {                                                                            \
    auto vdvs_status = (expression);                                              \
    if (!vdvs_status) return std::unexpected(std::move(vdvs_status).error());     \
  } while (false)

/// `ASSIGN_OR_RETURN(auto fd, open_file(path));`
#define ASSIGN_OR_RETURN(target, expression) \
  VDVS_ASSIGN_OR_RETURN_AS(VDVS_CONCAT(vdvs_result_, __LINE__), target, expression)
#define VDVS_ASSIGN_OR_RETURN_AS(result, target, expression)              \
  auto result = (expression);                                             \
  if (!result) return std::unexpected(std::move(result).error());         \
  target = std::move(*result)
