// A listener, the channels that it accepted, and their peers, for the tests of every transport. The "raw"
// peer is a blocking one on a thread of its own that knows nothing of our channels.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "esx-vmci/protocol/frame.h"
#include "esx-vmci/transport/channel.h"

namespace vdvs::esx::test {

inline constexpr std::chrono::seconds kPatience{60};

inline base::Deadline soon() { return base::deadline_in(kPatience); }
/// A deadline whose passing is what is tested.
inline base::Deadline shortly() { return base::deadline_in(std::chrono::milliseconds(100)); }

/// A blocking byte stream to the service. Thread: one.
class RawStream {
 public:
  virtual ~RawStream() = default;
  /// False where the service has gone.
  virtual bool send(std::string_view bytes) = 0;
  /// Exactly so many bytes, or fewer where the stream ends before.
  virtual std::string receive(std::size_t count) = 0;
  virtual void end_sending() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  /// A fresh one.
  virtual Endpoint listening() = 0;
  /// Where a client finds what listens at `bound`.
  virtual Endpoint reached_at(Endpoint bound) { return bound; }
  virtual TlsFiles service_files() { return {}; }
  virtual TlsFiles guest_files() { return {}; }
  /// nullptr where it cannot be made.
  virtual std::unique_ptr<RawStream> raw(const Endpoint& endpoint) = 0;
  virtual void expect_peer(const Peer& peer) = 0;
  /// How many connections it can have at once.
  virtual std::size_t max_idle() const { return 1000; }
};

struct MakeTransport {
  std::string name;
  std::function<std::unique_ptr<Transport>()> make;
};
inline void PrintTo(const MakeTransport& transport, std::ostream* out) { *out << transport.name; }

template <typename T>
MakeTransport transport_named(std::string name) {
  return {std::move(name), [] { return std::make_unique<T>(); }};
}

class TransportContract : public ::testing::TestWithParam<MakeTransport> {
 protected:
  TransportContract() : transport_(GetParam().make()) {}

  void SetUp() override { listen({}); }

  void listen(const TransportLimits& limits) {
    listener_.reset();
    served_.clear();
    auto listener = make_listener(loop_, transport_->listening(), transport_->service_files(), limits);
    if (!listener && listener.error().code() == base::ErrorCode::kUnsupported)
      GTEST_SKIP() << "limit of the machine: " << listener.error().text();
    ASSERT_TRUE(listener) << listener.error().text();
    listener_ = std::move(*listener);
    listener_->start([this](std::unique_ptr<Channel> channel) { served_.push_back(std::move(channel)); });
    endpoint_ = transport_->reached_at(listener_->endpoint());
  }

  /// Runs the loop until `is_done`.
  bool run_until(const std::function<bool()>& is_done) {
    const base::Deadline deadline = soon();
    while (!is_done()) {
      loop_.restart();
      if (base::has_passed(deadline)) return false;
      loop_.run_one_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  base::Result<std::unique_ptr<Channel>> try_connect(const TlsFiles& files) {
    std::optional<base::Result<std::unique_ptr<Channel>>> result;
    connect(loop_, endpoint_, files, soon(),
            [&](base::Result<std::unique_ptr<Channel>> channel) { result = std::move(channel); });
    EXPECT_FALSE(result) << "the handler was called from within";
    EXPECT_TRUE(run_until([&] { return result.has_value(); }));
    return std::move(*result);
  }

  /// A client's end; the service's is served_.back().
  std::unique_ptr<Channel> make_pair() {
    const std::size_t before = served_.size();
    auto client = try_connect(transport_->guest_files());
    EXPECT_TRUE(client) << client.error().text();
    EXPECT_TRUE(run_until([&] { return served_.size() > before; }));
    return std::move(*client);
  }

  base::Result<std::string> read(Channel& channel, base::Deadline deadline = soon()) {
    std::optional<base::Result<std::string>> result;
    channel.read(deadline, [&](base::Result<std::string> frame) { result = std::move(frame); });
    EXPECT_FALSE(result) << "the handler was called from within";
    EXPECT_TRUE(run_until([&] { return result.has_value(); }));
    return std::move(*result);
  }

  base::Result<void> write(Channel& channel, std::string payload, base::Deadline deadline = soon()) {
    std::optional<base::Result<void>> result;
    channel.write(std::move(payload), deadline, [&](base::Result<void> sent) { result = std::move(sent); });
    EXPECT_FALSE(result) << "the handler was called from within";
    EXPECT_TRUE(run_until([&] { return result.has_value(); }));
    return std::move(*result);
  }

  /// Runs `script` on a thread of its own, and the loop, until `is_done` and the script's end.
  void with_raw(const std::function<void(RawStream&)>& script, const std::function<bool()>& is_done) {
    std::atomic<bool> has_ended = false;
    std::thread thread([&] {
      if (auto stream = transport_->raw(endpoint_)) {
        script(*stream);
      } else {
        ADD_FAILURE() << "no raw connection to " << endpoint_.text();
      }
      has_ended = true;
    });
    EXPECT_TRUE(run_until([&] { return is_done() && has_ended; }));
    if (!has_ended) served_.clear();  // So that the script ends.
    thread.join();
  }

  /// What the service reads first from a raw peer.
  base::Result<std::string> first_read_from(const std::function<void(RawStream&)>& script) {
    std::optional<base::Result<std::string>> result;
    bool is_reading = false;
    with_raw(script, [&] {
      if (!is_reading && !served_.empty()) {
        is_reading = true;
        served_.back()->read(soon(), [&](base::Result<std::string> frame) { result = std::move(frame); });
      }
      return result.has_value();
    });
    if (!result) return base::fail(base::ErrorCode::kInternal, "nothing was read");
    return std::move(*result);
  }

  static std::string frame_of(std::string_view payload) { return *encode_frame(payload, kMaxReplyBytes); }

  const std::unique_ptr<Transport> transport_;
  boost::asio::io_context loop_{1};
  std::unique_ptr<Listener> listener_;
  std::vector<std::unique_ptr<Channel>> served_;
  Endpoint endpoint_;
};

#define EXPECT_CODE(result, expected)                                              \
  do {                                                                             \
    const auto& vdvs_result = (result);                                            \
    ASSERT_FALSE(vdvs_result.has_value());                                         \
    EXPECT_EQ(vdvs_result.error().code(), expected) << vdvs_result.error().text(); \
  } while (false)

using base::ErrorCode;

}  // namespace vdvs::esx::test
