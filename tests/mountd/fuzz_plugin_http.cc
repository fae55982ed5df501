// Raw bytes into the server's session over a socketpair. The input is cut in two, so that the session also
// sees what is left over. Nothing may crash, every connection must end, and what comes back must begin as
// HTTP.
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/log.h"
#include "mountd/plugin_server.h"

namespace {

using namespace vdvs;
using namespace std::chrono_literals;

class EchoHandler : public mountd::PluginHandler {
 public:
  void handle(mountd::PluginRequest request, mountd::Respond respond) override {
    respond(mountd::MountPoint{request.name});
  }
};

void send(const base::UniqueFd& fd, const std::uint8_t* data, std::size_t size) {
  if (size > 0) VDVS_CHECK(::send(fd.get(), data, size, MSG_NOSIGNAL | MSG_DONTWAIT) != 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMaxInput = 64 * 1024;  // Fits a socket's buffer.
  if (size == 0 || size > kMaxInput) return 0;
  static const bool is_quiet = [] { return base::log::set_up({.path = "/dev/null"}).has_value(); }();
  VDVS_CHECK(is_quiet);
  boost::asio::io_context loop(1);
  EchoHandler handler;
  auto server = mountd::make_plugin_server(
      loop, {}, handler, {.max_header_bytes = 512, .max_body_bytes = 1024, .request_read_time = 1h});
  int ends[2];
  VDVS_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  base::UniqueFd ours(ends[0]);
  server->serve_connection(base::UniqueFd(ends[1]), "vsphere");
  const std::size_t cut = data[0] * size / 256;
  send(ours, data, cut);
  loop.poll();
  loop.restart();
  send(ours, data + cut, size - cut);
  ::shutdown(ours.get(), SHUT_WR);
  std::string reply;
  for (;;) {
    loop.poll();
    loop.restart();
    char buffer[65536];
    const ssize_t got = ::recv(ours.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) break;
    if (got > 0) reply.append(buffer, static_cast<std::size_t>(got));
  }
  VDVS_CHECK(reply.empty() || reply.starts_with("HTTP/1."));
  return 0;
}
