// What the frames carry: JSON requests and replies, the predecessor's protocol "2", and our extension of it.
//
// Request:  {"cmd":"attach","details":{"Name":"db@ds1"},"version":"2"}
// Reply:    null, an object, an array, or {"Error":"..."}
//
// Extension. `version` is answered with "capabilities"; only then does a client use more:
//   "envelope"  a request that carries "id" (a number) is answered by {"id":N,"reply":<the reply>}, the
//               connection stays open, and more requests may follow before the answer. Without "id": one
//               request, one bare reply, close, as ever.
//   "details"   a request that carries "ext":1 gets more members: `get` and `attach` one object "vdvs" (all
//   that
//               is known of the volume; the disk's address), an error "code" and, where there is one,
//               "remedy".
//   "init"      the commands "attached", "set_init" and "reset" (control_plane.h says what they do). set_init
//               has its state in Opts: "state" and "fs_uuid".
//   "quick"     the service keeps what a volume's options name beyond the predecessor's: mkfsopts, mountopts,
//               uid, gid, mode, format.
// An original peer sends none of these and gets exactly what it always got. A client of ours asks `version`
// with "id" and "ext": an original service does not look at them, and a bare answer says that it is one
// (docs/decisions/0015).
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx {

inline constexpr int kProtocolVersion = 2;
inline constexpr std::string_view kCapabilityEnvelope = "envelope";
inline constexpr std::string_view kCapabilityDetails = "details";
inline constexpr std::string_view kCapabilityInit = "init";
inline constexpr std::string_view kCapabilityQuick = "quick";

enum class Command { kCreate, kRemove, kAttach, kDetach, kList, kGet, kVersion, kAttached, kSetInit, kReset };
std::string_view command_name(Command command);
std::optional<Command> find_command(std::string_view name);

struct Request {
  std::string command;  ///< As sent: an unknown one is refused only after tenancy and name (section 1.5 of
                        ///< the reference).
  std::string name;     ///< details.Name, as Docker passed it; empty for list.
  OptionMap options;    ///< details.Opts; values that are not strings are refused.
  std::optional<int> version;       ///< 2 or "2"; absent means equal.
  std::optional<std::uint64_t> id;  ///< Extension "envelope".
  bool wants_details = false;       ///< Extension "details".
  bool operator==(const Request&) const = default;
};

/// Byte for byte as Go's encoding/json writes it: no white space; cmd, details{Name, Opts}, version; <, >, &,
/// U+2028/9 escaped. Extension members last.
std::string encode_request(const Request& request);
/// Any order of members, any white space, unknown members. Errors: kInvalid, for what is not JSON with the
/// text of an original service ("Failed to parse json '<repr of the bytes>'."), and for members of a wrong
/// type or given twice, numbers as option values, NULs, and nesting beyond base::kMaxJsonDepth.
base::Result<Request> decode_request(std::string_view payload);

/// As Python's json.dumps writes it: ", " and ": ", everything beyond ASCII escaped. `is_compact` leaves the
/// spaces out.
std::string encode_reply(const boost::json::value& reply, bool is_compact = false);
boost::json::value error_reply(std::string_view text);
/// With details also "code" and "remedy". To an original client the message alone.
boost::json::value error_reply(const base::Error& error, bool with_details);
/// An answer and the request it belongs to.
struct Reply {
  std::optional<std::uint64_t> id;
  boost::json::value body;
};
std::string encode_enveloped(std::uint64_t id, const boost::json::value& body);
/// Undoes the envelope where there is one. Errors: kInvalid, not JSON.
base::Result<Reply> decode_reply(std::string_view payload);
/// The body, or the error that it carries: any member "Error" (in any case of letters) that is not null, a
/// string or not. Its code is our service's "code", else what an original's text says: kExists for "already
/// exists", kBusyElsewhere for "in use by VM" and "already attached to VM=", kNotFound, kDenied, ...; kIo
/// where it says nothing that we know.
base::Result<boost::json::value> result_of(const boost::json::value& body);
/// The service says that it stops or cannot work now: nothing was done, asking again will do.
bool is_declined(const base::Error& error);

inline constexpr std::string_view kStoppingText = "Service is being stopped: operation declined!";
inline constexpr std::string_view kHostAgentText =
    "Service is presently unavailable, ensure the ESXi Host Agent is running on this host";

/// The whole text of section 1.6, with its line breaks and runs of spaces.
std::string version_mismatch_text(int client, int server);

// The bodies of the replies, both ways.

/// {"Unit", "ControllerPciSlotNumber", "ControllerPciBusNumber"}, what is not known left out. A loop device,
/// which an original client cannot find, is {"Device"}. With details "vdvs": all that is known.
boost::json::value encode_attach(const base::DiskAddress& address, bool with_details);
/// Also from the older services that give the slot alone. Errors: kUnsupported for the first ones of all,
/// which gave {"Bus","Unit"}: no disk can be found by that; kCorrupt.
base::Result<base::DiskAddress> decode_attach(const boost::json::value& body);
/// The Status keys of section 2.10, in the predecessor's spelling; with the details the whole VolumeInfo can
/// be read back.
boost::json::value encode_info(const VolumeInfo& info, bool with_details);
/// Without details: sizes as rounded in the text, a holder of whom the name alone is known, `init` kReady,
/// not attached here (only the caller can know), `address` where the service recorded one, of whichever VM.
/// Errors: kCorrupt (an original service answers null where it cannot read the volume's metadata).
base::Result<VolumeInfo> decode_info(const boost::json::value& body, const VolumeName& asked);
boost::json::value encode_list(const std::vector<VolumeName>& names);
/// Sorted; without names that no volume of ours can have. Errors: kCorrupt.
base::Result<std::vector<VolumeName>> decode_list(const boost::json::value& body);
struct VersionReply {
  std::string version;
  std::vector<std::string> capabilities;
  bool has(std::string_view capability) const;
};
boost::json::value encode_version(const VersionReply& reply);
base::Result<VersionReply> decode_version(const boost::json::value& body);
struct AttachedReply {
  std::vector<VolumeName> volumes;
  std::string default_datastore;
};
boost::json::value encode_attached(const AttachedReply& reply);
base::Result<AttachedReply> decode_attached(const boost::json::value& body);

/// A size as the Status shows it: bytes below 1 KiB, else a whole number of KB, MB or GB, rounded down.
std::string human_size(std::uint64_t bytes);

/// What set_init asks for, in its Opts.
struct InitWish {
  InitState state = InitState::kReady;
  std::string fs_uuid;
};
OptionMap encode_init(const InitWish& wish);
/// Errors: kInvalid.
base::Result<InitWish> decode_init(const OptionMap& options);

/// An address as one JSON object, and back. Errors: kCorrupt.
boost::json::object encode_address(const base::DiskAddress& address);
base::Result<base::DiskAddress> decode_address(const boost::json::value& value);

}  // namespace vdvs::esx
