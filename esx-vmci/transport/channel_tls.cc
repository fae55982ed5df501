// Channels over TCP with mutual TLS.
//
// In TLS 1.3 a client's handshake is over before the service has looked at its certificate. So a client
// learns that it was refused from its first read: kDenied, by the service's alert. For the alert to arrive, a
// service that refuses somebody reads on for a moment before it closes; a socket that is closed with bytes
// unread makes the kernel throw away what was sent.
//
// The end of a stream without TLS's own goodbye is an end like any other: our frames carry their length.
#include <sys/stat.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/log.h"
#include "esx-vmci/transport/stream_channel.h"
#include "esx-vmci/transport/tls.h"

namespace vdvs::esx {
namespace {

namespace net = boost::asio;
using base::ErrorCode;
using base::fail;
using base::Result;
using base::UniqueFd;
using boost::system::error_code;
using net::ip::tcp;

constexpr std::chrono::seconds kFarewellTime{1};
constexpr const char* kLookAtCertificates =
    "see the log of the other side for what is wrong with the certificate, or make new ones with 'vdvs cert'";

void close_socket(TlsStream& stream) {
  error_code ignored;  // It is gone either way.
  stream.lowest_layer().close(ignored);
}

struct TlsKind {
  static bool is_end(const error_code& failure) {
    return failure == net::error::eof || failure == net::ssl::error::stream_truncated;
  }
  static ErrorCode code_of(const error_code& failure) {
    return is_about_certificates(failure) ? ErrorCode::kDenied : ErrorCode::kUnavailable;
  }
  static std::string remedy_of(const error_code& failure) {
    return is_about_certificates(failure) ? kLookAtCertificates : std::string();
  }
  static void close(TlsStream& stream) { close_socket(stream); }
};

using TlsChannel = StreamChannel<TlsStream, TlsKind>;

void send_without_delay(TlsStream& stream) {
  error_code ignored;  // Slower, but right.
  stream.lowest_layer().set_option(tcp::no_delay(true), ignored);
  stream.lowest_layer().set_option(net::socket_base::keep_alive(true), ignored);
}

// ---- the service's side ----

/// One handshake. Lives in the handlers of its own operations.
class Handshake : public std::enable_shared_from_this<Handshake> {
 public:
  Handshake(net::io_context& loop, TlsContext& context, ConnectionInfo info, OnChannel handler)
      : loop_(loop),
        stream_(loop, context),
        info_(std::move(info)),
        handler_(std::move(handler)),
        timer_(loop) {}

  void start(UniqueFd fd, base::Deadline deadline) {
    error_code failure;
    sockaddr_storage address = {};
    socklen_t length = sizeof address;
    const bool is_known = ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0;
    stream_.lowest_layer().assign(is_known && address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd.get(),
                                  failure);
    if (failure) {
      net::post(loop_, [self = shared_from_this(), failure] { self->refuse(failure.message()); });
      return;
    }
    static_cast<void>(fd.release());
    send_without_delay(stream_);
    timer_.expires_at(deadline);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (stopped) return;
      self->is_late_ = true;
      close_socket(self->stream_);
    });
    stream_.async_handshake(
        net::ssl::stream_base::server,
        [self = shared_from_this()](const error_code& failed) { self->on_handshake(failed); });
  }

 private:
  void on_handshake(const error_code& failure) {
    timer_.cancel();
    if (is_late_) return refuse("the handshake took too long");
    if (failure) {
      refuse(tls_failure(stream_, refused_, failure));
      return say_farewell();
    }
    Result<std::string> name = certificate_name(stream_);
    if (!name) return refuse(name.error().message());
    info_.peer.certificate = std::move(*name);
    info_.name = info_.peer.text();
    std::exchange(handler_,
                  nullptr)(std::make_unique<TlsChannel>(loop_, std::move(stream_), std::move(info_)));
  }

  void refuse(const std::string& cause) {
    std::exchange(handler_, nullptr)(fail(ErrorCode::kDenied, "{}", cause));
  }

  void say_farewell() {
    error_code ignored;
    stream_.lowest_layer().shutdown(tcp::socket::shutdown_send, ignored);
    timer_.expires_after(kFarewellTime);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped) close_socket(self->stream_);
    });
    read_away();
  }

  void read_away() {
    stream_.next_layer().async_read_some(net::buffer(rest_),
                                         [self = shared_from_this()](const error_code& ended, std::size_t) {
                                           if (!ended) return self->read_away();
                                           self->timer_.cancel();
                                           close_socket(self->stream_);
                                           self->info_.slot.reset();
                                         });
  }

  net::io_context& loop_;
  TlsStream stream_;
  ConnectionInfo info_;
  OnChannel handler_;
  net::steady_timer timer_;
  const RefusedSubject refused_ = watch_for_refusal(stream_);
  bool is_late_ = false;
  std::array<char, 512> rest_{};
};

/// What a file is now, as far as it shows without being read: a replaced or rewritten one differs.
struct FileMark {
  std::uint64_t inode = 0;
  std::int64_t size_bytes = -1;  ///< -1: it is not there.
  std::int64_t changed_ns = 0;
  bool operator==(const FileMark&) const = default;
};

FileMark mark_of(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return {};
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  return {status.st_ino, status.st_size, status.st_mtim.tv_sec * kNanoseconds + status.st_mtim.tv_nsec};
}

using FileMarks = std::array<FileMark, 3>;

FileMarks marks_of(const TlsFiles& files) {
  return {mark_of(files.authority), mark_of(files.certificate), mark_of(files.key)};
}

/// Looks at its files before each handshake, so that a renewed certificate counts from the next connection
/// on, without a restart. Files that do not belong together (a renewal is under way) change nothing.
class AsioTlsGate : public TlsGate {
 public:
  AsioTlsGate(net::io_context& loop, TlsFiles files, FileMarks marks, std::unique_ptr<TlsContext> context)
      : loop_(loop), files_(std::move(files)), marks_(marks), context_(std::move(context)) {}

  void admit(UniqueFd fd, ConnectionInfo info, base::Deadline deadline, OnChannel handler) override {
    look_at_files();
    // The stream keeps what it needs of the context, which may be replaced before the handshake is over.
    std::make_shared<Handshake>(loop_, *context_, std::move(info), std::move(handler))
        ->start(std::move(fd), deadline);
  }

 private:
  void look_at_files() {
    const FileMarks now = marks_of(files_);
    if (now == marks_) return;
    marks_ = now;
    auto renewed = make_tls_context(files_, TlsSide::kService);
    if (!renewed) {
      return base::log::warn("changed TLS files are not used; going on with those that were read before",
                             {{"certificate", files_.certificate}, {"cause", renewed.error().text()}});
    }
    context_ = std::move(*renewed);
    base::log::info("TLS files read again", {{"certificate", files_.certificate}});
  }

  net::io_context& loop_;
  const TlsFiles files_;
  FileMarks marks_;
  std::unique_ptr<TlsContext> context_;
};

// ---- the guest's side ----

/// One connection on its way. Lives in the handlers of its own operations.
class Connecting : public std::enable_shared_from_this<Connecting> {
 public:
  Connecting(net::io_context& loop, Endpoint endpoint, std::unique_ptr<TlsContext> context, OnChannel handler)
      : loop_(loop),
        endpoint_(std::move(endpoint)),
        context_(std::move(context)),
        handler_(std::move(handler)),
        resolver_(loop),
        timer_(loop),
        stream_(loop, *context_) {}

  void start(base::Deadline deadline) {
    timer_.expires_at(deadline);
    timer_.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped) self->finish(ErrorCode::kTimeout, "no answer in time");
    });
    error_code failure;
    const auto address = net::ip::make_address(endpoint_.host, failure);
    const auto port = static_cast<std::uint16_t>(endpoint_.port);
    if (!failure) return connect_to({tcp::endpoint(address, port)});
    resolver_.async_resolve(
        endpoint_.host, std::to_string(port), tcp::resolver::numeric_service,
        [self = shared_from_this()](const error_code& unknown, const tcp::resolver::results_type& found) {
          if (unknown) return self->finish(ErrorCode::kUnavailable, unknown.message());
          self->connect_to({found.begin(), found.end()});
        });
  }

 private:
  void connect_to(std::vector<tcp::endpoint> addresses) {
    if (!handler_) return;
    addresses_ = std::move(addresses);
    connect_next(net::error::host_not_found);
  }

  void connect_next(const error_code& last) {
    if (!handler_) return;
    if (next_ == addresses_.size()) return finish(ErrorCode::kUnavailable, last.message());
    close_socket(stream_);
    stream_.lowest_layer().async_connect(addresses_[next_++],
                                         [self = shared_from_this()](const error_code& failure) {
                                           if (failure) return self->connect_next(failure);
                                           self->shake_hands();
                                         });
  }

  void shake_hands() {
    if (!handler_) return;
    send_without_delay(stream_);
    if (Result<void> expected = expect_host(stream_, endpoint_.host); !expected)
      return finish(ErrorCode::kInvalid, expected.error().message());
    stream_.async_handshake(
        net::ssl::stream_base::client, [self = shared_from_this()](const error_code& failure) {
          if (!failure) return self->succeed();
          const ErrorCode code =
              is_about_certificates(failure) ? ErrorCode::kDenied : ErrorCode::kUnavailable;
          self->finish(code, tls_failure(self->stream_, self->refused_, failure));
        });
  }

  void succeed() {
    if (!handler_) return;
    Result<std::string> name = certificate_name(stream_);
    if (!name) return finish(ErrorCode::kDenied, name.error().message());
    timer_.cancel();
    Peer peer;
    peer.kind = Peer::Kind::kTls;
    peer.certificate = std::move(*name);
    std::exchange(handler_, nullptr)(std::make_unique<TlsChannel>(
        loop_, std::move(stream_), ConnectionInfo{.peer = std::move(peer), .name = endpoint_.text()}));
  }

  void finish(ErrorCode code, const std::string& cause) {
    if (!handler_) return;  // The deadline came first.
    timer_.cancel();
    resolver_.cancel();
    close_socket(stream_);
    const char* remedy = code == ErrorCode::kDenied ? kLookAtCertificates
                                                    : "see whether the service runs there and can be reached";
    std::exchange(handler_, nullptr)(std::unexpected(
        base::Error(code, fmt::format("connect to '{}': {}", endpoint_.text(), cause), remedy)));
  }

  net::io_context& loop_;
  const Endpoint endpoint_;
  const std::unique_ptr<TlsContext> context_;
  OnChannel handler_;
  tcp::resolver resolver_;
  net::steady_timer timer_;
  TlsStream stream_;
  const RefusedSubject refused_ = watch_for_refusal(stream_);
  std::vector<tcp::endpoint> addresses_;
  std::size_t next_ = 0;
};

}  // namespace

Result<std::unique_ptr<TlsGate>> make_tls_gate(net::io_context& loop, const TlsFiles& files) {
  // Before they are read: what changes meanwhile is seen as a change.
  const FileMarks marks = marks_of(files);
  ASSIGN_OR_RETURN(auto context, make_tls_context(files, TlsSide::kService));
  return std::make_unique<AsioTlsGate>(loop, files, marks, std::move(context));
}

void connect_tls(net::io_context& loop, const Endpoint& endpoint, const TlsFiles& files,
                 base::Deadline deadline, OnChannel handler) {
  auto context = make_tls_context(files, TlsSide::kGuest);
  if (!context) {
    net::post(loop, [handler = std::move(handler), failure = std::move(context).error().within(fmt::format(
                                                       "connect to '{}'", endpoint.text()))]() mutable {
      handler(std::unexpected(std::move(failure)));
    });
    return;
  }
  std::make_shared<Connecting>(loop, endpoint, std::move(*context), std::move(handler))->start(deadline);
}

}  // namespace vdvs::esx
