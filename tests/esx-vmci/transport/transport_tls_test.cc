// What is particular to TCP with TLS: whom it refuses, why, that it says so on both sides, and that nobody
// else has to wait meanwhile.
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <fstream>

#include "base/command.h"
#include "tests/esx-vmci/transport/odd_certificates.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

namespace net = boost::asio;
using net::ip::tcp;
using ::testing::HasSubstr;

class TlsListener : public TransportContract {
 protected:
  TcpTransport& tcp_transport() { return static_cast<TcpTransport&>(*transport_); }
  const std::string& folder() { return tcp_transport().pki().folder().path(); }

  /// What a client with these files is told, at its connect or (TLS 1.3) at its first read, and what the
  /// service logs.
  struct Refusal {
    base::Error told{ErrorCode::kInternal, "it was served"};
    std::string logged;
  };
  Refusal refusal_of(const TlsFiles& files) {
    const std::uint64_t before = listener_->counters().refused_certificate;
    ::testing::internal::CaptureStderr();
    Refusal refusal;
    auto client = try_connect(files);
    if (!client) {
      refusal.told = client.error();
    } else if (auto frame = read(**client); !frame) {
      refusal.told = frame.error();
    }
    EXPECT_TRUE(run_until([&] { return listener_->counters().refused_certificate > before; }));
    refusal.logged = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(listener_->counters().refused_certificate, before + 1);
    EXPECT_TRUE(served_.empty());
    return refusal;
  }

  void expect_refused(const TlsFiles& files, std::string_view cause) {
    const Refusal refusal = refusal_of(files);
    EXPECT_EQ(refusal.told.code(), ErrorCode::kDenied) << refusal.told.text();
    EXPECT_THAT(refusal.told.message(), HasSubstr(endpoint_.text()));
    EXPECT_THAT(refusal.told.remedy(), HasSubstr("vdvs cert"));
    EXPECT_THAT(refusal.logged, HasSubstr("connection refused"));
    EXPECT_THAT(refusal.logged, HasSubstr("peer=127.0.0.1"));
    EXPECT_THAT(refusal.logged, HasSubstr(std::string(cause)));
    expect_served();
  }

  void expect_served() {
    auto client = make_pair();
    ASSERT_TRUE(write(*client, "ping"));
    EXPECT_EQ(read(*served_.back()), "ping");
    served_.clear();
  }

  /// A service with these files in place of the one that there is.
  void serve_with(const TlsFiles& files, const TransportLimits& limits = {}) {
    listener_.reset();
    auto listener = make_listener(loop_, transport_->listening(), files, limits);
    ASSERT_TRUE(listener) << listener.error().text();
    listener_ = std::move(*listener);
    listener_->start([this](std::unique_ptr<Channel> channel) { served_.push_back(std::move(channel)); });
    endpoint_ = listener_->endpoint();
  }

  /// Without TLS.
  tcp::socket knock() {
    tcp::socket socket(loop_);
    socket.connect({net::ip::make_address(endpoint_.host), static_cast<std::uint16_t>(endpoint_.port)});
    return socket;
  }

  bool is_refused_without_tls(std::uint64_t count) {
    return run_until([&] { return listener_->counters().refused_certificate == count; });
  }
};

TEST_P(TlsListener, RefusesAGuestOfAnotherAuthority) {
  const Pki other;
  TlsFiles files = other.guest("web-1");
  files.authority = transport_->guest_files().authority;
  expect_refused(files, "unable to get local issuer certificate (certificate of /CN=web-1)");
}

TEST_P(TlsListener, RefusesAnExpiredCertificate) {
  expect_refused(
      mint(folder(), "old", {.valid_from = std::chrono::hours(-48), .valid_until = std::chrono::hours(-1)}),
      "certificate has expired (certificate of /CN=web-1)");
}

TEST_P(TlsListener, RefusesACertificateThatIsNotValidYet) {
  expect_refused(
      mint(folder(), "early", {.valid_from = std::chrono::hours(24), .valid_until = std::chrono::hours(48)}),
      "certificate is not yet valid");
}

TEST_P(TlsListener, RefusesACertificateThatIsForServices) {
  expect_refused(mint(folder(), "server", {.extended_use = "serverAuth"}), "unsuitable certificate purpose");
  TlsFiles files = transport_->service_files();
  expect_refused(files, "unsuitable certificate purpose");
}

TEST_P(TlsListener, RefusesACertificateThatNamesNobodyOrTwo) {
  for (const auto& [stem, names] : {std::pair("none", std::vector<std::string>{}),
                                    std::pair("two", std::vector<std::string>{"web-1", "web-2"})}) {
    const Refusal refusal = refusal_of(mint(folder(), stem, {.common_names = names}));
    EXPECT_THAT(refusal.logged, HasSubstr("common name"));
  }
  expect_served();
}

TEST_P(TlsListener, RefusesAGuestWithoutACertificate) {
  ::testing::internal::CaptureStderr();
  TlsFiles files = transport_->guest_files();
  files.certificate.clear();
  std::atomic<bool> got_nothing = false;
  std::thread guest([&] {
    RawTls raw(endpoint_, files);
    got_nothing = raw.receive(1).empty();
    EXPECT_THAT(raw.failure(), HasSubstr("certificate required"));
  });
  EXPECT_TRUE(is_refused_without_tls(1));
  EXPECT_TRUE(run_until([&] { return got_nothing.load(); }));
  guest.join();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("peer did not return a certificate"));
  expect_served();
}

TEST_P(TlsListener, AGuestWithoutItsFilesIsToldSoAtOnce) {
  const auto client = try_connect({});
  EXPECT_CODE(client, ErrorCode::kInvalid);
  EXPECT_THAT(client.error().text(), HasSubstr("make them with 'vdvs cert'"));
  TlsFiles files = transport_->guest_files();
  files.key = folder() + "/service.key";
  const auto mixed = try_connect(files);
  EXPECT_CODE(mixed, ErrorCode::kInvalid);
  EXPECT_THAT(mixed.error().message(), HasSubstr("service.key"));
}

TEST_P(TlsListener, AServiceWithoutItsFilesDoesNotStart) {
  const auto listener = make_listener(loop_, transport_->listening(), {}, {});
  EXPECT_CODE(listener, ErrorCode::kInvalid);
  EXPECT_THAT(listener.error().text(), HasSubstr("make them with 'vdvs cert'"));
}

TEST_P(TlsListener, RefusesTls12) {
  ::testing::internal::CaptureStderr();
  std::string failure;
  std::thread old([&] {
    net::io_context loop;
    net::ssl::context context(net::ssl::context::tlsv12_client);
    net::ssl::stream<tcp::socket> stream(loop, context);
    stream.next_layer().connect(
        {net::ip::make_address(endpoint_.host), static_cast<std::uint16_t>(endpoint_.port)});
    boost::system::error_code failed;
    stream.handshake(net::ssl::stream_base::client, failed);
    failure = failed.message();
  });
  EXPECT_TRUE(is_refused_without_tls(1));
  old.join();
  EXPECT_THAT(failure, HasSubstr("alert protocol version"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("the other side does not speak TLS 1.3"));
  expect_served();
}

TEST_P(TlsListener, RefusesPlainFrames) {
  ::testing::internal::CaptureStderr();
  tcp::socket plain = knock();
  net::write(plain, net::buffer(frame_of(R"({"cmd":"list","details":{"Name":""},"version":"2"})")));
  EXPECT_TRUE(is_refused_without_tls(1));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("the other side does not speak TLS"));
  expect_served();
}

TEST_P(TlsListener, CountsOneThatLeavesInTheMiddleOfTheHandshake) {
  ::testing::internal::CaptureStderr();
  knock().close();
  EXPECT_TRUE(is_refused_without_tls(1));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("left in the middle of the handshake"));
}

TEST_P(TlsListener, ServesOthersWhileHandshakesStallAndEndsThem) {
  TransportLimits limits;
  limits.handshake_time = std::chrono::milliseconds(300);
  serve_with(transport_->service_files(), limits);
  ::testing::internal::CaptureStderr();
  std::vector<tcp::socket> stalled;
  for (int i = 0; i < 20; ++i) stalled.push_back(knock());
  expect_served();
  EXPECT_TRUE(is_refused_without_tls(20));
  const std::string logged = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(logged, HasSubstr("the handshake took too long"));
  const auto lines = std::ranges::count(logged, '\n');
  EXPECT_LT(lines, 20) << "a flood of refusals is logged in part";
  for (tcp::socket& socket : stalled) {
    char byte = 0;
    boost::system::error_code ended;
    socket.read_some(net::buffer(&byte, 1), ended);
    EXPECT_TRUE(ended) << "it was not closed";
  }
}

TEST_P(TlsListener, AStalledHandshakeCountsAmongTheConnections) {
  TransportLimits limits;
  limits.max_connections = 1;
  serve_with(transport_->service_files(), limits);
  tcp::socket stalled = knock();
  EXPECT_TRUE(run_until([&] { return !try_connect(transport_->guest_files()); }));
  EXPECT_GE(listener_->counters().refused_limit, 1);
  stalled.close();
  EXPECT_TRUE(is_refused_without_tls(1));
  expect_served();
}

TEST_P(TlsListener, AGuestRefusesAServiceOfAnotherNameOrAddress) {
  serve_with(
      mint(folder(), "elsewhere", {.extended_use = "serverAuth", .hosts = "DNS:elsewhere,IP:127.0.0.9"}));
  const auto client = try_connect(transport_->guest_files());
  EXPECT_CODE(client, ErrorCode::kDenied);
  EXPECT_THAT(client.error().message(), HasSubstr("IP address mismatch"));
  endpoint_.host = "localhost";
  const auto by_name = try_connect(transport_->guest_files());
  EXPECT_CODE(by_name, ErrorCode::kDenied);
  EXPECT_THAT(by_name.error().message(), HasSubstr("hostname mismatch"));
}

TEST_P(TlsListener, AGuestRefusesAServiceOfAnotherAuthority) {
  const Pki other;
  serve_with(other.service());
  const auto client = try_connect(transport_->guest_files());
  EXPECT_CODE(client, ErrorCode::kDenied);
  EXPECT_THAT(client.error().remedy(), HasSubstr("vdvs cert"));
  EXPECT_TRUE(is_refused_without_tls(1)) << "the service is told by an alert";
}

TEST_P(TlsListener, AGuestRefusesAGuestInTheServicesPlace) {
  serve_with(mint(folder(), "guest", {.hosts = "IP:127.0.0.1"}));
  const auto client = try_connect(transport_->guest_files());
  EXPECT_CODE(client, ErrorCode::kDenied);
  EXPECT_THAT(client.error().message(), HasSubstr("unsuitable certificate purpose"));
}

TEST_P(TlsListener, AGuestIsToldOfAServiceThatSpeaksNoTls) {
  tcp::acceptor plain(loop_, {net::ip::make_address("127.0.0.1"), 0});
  std::thread service([&] {
    tcp::socket socket(loop_);
    plain.accept(socket);
    net::write(socket, net::buffer(frame_of("null")));
    std::string rest(4096, '\0');
    boost::system::error_code ended;
    while (!ended) socket.read_some(net::buffer(rest), ended);
  });
  endpoint_.port = plain.local_endpoint().port();
  const auto client = try_connect(transport_->guest_files());
  EXPECT_CODE(client, ErrorCode::kUnavailable);
  EXPECT_THAT(client.error().message(), HasSubstr("does not speak TLS"));
  service.join();
}

TEST_P(TlsListener, ReachesAServiceByItsNameToo) {
  endpoint_.host = "localhost";
  expect_served();
}

TEST_P(TlsListener, AUnknownHostIsUnavailable) {
  endpoint_.host = "no-such-host.invalid";
  EXPECT_CODE(try_connect(transport_->guest_files()), ErrorCode::kUnavailable);
}

TEST_P(TlsListener, ServesOpensslsOwnClient) {
  const TlsFiles files = transport_->guest_files();
  const std::string request = folder() + "/request";
  std::ofstream(request, std::ios::binary) << frame_of("ping");
  base::Result<base::CommandOutcome> outcome = base::fail(ErrorCode::kInternal, "not run");
  bool has_ended = false;
  std::thread client([&] {
    const std::string command = fmt::format(
        "timeout 60 openssl s_client -connect 127.0.0.1:{} -CAfile {} -cert {} -key {} -verify_return_error "
        "-quiet "
        "2>/dev/null < {} | od -An -c",
        endpoint_.port, files.authority, files.certificate, files.key, request);
    outcome = base::run_command({"sh", "-c", command});
    net::post(loop_, [&] { has_ended = true; });
  });
  EXPECT_TRUE(run_until([&] { return !served_.empty(); }));
  EXPECT_EQ(read(*served_.back()), "ping");
  EXPECT_TRUE(write(*served_.back(), "pong"));
  served_.clear();
  EXPECT_TRUE(run_until([&] { return has_ended; }));
  client.join();
  ASSERT_TRUE(outcome) << outcome.error().text();
  EXPECT_THAT(outcome->output, HasSubstr("p   o   n   g"));
}

// ---- renewal ----

void replace(const std::string& from, const std::string& to) {
  std::filesystem::copy_file(from, to + ".new", std::filesystem::copy_options::overwrite_existing);
  std::filesystem::rename(to + ".new", to);
}

TEST_P(TlsListener, ARenewedCertificateCountsFromTheNextConnectionOn) {
  auto before = make_pair();
  EXPECT_EQ(before->peer().certificate, "service");
  const TlsFiles renewed =
      mint(folder(), "renewed",
           {.common_names = {"service, renewed"}, .extended_use = "serverAuth", .hosts = "IP:127.0.0.1"});
  replace(renewed.certificate, transport_->service_files().certificate);
  auto in_the_middle = make_pair();  // The new certificate and the old key: the old pair goes on.
  EXPECT_EQ(in_the_middle->peer().certificate, "service");
  replace(renewed.key, transport_->service_files().key);
  auto after = make_pair();
  EXPECT_EQ(after->peer().certificate, "service, renewed");
  ASSERT_TRUE(write(*before, "still here"));
  EXPECT_EQ(read(*served_.front()), "still here");
}

TEST_P(TlsListener, FilesThatVanishChangeNothing) {
  std::filesystem::remove(transport_->service_files().key);
  expect_served();
  expect_served();
}

TEST_P(TlsListener, AGuestsRenewedCertificateIsReadAtItsNextConnection) {
  const TlsFiles files = transport_->guest_files();
  const TlsFiles renewed = mint(folder(), "web-2", {.common_names = {"web-2"}});
  replace(renewed.certificate, files.certificate);
  replace(renewed.key, files.key);
  auto client = make_pair();
  EXPECT_EQ(served_.back()->peer().certificate, "web-2");
}

INSTANTIATE_TEST_SUITE_P(Tcp, TlsListener, ::testing::Values(transport_named<TcpTransport>("tcp")));

}  // namespace
}  // namespace vdvs::esx::test
