// What the frames carry: JSON requests and replies, the predecessor's protocol "2", and our extension of it.
//
// Request:  {"cmd":"attach","details":{"Name":"db@ds1"},"version":"2"}      Reply: null, an object, an array,
// or {"Error":"..."}
//
// Extension. `version` is answered with "capabilities"; only then does a client use more:
//   "envelope"  a request that carries "id" (a number) is answered by {"id":N,"reply":<the reply>}, the
//   connection stays open, and more requests
//               may follow before the answer. Without "id": one request, one bare reply, close, as ever.
//   "details"   a request that carries "ext":1 gets more members: `get` one object "vdvs", `attach` one
//   object "vdvs" with the disk's address. "init"      the commands "attached", "set_init" and "reset"
//   (control_plane.h says what they do). "quick"     the service keeps what a volume's options name beyond
//   the predecessor's: mkfsopts, mountopts, uid, gid, mode, format.
// An original peer sends none of these and gets exactly what it always got.
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

enum class Command { kCreate, kRemove, kAttach, kDetach, kList, kGet, kVersion, kAttached, kSetInit, kReset };
std::string_view command_name(Command command);

struct Request {
  std::string command;  ///< As sent: an unknown one is refused only after tenancy and name (section 1.5 of
                        ///< the reference).
  std::string name;     ///< details.Name, as Docker passed it; empty for list.
  OptionMap options;    ///< details.Opts; values that are not strings are refused.
  std::optional<int> version;       ///< 2 or "2"; absent means equal.
  std::optional<std::uint64_t> id;  ///< Extension "envelope".
  bool wants_details = false;       ///< Extension "details".
};
std::optional<Command> find_command(std::string_view name);

/// Byte for byte as Go's encoding/json writes it: no white space; cmd, details{Name, Opts}, version; <, >, &,
/// U+2028/9 escaped. Extension members last.
std::string encode_request(const Request& request);
/// Errors: kInvalid with the text of an original service: "Failed to parse json '<bytes>'."
base::Result<Request> decode_request(std::string_view payload);

/// As Python's json.dumps writes it: ", " and ": ", everything beyond ASCII escaped. `compact` leaves the
/// spaces out.
std::string encode_reply(const boost::json::value& reply, bool is_compact = false);
boost::json::value error_reply(std::string_view text);
/// An answer and the request it belongs to.
struct Reply {
  std::optional<std::uint64_t> id;
  boost::json::value body;
};
std::string encode_enveloped(std::uint64_t id, const boost::json::value& body);
/// Undoes the envelope where there is one. Any present, non-null "Error" (in any case of letters, a string or
/// not) is an Error: kExists for "already exists", kNotFound for "not found", kBusyElsewhere, ... by our
/// "code" where our service sent one.
base::Result<Reply> decode_reply(std::string_view payload);
base::Result<boost::json::value> result_of(const boost::json::value& body);

/// The whole text of section 1.6, with its line breaks and runs of spaces.
std::string version_mismatch_text(int client, int server);

// The bodies of the replies, both ways.
struct AttachReply {
  std::uint32_t unit = 0;
  std::optional<std::uint32_t> pci_slot;
  std::string pci_bus;                         ///< "15.0"; empty where not known.
  std::optional<base::DiskAddress> address{};  ///< Extension: all that is known.
};
boost::json::value encode_attach(const base::DiskAddress& address, bool with_details);
base::Result<base::DiskAddress> decode_attach(const boost::json::value& body);
/// The Status keys of section 2.10, in the predecessor's spelling; with the details the whole VolumeInfo can
/// be read back.
boost::json::value encode_info(const VolumeInfo& info, bool with_details);
base::Result<VolumeInfo> decode_info(const boost::json::value& body, const VolumeName& asked);
boost::json::value encode_list(const std::vector<VolumeName>& names);
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

}  // namespace vdvs::esx
