// Boost.Beast over OpenSSL. Each connection has an event loop of its own, which the calling thread runs until
// its request is answered: synchronous calls with deadlines, without a thread of ours. What waits is woken by
// stop() with shutdown(2) on the socket.
#include "esx-vmci/hypervisor/soap_https.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <cctype>
#include <optional>
#include <set>

#include "base/mutex.h"

namespace vdvs::esx::soap {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using SystemError = boost::system::error_code;

constexpr std::size_t kMaxIdleConnections = 8;
constexpr std::uint32_t kMaxHeaderBytes = 64 * 1024;
constexpr std::chrono::seconds kConnectTime{15};
/// vCenter closes connections that have been idle for about a minute.
constexpr std::chrono::seconds kMaxIdleTime{30};

constexpr std::size_t kSha1Digits = 40;
constexpr std::size_t kSha256Digits = 64;

std::string to_hex(const unsigned char* bytes, unsigned count) {
  std::string text;
  for (unsigned i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

std::string digest_of(X509* certificate, const EVP_MD* kind) {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned count = 0;
  if (certificate == nullptr || X509_digest(certificate, kind, bytes, &count) != 1) return {};
  return to_hex(bytes, count);
}

/// One connection with the loop that drives it.
class Connection {
 public:
  Connection(const HttpsServer& server, asio::ssl::context& tls) : server_(server), stream_(loop_, tls) {}

  /// Errors: kUnavailable, kTimeout, kDenied.
  Result<void> open(Deadline deadline) {
    const std::string what = fmt::format("connect to '{}:{}'", server_.host, server_.port);
    SystemError error;
    tcp::resolver resolver(loop_);
    const auto addresses = resolver.resolve(server_.host, std::to_string(server_.port), error);
    if (error) return fail(ErrorCode::kUnavailable, "{}: {}", what, error.message());
    lowest().expires_at(std::min(deadline, base::deadline_in(kConnectTime)));
    lowest().async_connect(addresses, [&](SystemError result, const tcp::endpoint&) { error = result; });
    run();
    if (error) return transport_error(what, error);
    SystemError ignored;
    lowest().socket().set_option(tcp::no_delay(true), ignored);
    if (!SSL_set_tlsext_host_name(stream_.native_handle(), server_.host.c_str()))
      return fail(ErrorCode::kInternal, "{}: the name cannot be sent", what);
    if (server_.thumbprint.empty())
      stream_.set_verify_callback(asio::ssl::host_name_verification(server_.host));
    stream_.async_handshake(asio::ssl::stream_base::client, [&](SystemError result) { error = result; });
    run();
    if (error.category() == asio::error::get_ssl_category() &&
        ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
      return std::unexpected(base::Error(
          ErrorCode::kDenied, fmt::format("{}: its certificate is not trusted ({})", what, error.message()),
          "set 'thumbprint' or 'ca_file' of the vSphere configuration"));
    }
    if (error) return transport_error(what, error);
    return check_thumbprint(what);
  }

  Result<HttpReply> send(const HttpRequest& request, Deadline deadline) {
    const std::string what =
        fmt::format("{} '{}:{}{}'", request.method, server_.host, server_.port, request.target);
    http::request<http::string_body> message(http::string_to_verb(request.method), request.target, 11);
    message.set(http::field::host, server_.host);
    message.set(http::field::user_agent, "vdvs");
    for (const auto& [name, value] : request.headers) message.set(name, value);
    message.body() = request.body;
    message.prepare_payload();
    lowest().expires_at(deadline);
    SystemError error;
    http::async_write(stream_, message, [&](SystemError result, std::size_t) { error = result; });
    run();
    if (error) return transport_error(what, error);
    http::response_parser<http::string_body> parser;
    parser.header_limit(kMaxHeaderBytes);
    parser.body_limit(request.max_reply_bytes);
    http::async_read(stream_, buffer_, parser, [&](SystemError result, std::size_t) { error = result; });
    run();
    if (error) return transport_error(what, error);
    http::response<http::string_body> reply = parser.release();
    may_reuse_ = reply.keep_alive();
    last_used_ = base::Clock::now();
    HttpReply result{.status = reply.result_int(), .body = std::move(reply.body()), .cookies = {}};
    for (const auto& field : reply) {
      if (field.name() == http::field::set_cookie) result.cookies.emplace_back(field.value());
    }
    return result;
  }

  /// Nothing has come since the last reply: whatever has would be the server's goodbye.
  bool is_usable() {
    if (!may_reuse_ || base::Clock::now() - last_used_ > kMaxIdleTime) return false;
    char byte;
    return ::recv(descriptor(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
  }

  int descriptor() { return lowest().socket().native_handle(); }

 private:
  beast::tcp_stream& lowest() { return beast::get_lowest_layer(stream_); }

  void run() {
    loop_.restart();
    loop_.run();
  }

  Result<void> check_thumbprint(const std::string& what) {
    if (server_.thumbprint.empty()) return {};
    X509* certificate = SSL_get1_peer_certificate(stream_.native_handle());
    const std::string sha256 = digest_of(certificate, EVP_sha256());
    const std::string seen =
        server_.thumbprint.size() == kSha1Digits ? digest_of(certificate, EVP_sha1()) : sha256;
    X509_free(certificate);
    if (!seen.empty() && seen == server_.thumbprint) return {};
    return std::unexpected(base::Error(
        ErrorCode::kDenied,
        fmt::format("{}: its certificate has the thumbprint {}, not {}", what, sha256, server_.thumbprint),
        "if the server's certificate was changed on purpose, set the new thumbprint"));
  }

  std::unexpected<base::Error> transport_error(const std::string& what, const SystemError& error) const {
    if (error == beast::error::timeout) return fail(ErrorCode::kTimeout, "{}: no answer in time", what);
    if (error == http::error::body_limit || error == http::error::header_limit)
      return fail(ErrorCode::kLimit, "{}: the reply is too long", what);
    const bool is_http = error.category() == http::make_error_code(http::error::bad_version).category();
    if (is_http && error != http::error::end_of_stream && error != http::error::partial_message)
      return fail(ErrorCode::kCorrupt, "{}: {}", what, error.message());
    return fail(ErrorCode::kUnavailable, "{}: {}", what, error.message());
  }

  const HttpsServer& server_;
  asio::io_context loop_;
  beast::ssl_stream<beast::tcp_stream> stream_;
  beast::flat_buffer buffer_;
  bool may_reuse_ = true;
  base::Clock::time_point last_used_ = base::Clock::now();
};

class BeastClient final : public HttpsClient {
 public:
  explicit BeastClient(HttpsServer server)
      : server_(std::move(server)), tls_(asio::ssl::context::tls_client) {}

  /// Errors: kInvalid.
  Result<void> set_up() {
    if (SSL_CTX_set_min_proto_version(tls_.native_handle(), TLS1_2_VERSION) != 1)
      return fail(ErrorCode::kInternal, "set up TLS: version 1.2 is not there");
    if (!server_.thumbprint.empty()) {
      ASSIGN_OR_RETURN(server_.thumbprint, normalize_thumbprint(server_.thumbprint));
      tls_.set_verify_mode(asio::ssl::verify_none);  // the certificate itself is compared instead
      return {};
    }
    SystemError error;
    tls_.set_verify_mode(asio::ssl::verify_peer);
    if (server_.ca_file.empty()) {
      tls_.set_default_verify_paths(error);
    } else {
      tls_.load_verify_file(server_.ca_file, error);
    }
    if (error) return fail(ErrorCode::kInvalid, "read '{}': {}", server_.ca_file, error.message());
    return {};
  }

  Result<HttpReply> send(const HttpRequest& request, Deadline deadline) override {
    std::unique_ptr<Connection> connection = take_idle();
    if (!connection) {
      connection = std::make_unique<Connection>(server_, tls_);
      RETURN_IF_ERROR(connection->open(deadline));
    }
    if (!enter(connection->descriptor()))
      return fail(ErrorCode::kUnavailable, "{} '{}': it is being stopped", request.method, request.target);
    Result<HttpReply> reply = connection->send(request, deadline);
    leave(connection->descriptor());
    if (reply && connection->is_usable()) keep(std::move(connection));
    return reply;
  }

  void stop() override {
    base::MutexLock lock(mutex_);
    is_stopped_ = true;
    idle_.clear();
    for (const int descriptor : running_) ::shutdown(descriptor, SHUT_RDWR);
  }

 private:
  std::unique_ptr<Connection> take_idle() EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    while (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      if (connection->is_usable()) return connection;
    }
    return nullptr;
  }

  void keep(std::unique_ptr<Connection> connection) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    if (!is_stopped_ && idle_.size() < kMaxIdleConnections) idle_.push_back(std::move(connection));
  }

  bool enter(int descriptor) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    if (!is_stopped_) running_.insert(descriptor);
    return !is_stopped_;
  }

  void leave(int descriptor) EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    running_.erase(descriptor);
  }

  HttpsServer server_;
  asio::ssl::context tls_;
  base::Mutex mutex_;  ///< A leaf: held for moments.
  std::vector<std::unique_ptr<Connection>> idle_ GUARDED_BY(mutex_);
  std::set<int> running_ GUARDED_BY(mutex_);  ///< Sockets of requests that wait for their reply.
  bool is_stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace

Result<std::string> normalize_thumbprint(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c == ':' || c == ' ') continue;
    if (!std::isxdigit(static_cast<unsigned char>(c)))
      return fail(ErrorCode::kInvalid, "thumbprint '{}': '{}' is no hex digit", text, c);
    digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (digits.size() != kSha1Digits && digits.size() != kSha256Digits) {
    return fail(ErrorCode::kInvalid, "thumbprint '{}': {} hex digits (64 for SHA-256, 40 for SHA-1)", text,
                digits.size());
  }
  return digits;
}

Result<std::unique_ptr<HttpsClient>> make_https_client(HttpsServer server) {
  try {
    auto client = std::make_unique<BeastClient>(std::move(server));
    RETURN_IF_ERROR(client->set_up());
    return std::unique_ptr<HttpsClient>(std::move(client));
  } catch (const boost::system::system_error& error) {
    return fail(ErrorCode::kInternal, "set up TLS: {}", error.what());
  }
}

}  // namespace vdvs::esx::soap
