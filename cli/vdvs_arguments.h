// The command line of vdvs, the operator's tool: certificates for the tcp transport, and what an
// administrator must be able to do by hand when a host is gone.
//
//   vdvs cert authority [--name NAME]                    once, on the machine that keeps its key
//   vdvs cert service --host HOST [--host ...]           for vmdkopsd: all names and addresses of it
//   vdvs cert guest NAME                                 for the mountd of the VM that has this name or uuid
//   vdvs volume detach --force VOLUME [--vmgroup GROUP]  takes a disk out of whichever VM has it
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>

#include "esx-vmci/transport/certificates.h"

namespace vdvs::cli {

inline constexpr int kVdvsOk = 0;
inline constexpr int kVdvsFailed = 1;
inline constexpr int kVdvsUsage = 2;

struct CertCommand {
  enum class Kind { kAuthority, kService, kGuest };
  Kind kind = Kind::kAuthority;
  std::string folder = "/etc/vdvs/tls";
  esx::CertificateWish wish;
};

struct DetachCommand {
  std::string volume;
  std::string vmgroup;  ///< Empty: whichever has it, if it is one.
  std::string socket;   ///< Empty: where the service's settings say; and where none runs, it is done without.
  std::string config_file;  ///< The service's settings, where it is not the usual file.
};

struct VdvsArguments {
  std::variant<CertCommand, DetachCommand> command;
  /// Set: print `message` and leave with this (help, version, a mistake). Mistakes go to standard error.
  std::optional<int> exit_status;
  std::string message;
};

/// `words`: argv without the program's name.
VdvsArguments parse_vdvs_arguments(std::span<const std::string> words);

}  // namespace vdvs::cli
