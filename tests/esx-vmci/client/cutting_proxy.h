// Stands between a client and a service over unix sockets, and cuts its first connection after so many bytes
// of one direction.
#pragma once

#include <array>

#include "tests/esx-vmci/client/served.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::testing {

enum class Direction { kToService, kToClient };

struct Cut {
  Direction direction = Direction::kToService;
  std::size_t after_bytes = SIZE_MAX;
};

/// Owns: a thread for each connection. One that is cut ends on both sides at once.
class CuttingProxy {
 public:
  CuttingProxy(const std::string& path, std::string service_path, Cut cut)
      : service_path_(std::move(service_path)),
        cut_(cut),
        front_(path, [this](RawConnection& client, std::size_t index) { carry(client.fd(), index == 0); }) {}

  Endpoint endpoint() const { return front_.endpoint(); }
  std::size_t connections() const { return front_.accepted(); }
  /// By the first connection.
  std::size_t carried(Direction direction) const { return carried_[static_cast<std::size_t>(direction)]; }

 private:
  void carry(int client, bool is_first) {
    const base::UniqueFd service = test::connect_unix(service_path_);
    if (!service.is_open()) return;
    std::array<pollfd, 2> ends = {pollfd{client, POLLIN, 0}, pollfd{service.get(), POLLIN, 0}};
    while (::poll(ends.data(), ends.size(), -1) > 0) {
      for (const Direction direction : {Direction::kToService, Direction::kToClient}) {
        const auto from = static_cast<std::size_t>(direction);
        if (ends[from].revents != 0 && !pass(ends[from].fd, ends[1 - from].fd, direction, is_first)) return;
      }
    }
  }

  /// False: the connection ends here.
  bool pass(int from, int to, Direction direction, bool is_first) {
    char buffer[4096];
    const ssize_t got = ::recv(from, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    auto count = static_cast<std::size_t>(got);
    std::atomic<std::size_t>& carried = carried_[static_cast<std::size_t>(direction)];
    const bool is_counted = is_first && direction == cut_.direction;
    if (is_counted) count = std::min(count, cut_.after_bytes - carried);
    if (!RawConnection(to).send_bytes({buffer, count})) return false;
    if (is_first) carried += count;
    return !is_counted || carried < cut_.after_bytes;
  }

  const std::string service_path_;
  const Cut cut_;
  std::array<std::atomic<std::size_t>, 2> carried_{};
  RawService front_;  // Last: its threads use the rest.
};

}  // namespace vdvs::esx::testing
