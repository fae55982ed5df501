// Shows what mountd's client of the Docker engine sees: `engine_probe SOCKET mounts` prints one JSON object
// for each volume in a running container, `engine_probe SOCKET watch` a line for each event until it is
// ended.
#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/log.h"
#include "mountd/engine.h"

namespace vdvs::mountd {
namespace {

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

int show_mounts(const std::string& socket) {
  constexpr std::chrono::seconds kTime{30};
  auto mounts = make_docker_engine(socket)->container_mounts(base::deadline_in(kTime));
  if (!mounts) {
    std::fprintf(stderr, "engine_probe: %s\n", mounts.error().text().c_str());
    return 1;
  }
  for (const ContainerMount& mount : *mounts) {
    if (!mount.is_running) continue;
    say(boost::json::serialize(boost::json::object{{"volume", mount.volume},
                                                   {"driver", mount.driver},
                                                   {"source", mount.source},
                                                   {"container", mount.container}}));
  }
  return 0;
}

int watch(const std::string& socket) {
  boost::asio::io_context loop(1);
  auto engine_watch = make_engine_watch(
      loop, socket,
      {.on_connected = [] { say("connected"); }, .on_container_end = [] { say("container ended"); }});
  loop.run();
  return 0;
}

}  // namespace
}  // namespace vdvs::mountd

int main(int argc, char** argv) {
  // Standard output is for what was seen.
  if (!vdvs::base::log::set_up({.level = vdvs::base::log::Level::kError})) return 1;
  const std::string_view what = argc == 3 ? argv[2] : "";
  if (what == "mounts") return vdvs::mountd::show_mounts(argv[1]);
  if (what == "watch") return vdvs::mountd::watch(argv[1]);
  std::fprintf(stderr, "usage: engine_probe SOCKET mounts|watch\n");
  return 2;
}
