// The plugin's sockets: who may connect, what is replaced, what is left alone, and what systemd hands over.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "base/command.h"
#include "mountd/plugin_server.h"
#include "tests/mountd/plugin_client.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

using base::ErrorCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class PluginListeners : public testing::Test {
 protected:
  ListenOptions options(std::vector<std::string> drivers = {"vsphere"}) const {
    return {.folder = folder_, .drivers = std::move(drivers)};
  }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }

  /// A socket that something else has bound at `path`.
  static base::UniqueFd foreign_socket(const std::string& path, int type, bool is_listening) {
    base::UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(is_listening ? ::listen(fd.get(), 8) : 0, 0);
    return fd;
  }

  tests::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path() + "/run/docker/plugins";
};

TEST_F(PluginListeners, MakeTheirFolderAndOneSocketForEachDriver) {
  auto listeners = open_listeners(options({"vsphere", "vmdk", "vsphere"}));
  ASSERT_TRUE(listeners) << listeners.error().text();
  EXPECT_THAT(files(), ElementsAre("vmdk.sock", "vsphere.sock"));
  ASSERT_EQ(listeners->size(), 2u);
  EXPECT_EQ(listeners->at(0).driver, "vsphere");
  EXPECT_EQ(listeners->at(0).file.path(), path("vsphere.sock"));
  EXPECT_TRUE(RawClient(path("vmdk.sock")).is_connected());
}

TEST_F(PluginListeners, LetOnlyTheGroupConnect) {
  ListenOptions wanted = options();
  wanted.group = "daemon";
  auto listeners = open_listeners(wanted);
  ASSERT_TRUE(listeners) << listeners.error().text();
  struct stat status = {};
  ASSERT_EQ(::stat(path("vsphere.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0660u);
  EXPECT_EQ(status.st_gid, 1u);  // daemon, in Debian's base-passwd
}

TEST_F(PluginListeners, TakeTheGroupAsANumberToo) {
  ListenOptions wanted = options();
  wanted.group = "4321";
  auto listeners = open_listeners(wanted);
  struct stat status = {};
  ASSERT_EQ(::stat(path("vsphere.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, 4321u);
}

TEST_F(PluginListeners, RefuseAnUnknownGroup) {
  ListenOptions wanted = options();
  wanted.group = "no-such-group";
  auto listeners = open_listeners(wanted);
  ASSERT_FALSE(listeners);
  EXPECT_THAT(listeners.error().text(),
              AllOf(HasSubstr("look up group 'no-such-group': no such group"), HasSubstr("--group")));
  EXPECT_FALSE(std::filesystem::exists(path("vsphere.sock")));
}

TEST_F(PluginListeners, RemoveTheirFilesWhenNobodyServesThem) {
  {
    auto listeners = open_listeners(options());
  }
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(PluginListeners, ReplaceASocketFileThatNobodyListensOn) {
  std::filesystem::create_directories(folder_);
  foreign_socket(path("vsphere.sock"), SOCK_STREAM, true).reset();
  foreign_socket(path(".vsphere.new"), SOCK_STREAM, false).reset();
  EXPECT_FALSE(RawClient(path("vsphere.sock")).is_connected());
  auto listeners = open_listeners(options());
  ASSERT_TRUE(listeners) << listeners.error().text();
  EXPECT_TRUE(RawClient(path("vsphere.sock")).is_connected());
  EXPECT_THAT(files(), ElementsAre("vsphere.sock"));
}

TEST_F(PluginListeners, RefuseASocketThatAProcessListensOnAndNameIt) {
  auto first = open_listeners(options());
  ASSERT_TRUE(first);
  auto second = open_listeners(options({"vmdk", "vsphere"}));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kInUse);
  EXPECT_THAT(second.error().text(), AllOf(HasSubstr("listen on '" + path("vsphere.sock") + "': process " +
                                                     std::to_string(::getpid()) + " ("),
                                           HasSubstr("listens there")));
  EXPECT_THAT(files(), ElementsAre("vsphere.sock"));  // What was made for vmdk is gone again.
  EXPECT_TRUE(RawClient(path("vsphere.sock")).is_connected());
}

TEST_F(PluginListeners, RefuseASocketWhoseQueueIsFull) {
  std::filesystem::create_directories(folder_);
  base::UniqueFd busy = foreign_socket(path("vsphere.sock"), SOCK_STREAM, false);
  ASSERT_EQ(::listen(busy.get(), 0), 0);
  RawClient waiting(path("vsphere.sock"));
  EXPECT_EQ(open_listeners(options()).error().code(), ErrorCode::kInUse);
}

TEST_F(PluginListeners, RefuseASocketOfAnotherTypeThatIsAlive) {
  std::filesystem::create_directories(folder_);
  base::UniqueFd other = foreign_socket(path("vsphere.sock"), SOCK_DGRAM, false);
  EXPECT_EQ(open_listeners(options()).error().code(), ErrorCode::kInUse);
}

TEST_F(PluginListeners, NeverRemoveWhatIsNotASocket) {
  std::filesystem::create_directories(folder_);
  for (const char* name : {"vsphere.sock", ".vsphere.new"}) {
    std::ofstream(path(name)) << "precious";
    auto listeners = open_listeners(options());
    ASSERT_FALSE(listeners);
    EXPECT_EQ(listeners.error().code(), ErrorCode::kExists);
    EXPECT_THAT(listeners.error().text(), HasSubstr("something that is not a socket has this name"));
    EXPECT_EQ(std::filesystem::file_size(path(name)), 8u);
    std::filesystem::remove(path(name));
  }
  std::filesystem::create_symlink("/nowhere", path("vsphere.sock"));
  EXPECT_EQ(open_listeners(options()).error().code(), ErrorCode::kExists);
  EXPECT_TRUE(std::filesystem::is_symlink(path("vsphere.sock")));
}

TEST_F(PluginListeners, RefuseAPathThatNoSocketCanHave) {
  ListenOptions wanted = options();
  wanted.folder = temporary_.path() + "/" + std::string(100, 'x');
  auto listeners = open_listeners(wanted);
  ASSERT_FALSE(listeners);
  EXPECT_EQ(listeners.error().code(), ErrorCode::kLimit);
  EXPECT_THAT(listeners.error().text(), HasSubstr("a unix socket's has at most 107"));
}

TEST_F(PluginListeners, TakeAPathOfTheLongestLength) {
  ListenOptions wanted = options({"v"});
  wanted.folder = temporary_.path() + "/";
  wanted.folder.resize(107 - std::string("/v.sock").size(), 'x');
  auto listeners = open_listeners(wanted);
  ASSERT_TRUE(listeners) << listeners.error().text();
  EXPECT_TRUE(RawClient(wanted.folder + "/v.sock").is_connected());
}

TEST_F(PluginListeners, RefuseDriverNamesThatAreNoFileNames) {
  for (const char* driver : {"", "a/b", "..", ".hidden", "-x", "a b", "ä"}) {
    EXPECT_EQ(open_listeners(options({driver})).error().code(), ErrorCode::kInvalid) << driver;
  }
  EXPECT_EQ(open_listeners(options(std::vector<std::string>{})).error().code(), ErrorCode::kInvalid);
}

TEST_F(PluginListeners, NeverShowAClientASocketThatRefuses) {
  std::promise<void> done;
  int refused = 0;
  // A client that had looked the path up when the file was removed is refused too, and rightly.
  auto file_now = [&]() -> std::optional<std::pair<ino_t, std::int64_t>> {
    struct stat status = {};
    if (::lstat(path("vsphere.sock").c_str(), &status) != 0) return std::nullopt;
    return std::pair(status.st_ino, status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec);
  };
  std::thread client([&, end = done.get_future()] {
    while (end.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      const auto before = file_now();
      RawClient attempt(path("vsphere.sock"));
      if (!attempt.is_connected() && attempt.connect_error() == ECONNREFUSED && before && before == file_now()) ++refused;
    }
  });
  for (int i = 0; i < 300; ++i) {
    auto listeners = open_listeners(options());
    ASSERT_TRUE(listeners) << listeners.error().text();
    listeners->front().file.remove();  // The file before the socket, as the server does.
  }
  done.set_value();
  client.join();
  EXPECT_EQ(refused, 0);
}

/// As systemd does it: a listening socket that lives longer than the service, handed over as descriptor 3.
class SocketActivation : public PluginListeners {
 protected:
  SocketActivation() {
    std::filesystem::create_directories(folder_);
    base::UniqueFd listening = foreign_socket(path("vsphere.sock"), SOCK_STREAM, true);
    EXPECT_EQ(::dup2(listening.get(), kShellFd), kShellFd);
  }
  ~SocketActivation() override { ::close(kShellFd); }

  std::future<std::string> start(const std::string& environment, const std::string& drivers) {
    // $$ is the shell's process, which becomes the child.
    const std::string script = fmt::format("{} exec {} {} {} 3<&{}", environment,
                                           VDVS_SOCKET_ACTIVATION_CHILD, folder_, drivers, kShellFd);
    return std::async(std::launch::async, [script] {
      auto outcome = base::run_command({"/bin/sh", "-c", script},
                                       {.deadline = base::deadline_in(kGiveUp), .inherited_fd = kShellFd});
      return outcome ? outcome->output : outcome.error().text();
    });
  }

  static constexpr int kShellFd = 9;
};

TEST_F(SocketActivation, ClientThatCameBeforeTheServiceIsServedAndTheFileStays) {
  RawClient early(path("vsphere.sock"));
  early.send(post("/VolumeDriver.List", "{}"));
  auto output = start("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=vsphere", "vsphere vmdk");
  EXPECT_THAT(early.receive().body, HasSubstr(R"("Name":"vsphere")"));
  EXPECT_EQ(output.get(), "vsphere inherited\nvmdk made\n");
  EXPECT_THAT(files(), ElementsAre("vsphere.sock"));
  EXPECT_TRUE(RawClient(path("vsphere.sock")).is_connected());  // The next start will serve it.
}

TEST_F(SocketActivation, DriverIsKnownByThePathWhereTheUnitGivesNoName) {
  RawClient early(path("vsphere.sock"));
  early.send(post("/VolumeDriver.List", "{}"));
  auto output = start("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=vdvs.socket", "vmdk vsphere");
  EXPECT_EQ(early.receive().status, 200u);
  EXPECT_EQ(output.get(), "vsphere inherited\nvmdk made\n");
}

TEST_F(SocketActivation, SocketOfNoDriverIsRefused) {
  EXPECT_THAT(start("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=other", "vmdk vfile").get(),
              AllOf(HasSubstr("neither its name 'other' nor its path"), HasSubstr("FileDescriptorName=")));
}

TEST_F(SocketActivation, DescriptorThatDoesNotListenIsRefused) {
  ::close(kShellFd);
  base::UniqueFd file(::open("/dev/null", O_RDONLY));
  ASSERT_EQ(::dup2(file.get(), kShellFd), kShellFd);
  EXPECT_THAT(start("LISTEN_PID=$$ LISTEN_FDS=1", "vsphere").get(),
              HasSubstr("take over descriptor 3 (LISTEN_FDS): it is not a unix socket"));
}

TEST_F(SocketActivation, SocketsOfAnotherProcessAreLeftAlone) {
  ::unlink(path("vsphere.sock").c_str());
  auto output = start("LISTEN_PID=1 LISTEN_FDS=1", "vsphere");
  // The child makes a socket of its own.
  const auto deadline = base::deadline_in(kGiveUp);
  while (!RawClient(path("vsphere.sock")).is_connected() && !base::has_passed(deadline))
    std::this_thread::yield();
  RawClient client(path("vsphere.sock"));
  client.send(post("/VolumeDriver.List", "{}"));
  EXPECT_EQ(client.receive().status, 200u);
  EXPECT_EQ(output.get(), "vsphere made\nLISTEN_FDS is still set\n");
}

}  // namespace
}  // namespace vdvs::mountd
