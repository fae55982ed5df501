// The one channel there is, over any stream of Boost.Asio's.
//
// The channel's owner holds StreamChannel; what the loop's operations hold is its core, so that an owner may
// let go at any time, in a handler too. A core is
//   open     reads and writes
//   ended    the peer will send no more (it has closed, or only its sending side): writes still go out
//   broken   closed here, reset, timed out in a write, or not speaking our frames: everything fails
// Reading happens only while somebody asks, so a peer that sends too much is held up by its own socket.
#pragma once

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <list>
#include <optional>
#include <vector>

#include "esx-vmci/transport/connection.h"

namespace vdvs::esx {

/// Idle connections cost this much of read buffer; one in the middle of a long frame costs the second. Where
/// frames are bounded to less (a service's requests) that is less too: a guest may begin one on each of its
/// connections, and leave it.
inline constexpr std::size_t kSmallReadBytes = 2048;
inline constexpr std::size_t kLargeReadBytes = 64 * 1024;
inline constexpr std::size_t kReadsPerFrame = 8;

/// `Kind` says what differs: is_end(error), code_of(error), remedy_of(error), close(stream).
template <typename Stream, typename Kind>
class StreamCore : public std::enable_shared_from_this<StreamCore<Stream, Kind>> {
 public:
  using error_code = boost::system::error_code;

  StreamCore(boost::asio::io_context& loop, Stream stream, ConnectionInfo info)
      : loop_(loop),
        stream_(std::move(stream)),
        info_(std::move(info)),
        timer_(loop),
        decoder_(info_.max_frame_bytes),
        large_read_bytes_(
            std::clamp(info_.max_frame_bytes / kReadsPerFrame, kSmallReadBytes, kLargeReadBytes)),
        scratch_(kSmallReadBytes) {}

  const Peer& peer() const { return info_.peer; }

  void read(base::Deadline deadline, Channel::OnFrame handler) {
    VDVS_CHECK(!read_handler_);
    read_handler_ = std::move(handler);
    read_deadline_ = deadline;
    if (broken_) return answer_read_later(std::unexpected(*broken_));
    base::Result<std::optional<std::string>> frame = decoder_.next();
    if (!frame) return break_with(unreadable(std::move(frame).error()));
    if (*frame) return answer_read_later(std::move(**frame));
    if (ended_) return answer_read_later(std::unexpected(*ended_));
    watch(deadline);
    receive();
  }

  void write(std::string payload, base::Deadline deadline, Channel::OnSent handler) {
    if (broken_) return answer_write_later(std::move(handler), *broken_);
    base::Result<std::string> frame = encode_frame(payload, kMaxReplyBytes);
    if (!frame) return answer_write_later(std::move(handler), frame.error());
    queued_bytes_ += frame->size();
    queue_.push_back({std::move(*frame), deadline, std::move(handler)});
    if (queued_bytes_ > kMaxQueuedBytes) {
      return break_with(error(base::ErrorCode::kLimit, "write to",
                              fmt::format("more than {} bytes wait to be sent", kMaxQueuedBytes)));
    }
    watch(deadline);
    send();
  }

  void close() { break_with(error(base::ErrorCode::kUnavailable, "use", "it was closed here")); }

  /// The owner is gone: nobody is called any more.
  void release() {
    is_released_ = true;
    read_handler_ = nullptr;
    for (Outgoing& outgoing : queue_) outgoing.handler = nullptr;
    close();
  }

 private:
  struct Outgoing {
    std::string frame;
    base::Deadline deadline;
    Channel::OnSent handler;
  };

  base::Error error(base::ErrorCode code, std::string_view operation, std::string_view cause,
                    std::string remedy = {}) const {
    return base::Error(code, fmt::format("{} '{}': {}", operation, info_.name, cause), std::move(remedy));
  }

  base::Error unreadable(base::Error failure) const {
    return std::move(failure).within(fmt::format("read from '{}'", info_.name));
  }

  // ---- reading ----

  void receive() {
    if (is_receiving_) return;  // Of a read whose deadline has passed.
    is_receiving_ = true;
    stream_.async_read_some(boost::asio::buffer(scratch_),
                            [self = this->shared_from_this()](const error_code& failure, std::size_t count) {
                              self->on_received(failure, count);
                            });
  }

  void on_received(const error_code& failure, std::size_t count) {
    is_receiving_ = false;
    if (broken_) return;
    if (failure) return on_end(failure);
    decoder_.feed({scratch_.data(), count});
    const bool is_more_likely = count == scratch_.size();
    if (!read_handler_) return;
    base::Result<std::optional<std::string>> frame = decoder_.next();
    if (!frame) return break_with(unreadable(std::move(frame).error()));
    resize_scratch(!*frame && (is_more_likely || scratch_.size() == large_read_bytes_));
    if (!*frame) return receive();
    std::exchange(read_handler_, nullptr)(std::move(**frame));
  }

  void resize_scratch(bool is_large) {
    const std::size_t wanted = is_large ? large_read_bytes_ : kSmallReadBytes;
    if (scratch_.size() != wanted) scratch_ = std::vector<char>(wanted);
  }

  void on_end(const error_code& failure) {
    if (!Kind::is_end(failure))
      return break_with(
          error(Kind::code_of(failure), "read from", failure.message(), Kind::remedy_of(failure)));
    ended_ = error(base::ErrorCode::kUnavailable, "read from",
                   decoder_.is_between_frames() ? "the connection was closed"
                                                : "the connection was cut in the middle of a frame");
    if (read_handler_) std::exchange(read_handler_, nullptr)(std::unexpected(*ended_));
  }

  void answer_read_later(base::Result<std::string> answer) {
    boost::asio::post(loop_,
                      [self = this->shared_from_this(), handler = std::exchange(read_handler_, nullptr),
                       answer = std::move(answer)]() mutable {
                        if (!self->is_released_) handler(std::move(answer));
                      });
  }

  // ---- writing ----

  void send() {
    if (is_sending_ || queue_.empty()) return;
    is_sending_ = true;
    boost::asio::async_write(stream_, boost::asio::buffer(queue_.front().frame),
                             [self = this->shared_from_this()](const error_code& failure, std::size_t) {
                               self->on_sent(failure);
                             });
  }

  void on_sent(const error_code& failure) {
    is_sending_ = false;
    if (broken_) {
      if (is_answered_) queue_.clear();  // Else their handlers are still to be called.
      return;
    }
    if (failure)
      return break_with(
          error(Kind::code_of(failure), "write to", failure.message(), Kind::remedy_of(failure)));
    Channel::OnSent handler = std::move(queue_.front().handler);
    queued_bytes_ -= queue_.front().frame.size();
    queue_.pop_front();
    send();
    handler({});
  }

  void answer_write_later(Channel::OnSent handler, base::Error failure) {
    boost::asio::post(loop_, [self = this->shared_from_this(), handler = std::move(handler),
                              failure = std::move(failure)]() mutable {
      if (!self->is_released_) handler(std::unexpected(std::move(failure)));
    });
  }

  // ---- deadlines: the timer is only ever set earlier, so most requests do not touch it ----

  void watch(base::Deadline deadline) {
    if (deadline >= watched_until_) return;
    watched_until_ = deadline;
    timer_.expires_at(deadline);
    timer_.async_wait([weak = this->weak_from_this()](const error_code& failure) {
      if (failure) return;
      if (auto self = weak.lock()) self->on_timer();
    });
  }

  void on_timer() {
    watched_until_ = base::Deadline::max();
    if (broken_) return;
    base::Deadline next = base::Deadline::max();
    for (const Outgoing& outgoing : queue_) next = std::min(next, outgoing.deadline);
    if (base::has_passed(next)) {
      return break_with(
          error(base::ErrorCode::kTimeout, "write to", "the other side does not take what is sent"));
    }
    if (read_handler_ && base::has_passed(read_deadline_)) {
      std::exchange(read_handler_, nullptr)(
          std::unexpected(error(base::ErrorCode::kTimeout, "read from", "nothing came in time")));
    } else if (read_handler_) {
      next = std::min(next, read_deadline_);
    }
    if (!broken_) watch(next);
  }

  // ---- the end ----

  /// Closes, and gives `failure` to everybody who waits, from the loop.
  void break_with(base::Error failure) {
    if (broken_) return;
    broken_ = std::move(failure);
    timer_.cancel();
    Kind::close(stream_);
    info_.slot.reset();
    boost::asio::post(loop_, [self = this->shared_from_this()] { self->answer_all(); });
  }

  void answer_all() {
    is_answered_ = true;
    if (read_handler_) std::exchange(read_handler_, nullptr)(std::unexpected(*broken_));
    std::vector<Channel::OnSent> handlers;
    for (Outgoing& outgoing : queue_) handlers.push_back(std::exchange(outgoing.handler, nullptr));
    if (!is_sending_) queue_.clear();  // Else its frame is still being read from.
    for (Channel::OnSent& handler : handlers) {
      if (handler && !is_released_) handler(std::unexpected(*broken_));
    }
  }

  boost::asio::io_context& loop_;
  Stream stream_;
  ConnectionInfo info_;
  boost::asio::steady_timer timer_;
  base::Deadline watched_until_ = base::Deadline::max();
  FrameDecoder decoder_;
  const std::size_t large_read_bytes_;
  std::vector<char> scratch_;
  Channel::OnFrame read_handler_;
  base::Deadline read_deadline_ = base::Deadline::max();
  std::list<Outgoing> queue_;
  std::size_t queued_bytes_ = 0;
  std::optional<base::Error> ended_;
  std::optional<base::Error> broken_;
  bool is_receiving_ = false;
  bool is_sending_ = false;
  bool is_answered_ = false;  ///< Of a broken core: everybody who waited has been told.
  bool is_released_ = false;
};

template <typename Stream, typename Kind>
class StreamChannel : public Channel {
 public:
  StreamChannel(boost::asio::io_context& loop, Stream stream, ConnectionInfo info)
      : core_(std::make_shared<StreamCore<Stream, Kind>>(loop, std::move(stream), std::move(info))) {}
  ~StreamChannel() override { core_->release(); }

  const Peer& peer() const override { return core_->peer(); }
  void read(base::Deadline deadline, OnFrame handler) override { core_->read(deadline, std::move(handler)); }
  void write(std::string payload, base::Deadline deadline, OnSent handler) override {
    core_->write(std::move(payload), deadline, std::move(handler));
  }
  void close() override { core_->close(); }

 private:
  std::shared_ptr<StreamCore<Stream, Kind>> core_;  // Shared with the operations that the loop has of it.
};

}  // namespace vdvs::esx
