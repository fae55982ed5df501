// A monitor's connection, against a socket at which the test plays QEMU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/executor_work_guard.hpp>
#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "base/fd.h"
#include "base/json.h"
#include "esx-vmci/hypervisor/qmp.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kGreeting = R"({"QMP": {"version": {}, "capabilities": []}})";
const base::Deadline kNever = base::deadline_in(std::chrono::hours(1));

/// The other end of the connection.
class Connection {
 public:
  explicit Connection(base::UniqueFd fd) : fd_(std::move(fd)) {}
  void send(const std::string& line) {
    const std::string text = line + "\r\n";
    (void)!::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  /// Empty at the end of the connection.
  std::string receive() {
    std::string line;
    char byte;
    while (::recv(fd_.get(), &byte, 1, 0) == 1) {
      if (byte == '\n') return line;
      line += byte;
    }
    return {};
  }
  /// The id of the next command, which must be this one.
  std::uint64_t receive(const std::string& command) {
    const auto message = base::parse_json(receive());
    EXPECT_OK(message);
    if (!message) return 0;
    EXPECT_EQ(message->at("execute").as_string(), command.c_str());
    return message->at("id").to_number<std::uint64_t>();
  }
  void answer(std::uint64_t id, const std::string& value) {
    send(fmt::format(R"({{"return": {}, "id": {}}})", value, id));
  }
  void greet() {
    send(kGreeting);
    answer(receive("qmp_capabilities"), "{}");
  }

 private:
  base::UniqueFd fd_;
};

class QmpMonitorTest : public ::testing::Test {
 protected:
  QmpMonitorTest()
      : work_(loop_.get_executor()),
        monitor_(make_qmp_monitor(
            loop_, path(),
            {.link_changed = [this](QmpLink link, const std::string& why) { note(link, why); },
             .event = [this](const QmpEvent& event) { note(event.name); }})),
        thread_([this] { loop_.run(); }) {}
  ~QmpMonitorTest() override {
    loop_.stop();
    thread_.join();
  }

  std::string path() const { return folder_.path() + "/qmp"; }
  void listen() {
    ::unlink(path().c_str());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof address.sun_path - 1);
    listener_ = base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
  }
  Connection accept() { return Connection(base::UniqueFd(::accept(listener_.get(), nullptr, nullptr))); }
  std::future<base::Result<boost::json::value>> ask(const std::string& name,
                                                    base::Deadline deadline = kNever) {
    return std::async(std::launch::async,
                      [this, name, deadline] { return monitor_->run({.name = name}, deadline); });
  }

  void note(QmpLink link, const std::string& why) {
    std::lock_guard lock(mutex_);
    link_ = link;
    reason_ = why;
    changed_.notify_all();
  }
  void note(const std::string& event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  }
  bool becomes(QmpLink link) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return link_ == link; });
  }
  std::vector<std::string> events(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [&] { return events_.size() >= count; });
    return events_;
  }

  TemporaryFolder folder_;
  base::UniqueFd listener_;
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<QmpLink> link_;
  std::string reason_;
  std::vector<std::string> events_;
  std::unique_ptr<QmpMonitor> monitor_;
  std::thread thread_;
};

TEST_F(QmpMonitorTest, GivesEachCommandItsAnswerInWhateverOrderTheyCome) {
  listen();
  monitor_->start();
  Connection qemu = accept();
  qemu.greet();
  auto first = ask("first");
  const std::uint64_t first_id = qemu.receive("first");
  auto second = ask("second");
  const std::uint64_t second_id = qemu.receive("second");
  qemu.answer(second_id, "2");
  qemu.answer(first_id, "1");
  EXPECT_EQ(first.get().value(), 1);
  EXPECT_EQ(second.get().value(), 2);
}

TEST_F(QmpMonitorTest, EventsComeInBetweenAndAtTheirTime) {
  listen();
  monitor_->start();
  Connection qemu = accept();
  qemu.greet();
  auto asked = ask("query-status");
  const std::uint64_t id = qemu.receive("query-status");
  qemu.send(R"({"event": "STOP", "timestamp": {}})");
  qemu.send(R"({"event": "RESUME", "timestamp": {}})");
  qemu.answer(id, "{}");
  EXPECT_OK(asked.get());
  EXPECT_THAT(events(2), ::testing::ElementsAre("STOP", "RESUME"));
}

TEST_F(QmpMonitorTest, CommandsWaitForTheGreeting) {
  listen();
  monitor_->start();
  Connection qemu = accept();
  auto asked = ask("query-status");
  qemu.greet();
  qemu.answer(qemu.receive("query-status"), "\"here\"");
  EXPECT_EQ(asked.get().value(), "here");
}

TEST_F(QmpMonitorTest, WhereNobodyListensItFailsAtOnceAndConnectsAsSoonAsSomebodyDoes) {
  monitor_->start();
  ASSERT_TRUE(becomes(QmpLink::kGone));
  EXPECT_EQ(code_of(ask("query-status").get()), "E_UNAVAILABLE");
  listen();
  Connection qemu = accept();
  qemu.greet();
  EXPECT_TRUE(becomes(QmpLink::kUp));
}

TEST_F(QmpMonitorTest, AnEndOfTheConnectionAnswersWhoWaitsAndItIsMadeAgain) {
  listen();
  monitor_->start();
  std::future<base::Result<boost::json::value>> asked;
  {
    Connection qemu = accept();
    qemu.greet();
    asked = ask("query-status");
    qemu.receive("query-status");
  }
  EXPECT_EQ(code_of(asked.get()), "E_UNAVAILABLE");
  Connection again = accept();
  again.greet();
  auto next = ask("query-status");
  again.answer(again.receive("query-status"), "3");
  EXPECT_EQ(next.get().value(), 3);
}

TEST_F(QmpMonitorTest, AnAnswerThatIsLateIsForNobody) {
  listen();
  monitor_->start();
  Connection qemu = accept();
  qemu.greet();
  auto late = ask("slow", base::deadline_in(std::chrono::milliseconds(50)));
  const std::uint64_t id = qemu.receive("slow");
  EXPECT_EQ(code_of(late.get()), "E_TIMEOUT");
  qemu.answer(id, "1");
  auto next = ask("quick");
  qemu.answer(qemu.receive("quick"), "2");
  EXPECT_EQ(next.get().value(), 2);
}

TEST_F(QmpMonitorTest, AMonitorThatAnotherProgramHasIsSaidToBe) {
  listen();  // the kernel takes the connection; nobody greets
  monitor_->start();
  auto asked = ask("query-status", base::deadline_in(std::chrono::milliseconds(50)));
  const auto answer = asked.get();
  EXPECT_EQ(code_of(answer), "E_UNAVAILABLE");
  EXPECT_THAT(message_of(answer), HasSubstr("does not greet"));
}

TEST_F(QmpMonitorTest, WhoeverSendsNonsenseIsDroppedAndTriedAgain) {
  listen();
  monitor_->start();
  Connection bad = accept();
  bad.greet();
  auto asked = ask("query-status");
  bad.receive("query-status");
  bad.send("this is no JSON");
  EXPECT_EQ(code_of(asked.get()), "E_UNAVAILABLE");
  EXPECT_EQ(bad.receive(), "") << "closed";
  Connection good = accept();
  good.greet();
  EXPECT_TRUE(becomes(QmpLink::kUp));
}

TEST_F(QmpMonitorTest, ManyCommandsAreSentAtOnceAndEachIsAnsweredOrRefused) {
  listen();
  monitor_->start();
  Connection qemu = accept();
  qemu.greet();
  std::promise<QmpMonitor::Answers> done;
  std::vector<QmpCommand> commands(3, {.name = "qom-get"});
  monitor_->send(commands, kNever, [&](QmpMonitor::Answers answers) { done.set_value(std::move(answers)); });
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t id = qemu.receive("qom-get");
    if (i == 1) {
      qemu.send(fmt::format(R"({{"error": {{"class": "DeviceNotFound", "desc": "no"}}, "id": {}}})", id));
    } else {
      qemu.answer(id, std::to_string(i));
    }
  }
  const auto answers = done.get_future().get();
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_EQ(answers[0].value(), 0);
  EXPECT_EQ(code_of(answers[1]), "E_NOT_FOUND");
  EXPECT_EQ(answers[2].value(), 2);
  std::promise<QmpMonitor::Answers> refused;
  monitor_->send(std::vector<QmpCommand>(kMaxQmpWaiting + 1, {.name = "x"}), kNever,
                 [&](QmpMonitor::Answers got) { refused.set_value(std::move(got)); });
  EXPECT_EQ(code_of(refused.get_future().get().front()), "E_LIMIT");
  EXPECT_THAT(monitor_->run_all({}, kNever), IsEmpty());
}

}  // namespace
}  // namespace vdvs::esx::testing
