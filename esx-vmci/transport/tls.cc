#include "esx-vmci/transport/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/verify_context.hpp>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using boost::system::error_code;

constexpr std::string_view kMakeOnes = "make them with 'vdvs cert', and name all three files";

std::unexpected<base::Error> refuse(std::string_view what, const std::string& path, std::string_view cause) {
  return std::unexpected(base::Error(
      ErrorCode::kInvalid, fmt::format("read TLS {} '{}': {}", what, path, cause), std::string(kMakeOnes)));
}

struct NameFree {
  void operator()(unsigned char* text) const { OPENSSL_free(text); }
};

/// Thrown away unless it is an address: Asio gives names by their own errors.
bool is_address(const std::string& host) {
  error_code failure;
  boost::asio::ip::make_address(host, failure);
  return !failure;
}

/// What a peer speaks that cannot even begin our handshake; empty for other failures.
std::string_view not_our_tls(const error_code& failure) {
  if (failure.category() != boost::asio::error::get_ssl_category()) return {};
  switch (ERR_GET_REASON(static_cast<unsigned long>(failure.value()))) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_BAD_PACKET_LENGTH:
    case SSL_R_RECORD_LENGTH_MISMATCH:
      return "the other side does not speak TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return "the other side does not speak TLS 1.3";
    default:
      return {};
  }
}

std::string subject_of(const X509* certificate) {
  char text[256] = {};
  ::X509_NAME_oneline(::X509_get_subject_name(certificate), text, sizeof text);
  return text;
}

}  // namespace

Result<std::unique_ptr<TlsContext>> make_tls_context(const TlsFiles& files, TlsSide side) {
  if (files.authority.empty() || files.certificate.empty() || files.key.empty())
    return refuse("files", "", "tcp needs the authority, a certificate and its key");
  auto context = std::make_unique<TlsContext>(side == TlsSide::kService ? TlsContext::tlsv13_server
                                                                        : TlsContext::tlsv13_client);
  error_code failure;
  context->load_verify_file(files.authority, failure);
  if (failure) return refuse("authority", files.authority, failure.message());
  context->use_certificate_chain_file(files.certificate, failure);
  if (failure) return refuse("certificate", files.certificate, failure.message());
  context->use_private_key_file(files.key, TlsContext::pem, failure);
  if (failure) return refuse("key", files.key, failure.message());
  SSL_CTX* native = context->native_handle();
  if (::SSL_CTX_check_private_key(native) != 1)
    return refuse("key", files.key, fmt::format("it does not belong to '{}'", files.certificate));
  context->set_verify_mode(boost::asio::ssl::verify_peer | boost::asio::ssl::verify_fail_if_no_peer_cert,
                           failure);
  if (failure || ::SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION) != 1)
    return fail(ErrorCode::kInternal, "set up TLS 1.3: {}", failure.message());
  // A resumed session would not look at the certificate again, which may have expired since. Connections are
  // kept, so hardly a handshake is saved by it.
  ::SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_num_tickets(native, 0);
  // An idle connection gives its buffers back.
  ::SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  return context;
}

Result<void> expect_host(TlsStream& stream, const std::string& host) {
  SSL* ssl = stream.native_handle();
  bool is_set = false;
  if (is_address(host)) {
    is_set = ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), host.c_str()) == 1;
  } else {
    ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    is_set = ::SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
  }
  if (!is_set) return fail(ErrorCode::kInvalid, "expect a certificate for '{}': not a host's name", host);
  return {};
}

Result<std::string> certificate_name(TlsStream& stream) {
  const X509* certificate = ::SSL_get0_peer_certificate(stream.native_handle());
  if (certificate == nullptr) return fail(ErrorCode::kDenied, "read the peer's certificate: there is none");
  const X509_NAME* subject = ::X509_get_subject_name(certificate);
  const int at = ::X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) {
    return fail(ErrorCode::kDenied, "read the peer's certificate '{}': it has no common name",
                subject_of(certificate));
  }
  if (::X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
    return fail(ErrorCode::kDenied, "read the peer's certificate '{}': it has two common names",
                subject_of(certificate));
  }
  unsigned char* raw = nullptr;
  const int length =
      ::ASN1_STRING_to_UTF8(&raw, ::X509_NAME_ENTRY_get_data(::X509_NAME_get_entry(subject, at)));
  const std::unique_ptr<unsigned char, NameFree> owned(raw);
  if (length <= 0) return fail(ErrorCode::kDenied, "read the peer's certificate: its common name is empty");
  std::string name(reinterpret_cast<const char*>(raw), static_cast<std::size_t>(length));
  if (name.find('\0') != std::string::npos)
    return fail(ErrorCode::kDenied, "read the peer's certificate: a NUL in its common name");
  return name;
}

RefusedSubject watch_for_refusal(TlsStream& stream) {
  auto refused = std::make_shared<std::string>();
  // It throws only where memory has run out.
  stream.set_verify_callback([refused](bool is_good, boost::asio::ssl::verify_context& verification) {
    const X509* certificate = ::X509_STORE_CTX_get_current_cert(verification.native_handle());
    if (!is_good && certificate != nullptr) *refused = subject_of(certificate);
    return is_good;
  });
  return refused;
}

std::string tls_failure(TlsStream& stream, const RefusedSubject& refused, const error_code& failure) {
  if (failure == boost::asio::error::eof || failure == boost::asio::ssl::error::stream_truncated)
    return "the other side left in the middle of the handshake";
  if (const std::string_view cause = not_our_tls(failure); !cause.empty())
    return fmt::format("{} ({})", cause, failure.message());
  const long verified = ::SSL_get_verify_result(stream.native_handle());
  if (verified == X509_V_OK || !is_about_certificates(failure)) return failure.message();
  const std::string_view cause = ::X509_verify_cert_error_string(verified);
  if (refused->empty()) return fmt::format("{} ({})", cause, failure.message());
  return fmt::format("{} (certificate of {})", cause, *refused);
}

bool is_about_certificates(const error_code& failure) {
  if (failure.category() != boost::asio::error::get_ssl_category()) return false;
  switch (ERR_GET_REASON(static_cast<unsigned long>(failure.value()))) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_UNRECOGNIZED_NAME:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
      return true;
    default:
      return false;
  }
}

}  // namespace vdvs::esx
