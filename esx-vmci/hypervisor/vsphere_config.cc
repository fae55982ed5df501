#include "esx-vmci/hypervisor/vsphere_config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <boost/url/parse.hpp>
#include <cerrno>
#include <cstdlib>

#include "base/fd.h"
#include "base/json.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::size_t kMaxPasswordBytes = 4096;
constexpr std::string_view kWhat = "read the vSphere configuration";

constexpr std::array<std::string_view, 9> kMembers = {"url",          "user",       "password_file",
                                                      "password_env", "ca_file",    "thumbprint",
                                                      "datacenter",   "datastores", "policies"};

Result<void> check_members(const json::object& object) {
  for (const auto& member : object) {
    if (member.key() == "password") {
      return std::unexpected(base::Error(ErrorCode::kInvalid,
                                         fmt::format("{}: it holds the password itself", kWhat),
                                         "put it into a file of its own and name that as 'password_file'"));
    }
    if (std::ranges::find(kMembers, std::string_view(member.key())) == kMembers.end())
      return fail(ErrorCode::kInvalid, "{}: there is no member '{}'", kWhat, std::string_view(member.key()));
  }
  return {};
}

/// Empty where it is absent.
Result<std::string> read_string(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return std::string();
  if (!value->is_string()) return fail(ErrorCode::kInvalid, "{}: '{}' is no string", kWhat, name);
  return std::string(value->get_string());
}

Result<void> read_url(std::string_view text, VsphereConfig& config) {
  const auto url = boost::urls::parse_uri(text);
  if (!url || url->scheme() != "https" || url->host().empty()) {
    return fail(ErrorCode::kInvalid, "{}: url '{}': it has the form https://HOST[:PORT][/sdk]", kWhat, text);
  }
  if (url->has_userinfo()) {
    return fail(ErrorCode::kInvalid, "{}: url: the user belongs into 'user', and the password into a file",
                kWhat);
  }
  config.server.host = url->host_type() == boost::urls::host_type::ipv6 ? std::string(url->host_address())
                                                                        : std::string(url->host());
  if (url->has_port()) {
    if (url->port_number() == 0) return fail(ErrorCode::kInvalid, "{}: url '{}': its port", kWhat, text);
    config.server.port = url->port_number();
  }
  if (const std::string path(url->path()); !path.empty() && path != "/") config.path = path;
  return {};
}

Result<void> read_datastores(const json::object& object, VsphereConfig& config) {
  const json::value* value = object.if_contains("datastores");
  if (value == nullptr) return {};
  if (!value->is_array()) return fail(ErrorCode::kInvalid, "{}: 'datastores' is no array", kWhat);
  for (const json::value& name : value->get_array()) {
    if (!name.is_string() || name.get_string().empty())
      return fail(ErrorCode::kInvalid, "{}: 'datastores' holds something that is no name", kWhat);
    config.datastores.emplace_back(name.get_string());
  }
  return {};
}

Result<void> read_policies(const json::object& object, VsphereConfig& config) {
  const json::value* value = object.if_contains("policies");
  if (value == nullptr) return {};
  if (!value->is_object()) return fail(ErrorCode::kInvalid, "{}: 'policies' is no object", kWhat);
  for (const auto& policy : value->get_object()) {
    if (!policy.value().is_string()) {
      return fail(ErrorCode::kInvalid, "{}: policy '{}' has no profile id", kWhat,
                  std::string_view(policy.key()));
    }
    config.policies[std::string(policy.key())] = std::string(policy.value().get_string());
  }
  return {};
}

Result<std::string> read_password(const VsphereConfigText& text) {
  if (!text.password_env.empty()) {
    const char* value = std::getenv(text.password_env.c_str());
    if (value == nullptr)
      return fail(ErrorCode::kInvalid, "{}: the environment has no '{}'", kWhat, text.password_env);
    return std::string(value);
  }
  ASSIGN_OR_RETURN(const base::UniqueFd file, base::open_file(text.password_file, O_RDONLY));
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return base::fail_errno(errno, "stat '{}'", text.password_file);
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return std::unexpected(
        base::Error(ErrorCode::kDenied,
                    fmt::format("{}: others may use the password's file '{}'", kWhat, text.password_file),
                    fmt::format("run 'chmod 600 {}'", text.password_file)));
  }
  ASSIGN_OR_RETURN(std::string password, base::read_all(file, kMaxPasswordBytes, text.password_file));
  while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) password.pop_back();
  return password;
}

}  // namespace

Result<VsphereConfigText> parse_vsphere_config(std::string_view text) {
  auto value = base::parse_json(text);
  if (!value) return std::unexpected(std::move(value).error().within(kWhat));
  if (!value->is_object()) return fail(ErrorCode::kInvalid, "{}: it is no JSON object", kWhat);
  const json::object& object = value->get_object();
  RETURN_IF_ERROR(check_members(object));
  VsphereConfigText result;
  VsphereConfig& config = result.config;
  ASSIGN_OR_RETURN(const std::string url, read_string(object, "url"));
  RETURN_IF_ERROR(read_url(url, config));
  ASSIGN_OR_RETURN(config.user, read_string(object, "user"));
  if (config.user.empty()) return fail(ErrorCode::kInvalid, "{}: 'user' is missing", kWhat);
  ASSIGN_OR_RETURN(config.datacenter, read_string(object, "datacenter"));
  ASSIGN_OR_RETURN(config.server.ca_file, read_string(object, "ca_file"));
  ASSIGN_OR_RETURN(const std::string thumbprint, read_string(object, "thumbprint"));
  if (!thumbprint.empty()) {
    auto digits = soap::normalize_thumbprint(thumbprint);
    if (!digits) return std::unexpected(std::move(digits).error().within(kWhat));
    config.server.thumbprint = *digits;
  }
  ASSIGN_OR_RETURN(result.password_file, read_string(object, "password_file"));
  ASSIGN_OR_RETURN(result.password_env, read_string(object, "password_env"));
  if (result.password_file.empty() == result.password_env.empty())
    return fail(ErrorCode::kInvalid, "{}: it needs 'password_file' or 'password_env', one of them", kWhat);
  RETURN_IF_ERROR(read_datastores(object, config));
  RETURN_IF_ERROR(read_policies(object, config));
  return result;
}

Result<VsphereConfig> load_vsphere_config(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, base::read_file(path, kMaxVsphereConfigBytes));
  auto parsed = parse_vsphere_config(text);
  if (!parsed) return std::unexpected(std::move(parsed).error().within(fmt::format("'{}'", path)));
  ASSIGN_OR_RETURN(parsed->config.password, read_password(*parsed));
  return std::move(parsed->config);
}

}  // namespace vdvs::esx
