// mountd: serves Docker's volume drivers on this host. Only wires the parts together.

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "esx-vmci/client/client.h"
#include "esx-vmci/service/embedded.h"
#include "mountd/config.h"
#include "mountd/datastore_memory.h"
#include "mountd/engine.h"
#include "mountd/host_state.h"
#include "mountd/plugin_server.h"
#include "mountd/startup_gate.h"
#include "mountd/volume_keeper.h"
#include "mountd/volume_manager.h"

namespace vdvs::mountd {
namespace {

using base::Result;
namespace log = base::log;

/// Work that runs at SIGTERM is waited for this long: longer than any step but a large mkfs or thick create, which the next start continues or
/// throws away.
constexpr std::chrono::seconds kDrainTime{20};

/// The disks belong to a service elsewhere.
Result<std::unique_ptr<esx::ControlPlane>> make_remote_control_plane(const Config& config) {
  esx::ClientOptions options;
  options.endpoint = *config.control_plane;
  options.tls = config.tls;
  options.state_file = config.state_dir + "/service.log";
  options.vm_name = config.host_name;
  return esx::make_client_control_plane(std::move(options));
}

/// The disks belong to this process.
Result<std::unique_ptr<esx::ControlPlane>> make_embedded_control_plane(const Config& config) {
  esx::EmbeddedOptions options;
  for (const std::string& text : config.datastores) {
    ASSIGN_OR_RETURN(auto folder, esx::parse_datastore_folder(text));
    options.datastores.push_back(std::move(folder));
  }
  ASSIGN_OR_RETURN(options.vm.uuid, load_host_id(config.state_dir));
  options.vm.name = config.host_name.empty() ? system_host_name() : config.host_name;
  const auto folders = options.datastores;
  RETURN_IF_ERROR(verify_datastores(config.state_dir, folders));
  ASSIGN_OR_RETURN(auto control_plane, esx::make_embedded_control_plane(std::move(options), esx::make_loop_hypervisor()));
  RETURN_IF_ERROR(remember_datastores(config.state_dir, folders));
  return control_plane;
}

/// Ends the process when the drain takes too long: what is left undone is found at the next start.
void exit_without_the_rest() {
  log::warn("work is still going on; leaving it to the next start", {{"waited_s", kDrainTime.count()}});
  ::_exit(0);
}

/// All that serves volumes, once the control plane and the state are open.
struct Service {
  std::unique_ptr<esx::ControlPlane> control_plane;
  std::unique_ptr<VolumeCatalogue> catalogue;
  std::unique_ptr<MountHolders> holders;
  std::unique_ptr<blockdev::DeviceWatcher> watcher = blockdev::make_udev_watcher();
  std::unique_ptr<fsformat::Prober> prober = fsformat::make_blkid_prober();
  std::unique_ptr<fsformat::Formatter> formatter = fsformat::make_tool_formatter();
  std::unique_ptr<fsformat::Mounter> mounter = fsformat::make_kernel_mounter();
  std::unique_ptr<Engine> engine;
  std::unique_ptr<VolumeKeeper> keeper;
  std::unique_ptr<VolumeManager> manager;
};

/// Blocks: it reads state and datastores.
Result<std::unique_ptr<Service>> open_service(const Config& config, boost::asio::io_context& loop) {
  auto service = std::make_unique<Service>();
  ASSIGN_OR_RETURN(std::string boot_id, read_boot_id());
  ASSIGN_OR_RETURN(service->control_plane, config.control_plane ? make_remote_control_plane(config)
                                                                : make_embedded_control_plane(config));
  ASSIGN_OR_RETURN(service->catalogue, VolumeCatalogue::open(config.state_dir + "/catalogue.log"));
  ASSIGN_OR_RETURN(service->holders, MountHolders::open(config.run_dir, boot_id));
  RETURN_IF_ERROR(service->mounter->share(config.mount_root));
  service->keeper = std::make_unique<VolumeKeeper>(World{*service->control_plane, *service->watcher, *service->prober,
                                                         *service->formatter, *service->mounter, config.mount_root},
                                                   *service->holders, *service->catalogue);
  if (!config.docker_socket.empty()) service->engine = make_docker_engine(config.docker_socket);
  ManagerOptions options;
  options.main_driver = config.drivers.front();
  options.detach_linger = config.detach_linger;
  options.threads = config.threads;
  service->manager = VolumeManager::make(loop, *service->keeper, service->engine.get(), options);
  return service;
}

Result<void> serve(const Config& config) {
  ASSIGN_OR_RETURN(base::UniqueFd state_lock, lock_state(config.state_dir));
  // The sockets come first: from here on Docker is answered, whatever start-up takes.
  ASSIGN_OR_RETURN(auto listeners, open_listeners({config.plugin_dir, config.drivers, config.group}));
  boost::asio::io_context loop(1);
  StartupGate gate;
  Result<std::unique_ptr<Service>> service = nullptr;
  std::unique_ptr<EngineWatch> engine_watch;
  auto server = make_plugin_server(loop, std::move(listeners), gate);

  auto begin = [&] {
    if (!service) return loop.stop();
    VolumeManager& manager = *(*service)->manager;
    gate.open(manager);
    manager.start();
    log::info("serving", {{"version", VDVS_VERSION}, {"plugins", config.plugin_dir}, {"mounts", config.mount_root}});
    if (config.docker_socket.empty()) return;
    auto compare = [&manager] { manager.reconcile(); };
    engine_watch = make_engine_watch(loop, config.docker_socket, {compare, compare});
  };
  std::thread opener([&] {
    ::pthread_setname_np(::pthread_self(), "open");
    service = open_service(config, loop);
    boost::asio::post(loop, begin);
  });

  std::thread drainer;
  boost::asio::signal_set signals(loop, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code& error, int signal) {
    if (error) return;
    log::info("stopping; mounts stay", {{"signal", signal}});
    server->stop();
    engine_watch.reset();
    auto timer = std::make_shared<boost::asio::steady_timer>(loop, kDrainTime);  // lives until it fires or the loop ends
    timer->async_wait([timer](const boost::system::error_code& late) {
      if (!late) exit_without_the_rest();
    });
    drainer = std::thread([&] {
      ::pthread_setname_np(::pthread_self(), "drain");
      opener.join();
      if (service) (*service)->manager->drain();
      boost::asio::post(loop, [&] { loop.stop(); });
    });
  });

  loop.run();
  if (drainer.joinable()) drainer.join();
  if (opener.joinable()) opener.join();
  engine_watch.reset();
  if (!service) return std::unexpected(std::move(service).error());
  return {};
}

}  // namespace
}  // namespace vdvs::mountd

int main(int argc, char** argv) {
  using namespace vdvs;
  // Few arenas: the pool's threads allocate little, and an arena each would cost more memory than all they hold.
  constexpr int kMallocArenas = 2;
  ::mallopt(M_ARENA_MAX, kMallocArenas);
  mountd::ParsedArguments parsed = mountd::parse_arguments(argc, argv);
  if (parsed.exit_status) {
    std::fputs(parsed.message.c_str(), *parsed.exit_status == 0 ? stdout : stderr);
    return *parsed.exit_status;
  }
  if (auto set_up = base::log::set_up(parsed.config.log); !set_up) {
    std::fprintf(stderr, "mountd: %s\n", set_up.error().text().c_str());
    return 1;
  }
  for (const std::string& note : parsed.notes) base::log::info(note);
  ::signal(SIGPIPE, SIG_IGN);
  if (auto served = mountd::serve(parsed.config); !served) {
    base::log::error("cannot serve", {{"cause", served.error().text()}});
    return 1;
  }
  base::log::info("stopped");
  return 0;
}
