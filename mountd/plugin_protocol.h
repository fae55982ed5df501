// Docker's volume plugin protocol as bytes: a request body becomes a PluginRequest, a PluginReply becomes a
// status and a body. Pure, so that it can be fuzzed and measured without a socket.
//
// Every reply has the predecessor's shape, all members always there:
//   {"Mountpoint":"","Err":"","Volumes":null,"Volume":null,"Capabilities":{"Scope":""}}
// and a non-empty Err goes with status 500 (the request failed) or 4xx (it was not understood). The engine
// decodes with Go's encoding/json: member names in any case, unknown members ignored, and a time that is not
// RFC 3339 makes the whole reply unreadable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "mountd/plugin_handler.h"

namespace vdvs::mountd {

inline constexpr std::string_view kPluginContentType = "application/vnd.docker.plugins.v1.1+json";

struct Activate {};
using Endpoint = std::variant<Activate, Method>;

/// "/VolumeDriver.Mount" and its like; nullopt for anything else.
std::optional<Endpoint> find_endpoint(std::string_view path);

/// Fills everything but `driver` and `request_id`. List and Capabilities ask nothing of their body, so it is
/// not looked at. Errors: kInvalid.  Limits: base::kMaxJsonDepth; the caller bounds the size.
base::Result<PluginRequest> decode_request(Method method, std::string_view body);

/// True for the one request that is better dropped than refused: Get without a body, which is the engine's
/// retry after a broken connection. It takes any answered error of Get for "no such volume" and erases its
/// record of the volume.
bool is_better_dropped(Method method, std::string_view body);

struct HttpReply {
  unsigned status = 200;
  std::string body;
};

/// nullopt for NoAnswer. A created_at that Go could not decode is left out.
std::optional<HttpReply> encode_reply(const PluginReply& reply);
/// A refusal by the server itself, with the status of its choice.
HttpReply encode_refusal(unsigned status, const base::Error& error);
HttpReply encode_activation();
/// What an unknown path is answered with.
base::Error unknown_endpoint(std::string_view path);

}  // namespace vdvs::mountd
