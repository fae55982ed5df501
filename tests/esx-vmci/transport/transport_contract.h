// What every transport promises, as tests over a factory of endpoints. transport_test.cc runs them over unix
// and tcp; transport_vsock_test.cc over vsock, in the kernel's loopback (CID 1):
//
//   modprobe vsock_loopback && ./transport_vsock_test
#pragma once

#include "tests/esx-vmci/transport/transport_fixture.h"

namespace vdvs::esx::test {

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
      served_.back()->write(std::move(*frame), soon(),
                            [&](base::Result<void> sent) { echoed += sent ? 1 : 0; });
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
