// vmdkopsd: the hypervisor's side, which owns the datastores and attaches their disks to the guests that ask.
// Only wires the parts together.

#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/service/admin_server.h"
#include "esx-vmci/service/guest_server.h"
#include "esx-vmci/service/power_release.h"
#include "esx-vmci/service/service_assembly.h"
#include "esx-vmci/service/service_config.h"

namespace vdvs::esx {
namespace {

using base::Result;
namespace log = base::log;

/// Requests that run at SIGTERM are waited for this long, as by the predecessor. What is left undone the next
/// start settles.
constexpr std::chrono::seconds kDrainTime{20};

/// Each connection is a descriptor, and the usual soft limit is below what we allow to be open. What stays:
/// that of the process.
std::size_t raise_descriptor_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t usual = std::exchange(limit.rlim_cur, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return limit.rlim_max;
  log::warn("cannot raise the limit of open files", {{"limit", usual}});
  return usual;
}

/// How many connections each socket may have, so that all of them together leave descriptors for the work.
TransportLimits connection_limits(const ServiceConfig& config) {
  constexpr std::size_t kDescriptorsOfTheProcess = 64;
  constexpr std::size_t kDescriptorsOfAThread = 16;  // a clone's files and locks, and the database
  constexpr std::size_t kFewestConnections = 16;
  TransportLimits limits;
  const std::size_t reserved = kDescriptorsOfTheProcess + kDescriptorsOfAThread * config.threads;
  const std::size_t all = raise_descriptor_limit();
  const std::size_t left =
      all > reserved ? (all - reserved) / std::max<std::size_t>(1, config.listens.size()) : 0;
  if (left >= limits.max_connections) return limits;
  limits.max_connections = std::max(left, kFewestConnections);
  log::warn("the limit of open files leaves fewer connections than usual",
            {{"limit_of_open_files", all}, {"connections_of_a_socket", limits.max_connections}});
  return limits;
}

/// Ends the process when the drain takes too long.
void exit_without_the_rest() {
  log::warn("requests are still going on; leaving them to the next start",
            {{"waited_s", kDrainTime.count()}});
  ::_exit(0);
}

/// Tells systemd (sd_notify(3)) where it started us; nobody otherwise.
void notify_supervisor(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path == nullptr || *path == '\0' || std::string_view(path).size() >= sizeof address.sun_path) return;
  const std::size_t length = std::string_view(path).copy(address.sun_path, sizeof address.sun_path);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const base::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto address_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (!socket.is_open() || ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                                    reinterpret_cast<const sockaddr*>(&address), address_bytes) < 0) {
    log::warn("cannot tell the supervisor", {{"state", state}, {"socket", path}});
  }
}

Result<std::unique_ptr<Listener>> open_listener(boost::asio::io_context& loop, const ServiceConfig& config,
                                                const std::string& text, const TransportLimits& limits) {
  ASSIGN_OR_RETURN(Endpoint endpoint, Endpoint::parse(text));
  if (endpoint.kind == Endpoint::Kind::kUnix) {
    RETURN_IF_ERROR(base::make_folders(std::filesystem::path(endpoint.path).parent_path().string()));
  }
  return make_listener(loop, endpoint, config.tls, limits);
}

/// Errors: those of an endpoint that was asked for. Of the default ones, one that this machine has not is
/// left out.
Result<std::vector<std::unique_ptr<Listener>>> open_listeners(boost::asio::io_context& loop,
                                                              const ServiceConfig& config) {
  const TransportLimits limits = connection_limits(config);
  std::vector<std::unique_ptr<Listener>> listeners;
  for (const std::string& text : config.listens) {
    auto listener = open_listener(loop, config, text, limits);
    if (listener) {
      listeners.push_back(std::move(*listener));
      continue;
    }
    const bool is_missing_here = listener.error().code() == base::ErrorCode::kUnsupported;
    if (!config.are_default_listens || !is_missing_here) return std::unexpected(std::move(listener).error());
    log::info("not listening", {{"endpoint", text}, {"cause", listener.error().text()}});
  }
  return listeners;
}

boost::json::object describe(const GuestServerCounters& counters) {
  return {{"requests", counters.requests},           {"malformed_frames", counters.malformed_frames},
          {"timed_out", counters.timed_out},         {"refused_vms", counters.refused_vms},
          {"refused_limit", counters.refused_limit}, {"declined", counters.declined},
          {"abandoned", counters.abandoned},         {"connections", counters.connections}};
}

boost::json::object describe(const TransportCounters& counters) {
  return {{"accepted", counters.accepted},
          {"refused_port", counters.refused_port},
          {"refused_credentials", counters.refused_credentials},
          {"refused_certificate", counters.refused_certificate},
          {"refused_limit", counters.refused_limit}};
}

/// All that listens, and what the administrator is told of it.
class Service {
 public:
  Service(FairQueue& pool, const ServiceConfig& config, ServiceAssembly& assembly,
          std::vector<std::unique_ptr<Listener>> listeners)
      : config_(config), pipeline_(assembly.parts()) {
    for (const auto& listener : listeners) listeners_.push_back(listener.get());
    server_ =
        make_guest_server(pool, std::move(listeners), pipeline_, *assembly.vms, {.threads = config.threads});
    AdminOptions options{.parts = assembly.parts()};
    options.database_path = config.database;
    options.audit_file = config.audit_log;
    options.apply_policy = assembly.apply_policy;
    options.status = [this] { return status(); };
    admin_ = make_admin(std::move(options));
  }

  Result<void> open_admin_socket(boost::asio::io_context& loop) {
    if (config_.admin_socket.empty()) return {};
    ASSIGN_OR_RETURN(auto listener, open_listener(loop, config_, "unix:" + config_.admin_socket, {}));
    admin_server_ = make_admin_server(loop, std::move(listener), *admin_);
    return {};
  }

  void start() {
    server_->start();
    if (admin_server_) admin_server_->start();
    for (const Listener* listener : listeners_)
      log::info("listening", {{"endpoint", listener->endpoint().text()}});
  }

  void stop(std::function<void()> drained) { server_->stop(std::move(drained)); }

 private:
  /// Thread: any.
  ServiceStatus status() const {
    ServiceStatus status{.is_running = true, .version = VDVS_VERSION, .pid = ::getpid()};
    status.log_file = config_.log.path;
    constexpr std::string_view kLevels[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    status.log_level = kLevels[static_cast<std::size_t>(config_.log.level)];
    status.log_config_file = config_.log_config_file;
    status.counters = describe(server_->counters());
    for (const Listener* listener : listeners_) {
      const std::string endpoint = listener->endpoint().text();
      status.listens.push_back(endpoint);
      status.counters[endpoint] = describe(listener->counters());
    }
    return status;
  }

  const ServiceConfig& config_;
  const RequestPipeline pipeline_;
  std::vector<const Listener*> listeners_;  ///< Of the server's.
  std::unique_ptr<GuestServer> server_;
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<AdminServer> admin_server_;
};

Result<void> serve(const ServiceConfig& config) {
  boost::asio::io_context loop(1);
  ASSIGN_OR_RETURN(ServiceAssembly assembly, assemble_service(config, true));
  // Who is too early waits in the sockets' backlogs.
  ASSIGN_OR_RETURN(auto listeners, open_listeners(loop, config));
  if (listeners.empty()) return base::fail(base::ErrorCode::kUnavailable, "no endpoint is left to listen at");
  RETURN_IF_ERROR(base::make_folders(std::filesystem::path(config.audit_log).parent_path().string()));
  FairQueue pool("guest", pool_limits({.threads = config.threads}), &loop);
  Service service(pool, config, assembly, std::move(listeners));
  RETURN_IF_ERROR(service.open_admin_socket(loop));
  settle_what_was_left(assembly.parts());
  release_disks_at_power_off(assembly.parts());

  boost::asio::steady_timer patience(loop);
  boost::asio::signal_set signals(loop, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code& error, int signal) {
    if (error) return;
    log::info("stopping", {{"signal", signal}});
    notify_supervisor("STOPPING=1");
    patience.expires_after(kDrainTime);
    patience.async_wait([](const boost::system::error_code& cancelled) {
      if (!cancelled) exit_without_the_rest();
    });
    service.stop([&loop] { loop.stop(); });
  });
  service.start();
  log::info("serving",
            {{"version", VDVS_VERSION}, {"hypervisor", config.hypervisor}, {"database", config.database}});
  notify_supervisor("READY=1");
  pool.run_loop();
  return {};
}

}  // namespace
}  // namespace vdvs::esx

int main(int argc, char** argv) {
  using namespace vdvs;
  // Few arenas: the pool's threads allocate little, and an arena each would cost more memory than all they
  // hold.
  constexpr int kMallocArenas = 2;
  ::mallopt(M_ARENA_MAX, kMallocArenas);
  esx::ParsedServiceArguments parsed = esx::parse_service_arguments(argc, argv);
  if (parsed.exit_status) {
    std::fputs(parsed.message.c_str(), *parsed.exit_status == 0 ? stdout : stderr);
    return *parsed.exit_status;
  }
  if (auto set_up = base::log::set_up(parsed.config.log); !set_up) {
    std::fprintf(stderr, "vmdkopsd: %s\n", set_up.error().text().c_str());
    return 1;
  }
  for (const std::string& note : parsed.notes) base::log::info(note);
  ::signal(SIGPIPE, SIG_IGN);
  if (auto served = esx::serve(parsed.config); !served) {
    base::log::error("cannot serve", {{"cause", served.error().text()}});
    return 1;
  }
  base::log::info("stopped");
  return 0;
}
