#include "mountd/volume_manager.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <optional>

#include "base/log.h"
#include "base/strands.h"

namespace vdvs::mountd {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace asio = boost::asio;
namespace log = base::log;

constexpr std::size_t kQueryThreads = 4;
constexpr std::chrono::seconds kEngineTime{5};
constexpr std::chrono::milliseconds kFirstRetry{1000};
constexpr std::chrono::milliseconds kLastRetry{60'000};
/// A disk that is busy elsewhere may only linger there: it is asked for again at this pace, for as long as our own would linger and a little more.
constexpr std::chrono::milliseconds kBusyRetry{250};
constexpr std::chrono::milliseconds kBusyExtra{1000};

/// The answer to one request: given once, by the work or by the clock, whichever comes first. Shared by the two, hence held
/// by shared_ptr.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(asio::io_context& loop, Respond respond) : timer_(loop), respond_(std::move(respond)) {}

  /// Thread: the loop's. `on_timeout` makes the reply of last resort.
  void start_clock(std::chrono::milliseconds time, std::function<PluginReply()> on_timeout) {
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this(), on_timeout = std::move(on_timeout)](const boost::system::error_code& error) {
      if (!error && self->claim()) self->respond_(on_timeout());
    });
  }

  /// True for the first caller, who then must give the reply. Thread: any.
  bool claim() { return !is_claimed_.exchange(true); }
  bool is_claimed() const { return is_claimed_; }
  void give_claimed(PluginReply reply) {
    respond_(std::move(reply));
    asio::post(timer_.get_executor(), [self = shared_from_this()] { self->timer_.cancel(); });
  }
  void give(PluginReply reply) {
    if (claim()) give_claimed(std::move(reply));
  }

 private:
  asio::steady_timer timer_;
  Respond respond_;
  std::atomic<bool> is_claimed_ = false;
};

/// A request that changes a volume, on its way. Shared by its tries.
struct Change {
  PluginRequest request;
  esx::VolumeName name;
  std::shared_ptr<Answer> answer;
  base::Deadline busy_until;  ///< Until then a disk that is busy elsewhere is waited for.
};

class Manager : public VolumeManager {
 public:
  Manager(asio::io_context& loop, VolumeKeeper& keeper, Engine* engine, ManagerOptions options)
      : loop_(loop),
        keeper_(keeper),
        engine_(engine),
        options_(std::move(options)),
        volumes_("volume", options_.threads),
        queries_("query", kQueryThreads) {}

  void handle(PluginRequest request, Respond respond) override;
  void start() override;
  void reconcile() override;
  void drain() override {
    volumes_.drain();
    queries_.drain();
  }

 private:
  std::shared_ptr<Answer> answer_within(std::chrono::milliseconds time, Respond respond,
                                        std::function<PluginReply()> on_timeout);
  void change(PluginRequest request, Respond respond);
  void run(const std::shared_ptr<Change>& change);
  bool may_be_lingering(const Change& change, const PluginReply& reply) const;
  void run_again_in(std::chrono::milliseconds time, const std::shared_ptr<Change>& change);
  void query(PluginRequest request, Respond respond);
  PluginReply run_change(const PluginRequest& request, const esx::VolumeName& name, Answer& answer, bool& is_given);
  PluginReply run_query(const PluginRequest& request);
  PluginReply mount(const PluginRequest& request, const esx::VolumeName& name, Answer& answer, bool& is_given);
  PluginReply unmount(const PluginRequest& request, const esx::VolumeName& name);
  /// `is_there`: the volume exists, in whatever state, though nothing is remembered of it.
  PluginReply remembered(const PluginRequest& request, const std::string& why, bool is_there = false);

  /// Settles the volume after a while, and again with growing pauses while that fails. Thread: any.
  void recover_all(std::chrono::milliseconds retry);
  void recover_all_in(std::chrono::milliseconds retry);
  void settle_in(const esx::VolumeName& name, std::chrono::milliseconds time, std::chrono::milliseconds retry = kFirstRetry);
  void settle(const esx::VolumeName& name, std::chrono::milliseconds retry);
  Result<EngineWord> ask_engine();
  void compare(const EngineWord& word);
  void reconcile_one(const esx::VolumeName& name, const EngineWord& word);
  void reconcile_in(std::chrono::milliseconds time);

  asio::io_context& loop_;
  VolumeKeeper& keeper_;
  Engine* engine_;
  ManagerOptions options_;
  std::map<std::string, asio::steady_timer> settle_timers_;  // by volume; the loop's thread only
  asio::steady_timer recover_timer_{loop_};                  // the loop's thread only
  std::unique_ptr<asio::steady_timer> reconcile_timer_;      // the loop's thread only
  std::atomic<bool> is_reconcile_queued_ = false;
  std::atomic<std::uint64_t> next_query_ = 0;
  // Last, so that their threads end before what they use.
  base::Strands volumes_;
  base::Strands queries_;
};

// One strand for all the datastores of a short name: "db" and "db@ds1" may be one volume, and this needs no look-up.
std::string strand_of(const esx::VolumeName& name) { return name.volume(); }

// Whether an error of the control plane is its word on the volume (it is damaged, it is not to be read), not its silence.
bool has_answered(ErrorCode code) {
  return code != ErrorCode::kUnavailable && code != ErrorCode::kTimeout && code != ErrorCode::kIo;
}

// ---- requests ----

void Manager::handle(PluginRequest request, Respond respond) {
  switch (request.method) {
    case Method::kCapabilities: return respond(Capabilities{});
    case Method::kGet:
    case Method::kList:
    case Method::kPath: return query(std::move(request), std::move(respond));
    case Method::kCreate:
    case Method::kRemove:
    case Method::kMount:
    case Method::kUnmount: return change(std::move(request), std::move(respond));
  }
}

std::shared_ptr<Answer> Manager::answer_within(std::chrono::milliseconds time, Respond respond,
                                               std::function<PluginReply()> on_timeout) {
  auto answer = std::make_shared<Answer>(loop_, std::move(respond));
  answer->start_clock(time, std::move(on_timeout));
  return answer;
}

void Manager::change(PluginRequest request, Respond respond) {
  auto name = esx::VolumeName::parse(request.name);
  if (!name) {
    return respond(std::unexpected(std::move(name).error().within(fmt::format("{} '{}'", method_name(request.method), request.name))));
  }
  auto on_timeout = [method = request.method, text = request.name, time = options_.answer_time]() -> PluginReply {
    return std::unexpected(Error(ErrorCode::kTimeout,
                                 fmt::format("{} '{}': still going on after {} s", method_name(method), text,
                                             std::chrono::duration_cast<std::chrono::seconds>(time).count()),
                                 "it goes on in the background; try again to see it done"));
  };
  auto answer = answer_within(options_.answer_time, std::move(respond), on_timeout);
  std::optional<esx::VolumeName> source_name;
  if (auto source = request.options.find("clone-from"); source != request.options.end()) {
    if (auto parsed = esx::VolumeName::parse(source->second)) source_name = *parsed;
  }
  auto change = std::make_shared<Change>(Change{.request = std::move(request),
                                                .name = *name,
                                                .answer = answer,
                                                .busy_until = base::deadline_in(options_.detach_linger + kBusyExtra)});
  auto work = [this, change] { run(change); };
  if (!source_name) return volumes_.post(strand_of(*name), std::move(work));
  // A source whose last container has just gone lingers attached, and an attached disk is not copied: it is detached first, in its strand.
  volumes_.post(strand_of(*source_name), [this, name = *name, source = *source_name, work = std::move(work)] {
    (void)keeper_.settle(source);  // where that fails, the create says why
    volumes_.post(strand_of(name), work);
  });
}

/// In the volume's strand.
void Manager::run(const std::shared_ptr<Change>& change) {
  const PluginRequest& request = change->request;
  log::RequestScope scope(request.request_id);
  bool is_given = false;
  PluginReply reply = run_change(request, change->name, *change->answer, is_given);
  keeper_.sync();
  if (may_be_lingering(*change, reply)) {
    log::debug("busy elsewhere, perhaps not for long", {{"volume", request.name}, {"cause", reply.error().message()}});
    return run_again_in(kBusyRetry, change);
  }
  if (!reply) {
    log::warn("request failed", {{"method", method_name(request.method)},
                                 {"volume", request.name},
                                 {"code", base::code_name(reply.error().code())},
                                 {"cause", reply.error().message()}});
  }
  if (!is_given) change->answer->give(std::move(reply));
}

bool Manager::may_be_lingering(const Change& change, const PluginReply& reply) const {
  const Method method = change.request.method;
  return !reply && reply.error().code() == ErrorCode::kBusyElsewhere && (method == Method::kMount || method == Method::kRemove) &&
         !base::has_passed(change.busy_until) && !change.answer->is_claimed();
}

void Manager::run_again_in(std::chrono::milliseconds time, const std::shared_ptr<Change>& change) {
  asio::post(loop_, [this, time, change] {
    auto timer = std::make_shared<asio::steady_timer>(loop_, time);
    timer->async_wait([this, timer, change](const boost::system::error_code& error) {
      if (!error) volumes_.post(strand_of(change->name), [this, change] { run(change); });
    });
  });
}

PluginReply Manager::run_change(const PluginRequest& request, const esx::VolumeName& name, Answer& answer, bool& is_given) {
  switch (request.method) {
    case Method::kCreate: {
      const std::string driver = request.driver == options_.main_driver ? std::string() : request.driver;
      int last_percent = -1;
      auto progress = [&](double part) {
        constexpr int kStepPercent = 10;
        const int percent = static_cast<int>(part * 100) / kStepPercent * kStepPercent;
        if (std::exchange(last_percent, percent) < percent) {
          log::info("creating", {{"volume", request.name}, {"percent", percent}});
        }
      };
      RETURN_IF_ERROR(keeper_.create(name, request.options, driver, progress));
      return Done{};
    }
    case Method::kRemove: {
      // The engine's word may free a volume whose Unmount was lost, or name those that hold it.
      EngineWord word;
      if (engine_ != nullptr && keeper_.holders().total(keeper_.qualify(name)) > 0) {
        if (auto asked = ask_engine()) {
          word = std::move(*asked);
          RETURN_IF_ERROR(keeper_.reconcile(name, word));
        }
      }
      RETURN_IF_ERROR(keeper_.remove(name, word.mounts));
      return Done{};
    }
    case Method::kMount: return mount(request, name, answer, is_given);
    case Method::kUnmount: return unmount(request, name);
    case Method::kGet:
    case Method::kList:
    case Method::kPath:
    case Method::kCapabilities: break;
  }
  std::abort();
}

PluginReply Manager::mount(const PluginRequest& request, const esx::VolumeName& name, Answer& answer, bool& is_given) {
  auto path = keeper_.mount(name);
  if (!path) {
    settle_in(name, options_.detach_linger);
    return std::unexpected(std::move(path).error());
  }
  if (!answer.claim()) {
    // The engine was told that it takes longer, and will not send an Unmount for this one: nothing is counted, and the
    // volume waits mounted for the engine's next try.
    settle_in(name, options_.answer_time + options_.detach_linger);
    return MountPoint{*path};
  }
  is_given = true;
  if (auto held = keeper_.hold(name, request.mount_id, identify_process(request.peer_pid)); !held) {
    settle_in(name, options_.detach_linger);
    answer.give_claimed(std::unexpected(held.error()));
    return std::unexpected(std::move(held).error());
  }
  answer.give_claimed(MountPoint{*path});
  return MountPoint{*path};
}

PluginReply Manager::unmount(const PluginRequest& request, const esx::VolumeName& name) {
  auto left = keeper_.unmount(name, request.mount_id);
  if (!left || *left == 0) {
    settle_in(name, options_.detach_linger);
  } else {
    reconcile_in(std::chrono::milliseconds(0));
  }
  if (!left) return std::unexpected(std::move(left).error());
  return Done{};
}

void Manager::query(PluginRequest request, Respond respond) {
  auto on_timeout = [this, request] { return remembered(request, "the control plane does not answer in time"); };
  auto answer = answer_within(options_.query_time, std::move(respond), on_timeout);
  queries_.post(std::to_string(next_query_++), [this, request = std::move(request), answer] {
    log::RequestScope scope(request.request_id);
    answer->give(run_query(request));
    keeper_.sync();
  });
}

PluginReply Manager::run_query(const PluginRequest& request) {
  if (request.method == Method::kList) {
    auto list = keeper_.list(request.driver, options_.main_driver);
    if (list) return std::move(*list);
    log::warn("volumes are listed from memory", {{"cause", list.error().text()}});
    return keeper_.remembered_list(request.driver, options_.main_driver);
  }
  auto name = esx::VolumeName::parse(request.name);
  if (!name) return std::unexpected(std::move(name).error().within(fmt::format("get '{}'", request.name)));
  auto view = request.method == Method::kGet ? keeper_.get(*name, request.driver, options_.main_driver) : keeper_.get(*name);
  if (!view && view.error().code() != ErrorCode::kNotFound && view.error().code() != ErrorCode::kInvalid) {
    log::warn("answered from memory", {{"volume", request.name}, {"cause", view.error().text()}});
    return remembered(request, view.error().text(), has_answered(view.error().code()));
  }
  if (!view) return std::unexpected(std::move(view).error());
  if (request.method == Method::kPath) return MountPoint{view->mount_point};
  return std::move(*view);
}

PluginReply Manager::remembered(const PluginRequest& request, const std::string& why, bool is_there) {
  if (request.method == Method::kList) return keeper_.remembered_list(request.driver, options_.main_driver);
  auto name = esx::VolumeName::parse(request.name);
  if (!name) return std::unexpected(std::move(name).error());
  auto view = keeper_.remembered(*name, why);
  if (!view && is_there) view = VolumeView{.name = request.name, .mount_point = {}, .created_at = {}, .status = {{"backend", why}}};
  // Never heard of it, and cannot ask: any error would say "no such volume" to Docker, which then forgets its own record.
  if (!view) return NoAnswer{};
  if (request.method == Method::kPath) return MountPoint{view->mount_point};
  return std::move(*view);
}

// ---- what no request asks for ----

void Manager::settle_in(const esx::VolumeName& name, std::chrono::milliseconds time, std::chrono::milliseconds retry) {
  asio::post(loop_, [this, name, time, retry] {
    auto [entry, is_new] = settle_timers_.try_emplace(name.text(), loop_);
    entry->second.expires_after(time);  // a later wish replaces an earlier one
    entry->second.async_wait([this, name, retry](const boost::system::error_code& error) {
      if (error) return;
      settle_timers_.erase(name.text());
      volumes_.post(strand_of(name), [this, name, retry] { settle(name, retry); });
    });
  });
}

void Manager::settle(const esx::VolumeName& name, std::chrono::milliseconds retry) {
  auto settled = keeper_.settle(name);
  if (settled) return;
  const ErrorCode code = settled.error().code();
  if (code == ErrorCode::kCorrupt || code == ErrorCode::kUnsupported) {
    log::warn("left as it is", {{"volume", name.text()}, {"cause", settled.error().text()}});  // trying again changes nothing
    return;
  }
  log::warn("not detached yet", {{"volume", name.text()}, {"cause", settled.error().text()}, {"again_in_ms", retry.count()}});
  settle_in(name, retry, std::min(retry * 2, kLastRetry));
}

/// Again, with growing pauses, while the control plane does not say what is attached here: a disk that nobody holds must not stay with this host
/// because its service was away when mountd started.
void Manager::recover_all(std::chrono::milliseconds retry) {
  volumes_.post("", [this, retry] {
    auto traces = keeper_.traces();
    if (!traces) {
      log::error("recovery cannot look at this host", {{"cause", traces.error().text()}});
      return;
    }
    log::info(fmt::format("Discovered {} volumes that may be in use.", traces->volumes.size()));
    auto left = std::make_shared<std::atomic<std::size_t>>(traces->volumes.size() + 1);  // shared by the strands of the volumes
    auto one_done = [this, left, retry, is_whole = traces->is_whole] {
      if (--*left > 0) return;
      if (is_whole) return log::info("Refcounting successfully completed");
      recover_all_in(retry);
    };
    for (const esx::VolumeName& name : traces->volumes) {
      volumes_.post(strand_of(name), [this, name, one_done] {
        if (auto recovered = keeper_.recover(name, engine_ != nullptr); !recovered) {
          log::warn("not recovered yet", {{"volume", name.text()}, {"cause", recovered.error().text()}});
          settle_in(name, kFirstRetry);
        }
        one_done();
      });
    }
    one_done();
  });
}

void Manager::recover_all_in(std::chrono::milliseconds retry) {
  asio::post(loop_, [this, retry] {
    recover_timer_.expires_after(retry);
    recover_timer_.async_wait([this, retry](const boost::system::error_code& error) {
      if (!error) recover_all(std::min(retry * 2, kLastRetry));
    });
  });
}

void Manager::start() {
  recover_all(kFirstRetry);
  queries_.post(std::to_string(next_query_++), [this] {
    if (auto list = keeper_.list(options_.main_driver, options_.main_driver); !list) {
      log::warn("the control plane does not list its volumes", {{"cause", list.error().text()}});
    }
  });
}

void Manager::reconcile() {
  if (engine_ == nullptr || is_reconcile_queued_.exchange(true)) return;
  queries_.post(std::to_string(next_query_++), [this] {
    is_reconcile_queued_ = false;  // before the question: an event from now on may be missing in the answer
    auto word = ask_engine();
    if (!word) {
      log::warn("the engine does not say what runs; counts stay as they are", {{"cause", word.error().text()}});
      return;
    }
    compare(*word);
  });
}

Result<EngineWord> Manager::ask_engine() {
  EngineWord word{.mounts = {}, .asked_at = boot_time()};
  ASSIGN_OR_RETURN(word.mounts, engine_->container_mounts(base::deadline_in(kEngineTime)));
  return word;
}

void Manager::compare(const EngineWord& word) {
  auto traces = keeper_.traces();
  if (!traces) return;
  for (const esx::VolumeName& name : traces->volumes) {
    volumes_.post(strand_of(name), [this, name, word] { reconcile_one(name, word); });
  }
}

void Manager::reconcile_one(const esx::VolumeName& name, const EngineWord& word) {
  auto outcome = keeper_.reconcile(name, word);
  if (!outcome) {
    log::warn("counts are not compared", {{"volume", name.text()}, {"cause", outcome.error().text()}});
    return;
  }
  if (outcome->look_again_in) reconcile_in(*outcome->look_again_in);
  if (outcome->holders_left == 0) settle_in(name, options_.detach_linger);
}

void Manager::reconcile_in(std::chrono::milliseconds time) {
  asio::post(loop_, [this, time] {
    const auto at = std::chrono::steady_clock::now() + time;
    if (reconcile_timer_ && reconcile_timer_->expiry() <= at) return;  // one is coming sooner
    reconcile_timer_ = std::make_unique<asio::steady_timer>(loop_, at);
    reconcile_timer_->async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      reconcile_timer_.reset();
      reconcile();
    });
  });
}

}  // namespace

std::unique_ptr<VolumeManager> VolumeManager::make(asio::io_context& loop, VolumeKeeper& keeper, Engine* engine,
                                                   ManagerOptions options) {
  return std::make_unique<Manager>(loop, keeper, engine, std::move(options));
}

}  // namespace vdvs::mountd
