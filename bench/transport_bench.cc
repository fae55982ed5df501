// What one request costs on a connection that is kept, beside a bare echo of as many bytes over the same kind
// of socket. Echo and request take turns in one run, so that both see the same machine; medians, and their
// ratio.
//
//   echo     two threads, each blocked in read: what the kernel (and OpenSSL) take
//   service  the same caller, blocked in read; what answers is the service: its loop, its pool, its pipeline
//   request  from a caller's thread through the client's link and the service, and back
//
// Which processor the scheduler wakes a thread on is worth more than all that is measured here, and chance:
// so the caller is bound to one, and who answers, echo or service, to the same (one_cpu) or to another
// (two_cpus).
#include <benchmark/benchmark.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "esx-vmci/client/service_link.h"
#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/service/guest_server.h"
#include "esx-vmci/service/service_assembly.h"
#include "esx-vmci/transport/certificates.h"

namespace vdvs::esx {
namespace {

namespace net = boost::asio;
using base::Clock;

template <typename T>
T must(base::Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "transport_bench: %s\n", result.error().text().c_str());
  std::exit(1);
}

/// A blocking stream of bytes.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void send(std::string_view bytes) = 0;
  virtual void receive(char* bytes, std::size_t count) = 0;
};

template <typename Socket>
class AsioStream final : public Stream {
 public:
  explicit AsioStream(Socket socket) : socket_(std::move(socket)) {}
  void send(std::string_view bytes) override { net::write(socket_, net::buffer(bytes)); }
  void receive(char* bytes, std::size_t count) override { net::read(socket_, net::buffer(bytes, count)); }

 private:
  Socket socket_;
};

/// A folder, a service in it, and how its bare echo is reached: all that a kind of socket needs.
class Place {
 public:
  Place() {
    char name[] = "/tmp/vdvs-bench-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  virtual ~Place() { std::filesystem::remove_all(folder_); }
  virtual Endpoint listening() const = 0;
  virtual TlsFiles service_files() const { return {}; }
  virtual TlsFiles guest_files() const { return {}; }
  virtual std::unique_ptr<Stream> call(const Endpoint& endpoint) = 0;
  /// Both ends of a connection of its own.
  virtual std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> pair() = 0;
  const std::string& folder() const { return folder_; }

 protected:
  net::io_context loop_;

 private:
  std::string folder_;
};

class UnixPlace final : public Place {
 public:
  Endpoint listening() const override {
    return {.kind = Endpoint::Kind::kUnix, .path = folder() + "/s.sock"};
  }
  std::unique_ptr<Stream> call(const Endpoint& endpoint) override {
    Socket socket(loop_);
    socket.connect(net::local::stream_protocol::endpoint(endpoint.path));
    return std::make_unique<AsioStream<Socket>>(std::move(socket));
  }
  std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> pair() override {
    net::local::stream_protocol::acceptor acceptor(
        loop_, net::local::stream_protocol::endpoint(folder() + "/echo.sock"));
    auto caller = call({.kind = Endpoint::Kind::kUnix, .path = folder() + "/echo.sock"});
    return {std::move(caller), std::make_unique<AsioStream<Socket>>(acceptor.accept())};
  }

 private:
  using Socket = net::local::stream_protocol::socket;
};

class TlsPlace final : public Place {
 public:
  TlsPlace() {
    must(make_authority(folder(), {.name = "bench", .hosts = {}}));
    service_ = must(make_service_certificate(folder(), {.name = "service", .hosts = {"127.0.0.1"}}));
    guest_ = must(make_guest_certificate(folder(), {.name = "guest", .hosts = {}}));
    set_up(serving_, service_);
    set_up(calling_, guest_);
  }
  Endpoint listening() const override {
    return {.kind = Endpoint::Kind::kTcp, .port = 0, .host = "127.0.0.1"};
  }
  TlsFiles service_files() const override { return service_; }
  TlsFiles guest_files() const override { return guest_; }
  std::unique_ptr<Stream> call(const Endpoint& endpoint) override {
    Socket socket = connect(static_cast<std::uint16_t>(endpoint.port));
    socket.handshake(net::ssl::stream_base::client);
    return std::make_unique<AsioStream<Socket>>(std::move(socket));
  }
  std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> pair() override {
    net::ip::tcp::acceptor acceptor(loop_, {net::ip::make_address("127.0.0.1"), 0});
    Socket caller = connect(acceptor.local_endpoint().port());
    Socket echo(acceptor.accept(), serving_);
    echo.next_layer().set_option(net::ip::tcp::no_delay(true));
    std::thread other([&] { echo.handshake(net::ssl::stream_base::server); });
    caller.handshake(net::ssl::stream_base::client);
    other.join();
    return {std::make_unique<AsioStream<Socket>>(std::move(caller)),
            std::make_unique<AsioStream<Socket>>(std::move(echo))};
  }

 private:
  using Socket = net::ssl::stream<net::ip::tcp::socket>;

  static void set_up(net::ssl::context& context, const TlsFiles& files) {
    context.load_verify_file(files.authority);
    context.use_certificate_chain_file(files.certificate);
    context.use_private_key_file(files.key, net::ssl::context::pem);
    context.set_verify_mode(net::ssl::verify_peer);
  }
  Socket connect(std::uint16_t port) {
    Socket socket(loop_, calling_);
    socket.next_layer().connect({net::ip::make_address("127.0.0.1"), port});
    socket.next_layer().set_option(net::ip::tcp::no_delay(true));
    return socket;
  }

  TlsFiles service_;
  TlsFiles guest_;
  net::ssl::context serving_{net::ssl::context::tlsv13_server};
  net::ssl::context calling_{net::ssl::context::tlsv13_client};
};

/// The whole service on a loop of its own.
class Service {
 public:
  explicit Service(const Place& place) {
    ServiceConfig config;
    config.datastores = {fmt::format("ds={}/ds", place.folder())};
    config.database = place.folder() + "/auth-db";
    config.state_dir = place.folder() + "/state";
    std::filesystem::create_directories(place.folder() + "/ds");
    assembly_ = std::make_unique<ServiceAssembly>(must(assemble_service(config, true)));
    pipeline_ = std::make_unique<RequestPipeline>(assembly_->parts());
    std::vector<std::unique_ptr<Listener>> listeners;
    listeners.push_back(must(make_listener(loop_, place.listening(), place.service_files(), {})));
    endpoint_ = listeners.front()->endpoint();
    server_ = make_guest_server(pool_, std::move(listeners), *pipeline_, *assembly_->vms, {});
    server_->start();
    thread_ = std::thread([this] { pool_.run_loop(); });
  }
  ~Service() {
    net::post(loop_, [this] {
      server_.reset();
      loop_.stop();
    });
    thread_.join();
  }
  const Endpoint& endpoint() const { return endpoint_; }

 private:
  std::unique_ptr<ServiceAssembly> assembly_;
  std::unique_ptr<RequestPipeline> pipeline_;
  net::io_context loop_{1};
  net::executor_work_guard<net::io_context::executor_type> guard_{loop_.get_executor()};
  FairQueue pool_{"guest", pool_limits({}), &loop_};
  Endpoint endpoint_;
  std::unique_ptr<GuestServer> server_;
  std::thread thread_;
};

/// Answers `asked_bytes` with `reply`, until the caller leaves.
class Echo {
 public:
  Echo(std::unique_ptr<Stream> stream, std::size_t asked_bytes, std::string reply)
      : thread_([stream = std::move(stream), asked_bytes, reply = std::move(reply)] {
          std::string bytes(asked_bytes, '\0');
          try {
            for (;;) {
              stream->receive(bytes.data(), bytes.size());
              stream->send(reply);
            }
          } catch (const boost::system::system_error&) {
          }
        }) {}
  ~Echo() { thread_.join(); }

 private:
  std::thread thread_;
};

Request version_request() {
  Request request;
  request.command = "version";
  request.version = kProtocolVersion;
  request.id = 1;
  request.wants_details = true;
  return request;
}

class Measured {
 public:
  void add(const std::function<void()>& work) {
    const Clock::time_point begin = Clock::now();
    work();
    times_us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  double last_seconds() const { return times_us_.back() / 1e6; }
  double median_us() {
    std::ranges::nth_element(times_us_,
                             times_us_.begin() + static_cast<std::ptrdiff_t>(times_us_.size() / 2));
    return times_us_[times_us_.size() / 2];
  }

 private:
  std::vector<double> times_us_;
};

/// Of this thread, and of those that it starts from now on.
void bind_to_cpu(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
    std::fprintf(stderr, "transport_bench: bind to cpu %d: %s\n", cpu, std::strerror(errno));
    std::exit(1);
  }
}

template <typename PlaceType>
void one_request(benchmark::State& state) {
  const int answering_cpu = static_cast<int>(state.range(0)) - 1;
  bind_to_cpu(answering_cpu);
  PlaceType place;
  const Service service(place);
  const auto link = make_service_link(service.endpoint(), place.guest_files());
  const auto raw = place.call(service.endpoint());
  const std::string request = must(encode_frame(encode_request(version_request()), kMaxReplyBytes));
  // Once, to see how long the answer is.
  raw->send(request);
  std::string header(kFrameHeaderBytes, '\0');
  raw->receive(header.data(), header.size());
  std::string reply(kFrameHeaderBytes + static_cast<unsigned char>(header[4]) +
                        (static_cast<std::size_t>(static_cast<unsigned char>(header[5])) << 8),
                    '\0');
  raw->receive(reply.data(), reply.size() - kFrameHeaderBytes);
  auto [caller, answering] = place.pair();
  const Echo echo(std::move(answering), request.size(), reply);
  bind_to_cpu(0);

  Measured of_echo;
  Measured of_service;
  Measured of_request;
  for (auto _ : state) {
    of_echo.add([&] {
      caller->send(request);
      caller->receive(reply.data(), reply.size());
    });
    of_service.add([&] {
      raw->send(request);
      raw->receive(reply.data(), reply.size());
    });
    of_request.add([&] {
      auto answer = link->ask(version_request(), base::deadline_in(std::chrono::seconds(20)));
      if (!answer || !answer->result) state.SkipWithError("no answer");
    });
    state.SetIterationTime(of_request.last_seconds());
  }
  caller.reset();
  state.counters["echo_us"] = of_echo.median_us();
  state.counters["service_us"] = of_service.median_us();
  state.counters["request_us"] = of_request.median_us();
  state.counters["service/echo"] = of_service.median_us() / of_echo.median_us();
  state.counters["request/echo"] = of_request.median_us() / of_echo.median_us();
}
void on_cpus(benchmark::internal::Benchmark* bench) {
  bench->ArgName("cpus")->Arg(1);
  if (std::thread::hardware_concurrency() > 1) bench->Arg(2);
  bench->UseManualTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(one_request<UnixPlace>)->Name("one_request/unix")->Apply(on_cpus);
BENCHMARK(one_request<TlsPlace>)->Name("one_request/tcp_tls")->Apply(on_cpus);

}  // namespace
}  // namespace vdvs::esx
