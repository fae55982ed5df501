#include "esx-vmci/service/admin_server.h"

#include <boost/asio/post.hpp>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "esx-vmci/admin/asker.h"
#include "esx-vmci/service/fair_queue.h"
#include "esx-vmci/service/log_limiter.h"

namespace vdvs::esx {
namespace {

constexpr std::size_t kThreads = 2;
constexpr std::size_t kMaxWaiting = 64;
constexpr std::chrono::seconds kRequestTime{10};  ///< To send a request, or to take its reply.

class UnixAdminServer final : public AdminServer {
 public:
  UnixAdminServer(boost::asio::io_context& loop, std::unique_ptr<Listener> listener, Admin& admin)
      : loop_(loop),
        admin_(admin),
        listener_(std::move(listener)),
        pool_("admin",
              {.threads = kThreads, .max_running_per_key = kThreads, .max_waiting_per_key = kMaxWaiting}) {}

  ~UnixAdminServer() override { stop(); }

  void start() override {
    listener_->start([this](std::unique_ptr<Channel> channel) { accept(std::move(channel)); });
  }

  void stop() override {
    listener_->stop();
    for (auto& [id, channel] : channels_) channel->close();
    channels_.clear();
  }

 private:
  using ChannelId = std::uint64_t;

  /// `work` runs while this server and the connection are there.
  auto on_channel(ChannelId id, auto work) {
    return [this, alive = std::weak_ptr(alive_), id, work = std::move(work)](auto&&... results) mutable {
      if (alive.expired()) return;
      const auto found = channels_.find(id);
      if (found != channels_.end()) work(*found->second, std::forward<decltype(results)>(results)...);
    };
  }

  void accept(std::unique_ptr<Channel> channel) {
    const Peer& peer = channel->peer();
    if (peer.kind != Peer::Kind::kUnix || peer.uid != 0) {
      if (const auto line = refused_log_.next()) {
        base::log::warn("refused an administrator who is not root",
                        {{"peer", peer.text()}, {"not_shown", line->not_shown}});
      }
      return channel->close();
    }
    const ChannelId id = next_id_++;
    Channel& live = *(channels_[id] = std::move(channel));
    live.read(base::deadline_in(kRequestTime),
              on_channel(id, [this, id](Channel& same, base::Result<std::string> frame) {
                if (!frame || !post(id, same, std::move(*frame))) close(id);
              }));
  }

  bool post(ChannelId id, const Channel& channel, std::string payload) {
    auto answer = [this, id, payload, peer = channel.peer()] {
      std::string reply = answer_admin_request(admin_, payload, describe_asker(peer.uid, peer.pid));
      boost::asio::post(loop_, on_channel(id, [this, id, reply = std::move(reply)](Channel& live) mutable {
                          live.write(
                              std::move(reply), base::deadline_in(kRequestTime),
                              on_channel(id, [this, id](Channel&, const base::Result<void>&) { close(id); }));
                        }));
    };
    const auto posted = pool_.post({.key = "admin", .bytes = payload.size(), .run = std::move(answer)});
    return posted.has_value();
  }

  void close(ChannelId id) {
    const auto found = channels_.find(id);
    if (found == channels_.end()) return;
    found->second->close();
    channels_.erase(found);
  }

  boost::asio::io_context& loop_;
  Admin& admin_;
  const std::unique_ptr<Listener> listener_;
  std::unordered_map<ChannelId, std::unique_ptr<Channel>> channels_;
  ChannelId next_id_ = 1;
  LogLimiter refused_log_;
  /// Shared, so that a handler can see that its server is gone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  FairQueue pool_;  ///< Last: it ends first, while all that its work uses is still there.
};

}  // namespace

std::unique_ptr<AdminServer> make_admin_server(boost::asio::io_context& loop,
                                               std::unique_ptr<Listener> listener, Admin& admin) {
  return std::make_unique<UnixAdminServer>(loop, std::move(listener), admin);
}

}  // namespace vdvs::esx
