// Services for the tests of the client: a real GuestServer whose answers are the test's, the whole service
// over a folder and loop devices, and a raw peer that does with each connection what the test says.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "esx-vmci/client/client.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/protocol/message.h"
#include "esx-vmci/service/guest_server.h"
#include "esx-vmci/service/service_assembly.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

namespace json = boost::json;

/// A guest server on a thread of its own. Ends as a killed one would, but for what runs: that is waited for.
class Served {
 public:
  Served(const std::vector<Endpoint>& endpoints, const RequestHandler& handler, VmDirectory& vms,
         const TlsFiles& tls = {}, GuestServerOptions options = {})
      : pool_("guest", pool_limits(options), &loop_) {
    std::vector<std::unique_ptr<Listener>> listeners;
    for (const Endpoint& endpoint : endpoints) {
      auto listener = make_listener(loop_, endpoint, tls, {});
      EXPECT_OK(listener);
      if (!listener) continue;
      endpoints_.push_back((*listener)->endpoint());
      listeners_.push_back(listener->get());
      listeners.push_back(std::move(*listener));
    }
    server_ = make_guest_server(pool_, std::move(listeners), handler, vms, options);
    server_->start();
    thread_ = std::thread([this] { pool_.run_loop(); });
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    boost::asio::post(loop_, [this] {
      server_.reset();
      loop_.stop();
    });
    thread_.join();
  }

  const Endpoint& endpoint(std::size_t i = 0) const { return endpoints_.at(i); }
  TransportCounters transport(std::size_t i = 0) const { return listeners_.at(i)->counters(); }
  GuestServerCounters counters() const { return server_->counters(); }

 private:
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{loop_.get_executor()};
  FairQueue pool_;
  std::vector<Endpoint> endpoints_;
  std::vector<const Listener*> listeners_;  // the server's
  std::unique_ptr<GuestServer> server_;
  std::thread thread_;
};

/// The whole service: pipeline, datastore "ds" in a folder, loop devices.
class RealService {
 public:
  explicit RealService(const std::string& folder) {
    ServiceConfig config;
    config.datastores = {fmt::format("ds={}/ds", folder)};
    config.database = folder + "/auth-db";
    config.state_dir = folder + "/state";
    config.audit_log = folder + "/audit.log";
    config.host_name = "the-host";
    config.host_id = "the-host-uuid";
    std::filesystem::create_directories(folder + "/ds");
    auto assembly = assemble_service(config, true);
    EXPECT_OK(assembly);
    assembly_ = std::make_unique<ServiceAssembly>(std::move(*assembly));
    pipeline_ = std::make_unique<RequestPipeline>(assembly_->parts());
  }
  const RequestHandler& handler() const { return *pipeline_; }
  VmDirectory& vms() const { return *assembly_->vms; }

 private:
  std::unique_ptr<ServiceAssembly> assembly_;
  std::unique_ptr<RequestPipeline> pipeline_;
};

inline Endpoint unix_at(const std::string& path, std::string vm = {}) {
  return {.kind = Endpoint::Kind::kUnix, .path = path, .assigned_vm = std::move(vm)};
}

inline std::unique_ptr<ControlPlane> client_of(ClientOptions options) {
  options.endpoint.assigned_vm.clear();
  auto client = make_client_control_plane(std::move(options));
  EXPECT_OK(client);
  return client ? std::move(*client) : nullptr;
}

inline std::unique_ptr<ControlPlane> client_of(const Endpoint& endpoint, const TlsFiles& tls = {}) {
  return client_of({.endpoint = endpoint, .tls = tls, .request_time = std::chrono::minutes(2)});
}

/// One connection of a raw service: blocking, frame by frame.
class RawConnection {
 public:
  explicit RawConnection(int fd) : fd_(fd) {}
  /// The next payload; empty where the other side has closed, or the service ends.
  std::string read_payload() {
    for (;;) {
      auto payload = decoder_.next();
      if (!payload) return {};
      if (*payload) return **payload;
      char buffer[65536];
      const ssize_t count = ::recv(fd_, buffer, sizeof buffer, 0);
      if (count <= 0) return {};
      decoder_.feed({buffer, static_cast<std::size_t>(count)});
    }
  }
  std::optional<Request> read_request() {
    last_payload = read_payload();
    auto request = decode_request(last_payload);
    if (!request) return std::nullopt;
    return *request;
  }
  bool send_bytes(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  bool send_payload(std::string_view payload) const {
    return send_bytes(*encode_frame(payload, kMaxReplyBytes));
  }
  bool answer(const Request& request, const json::value& body) const {
    return send_payload(request.id ? encode_enveloped(*request.id, body) : encode_reply(body));
  }
  /// As a service of ours does; false where something else was asked.
  bool greet(std::vector<std::string> capabilities = {std::string(kCapabilityEnvelope)}) {
    const auto hello = read_request();
    if (!hello || hello->command != "version") return false;
    return answer(*hello, encode_version({.version = "raw", .capabilities = std::move(capabilities)}));
  }

  int fd() const { return fd_; }

  std::string last_payload;

 private:
  const int fd_;
  FrameDecoder decoder_{kMaxReplyBytes};
};

/// Owns: a listening unix socket, and a thread for each of its connections, which runs the script and closes.
class RawService {
 public:
  using Script = std::function<void(RawConnection&, std::size_t index)>;

  RawService(std::string path, Script script)
      : path_(std::move(path)),
        script_(std::move(script)),
        listening_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
    EXPECT_EQ(::listen(listening_.get(), 128), 0);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  RawService(const RawService&) = delete;
  RawService& operator=(const RawService&) = delete;
  ~RawService() {
    is_ending_ = true;
    ::shutdown(listening_.get(), SHUT_RDWR);  // ends the accept
    acceptor_.join();
    {
      std::lock_guard lock(mutex_);
      for (const Connection& connection : connections_) ::shutdown(connection.fd.get(), SHUT_RDWR);
    }
    for (Connection& connection : connections_) connection.thread.join();
    ::unlink(path_.c_str());
  }

  Endpoint endpoint() const { return unix_at(path_); }
  std::size_t accepted() const { return accepted_; }

 private:
  struct Connection {
    base::UniqueFd fd;
    std::thread thread;
  };

  void accept_all() {
    while (!is_ending_) {
      base::UniqueFd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd.is_open()) continue;
      const std::size_t index = accepted_++;
      std::lock_guard lock(mutex_);
      Connection& connection = connections_.emplace_back();
      connection.fd = std::move(fd);
      connection.thread = std::thread([this, raw = connection.fd.get(), index] {
        RawConnection peer(raw);
        script_(peer, index);
        ::shutdown(raw, SHUT_RDWR);
      });
    }
  }

  const std::string path_;
  const Script script_;
  base::UniqueFd listening_;
  std::atomic<bool> is_ending_ = false;
  std::atomic<std::size_t> accepted_ = 0;
  std::mutex mutex_;
  std::list<Connection> connections_;
  std::thread acceptor_;
};

}  // namespace vdvs::esx::testing
