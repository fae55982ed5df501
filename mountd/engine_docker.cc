// The Docker engine's own API over its unix socket: HTTP/1.1 by Boost.Beast.
//
// Two requests matter. `GET /containers/json?all=1` is the truth about which containers use a volume, and which
// of them run. `GET /events` never ends: the engine sends its head at once and then one JSON line for each
// container that dies; when that connection ends, the engine has gone.
//
// The engine says `die` while it still has the container's lock: it then sends our Unmounts, and only after
// them corrects its list (moby, daemon/monitor.go, handleContainerExit). Whoever asks for the list at once
// sees the dead container running. So each event is followed by `GET /containers/<id>/json`, which takes that
// lock: its answer, whatever it is, comes after the correction.
//
// Paths carry no API version: each engine takes them as the version it knows best, and what is read here has
// been there since 1.24.
#include <algorithm>
#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "mountd/engine.h"
#include "mountd/mount_holders.h"

namespace vdvs::mountd {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace log = base::log;
using base::ErrorCode;
using Protocol = asio::local::stream_protocol;

/// An engine with 10,000 containers and long labels stays below this.
constexpr std::size_t kMaxReplyBytes = std::size_t{64} << 20;
constexpr std::uint32_t kMaxReplyHeaderBytes = 16 * 1024;
constexpr std::size_t kPieceBytes = 16 * 1024;

constexpr std::string_view kAllContainers = "/containers/json?all=1";
/// filters={"type":["container"],"event":["die"]}
constexpr std::string_view kContainerEnds =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22die%22%5D%7D";
constexpr std::string_view kVolumes = "/volumes";

/// One event: its labels are what may be long.
constexpr std::size_t kMaxEventBytes = 256 * 1024;
constexpr std::size_t kMaxContainerIdBytes = 128;
/// How many containers that have died are asked about side by side; the others wait, up to kMaxEndsWaiting.
constexpr std::size_t kMaxEndsAsked = 8;
constexpr std::size_t kMaxEndsWaiting = 4096;
/// The engine gives our Unmount 60 s.
constexpr std::chrono::milliseconds kEndTime{90'000};

constexpr std::chrono::milliseconds kFirstPause{200};
constexpr std::chrono::milliseconds kLongestPause{30'000};
/// An engine that goes away sooner than this after it answered is in a crash loop: the pauses go on growing.
constexpr std::chrono::milliseconds kShortLife{1000};
/// The engine asks all its plugins before it answers, and waits 15 s for each socket that is dead.
constexpr std::chrono::milliseconds kVolumesTime{60'000};

std::unexpected<base::Error> transport_error(const std::string& path, std::string_view step,
                                             beast::error_code error) {
  if (error == beast::error::timeout) {
    return base::fail(ErrorCode::kTimeout, "ask the Docker engine at '{}': {}: no answer in time", path,
                      step);
  }
  return base::fail(ErrorCode::kUnavailable, "ask the Docker engine at '{}': {}: {}", path, step,
                    error.message());
}

/// One GET on a connection of its own. Each call's `done` is called once, on the executor, never from within
/// the call. Handlers keep the object alive until they have run, hence the shared_ptr.
class EngineGet : public std::enable_shared_from_this<EngineGet> {
 public:
  using OnHead = std::function<void(base::Result<void>)>;
  using OnPiece = std::function<void(base::Result<std::string_view>)>;

  EngineGet(asio::io_context& loop, std::string path, std::string_view target, base::Deadline deadline)
      : stream_(loop), path_(std::move(path)), request_(http::verb::get, target, 11) {
    request_.set(http::field::host, "docker");
    request_.set(http::field::user_agent, "vdvs-mountd");
    parser_.header_limit(kMaxReplyHeaderBytes);
    parser_.body_limit(boost::none);
    stream_.expires_at(deadline);
  }

  /// Connects, asks, and reads the head of the reply. Errors: kUnavailable (also for any status but 200),
  /// kTimeout.
  void open(OnHead done) {
    if (path_.empty() || path_.size() >= sizeof(sockaddr_un::sun_path)) {
      asio::post(stream_.get_executor(), [self = shared_from_this(), done = std::move(done)] {
        done(base::fail(ErrorCode::kUnavailable,
                        "ask the Docker engine at '{}': a socket's path has 1 to {} bytes", self->path_,
                        sizeof(sockaddr_un::sun_path) - 1));
      });
      return;
    }
    stream_.async_connect(Protocol::endpoint(path_), [self = shared_from_this(), done = std::move(done)](
                                                         beast::error_code error) mutable {
      if (error) return done(transport_error(self->path_, "connect", error));
      self->send(std::move(done));
    });
  }

  /// The next bytes of the body; empty at its end. The view lives until the next call.
  void read_some(OnPiece done) {
    if (parser_.is_done()) {  // the engine keeps the connection open
      asio::post(stream_.get_executor(),
                 [self = shared_from_this(), done = std::move(done)] { done(std::string_view()); });
      return;
    }
    parser_.get().body() = {piece_.data(), piece_.size(), true};
    http::async_read_some(
        stream_, buffer_, parser_,
        [self = shared_from_this(), done = std::move(done)](beast::error_code error, std::size_t) mutable {
          if (error == http::error::need_buffer) error = {};
          if (error) return done(transport_error(self->path_, "read the reply", error));
          std::size_t got = self->piece_.size() - self->parser_.get().body().size;
          if (got > 0) return done(std::string_view(self->piece_.data(), got));
          self->read_some(std::move(done));  // what was read was framing only
        });
  }

  /// Handlers that wait are called with an error.
  void close() { stream_.close(); }

 private:
  void send(OnHead done) {
    http::async_write(
        stream_, request_,
        [self = shared_from_this(), done = std::move(done)](beast::error_code error, std::size_t) mutable {
          if (error) return done(transport_error(self->path_, "send the request", error));
          self->read_head(std::move(done));
        });
  }

  void read_head(OnHead done) {
    http::async_read_header(
        stream_, buffer_, parser_,
        [self = shared_from_this(), done = std::move(done)](beast::error_code error, std::size_t) {
          if (error) return done(transport_error(self->path_, "read the reply", error));
          if (unsigned status = self->parser_.get().result_int(); status != 200) {
            return done(base::fail(ErrorCode::kUnavailable,
                                   "ask the Docker engine at '{}': it answered with HTTP {}", self->path_,
                                   status));
          }
          done({});
        });
  }

  beast::basic_stream<Protocol> stream_;
  const std::string path_;
  http::request<http::empty_body> request_;
  beast::flat_buffer buffer_{kMaxReplyHeaderBytes + kPieceBytes};
  http::response_parser<http::buffer_body> parser_;
  std::array<char, kPieceBytes> piece_;
};

/// Collects the whole body of a GET, up to kMaxReplyBytes.
class WholeBody {
 public:
  explicit WholeBody(std::shared_ptr<EngineGet> get) : get_(std::move(get)) {}

  void start() {
    get_->open([this](base::Result<void> head) {
      if (!head) return finish(std::unexpected(std::move(head).error()));
      read();
    });
  }

  std::optional<base::Result<std::string>> outcome;

 private:
  void read() {
    get_->read_some([this](base::Result<std::string_view> piece) {
      if (!piece) return finish(std::unexpected(std::move(piece).error()));
      if (piece->empty()) return finish(std::move(body_));
      if (body_.size() + piece->size() > kMaxReplyBytes) {
        return finish(base::fail(ErrorCode::kUnavailable,
                                 "ask the Docker engine: its reply has more than {} bytes", kMaxReplyBytes));
      }
      body_.append(*piece);
      read();
    });
  }

  void finish(base::Result<std::string> result) {
    get_->close();
    outcome = std::move(result);
  }

  std::shared_ptr<EngineGet> get_;
  std::string body_;
};

class DockerEngine final : public Engine {
 public:
  explicit DockerEngine(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  base::Result<std::vector<ContainerMount>> container_mounts(base::Deadline deadline) override {
    ASSIGN_OR_RETURN(std::string body, get_whole(kAllContainers, deadline));
    auto mounts = decode_container_list(body);
    if (mounts) return mounts;
    return base::fail(ErrorCode::kUnavailable, "ask the Docker engine at '{}': {}", socket_path_,
                      mounts.error().message());
  }

 private:
  base::Result<std::string> get_whole(std::string_view target, base::Deadline deadline) {
    try {
      asio::io_context loop(1);
      WholeBody whole(std::make_shared<EngineGet>(loop, socket_path_, target, deadline));
      whole.start();
      loop.run();
      VDVS_CHECK(whole.outcome.has_value());
      return std::move(*whole.outcome);
    } catch (const std::exception& error) {  // no descriptors for a loop, or no memory for the reply
      return base::fail(ErrorCode::kUnavailable, "ask the Docker engine at '{}': {}", socket_path_,
                        error.what());
    }
  }

  const std::string socket_path_;
};

/// What runs behind a DockerEngineWatch: look (connect and wait for the head) -> up (read events) -> down
/// (pause) -> look. Queued handlers outlive the watch, hence the shared_ptr; after stop() they do nothing.
class WatchLoop : public std::enable_shared_from_this<WatchLoop> {
 public:
  WatchLoop(asio::io_context& loop, std::string socket_path, EngineEvents events)
      : loop_(loop),
        socket_path_(std::move(socket_path)),
        events_(std::move(events)),
        pause_timer_(loop),
        volumes_timer_(loop) {}

  /// No deadline: an engine that starts accepts long before it answers, and one that dies ends the
  /// connection.
  void look() {
    request_ = std::make_shared<EngineGet>(loop_, socket_path_, kContainerEnds, base::Deadline::max());
    request_->open([self = shared_from_this()](base::Result<void> head) {
      if (self->is_stopped_) return;
      if (head) {
        self->on_up();
      } else {
        self->on_down(head.error());
      }
    });
  }

  void stop() {
    is_stopped_ = true;
    pause_timer_.cancel();
    volumes_timer_.cancel();
    if (request_) request_->close();
    if (volumes_) volumes_->close();
    for (const auto& asked : ends_asked_) asked->close();
  }

 private:
  void on_up() {
    is_up_ = true;
    is_down_logged_ = false;
    up_since_ = base::Clock::now();
    had_pid_file_ = identify_process(pid_in_file()).pid != 0;
    log::info("the Docker engine answers", {{"socket", socket_path_}});
    volumes_pause_ = kFirstPause;
    ask_volumes();
    read_events();
    if (events_.on_connected) events_.on_connected();  // last: it may end this watch
  }

  void on_down(const base::Error& error) {
    if (!is_down_logged_) {
      log::warn(is_up_ ? "the Docker engine has gone" : "the Docker engine does not answer",
                {{"socket", socket_path_}, {"error", error.text()}});
      is_down_logged_ = true;
    }
    if (std::exchange(is_up_, false) && base::Clock::now() - up_since_ >= kShortLife) pause_ = kFirstPause;
    request_->close();
    if (volumes_) volumes_->close();
    for (const auto& asked : ends_asked_) asked->close();
    event_text_.clear();
    ends_waiting_.clear();  // the next on_connected covers them
    volumes_timer_.cancel();
    look_later();
  }

  void look_later() {
    pause_timer_.expires_after(pause_);
    pause_ = std::min(pause_ * 2, kLongestPause);
    pause_timer_.async_wait([self = shared_from_this()](beast::error_code canceled) {
      if (canceled || self->is_stopped_) return;
      if (self->was_stopped_on_purpose()) return self->look_later();
      self->look();
    });
  }

  /// Where systemd listens on the engine's socket, a connection starts the engine again, against the wish of the administrator who has
  /// just stopped it. So an engine that kept a pid file beside its socket, as dockerd does, is looked for there first.
  bool was_stopped_on_purpose() const { return had_pid_file_ && identify_process(pid_in_file()).pid == 0; }

  int pid_in_file() const {
    auto text = base::read_line_file(std::filesystem::path(socket_path_).replace_extension(".pid").string());
    return text ? std::atoi(text->c_str()) : 0;
  }

  void read_events() {
    request_->read_some([self = shared_from_this()](base::Result<std::string_view> piece) {
      if (self->is_stopped_) return;
      if (!piece) return self->on_down(piece.error());
      if (piece->empty()) {
        return self->on_down(base::Error(ErrorCode::kUnavailable, "the engine has ended the connection"));
      }
      self->event_text_.append(*piece);
      if (self->take_events()) self->read_events();
    });
  }

  /// False where the engine is given up.
  bool take_events() {
    std::size_t begin = 0;
    for (std::size_t end; (end = event_text_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      auto id = decode_container_event(std::string_view(event_text_).substr(begin, end - begin));
      if (id && ends_waiting_.size() < kMaxEndsWaiting) ends_waiting_.push_back(std::move(*id));
    }
    event_text_.erase(0, begin);
    if (event_text_.size() > kMaxEventBytes) {
      on_down(base::Error(ErrorCode::kLimit, fmt::format("an event has more than {} bytes", kMaxEventBytes)));
      return false;
    }
    ask_about_ends();
    return true;
  }

  void ask_about_ends() {
    while (!ends_waiting_.empty() && ends_asked_.size() < kMaxEndsAsked) {
      auto asked = std::make_shared<EngineGet>(loop_, socket_path_,
                                               fmt::format("/containers/{}/json", ends_waiting_.front()),
                                               base::deadline_in(kEndTime));
      ends_waiting_.pop_front();
      ends_asked_.insert(asked);
      asked->open(
          [self = shared_from_this(), asked](base::Result<void>) {  // "no such container" is an answer
            asked->close();
            self->ends_asked_.erase(asked);
            if (self->is_stopped_ || !self->is_up_) return;
            self->ask_about_ends();
            if (self->events_.on_container_end)
              self->events_.on_container_end();  // last: it may end this watch
          });
    }
  }

  /// The Swarm scheduler counts a plugin on a node only after the engine there has used it once: a list of
  /// volumes makes it do so. The engine asks this very process before it answers, which is why nothing here
  /// may wait.
  void ask_volumes() {
    volumes_ = std::make_shared<EngineGet>(loop_, socket_path_, kVolumes, base::deadline_in(kVolumesTime));
    volumes_->open([self = shared_from_this(), asked = volumes_](base::Result<void> head) {
      asked->close();
      if (self->is_stopped_ || !self->is_up_ || self->volumes_ != asked) return;
      if (head) return log::debug("the Docker engine has listed its volumes");
      log::debug("the Docker engine has not listed its volumes", {{"error", head.error().text()}});
      self->volumes_timer_.expires_after(self->volumes_pause_);
      self->volumes_pause_ = std::min(self->volumes_pause_ * 2, kLongestPause);
      self->volumes_timer_.async_wait([self](beast::error_code canceled) {
        if (!canceled && !self->is_stopped_ && self->is_up_) self->ask_volumes();
      });
    });
  }

  asio::io_context& loop_;
  const std::string socket_path_;
  const EngineEvents events_;
  std::shared_ptr<EngineGet> request_;
  std::shared_ptr<EngineGet> volumes_;
  std::string event_text_;  // what has come of an event whose end has not
  std::deque<std::string> ends_waiting_;
  std::set<std::shared_ptr<EngineGet>> ends_asked_;
  asio::steady_timer pause_timer_;
  asio::steady_timer volumes_timer_;
  std::chrono::milliseconds pause_ = kFirstPause;
  std::chrono::milliseconds volumes_pause_ = kFirstPause;
  base::Deadline up_since_;
  bool is_up_ = false;
  bool had_pid_file_ = false;
  bool is_stopped_ = false;
  bool is_down_logged_ = false;
};

class DockerEngineWatch final : public EngineWatch {
 public:
  DockerEngineWatch(asio::io_context& loop, std::string socket_path, EngineEvents events)
      : watch_loop_(std::make_shared<WatchLoop>(loop, std::move(socket_path), std::move(events))) {
    watch_loop_->look();
  }
  ~DockerEngineWatch() override { watch_loop_->stop(); }

 private:
  std::shared_ptr<WatchLoop> watch_loop_;
};

/// The first of a container's names without its slash; the id where it has none.
std::string container_name(const boost::json::object& container) {
  if (const auto* names = container.if_contains("Names");
      names != nullptr && names->is_array() && !names->get_array().empty()) {
    if (const auto* name = names->get_array().front().if_string(); name != nullptr) {
      std::string_view text = *name;
      return std::string(text.starts_with('/') ? text.substr(1) : text);
    }
  }
  return base::find_string(container, "Id").value_or("");
}

}  // namespace

namespace {

bool is_running(const boost::json::object& container) {
  const std::string state = base::find_string(container, "State").value_or("");
  return state == "running" || state == "paused" || state == "restarting";
}

}  // namespace

base::Result<std::vector<ContainerMount>> decode_container_list(std::string_view json) {
  ASSIGN_OR_RETURN(boost::json::value root, base::parse_json(json));
  const auto* containers = root.if_array();
  if (containers == nullptr)
    return base::fail(ErrorCode::kInvalid, "read the list of containers: it is no array");
  std::vector<ContainerMount> found;
  for (const auto& element : *containers) {
    const auto* container = element.if_object();
    if (container == nullptr)
      return base::fail(ErrorCode::kInvalid, "read the list of containers: an element is no object");
    const auto* mounts = container->if_contains("Mounts");
    if (mounts == nullptr || mounts->is_null()) continue;
    if (!mounts->is_array())
      return base::fail(ErrorCode::kInvalid, "read the list of containers: 'Mounts' is no array");
    for (const auto& mount : mounts->get_array()) {
      const auto* members = mount.if_object();
      if (members == nullptr)
        return base::fail(ErrorCode::kInvalid, "read the list of containers: a mount is no object");
      if (base::find_string(*members, "Type") != "volume") continue;
      found.push_back({.volume = base::find_string(*members, "Name").value_or(""),
                       .driver = base::find_string(*members, "Driver").value_or(""),
                       .source = base::find_string(*members, "Source").value_or(""),
                       .container = container_name(*container),
                       .is_running = is_running(*container)});
    }
  }
  return found;
}

std::optional<std::string> decode_container_event(std::string_view line) {
  auto root = base::parse_json(line);
  if (!root || !root->is_object()) return std::nullopt;
  const auto* actor = root->get_object().if_contains("Actor");
  if (actor == nullptr || !actor->is_object()) return std::nullopt;
  auto id = base::find_string(actor->get_object(), "ID");
  auto is_plain = [](unsigned char c) { return std::isalnum(c) != 0; };  // it becomes part of a URL
  if (!id || id->empty() || id->size() > kMaxContainerIdBytes || !std::ranges::all_of(*id, is_plain))
    return std::nullopt;
  return id;
}

std::unique_ptr<Engine> make_docker_engine(std::string socket_path) {
  return std::make_unique<DockerEngine>(std::move(socket_path));
}

std::unique_ptr<EngineWatch> make_engine_watch(boost::asio::io_context& loop, std::string socket_path,
                                               EngineEvents events) {
  return std::make_unique<DockerEngineWatch>(loop, std::move(socket_path), std::move(events));
}

}  // namespace vdvs::mountd
