// A volume's metadata sidecar: a small file beside the disk that keeps who made it, with which options, and
// who has it attached.
//
// The predecessor's format: one JSON object as Python prints it, padded with spaces to a multiple of 4096
// bytes of which the last is '\n'. What it does not know it keeps, and so do we. What only we know lies in
// one member more, "vdvs". The predecessor truncates and then writes; whoever is interrupted there leaves an
// empty file. So reading is tolerant (garbage is "no metadata", which the next write heals), and we write
// whole blocks over the old ones.
#pragma once

#include <boost/json/object.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx {

inline constexpr std::size_t kSidecarBlockBytes = 4096;
inline constexpr std::size_t kMaxSidecarBytes = 64 * 1024;

/// The key under which the predecessor's releases keep their sidecars; a short-lived release used the second.
/// Both are read.
inline constexpr std::string_view kSidecarKey = "docker-volume-vsphere";
inline constexpr std::string_view kOldSidecarKey = "vsphere-storage-for-docker";

/// Who has the disk attached, as the record says.
struct AttachRecord {
  std::string vm_uuid;
  std::string vm_name;
  std::string since;             ///< RFC 3339; empty where the predecessor wrote the record.
  boost::json::object device{};  ///< attachedVMDevice, the answer to the attach; empty where it has none.
  bool operator==(const AttachRecord&) const = default;
};

struct Sidecar {
  OptionMap options;    ///< volOpts
  std::string created;  ///< asctime, GMT
  std::string created_by;
  std::optional<AttachRecord> attached;
  InitState init = InitState::kReady;
  std::string fs_uuid;
  boost::json::object others;  ///< The whole object as it was read, for what this version does not know.
};

/// nullopt where the content is not a JSON object.
std::optional<Sidecar> decode_sidecar(std::string_view content);

/// Padded; a multiple of kSidecarBlockBytes and at least `min_bytes` long (a shorter file would need a
/// truncation). Errors: kLimit beyond kMaxSidecarBytes.
base::Result<std::string> encode_sidecar(const Sidecar& sidecar, std::size_t min_bytes = 0);

/// "<volume>-<16 hex>.vmfd": the first 8 bytes of SHA1(volume + key) as a little-endian number.
std::string sidecar_file_name(std::string_view volume, std::string_view key = kSidecarKey);

/// The value of a descriptor's ddb.sidecars for one sidecar.
std::string sidecars_line(std::string_view file_name);

/// The sidecar that a descriptor's ddb.sidecars names for `volume`; nullopt where it names none that can be
/// this volume's
/// ("<volume>-<16 hex>.vmfd": disks cloned by ESXi 6.5 have random digits).
std::optional<std::string> find_sidecar_name(std::string_view sidecars, std::string_view volume);

}  // namespace vdvs::esx
