#include "base/error.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace vdvs::base {

std::string_view code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid: return "E_INVALID";
    case ErrorCode::kNotFound: return "E_NOT_FOUND";
    case ErrorCode::kExists: return "E_EXISTS";
    case ErrorCode::kInUse: return "E_IN_USE";
    case ErrorCode::kBusyElsewhere: return "E_BUSY_ELSEWHERE";
    case ErrorCode::kNoSpace: return "E_NO_SPACE";
    case ErrorCode::kReadOnly: return "E_READ_ONLY";
    case ErrorCode::kUnavailable: return "E_UNAVAILABLE";
    case ErrorCode::kTimeout: return "E_TIMEOUT";
    case ErrorCode::kCorrupt: return "E_CORRUPT";
    case ErrorCode::kForeignData: return "E_FOREIGN_DATA";
    case ErrorCode::kUnsupported: return "E_UNSUPPORTED";
    case ErrorCode::kDenied: return "E_DENIED";
    case ErrorCode::kLimit: return "E_LIMIT";
    case ErrorCode::kIo: return "E_IO";
    case ErrorCode::kInternal: return "E_INTERNAL";
  }
  std::abort();
}

namespace {

ErrorCode code_of_errno(int errnum) {
  switch (errnum) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return ErrorCode::kNotFound;
    case EEXIST: return ErrorCode::kExists;
    case EBUSY: return ErrorCode::kInUse;
    case ENOSPC:
    case EDQUOT: return ErrorCode::kNoSpace;
    case EROFS: return ErrorCode::kReadOnly;
    case EPERM:
    case EACCES: return ErrorCode::kDenied;
    case EINVAL:
    case ENAMETOOLONG: return ErrorCode::kInvalid;
    case EMFILE:
    case ENFILE: return ErrorCode::kLimit;
    case ETIMEDOUT: return ErrorCode::kTimeout;
    case EOPNOTSUPP:
    case ENOSYS: return ErrorCode::kUnsupported;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ESTALE: return ErrorCode::kUnavailable;
    default: return ErrorCode::kIo;
  }
}

}  // namespace

Error::Error(ErrorCode code, std::string message, std::string remedy)
    : code_(code), message_(std::move(message)), remedy_(std::move(remedy)) {}

Error Error::from_errno(std::string_view what, int errnum) {
  Error error(code_of_errno(errnum),
              fmt::format("{}: {}", what, std::error_code(errnum, std::generic_category()).message()));
  error.system_errno_ = errnum;
  return error;
}

Error Error::within(std::string_view operation) && {
  message_ = fmt::format("{}: {}", operation, message_);
  return std::move(*this);
}

Error Error::with_remedy(std::string remedy) && {
  remedy_ = std::move(remedy);
  return std::move(*this);
}

std::string Error::text() const {
  std::string text = fmt::format("{} [{}]", message_, code_name(code_));
  if (!remedy_.empty()) text += "; " + remedy_;
  return text;
}

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace vdvs::base
