// What we ask of TLS, on both sides: version 1.3, certificates of both, no session that outlives them.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <string>

#include "base/error.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

using TlsStream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket>;
using TlsContext = boost::asio::ssl::context;

enum class TlsSide { kService, kGuest };

/// Errors: kInvalid, with the file.
base::Result<std::unique_ptr<TlsContext>> make_tls_context(const TlsFiles& files, TlsSide side);

/// The stream's handshake succeeds only with a certificate for `host`, a name or an address. Errors:
/// kInvalid.
base::Result<void> expect_host(TlsStream& stream, const std::string& host);

/// The common name of the peer's certificate, which was verified. Errors: kDenied where it has none.
base::Result<std::string> certificate_name(TlsStream& stream);

/// The subject of the certificate that this side refuses, once it has refused one. Shared with the stream,
/// which OpenSSL calls back.
using RefusedSubject = std::shared_ptr<const std::string>;
/// Before the handshake.
RefusedSubject watch_for_refusal(TlsStream& stream);

/// Why a handshake or a stream failed, for people: what is wrong with which certificate, where it is that.
std::string tls_failure(TlsStream& stream, const RefusedSubject& refused,
                        const boost::system::error_code& failure);
/// The other side refused our certificate, or we refused its.
bool is_about_certificates(const boost::system::error_code& failure);

}  // namespace vdvs::esx
