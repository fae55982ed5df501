// What every transport promises, as tests over a factory of endpoints. transport_test.cc runs them over unix
// and tcp; transport_vsock_test.cc over vsock, in the kernel's loopback (CID 1):
//
//   modprobe vsock_loopback && ./transport_vsock_test
//
// The "raw" peer is a blocking one on a thread of its own that knows nothing of our channels.
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

using MakeTransport = std::function<std::unique_ptr<Transport>()>;

class TransportContract : public ::testing::TestWithParam<MakeTransport> {
 protected:
  TransportContract() : transport_(GetParam()()) {}

  void SetUp() override {
    listen({});
  }

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

#define EXPECT_CODE(result, expected)                                                   \
  do {                                                                                  \
    const auto& vdvs_result = (result);                                                 \
    ASSERT_FALSE(vdvs_result.has_value());                                              \
    EXPECT_EQ(vdvs_result.error().code(), expected) << vdvs_result.error().text();      \
  } while (false)

using base::ErrorCode;

TEST_P(TransportContract, CarriesFramesBothWays) {
  auto client = make_pair();
  ASSERT_TRUE(write(*client, R"({"cmd":"list"})"));
  EXPECT_EQ(read(*served_.back()), R"({"cmd":"list"})");
  ASSERT_TRUE(write(*served_.back(), "null"));
  EXPECT_EQ(read(*client), "null");
}

TEST_P(TransportContract, ProvesWhoCalls) {
  auto client = make_pair();
  transport_->expect_peer(served_.back()->peer());
}

TEST_P(TransportContract, TakesBytesHoweverTheyArrive) {
  const auto first = first_read_from([](RawStream& raw) {
    for (const char byte : frame_of("one byte at a time")) raw.send({&byte, 1});
  });
  EXPECT_EQ(first, "one byte at a time");
}

TEST_P(TransportContract, TakesManyFramesFromOnePiece) {
  std::vector<std::string> seen;
  std::function<void()> read_next = [&] {
    served_.back()->read(soon(), [&](base::Result<std::string> frame) {
      if (!frame) return;
      seen.push_back(*frame);
      read_next();
    });
  };
  bool is_reading = false;
  with_raw(
      [](RawStream& raw) {
        std::string bytes;
        for (int i = 0; i < 1000; ++i) bytes += frame_of(std::to_string(i));
        raw.send(bytes);
      },
      [&] {
        if (!is_reading && !served_.empty()) {
          is_reading = true;
          read_next();
        }
        return seen.size() == 1000;
      });
  for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], std::to_string(i));
}

TEST_P(TransportContract, CarriesTheLongestFrame) {
  auto client = make_pair();
  const std::string longest(kMaxReplyBytes - kFrameHeaderBytes - 1, 'x');
  bool is_sent = false;
  served_.back()->write(longest, soon(), [&](base::Result<void> sent) { is_sent = sent.has_value(); });
  const auto frame = read(*client);
  ASSERT_TRUE(frame) << frame.error().text();
  EXPECT_TRUE(*frame == longest);
  EXPECT_TRUE(run_until([&] { return is_sent; }));
}

TEST_P(TransportContract, AFrameThatIsTooLongToSendFailsAloneAndTheChannelGoesOn) {
  auto client = make_pair();
  EXPECT_CODE(write(*client, std::string(kMaxReplyBytes + 1, 'x')), ErrorCode::kLimit);
  ASSERT_TRUE(write(*client, "short"));
  EXPECT_EQ(read(*served_.back()), "short");
}

TEST_P(TransportContract, ARequestBeyondTheBoundClosesTheChannel) {
  auto client = make_pair();
  client->write(std::string(TransportLimits{}.max_request_bytes + 1, 'x'), soon(), [](base::Result<void>) {});
  EXPECT_CODE(read(*served_.back()), ErrorCode::kLimit);
  EXPECT_CODE(write(*served_.back(), "null"), ErrorCode::kLimit);
  EXPECT_CODE(read(*client), ErrorCode::kUnavailable);
}

TEST_P(TransportContract, GarbageClosesTheChannel) {
  EXPECT_CODE(first_read_from([](RawStream& raw) {
                raw.send("GET / HTTP/1.1\r\n\r\n");
                EXPECT_EQ(raw.receive(1), "");
              }),
              ErrorCode::kInvalid);
}

TEST_P(TransportContract, ALengthBeyondTheBoundIsRefusedBeforeItsBytesCome) {
  EXPECT_CODE(first_read_from([](RawStream& raw) {
                using std::string_view_literals::operator""sv;
                raw.send("\xef\xbe\xad\x0b\xff\xff\xff\x7f"sv);
                EXPECT_EQ(raw.receive(1), "");
              }),
              ErrorCode::kLimit);
}

TEST_P(TransportContract, ACutInTheMiddleOfAFrameSaysSo) {
  const auto first = first_read_from([](RawStream& raw) { raw.send(frame_of("never whole").substr(0, 12)); });
  EXPECT_CODE(first, ErrorCode::kUnavailable);
  EXPECT_THAT(first.error().message(), ::testing::HasSubstr("in the middle of a frame"));
}

TEST_P(TransportContract, ACloseBetweenFramesSaysSo) {
  auto client = make_pair();
  client->close();
  const auto frame = read(*served_.back());
  EXPECT_CODE(frame, ErrorCode::kUnavailable);
  EXPECT_THAT(frame.error().message(), ::testing::HasSubstr("the connection was closed"));
}

TEST_P(TransportContract, APeerThatHasEndedSendingStillGetsItsReply) {
  std::string got;
  const std::string reply = frame_of("null");
  bool is_written = false;
  bool is_reading = false;
  std::optional<base::Result<std::string>> second;
  with_raw(
      [&](RawStream& raw) {
        raw.send(frame_of("x"));
        raw.end_sending();
        got = raw.receive(reply.size());
      },
      [&] {
        if (is_reading || served_.empty()) return is_written;
        is_reading = true;
        served_.back()->read(soon(), [&](base::Result<std::string> frame) {
          EXPECT_EQ(frame, "x");
          served_.back()->read(soon(), [&](base::Result<std::string> end) {
            second = std::move(end);
            served_.back()->write("null", soon(), [&](base::Result<void> sent) {
              EXPECT_TRUE(sent);
              is_written = true;
            });
          });
        });
        return is_written;
      });
  EXPECT_EQ(got, reply);
  ASSERT_TRUE(second);
  EXPECT_CODE(*second, ErrorCode::kUnavailable);
}

TEST_P(TransportContract, ASilentPeerIsWaitedForUntilTheDeadlineAndLosesNothing) {
  auto client = make_pair();
  EXPECT_CODE(read(*served_.back(), shortly()), ErrorCode::kTimeout);
  ASSERT_TRUE(write(*client, "late"));
  EXPECT_EQ(read(*served_.back()), "late");
}

TEST_P(TransportContract, APeerThatDoesNotReadIsWaitedForUntilTheDeadline) {
  auto client = make_pair();
  EXPECT_CODE(write(*served_.back(), std::string(15 * 1024 * 1024, 'x'), shortly()), ErrorCode::kTimeout);
  EXPECT_CODE(read(*served_.back()), ErrorCode::kTimeout);  // It is broken, and stays so.
}

TEST_P(TransportContract, AWriterFasterThanItsReaderIsBounded) {
  auto client = make_pair();
  const std::string megabyte(1024 * 1024, 'x');
  std::vector<ErrorCode> failures;
  std::size_t asked = 0;
  for (; asked < 64; ++asked) {
    served_.back()->write(megabyte, soon(), [&](base::Result<void> sent) {
      if (!sent) failures.push_back(sent.error().code());
    });
  }
  EXPECT_TRUE(run_until([&] { return failures.size() >= asked - kMaxQueuedBytes / megabyte.size(); }));
  EXPECT_THAT(failures, ::testing::Each(ErrorCode::kLimit));
}

TEST_P(TransportContract, CloseAnswersWhoWaits) {
  auto client = make_pair();
  std::optional<ErrorCode> of_read;
  client->read(soon(), [&](base::Result<std::string> frame) { of_read = frame.error().code(); });
  client->close();
  EXPECT_FALSE(of_read) << "the handler was called from within";
  EXPECT_TRUE(run_until([&] { return of_read.has_value(); }));
  EXPECT_EQ(of_read, ErrorCode::kUnavailable);
  EXPECT_CODE(write(*client, "x"), ErrorCode::kUnavailable);
  EXPECT_CODE(read(*client), ErrorCode::kUnavailable);
}

TEST_P(TransportContract, MayBeClosedInItsHandler) {
  auto client = make_pair();
  bool is_closed = false;
  served_.back()->write("null", soon(), [&](base::Result<void> sent) {
    EXPECT_TRUE(sent);
    served_.back()->close();
    is_closed = true;
  });
  EXPECT_EQ(read(*client), "null");
  EXPECT_CODE(read(*client), ErrorCode::kUnavailable);
  EXPECT_TRUE(is_closed);
}

TEST_P(TransportContract, MayBeDestroyedInItsHandlerWhileMoreIsQueued) {
  auto client = make_pair();
  bool is_gone = false;
  for (int i = 0; i < 3; ++i) {
    served_.back()->write("null", soon(), [&](base::Result<void>) {
      ASSERT_FALSE(is_gone) << "a handler of a destroyed channel was called";
      served_.clear();
      is_gone = true;
    });
  }
  served_.back()->read(soon(), [&](base::Result<std::string>) { ADD_FAILURE() << "called after its end"; });
  EXPECT_TRUE(run_until([&] { return is_gone; }));
  while (read(*client)) {
  }
}

TEST_P(TransportContract, ADestroyedChannelCallsNobody) {
  auto client = make_pair();
  client->read(soon(), [](base::Result<std::string>) { ADD_FAILURE() << "called after its end"; });
  client->write("x", soon(), [](base::Result<void>) { ADD_FAILURE() << "called after its end"; });
  client.reset();
  while (read(*served_.back())) {
  }
}

TEST_P(TransportContract, ManyMessagesCrossInOrder) {
  constexpr int kMessages = 5000;
  auto client = make_pair();
  int echoed = 0;
  int received = 0;
  std::function<void()> echo = [&] {
    served_.back()->read(soon(), [&](base::Result<std::string> frame) {
      if (!frame) return;
      served_.back()->write(std::move(*frame), soon(), [&](base::Result<void> sent) { echoed += sent ? 1 : 0; });
      echo();
    });
  };
  std::function<void()> receive = [&] {
    client->read(soon(), [&](base::Result<std::string> frame) {
      if (!frame) return;
      EXPECT_EQ(*frame, std::to_string(received));
      ++received;
      receive();
    });
  };
  echo();
  receive();
  for (int i = 0; i < kMessages; ++i) client->write(std::to_string(i), soon(), [](base::Result<void>) {});
  EXPECT_TRUE(run_until([&] { return received == kMessages && echoed == kMessages; }));
}

TEST_P(TransportContract, AThousandIdleConnectionsDisturbNobody) {
  const std::size_t kIdle = transport_->max_idle();
  std::vector<std::unique_ptr<Channel>> clients;
  for (std::size_t i = 0; i < kIdle; ++i) clients.push_back(make_pair());
  int waiting = 0;
  for (auto& channel : served_) {
    ++waiting;
    channel->read(soon(), [&](base::Result<std::string>) { --waiting; });
  }
  auto client = make_pair();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(write(*client, "ping"));
    ASSERT_EQ(read(*served_.back()), "ping");
  }
  EXPECT_EQ(waiting, static_cast<int>(kIdle));
  EXPECT_EQ(listener_->counters().accepted, kIdle + 1);
}

TEST_P(TransportContract, AConnectionBeyondTheLimitIsClosedAndCounted) {
  TransportLimits limits;
  limits.max_connections = 2;
  listen(limits);
  auto first = make_pair();
  auto second = make_pair();
  auto third = try_connect(transport_->guest_files());
  if (third) EXPECT_CODE(read(**third), ErrorCode::kUnavailable);
  EXPECT_EQ(listener_->counters().refused_limit, 1);
  served_.clear();
  auto fourth = make_pair();
  EXPECT_EQ(listener_->counters().accepted, 3);
}

TEST_P(TransportContract, AConnectionBeyondAPeersShareIsClosedAndCounted) {
  TransportLimits limits;
  limits.max_connections_per_peer = 1;
  listen(limits);
  auto first = make_pair();
  auto second = try_connect(transport_->guest_files());
  if (second) EXPECT_CODE(read(**second), ErrorCode::kUnavailable);
  EXPECT_EQ(listener_->counters().refused_limit, 1);
}

TEST_P(TransportContract, AStoppedListenerAcceptsNobodyAndKeepsWhatIsOpen) {
  auto client = make_pair();
  listener_->stop();
  EXPECT_CODE(try_connect(transport_->guest_files()), ErrorCode::kUnavailable);
  ASSERT_TRUE(write(*client, "still here"));
  EXPECT_EQ(read(*served_.back()), "still here");
}

TEST_P(TransportContract, TwoListenersAtOneEndpointAreRefused) {
  EXPECT_CODE(make_listener(loop_, listener_->endpoint(), transport_->service_files(), {}),
              ErrorCode::kExists);
}

}  // namespace vdvs::esx::test
