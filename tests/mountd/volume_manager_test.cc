// Answers in time, in order, once; and what happens by itself.

#include "mountd/volume_manager.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <future>
#include <thread>

#include "fake_world.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::mountd {
namespace {

using namespace std::chrono_literals;

// A gate in front of the fake control plane: get() and attach() wait while it is shut.
class GatedControlPlane : public FakeControlPlane {
 public:
  using FakeControlPlane::FakeControlPlane;
  void shut() {
    std::lock_guard lock(mutex_);
    is_shut_ = true;
  }
  void open() {
    {
      std::lock_guard lock(mutex_);
      is_shut_ = false;
    }
    changed_.notify_all();
  }
  base::Result<esx::VolumeInfo> get(const esx::VolumeName& name) override {
    wait();
    auto info = FakeControlPlane::get(name);
    if (after_get) after_get();
    return info;
  }
  std::function<void()> after_get;  ///< In the strand of the volume.

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !is_shut_; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_shut_ = false;
};

class FakeEngine : public Engine {
 public:
  base::Result<std::vector<ContainerMount>> container_mounts(base::Deadline) override {
    std::lock_guard lock(mutex_);
    ++asked;
    return running;
  }
  std::mutex mutex_;
  int asked = 0;
  base::Result<std::vector<ContainerMount>> running = std::vector<ContainerMount>{};
};

class VolumeManagerTest : public ::testing::Test {
 protected:
  VolumeManagerTest() {
    ManagerOptions options;
    options.detach_linger = 1ms;
    options.answer_time = 300ms;
    options.query_time = 200ms;
    manager_ = VolumeManager::make(loop_, keeper_, &engine_, options);
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~VolumeManagerTest() override {
    control_plane_.open();
    manager_->drain();
    loop_.stop();
    thread_.join();
  }

  std::future<PluginReply> ask(Method method, const std::string& name = "db", const std::string& id = "") {
    auto promise = std::make_shared<std::promise<PluginReply>>();
    PluginRequest request{.method = method, .driver = "vsphere", .name = name, .mount_id = id, .options = {},
                          .peer_pid = ::getpid(), .request_id = "t"};
    auto future = promise->get_future();
    boost::asio::post(loop_, [this, request, promise] {
      manager_->handle(request, [promise](PluginReply reply) { promise->set_value(std::move(reply)); });
    });
    return future;
  }

  // Waits for an event that the manager brings about by itself, with a bound that only a failure reaches.
  template <typename Condition>
  bool comes_true(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      ask(Method::kCapabilities).get();  // a round trip through the loop, in place of a sleep
      auto barrier = ask(Method::kUnmount, "no-such-volume", "none");
      barrier.get();
      if (condition()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  tests::TemporaryFolder folder_;
  FakeMachine machine_;
  GatedControlPlane control_plane_{machine_};
  FakeWatcher watcher_{machine_};
  FakeProber prober_{machine_};
  FakeFormatter formatter_{machine_};
  FakeMounter mounter_{machine_, "/mnt/fake"};
  std::unique_ptr<VolumeCatalogue> catalogue_ = std::move(VolumeCatalogue::open(folder_.path() + "/c.log")).value();
  std::unique_ptr<MountHolders> holders_ = std::move(MountHolders::open(folder_.path() + "/run", "boot")).value();
  VolumeKeeper keeper_{World{control_plane_, watcher_, prober_, formatter_, mounter_, "/mnt/fake"}, *holders_, *catalogue_};
  FakeEngine engine_;
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{loop_.get_executor()};
  std::unique_ptr<VolumeManager> manager_;
  std::thread thread_;
};

TEST_F(VolumeManagerTest, CreatesMountsCountsUnmountsAndDetaches) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  auto mounted = ask(Method::kMount, "db", "id1").get();
  ASSERT_TRUE(mounted);
  EXPECT_EQ(std::get<MountPoint>(*mounted).path, "/mnt/fake/db@ds");
  EXPECT_EQ(holders_->total("db@ds"), 1);
  ASSERT_TRUE(ask(Method::kUnmount, "db", "id1").get());
  EXPECT_FALSE(machine_.disks["db"].is_mounted);
  EXPECT_TRUE(comes_true([&] {
    auto view = ask(Method::kGet).get();
    return view && std::get<VolumeView>(*view).status.at("status") == "detached";
  }));
}

TEST_F(VolumeManagerTest, ADiskThatLingersElsewhereIsWaitedForByMountAndRemove) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  for (Method method : {Method::kMount, Method::kRemove}) {
    machine_.disks["db"].place = FakeDisk::kElsewhere;
    int looks = 0;
    control_plane_.after_get = [&] {
      if (++looks == 1) machine_.disks["db"].place = FakeDisk::kNowhere;  // its host lets go after we were refused
    };
    auto reply = ask(method, "db", "id1").get();
    EXPECT_TRUE(reply) << method_name(method) << ": " << reply.error().text();
    if (method == Method::kMount) {
      ASSERT_TRUE(ask(Method::kUnmount, "db", "id1").get());
    }
  }
  EXPECT_FALSE(machine_.disks.contains("db"));
}

TEST_F(VolumeManagerTest, BadNamesAreRefusedBeforeAnythingHappens) {
  for (const char* name : {"", "../x", "a/b", "foo-flat", "vol-123456"}) {
    auto reply = ask(Method::kCreate, name).get();
    ASSERT_FALSE(reply) << name;
    EXPECT_EQ(reply.error().code(), base::ErrorCode::kInvalid) << name;
  }
  EXPECT_TRUE(machine_.disks.empty());
}

TEST_F(VolumeManagerTest, ASlowChangeIsAnsweredInTimeAndGoesOn) {
  control_plane_.shut();
  auto reply = ask(Method::kCreate).get();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::ErrorCode::kTimeout);
  EXPECT_NE(reply.error().text().find("try again"), std::string::npos);
  control_plane_.open();
  EXPECT_TRUE(ask(Method::kCreate).get());
  EXPECT_TRUE(machine_.disks.contains("db"));
}

TEST_F(VolumeManagerTest, AMountThatDockerWasToldHasFailedIsNotCounted) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  control_plane_.shut();
  ASSERT_FALSE(ask(Method::kMount, "db", "id1").get());
  control_plane_.open();
  ASSERT_TRUE(ask(Method::kUnmount, "db", "barrier").get());
  EXPECT_EQ(holders_->total("db@ds"), 0);
}

TEST_F(VolumeManagerTest, GetIsAnsweredFromMemoryWhenTheControlPlaneIsSilent) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  control_plane_.shut();
  auto reply = ask(Method::kGet).get();
  ASSERT_TRUE(reply);
  EXPECT_TRUE(std::get<VolumeView>(*reply).status.contains("backend"));
}

TEST_F(VolumeManagerTest, GetOfAnUnknownVolumeWhenTheControlPlaneIsSilentIsNotAnswered) {
  control_plane_.shut();
  auto reply = ask(Method::kGet).get();
  ASSERT_TRUE(reply);
  EXPECT_TRUE(std::holds_alternative<NoAnswer>(*reply)) << "any answer would make Docker forget its own record";
}

TEST_F(VolumeManagerTest, ASlowVolumeDoesNotHoldUpAnother) {
  ASSERT_TRUE(ask(Method::kCreate, "db").get());
  auto lists = ask(Method::kList);
  ASSERT_TRUE(lists.get());
  control_plane_.shut();
  auto slow = ask(Method::kMount, "db", "id1");
  auto capabilities = ask(Method::kCapabilities);
  EXPECT_EQ(capabilities.wait_for(150ms), std::future_status::ready);
  control_plane_.open();
  EXPECT_TRUE(slow.get());
}

TEST_F(VolumeManagerTest, ALostUnmountIsFoundWhenTheVolumeIsRemoved) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  ASSERT_TRUE(ask(Method::kMount, "db", "id1").get());
  ASSERT_TRUE(holders_->drop("db@ds", "id1"));
  ASSERT_TRUE(holders_->add("db@ds", "id1", {::getpid(), 1}));  // by an engine that is dead
  while (boot_time() <= *holders_->of("db@ds")[0].mounted_at) std::this_thread::yield();  // a clock that counts milliseconds
  EXPECT_TRUE(ask(Method::kRemove).get());
  EXPECT_FALSE(machine_.disks.contains("db"));
}

TEST_F(VolumeManagerTest, NothingIsDroppedWhileTheEngineDoesNotAnswer) {
  ASSERT_TRUE(ask(Method::kCreate).get());
  ASSERT_TRUE(ask(Method::kMount, "db", "id1").get());
  ASSERT_TRUE(holders_->drop("db@ds", "id1"));
  ASSERT_TRUE(holders_->add("db@ds", "id1", {::getpid(), 1}));
  engine_.running = base::fail(base::ErrorCode::kUnavailable, "no engine");
  boost::asio::post(loop_, [this] { manager_->reconcile(); });
  EXPECT_TRUE(comes_true([&] {
    std::lock_guard lock(engine_.mutex_);
    return engine_.asked > 0;
  }));
  EXPECT_FALSE(ask(Method::kRemove).get());
  EXPECT_EQ(holders_->total("db@ds"), 1);
  EXPECT_TRUE(machine_.disks["db"].is_mounted);
}

}  // namespace
}  // namespace vdvs::mountd
