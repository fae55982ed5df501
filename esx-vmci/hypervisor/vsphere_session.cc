#include "esx-vmci/hypervisor/vsphere_session.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace vdvs::esx {
namespace {

namespace log = base::log;
using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;
using soap::HttpReply;
using soap::HttpRequest;
using soap::MoRef;

constexpr std::string_view kAction = "urn:vim25/6.0";
constexpr std::string_view kPoliciesAction = "urn:pbm/2.0";
constexpr std::string_view kSessionCookie = "vmware_soap_session=";
constexpr std::string_view kPoliciesPath = "/pbm";
/// A call that only reads is made this often where connections are cut.
constexpr int kReadAttempts = 3;
/// A server may forget a session between the login and the call, but not for ever.
constexpr int kLoginAttempts = 3;

/// "vmware_soap_session=...", of a Set-Cookie; empty where there is none.
std::string session_of(const std::vector<std::string>& cookies) {
  for (const std::string& cookie : cookies) {
    if (cookie.starts_with(kSessionCookie)) return cookie.substr(0, cookie.find(';'));
  }
  return {};
}

std::string value_of(const std::string& cookie) {
  std::string value = cookie.substr(std::min(cookie.size(), kSessionCookie.size()));
  std::erase(value, '"');
  return value;
}

MoRef root_ref(const Element& content, std::string_view name) {
  const Element* element = content.find(name);
  return element == nullptr ? MoRef() : element->ref();
}

/// A property that could not be read is no property that is not set: of a VM whose devices may not be seen
/// nobody knows which disks it has. A server that has forgotten the session says so here too, one property at
/// a time, instead of by a fault.
std::optional<soap::Fault> find_refusal(const Element& object) {
  for (const Element* missing : object.all("missingSet")) {
    const Element* reason = missing->find("fault");
    if (reason == nullptr) continue;
    soap::Fault fault = soap::decode_localized_fault(*reason);
    if (fault.kind != "NotAuthenticated" && fault.kind != "NoPermission") continue;
    const Element* owner = object.find("obj");
    fault.text = fmt::format("'{}' of {} '{}'", missing->text_at("path"),
                             owner == nullptr ? "object" : owner->ref_type, object.text_at("obj"));
    return fault;
  }
  return std::nullopt;
}

/// Of a retrieval (`objects`) or of an update (`filterSet.objectSet`).
std::optional<soap::Fault> find_refused_property(const Element& response) {
  const Element* result = response.find("returnval");
  if (result == nullptr) return std::nullopt;
  for (const Element* object : result->all("objects")) {
    if (auto refusal = find_refusal(*object)) return refusal;
  }
  for (const Element* filter : result->all("filterSet")) {
    for (const Element* object : filter->all("objectSet")) {
      if (auto refusal = find_refusal(*object)) return refusal;
    }
  }
  return std::nullopt;
}

/// RFC 3986: everything but unreserved characters, and `keep`.
std::string percent_encode(std::string_view text, std::string_view keep) {
  std::string result;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          c == '-' || c == '.' || c == '_' || c == '~' ||
                          keep.find(c) != std::string_view::npos;
    result += is_plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

std::string folder_target(std::string_view datacenter, std::string_view datastore, std::string_view path) {
  return fmt::format("/folder/{}?dcPath={}&dsName={}", percent_encode(path, "/"),
                     percent_encode(datacenter, ""), percent_encode(datastore, ""));
}

}  // namespace

const Element* VsphereObject::find(const std::string& property) const {
  auto found = properties.find(property);
  return found == properties.end() ? nullptr : &found->second;
}

std::string VsphereObject::text(const std::string& property) const {
  const Element* element = find(property);
  return element == nullptr ? std::string() : element->text;
}

VsphereSession::VsphereSession(VsphereConfig config, std::unique_ptr<soap::HttpsClient> client)
    : config_(std::move(config)), client_(std::move(client)) {}

VsphereSession::~VsphereSession() {
  std::optional<Login> last;
  {
    base::MutexLock lock(mutex_);
    if (!is_stopped_) last = std::move(login_);
  }
  if (!last) return;
  constexpr std::chrono::seconds kLogoutTime{2};
  (void)send(soap::Service::kVim, "Logout", last->roots.session_manager, "", last->cookie, Effect::kChanges,
             base::deadline_in(kLogoutTime));
}

Result<std::unique_ptr<VsphereSession>> VsphereSession::make(VsphereConfig config) {
  ASSIGN_OR_RETURN(auto client, soap::make_https_client(config.server));
  return std::unique_ptr<VsphereSession>(new VsphereSession(std::move(config), std::move(client)));
}

void VsphereSession::stop() {
  {
    base::MutexLock lock(mutex_);
    is_stopped_ = true;
  }
  stopped_.notify_all();
  client_->stop();
}

bool VsphereSession::pause(base::Clock::duration time) {
  const Deadline deadline = base::deadline_in(time);
  base::MutexLock lock(mutex_);
  while (!is_stopped_ && !base::has_passed(deadline)) stopped_.wait_until(mutex_, deadline);
  return !is_stopped_;
}

// ---- calls ----

Result<VsphereSession::Sent> VsphereSession::send(soap::Service service, std::string_view method,
                                                  const MoRef& self, std::string_view arguments,
                                                  const std::string& cookie, Effect effect,
                                                  Deadline deadline) {
  const bool is_for_policies = service == soap::Service::kPbm;
  HttpRequest request{.target = is_for_policies ? std::string(kPoliciesPath) : config_.path,
                      .body = soap::print_request(service, method, self, arguments, value_of(cookie)),
                      .headers = {{"Content-Type", "text/xml; charset=utf-8"},
                                  {"SOAPAction", std::string(is_for_policies ? kPoliciesAction : kAction)}},
                      .max_reply_bytes = soap::kMaxReplyBytes};
  if (!cookie.empty()) request.headers.emplace_back("Cookie", cookie);
  const std::string what = fmt::format("ask '{}' for {}", config_.server.host, method);
  for (int attempt = 1;; ++attempt) {
    auto http = client_->send(request, deadline);
    if (!http) {
      const bool may_repeat = effect == Effect::kReads && http.error().code() == ErrorCode::kUnavailable &&
                              attempt < kReadAttempts && !base::has_passed(deadline);
      if (may_repeat) continue;
      return std::unexpected(std::move(http).error().within(what));
    }
    auto reply = soap::decode_reply(http->body);
    constexpr unsigned kOk = 200;
    if (!reply && http->status != kOk)  // a proxy, or a server that is starting
      return fail(ErrorCode::kUnavailable, "{}: HTTP status {}", what, http->status);
    if (!reply) return std::unexpected(std::move(reply).error().within(what));
    return Sent{std::move(*reply), session_of(http->cookies)};
  }
}

Result<Element> VsphereSession::call_service(soap::Service service, std::string_view method,
                                             const MoRef& self, std::string_view arguments, Effect effect,
                                             Deadline deadline) {
  for (int attempt = 1;; ++attempt) {
    ASSIGN_OR_RETURN(const Login login, this->login(deadline));
    ASSIGN_OR_RETURN(Sent sent, send(service, method, self, arguments, login.cookie, effect, deadline));
    auto fault = sent.reply.fault ? std::move(sent.reply.fault) : find_refused_property(sent.reply.response);
    if (!fault) return std::move(sent.reply.response);
    // Nothing was done, so that this repeats changes too.
    if (fault->kind == "NotAuthenticated" && attempt < kLoginAttempts) {
      forget(login.number);
      continue;
    }
    return std::unexpected(soap::to_error(*fault, method));
  }
}

Result<Element> VsphereSession::call(std::string_view method, const MoRef& self, std::string_view arguments,
                                     Effect effect, Deadline deadline) {
  return call_service(soap::Service::kVim, method, self, arguments, effect, deadline);
}

Result<Element> VsphereSession::call_policies(std::string_view method, const MoRef& self,
                                              std::string_view arguments, Deadline deadline) {
  return call_service(soap::Service::kPbm, method, self, arguments, Effect::kReads, deadline);
}

// ---- login ----

Result<VsphereSession::Login> VsphereSession::login(Deadline deadline) {
  {
    base::MutexLock lock(mutex_);
    if (login_) return *login_;
  }
  base::MutexLock one(login_mutex_);
  {
    base::MutexLock lock(mutex_);
    if (login_) return *login_;
    if (is_stopped_) return fail(ErrorCode::kUnavailable, "log in to '{}': stopped", config_.server.host);
  }
  ASSIGN_OR_RETURN(Login made, make_login(deadline));
  base::MutexLock lock(mutex_);
  made.number = ++logins_;
  login_ = made;
  return made;
}

Result<VsphereSession::Login> VsphereSession::make_login(Deadline deadline) {
  Login login;
  const MoRef instance{"ServiceInstance", "ServiceInstance"};
  ASSIGN_OR_RETURN(Sent sent, send(soap::Service::kVim, "RetrieveServiceContent", instance, "", "",
                                   Effect::kReads, deadline));
  if (sent.reply.fault) return std::unexpected(soap::to_error(*sent.reply.fault, "RetrieveServiceContent"));
  const Element* content = sent.reply.response.find("returnval");
  if (content == nullptr)
    return fail(ErrorCode::kCorrupt, "ask '{}' for its content: it has none", config_.server.host);
  VsphereRoots& roots = login.roots;
  roots = {.root_folder = root_ref(*content, "rootFolder"),
           .property_collector = root_ref(*content, "propertyCollector"),
           .view_manager = root_ref(*content, "viewManager"),
           .search_index = root_ref(*content, "searchIndex"),
           .disk_manager = root_ref(*content, "virtualDiskManager"),
           .file_manager = root_ref(*content, "fileManager"),
           .task_manager = root_ref(*content, "taskManager"),
           .session_manager = root_ref(*content, "sessionManager"),
           .is_vcenter = content->text_at("about.apiType") == "VirtualCenter",
           .about = content->text_at("about.fullName")};
  for (const MoRef* ref :
       {&roots.root_folder, &roots.property_collector, &roots.view_manager, &roots.search_index,
        &roots.disk_manager, &roots.file_manager, &roots.session_manager}) {
    if (ref->is_empty())
      return fail(ErrorCode::kUnsupported, "ask '{}' for its content: '{}' lacks what disks need",
                  config_.server.host, roots.about);
  }
  const std::string arguments = soap::tag("userName", config_.user) + soap::tag("password", config_.password);
  // Twice is no harm: a login that nobody heard of ends by itself.
  ASSIGN_OR_RETURN(Sent answer, send(soap::Service::kVim, "Login", roots.session_manager, arguments,
                                     sent.cookie, Effect::kReads, deadline));
  const std::string what = fmt::format("log in to '{}' as '{}'", config_.server.host, config_.user);
  if (answer.reply.fault) return std::unexpected(soap::to_error(*answer.reply.fault, what));
  login.cookie = answer.cookie.empty() ? sent.cookie : answer.cookie;
  if (login.cookie.empty()) return fail(ErrorCode::kCorrupt, "{}: the server gives no session", what);
  log::debug("logged in", {{"server", config_.server.host}, {"about", roots.about}});
  return login;
}

void VsphereSession::forget(std::uint64_t number) {
  base::MutexLock lock(mutex_);
  if (login_ && login_->number == number) login_.reset();
}

Result<VsphereRoots> VsphereSession::roots(Deadline deadline) {
  ASSIGN_OR_RETURN(Login login, this->login(deadline));
  return std::move(login.roots);
}

// ---- files ----

Result<HttpReply> VsphereSession::ask_file(const HttpRequest& request, Deadline deadline) {
  constexpr unsigned kUnauthorized = 401;
  for (int attempt = 1;; ++attempt) {
    ASSIGN_OR_RETURN(const Login login, this->login(deadline));
    HttpRequest copy = request;
    copy.headers.emplace_back("Cookie", login.cookie);
    auto reply = client_->send(copy, deadline);
    // Reading again and writing the same bytes again are both safe.
    const bool may_repeat = attempt < kReadAttempts && !base::has_passed(deadline);
    if (!reply && reply.error().code() == ErrorCode::kUnavailable && may_repeat) continue;
    if (reply && reply->status == kUnauthorized && may_repeat) {
      forget(login.number);
      continue;
    }
    return reply;
  }
}

Result<std::optional<std::string>> VsphereSession::get_file(std::string_view datacenter,
                                                            std::string_view datastore, std::string_view path,
                                                            std::size_t max_bytes, Deadline deadline) {
  const HttpRequest request{
      .method = "GET", .target = folder_target(datacenter, datastore, path), .max_reply_bytes = max_bytes};
  ASSIGN_OR_RETURN(HttpReply reply, ask_file(request, deadline));
  switch (reply.status) {
    case 200:
      return std::move(reply.body);
    case 404:
      return std::nullopt;
    case 401:
    case 403:
      return fail(ErrorCode::kDenied, "read '[{}] {}': HTTP status {}", datastore, path, reply.status);
    default:
      return fail(ErrorCode::kUnavailable, "read '[{}] {}': HTTP status {}", datastore, path, reply.status);
  }
}

Result<void> VsphereSession::put_file(std::string_view datacenter, std::string_view datastore,
                                      std::string_view path, std::string_view bytes, Deadline deadline) {
  const HttpRequest request{.method = "PUT",
                            .target = folder_target(datacenter, datastore, path),
                            .body = std::string(bytes),
                            .headers = {{"Content-Type", "application/octet-stream"}}};
  ASSIGN_OR_RETURN(const HttpReply reply, ask_file(request, deadline));
  switch (reply.status) {
    case 200:
    case 201:
    case 204:
      return {};
    case 401:
    case 403:
      return fail(ErrorCode::kDenied, "write '[{}] {}': HTTP status {}", datastore, path, reply.status);
    case 507:
      return fail(ErrorCode::kNoSpace, "write '[{}] {}': the datastore is full", datastore, path);
    default:
      return fail(ErrorCode::kUnavailable, "write '[{}] {}': HTTP status {}", datastore, path, reply.status);
  }
}

}  // namespace vdvs::esx
