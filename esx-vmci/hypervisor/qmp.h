// QMP, by which a QEMU process is controlled: lines of JSON over a unix socket (QEMU's docs/interop/
// qmp-spec.txt). QEMU greets, we answer qmp_capabilities, and from then on each command carries an id, its
// answer has the same one, and events come in between whenever they happen. A monitor serves one client at a
// time: to a second one it says nothing until the first has left.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace vdvs::esx {

/// The nodes of 60 disks take about 150 KiB.
inline constexpr std::size_t kMaxQmpLineBytes = 8 * 1024 * 1024;
/// Commands of one monitor that wait for their answers.
inline constexpr std::size_t kMaxQmpWaiting = 4096;

/// Takes bytes as they come and gives whole lines without their ends; empty ones are left out. After an error
/// it gives only that error.
class QmpLines {
 public:
  void feed(std::string_view bytes);
  /// nullopt until a line is complete. Errors: kLimit (kMaxQmpLineBytes).
  base::Result<std::optional<std::string>> next();

 private:
  std::string buffer_;
  std::size_t begin_ = 0;    ///< Of the line that is being read.
  std::size_t scanned_ = 0;  ///< No line end before this.
};

struct QmpCommand {
  std::string name;
  boost::json::object arguments{};
};

struct QmpEvent {
  std::string name;
  boost::json::object data{};
};

/// One line from QEMU.
struct QmpMessage {
  enum class Kind { kGreeting, kAnswer, kEvent };
  Kind kind = Kind::kAnswer;
  std::optional<std::uint64_t> id{};          ///< kAnswer.
  base::Result<boost::json::value> result{};  ///< kAnswer.
  QmpEvent event{};                           ///< kEvent.
};

/// Errors: kInvalid. An answer that is an error is a message whose `result` is that error: kNotFound for
/// QEMU's class DeviceNotFound, kBusyElsewhere for an image lock, kInUse for "is in use", otherwise kIo; its
/// message is QEMU's.
base::Result<QmpMessage> decode_qmp(std::string_view line);
/// With its line end.
std::string encode_qmp(const QmpCommand& command, std::uint64_t id);

/// Whether anybody is there.
enum class QmpLink {
  kConnecting,  ///< Not known yet, or not any more; soon it will be.
  kUp,
  kGone,    ///< Nobody listens at the socket: the process is not there.
  kSilent,  ///< Somebody is there who does not answer.
};

/// What a monitor tells its owner. Thread: the loop; must not block.
struct QmpObserver {
  std::function<void(QmpLink link, const std::string& reason)> link_changed;
  std::function<void(const QmpEvent& event)> event;
};

class QmpMonitor {
 public:
  using Answers = std::vector<base::Result<boost::json::value>>;
  virtual ~QmpMonitor() = default;

  /// Connects, and again for ever.
  virtual void start() = 0;

  /// Sends them at once, in this order; `done` gets an answer for each, on the loop. While there is no
  /// connection they wait for one, until the deadline; where nobody listens, they fail at once.
  /// Errors: what QEMU answers (see decode_qmp); kUnavailable, kTimeout, kLimit. Thread: any.
  virtual void send(std::vector<QmpCommand> commands, base::Deadline deadline,
                    std::function<void(Answers)> done) = 0;

  /// The same, and waits. Thread: any but the loop.
  Answers run_all(std::vector<QmpCommand> commands, base::Deadline deadline);
  base::Result<boost::json::value> run(QmpCommand command, base::Deadline deadline);
};

/// `loop` outlives it; it must not be destroyed while the loop runs.
std::unique_ptr<QmpMonitor> make_qmp_monitor(boost::asio::io_context& loop, std::string socket_path,
                                             QmpObserver observer);

}  // namespace vdvs::esx
