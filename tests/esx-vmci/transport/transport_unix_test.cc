// What is particular to unix sockets: files, credentials, and what happens when descriptors run out.
#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

constexpr uid_t kStranger = 65534;
constexpr gid_t kGroup = 54321;

class UnixListener : public TransportContract {
 protected:
  void SetUp() override {
    TransportContract::SetUp();
    std::filesystem::permissions(std::filesystem::path(endpoint_.path).parent_path(),
                                 std::filesystem::perms(0755));
  }

  /// Connects as another user. True: the service greeted it.
  bool is_served_as(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
    const pid_t child = ::fork();
    if (child == 0) {
      const bool is_changed =
          ::setgroups(groups.size(), groups.data()) == 0 && ::setgid(gid) == 0 && ::setuid(uid) == 0;
      if (!is_changed) ::_exit(3);
      const base::UniqueFd fd = connect_unix(endpoint_.path);
      if (!fd.is_open()) ::_exit(2);
      char byte = 0;
      ::_exit(::recv(fd.get(), &byte, 1, 0) == 1 ? 0 : 1);
    }
    int status = -1;
    std::size_t greeted = served_.size();
    EXPECT_TRUE(run_until([&] {
      for (; greeted < served_.size(); ++greeted)
        served_[greeted]->write("hello", soon(), [](base::Result<void>) {});
      return ::waitpid(child, &status, WNOHANG) == child;
    }));
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_NE(WEXITSTATUS(status), 3) << "the test cannot change its user";
    return WEXITSTATUS(status) == 0;
  }

  void give_group_the_socket() {
    ASSERT_EQ(::chown(endpoint_.path.c_str(), 0, kGroup), 0);
    ASSERT_EQ(::chmod(endpoint_.path.c_str(), 0660), 0);
  }
};

TEST_P(UnixListener, ServesRootAndTheSocketsGroupOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "limit of the machine: needs root, to be somebody else";
  give_group_the_socket();
  EXPECT_TRUE(is_served_as(0, 0, {}));
  EXPECT_TRUE(is_served_as(kStranger, kGroup, {}));
  EXPECT_TRUE(is_served_as(kStranger, kStranger, {kStranger, kGroup}));
  EXPECT_FALSE(is_served_as(kStranger, kStranger, {}));
}

TEST_P(UnixListener, RefusesAndCountsAStrangerThatTheFilesModesWouldLetIn) {
  if (::geteuid() != 0) GTEST_SKIP() << "limit of the machine: needs root, to be somebody else";
  give_group_the_socket();
  ASSERT_EQ(::chmod(endpoint_.path.c_str(), 0666), 0);
  EXPECT_FALSE(is_served_as(kStranger, kStranger, {}));
  EXPECT_EQ(listener_->counters().refused_credentials, 1);
  EXPECT_EQ(listener_->counters().accepted, 0);
}

TEST_P(UnixListener, ReplacesTheFileOfOneThatIsGone) {
  const Endpoint at = transport_->listening();
  {
    const base::UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, at.path.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const auto listener = make_listener(loop_, at, {}, {});
  EXPECT_TRUE(listener) << listener.error().text();
}

TEST_P(UnixListener, LeavesAloneWhatIsNoSocket) {
  const Endpoint at = transport_->listening();
  std::ofstream(at.path) << "precious";
  EXPECT_CODE(make_listener(loop_, at, {}, {}), ErrorCode::kExists);
  EXPECT_EQ(std::filesystem::file_size(at.path), 8);
}

TEST_P(UnixListener, RemovesItsFileWithItselfButNotAnothers) {
  const std::string path = endpoint_.path;
  ASSERT_TRUE(std::filesystem::exists(path));
  listener_.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_P(UnixListener, SaysWhichVmASocketWasGivenTo) {
  Endpoint at = transport_->listening();
  at.assigned_vm = "web-1";
  auto listener = make_listener(loop_, at, {}, {});
  ASSERT_TRUE(listener) << listener.error().text();
  listener_ = std::move(*listener);
  listener_->start([this](std::unique_ptr<Channel> channel) { served_.push_back(std::move(channel)); });
  endpoint_ = listener_->endpoint();
  const auto client = make_pair();
  EXPECT_EQ(served_.back()->peer().assigned_vm, "web-1");
}

TEST_P(UnixListener, OutlivesARunOutOfDescriptors) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
  GTEST_SKIP()
      << "limit of the machine: this sanitizer makes pipes to look at memory, and here are none to be had";
#endif
#endif
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  std::vector<std::unique_ptr<Channel>> clients;
  clients.push_back(make_pair());
  const int highest = ::dup(0);
  ::close(highest);
  tight.rlim_cur = static_cast<rlim_t>(highest) + 1;  // A client's descriptor, and none for the service.
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const base::UniqueFd waiting = connect_unix(endpoint_.path);
  const base::Deadline a_while = shortly();
  while (!base::has_passed(a_while)) loop_.run_one_for(std::chrono::milliseconds(10));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(waiting.is_open());
  EXPECT_TRUE(run_until([&] { return served_.size() == 2; }));
  const auto client = make_pair();
  EXPECT_EQ(served_.size(), 3);
}

INSTANTIATE_TEST_SUITE_P(Unix, UnixListener, ::testing::Values(transport_named<UnixTransport>("unix")));

}  // namespace
}  // namespace vdvs::esx::test
