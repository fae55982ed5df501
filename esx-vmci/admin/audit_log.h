// Who changed what: one line of JSON for each of the administrator's changes, whether it succeeded or not.
//
//   {"time":"2026-11-21T13:05:07Z","who":"uid 0 (pid 812)","verb":"vmgroup
//   rm","flags":{"name":"g1"},"result":"ok"}
//
// Several processes may append (the service, and the command where none runs): an flock keeps lines whole and
// rotations single. At kMaxAuditBytes the file becomes "<path>.1", that one "<path>.2", up to kOldAuditFiles.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx {

inline constexpr std::size_t kMaxAuditBytes = 8 * 1024 * 1024;
inline constexpr int kOldAuditFiles = 4;

/// Thread: any number of calls side by side.
class AuditLog {
 public:
  /// Mode 0600; the folder is made at the first line.
  explicit AuditLog(std::string path, std::size_t max_bytes = kMaxAuditBytes)
      : path_(std::move(path)), max_bytes_(max_bytes) {}

  /// On the disk before it returns.
  base::Result<void> append(const AdminCommand& command, const base::Result<AdminOutput>& result) const;
  /// The same before the command is carried out: "result":"begun".
  base::Result<void> begin(const AdminCommand& command) const;

 private:
  base::Result<void> write(const std::string& line) const;
  base::Result<base::UniqueFd> open_locked() const;
  base::Result<void> rotate() const;

  const std::string path_;
  const std::size_t max_bytes_;
};

}  // namespace vdvs::esx
