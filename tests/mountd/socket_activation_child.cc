// Started by listeners_test as systemd would start mountd: takes over the sockets, says what it got, and
// serves until a List has been answered. Arguments: the folder for sockets that are not inherited, and the
// drivers.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdio>
#include <cstdlib>

#include "mountd/plugin_server.h"

namespace {

using namespace vdvs;

class StopAtList : public mountd::PluginHandler {
 public:
  explicit StopAtList(boost::asio::io_context& loop) : loop_(loop) {}
  void handle(mountd::PluginRequest request, mountd::Respond respond) override {
    respond(mountd::VolumeList{{{.name = request.driver}}});
    boost::asio::post(loop_, [this] { server->stop(); });
  }
  std::unique_ptr<mountd::PluginServer> server;

 private:
  boost::asio::io_context& loop_;
};

}  // namespace

int main(int argc, char** argv) {
  auto listeners = mountd::open_listeners({.folder = argv[1], .drivers = {argv + 2, argv + argc}});
  if (!listeners) {
    std::printf("%s\n", listeners.error().text().c_str());
    return 1;
  }
  for (const mountd::Listener& listener : *listeners) {
    std::printf("%s %s\n", listener.driver.c_str(), listener.file.path().empty() ? "inherited" : "made");
  }
  if (std::getenv("LISTEN_FDS") != nullptr) std::printf("LISTEN_FDS is still set\n");
  std::fflush(stdout);
  boost::asio::io_context loop(1);
  StopAtList handler(loop);
  handler.server = mountd::make_plugin_server(loop, std::move(*listeners), handler);
  loop.run();
  return 0;
}
