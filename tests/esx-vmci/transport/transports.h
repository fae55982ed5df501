// The transports of this machine for the contract suite, and blocking peers that share no code with ours
// above the socket.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <filesystem>

#include "base/fd.h"
#include "esx-vmci/transport/certificates.h"
#include "tests/esx-vmci/transport/transport_fixture.h"

namespace vdvs::esx::test {

/// Owns: a folder, removed with all that is in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/vdvs-transport-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class RawSocket : public RawStream {
 public:
  explicit RawSocket(base::UniqueFd fd) : fd_(std::move(fd)) {}
  bool send(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  std::string receive(std::size_t count) override {
    std::string bytes(count, '\0');
    const ssize_t got = ::recv(fd_.get(), bytes.data(), count, MSG_WAITALL);
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
  }
  void end_sending() override { ::shutdown(fd_.get(), SHUT_WR); }

 private:
  base::UniqueFd fd_;
};

inline base::UniqueFd connect_unix(const std::string& path) {
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

class UnixTransport : public Transport {
 public:
  Endpoint listening() override {
    return {.kind = Endpoint::Kind::kUnix, .path = folder_ / fmt::format("s{}.sock", ++last_)};
  }
  std::unique_ptr<RawStream> raw(const Endpoint& endpoint) override {
    base::UniqueFd fd = connect_unix(endpoint.path);
    return fd.is_open() ? std::make_unique<RawSocket>(std::move(fd)) : nullptr;
  }
  void expect_peer(const Peer& peer) override {
    EXPECT_EQ(peer.kind, Peer::Kind::kUnix);
    EXPECT_EQ(peer.uid, ::getuid());
    EXPECT_EQ(peer.pid, ::getpid());
    EXPECT_EQ(peer.assigned_vm, "");
  }

 private:
  Folder folder_;
  int last_ = 0;
};

/// TLS by a context of its own, made from the files alone.
class RawTls : public RawStream {
 public:
  RawTls(const Endpoint& endpoint, const TlsFiles& files) : stream_(loop_, context_) {
    namespace net = boost::asio;
    context_.load_verify_file(files.authority);
    net::ip::tcp::resolver resolver(loop_);
    net::connect(stream_.next_layer(), resolver.resolve(endpoint.host, std::to_string(endpoint.port)));
    if (!files.certificate.empty()) {
      SSL_use_certificate_chain_file(stream_.native_handle(), files.certificate.c_str());
      SSL_use_PrivateKey_file(stream_.native_handle(), files.key.c_str(), SSL_FILETYPE_PEM);
    }
    stream_.handshake(net::ssl::stream_base::client);
  }
  bool send(std::string_view bytes) override {
    boost::system::error_code failure;
    boost::asio::write(stream_, boost::asio::buffer(bytes), failure);
    return !failure;
  }
  std::string receive(std::size_t count) override {
    std::string bytes(count, '\0');
    boost::system::error_code failure;
    bytes.resize(boost::asio::read(stream_, boost::asio::buffer(bytes), failure));
    failure_ = failure.message();
    return bytes;
  }
  void end_sending() override {
    boost::system::error_code ignored;
    stream_.next_layer().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  }
  const std::string& failure() const { return failure_; }

 private:
  boost::asio::io_context loop_;
  boost::asio::ssl::context context_{boost::asio::ssl::context::tlsv13_client};
  boost::asio::ssl::stream<boost::asio::ip::tcp::socket> stream_;
  std::string failure_;
};

/// An authority, a service's certificate for 127.0.0.1, ::1 and localhost, and guests'.
class Pki {
 public:
  Pki() {
    EXPECT_TRUE(make_authority(folder_.path(), {.name = "test authority", .hosts = {}}));
    auto service = make_service_certificate(folder_.path(),
                                            {.name = "service", .hosts = {"127.0.0.1", "::1", "localhost"}});
    EXPECT_TRUE(service);
    service_ = *service;
  }
  const TlsFiles& service() const { return service_; }
  TlsFiles guest(const std::string& name) const {
    auto files = make_guest_certificate(folder_.path(), {.name = name, .hosts = {}});
    EXPECT_TRUE(files) << files.error().text();
    return *files;
  }
  const Folder& folder() const { return folder_; }

 private:
  Folder folder_;
  TlsFiles service_;
};

class TcpTransport : public Transport {
 public:
  Endpoint listening() override { return {.kind = Endpoint::Kind::kTcp, .port = 0, .host = "127.0.0.1"}; }
  TlsFiles service_files() override { return pki_.service(); }
  TlsFiles guest_files() override { return guest_; }
  std::unique_ptr<RawStream> raw(const Endpoint& endpoint) override {
    return std::make_unique<RawTls>(endpoint, guest_);
  }
  void expect_peer(const Peer& peer) override {
    EXPECT_EQ(peer.kind, Peer::Kind::kTls);
    EXPECT_EQ(peer.certificate, "web-1");
  }
  const Pki& pki() const { return pki_; }

 private:
  Pki pki_;
  TlsFiles guest_ = pki_.guest("web-1");
};

}  // namespace vdvs::esx::test
