// The connection between a client and the whole service is cut after each byte of what the two say to each
// other. Every operation is asked again where its answer was lost, and all must come out as if nothing had
// been.
#include "tests/esx-vmci/client/cutting_proxy.h"

namespace vdvs::esx::testing {
namespace {

/// What is done over one connection, on a volume of this name.
using Story = std::function<void(ControlPlane&, const std::string& volume)>;

/// Those of a story without cuts.
struct Lengths {
  std::size_t to_service = 0;
  std::size_t to_client = 0;
};

class CutConnection : public ::testing::Test {
 protected:
  ~CutConnection() override { clear_loops_below(folder_.path()); }

  CuttingProxy proxy(Cut cut) {
    return CuttingProxy(fmt::format("{}/p{}.sock", folder_.path(), next_++), folder_.path() + "/s.sock", cut);
  }

  Lengths lengths_of(const Story& story) {
    CuttingProxy whole = proxy({});
    story(*client_of(whole.endpoint()), volume_of(Direction::kToService, 99999));
    EXPECT_EQ(whole.connections(), 1u);
    return {whole.carried(Direction::kToService), whole.carried(Direction::kToClient)};
  }

  static std::string volume_of(Direction direction, std::size_t after_bytes) {
    return fmt::format("v{}{:05}", direction == Direction::kToService ? "s" : "c", after_bytes);
  }

  /// Cuts after each `stride`th byte, several at once: most of the time is spent waiting to try again.
  void tell_with_cuts(const Story& story, std::size_t stride) {
    constexpr std::size_t kThreads = 8;
    const Lengths lengths = lengths_of(story);
    ASSERT_GT(lengths.to_service, 200u);
    std::vector<Cut> cuts;
    for (std::size_t at = 0; at <= lengths.to_service; at += stride)
      cuts.push_back({Direction::kToService, at});
    for (std::size_t at = 0; at <= lengths.to_client; at += stride)
      cuts.push_back({Direction::kToClient, at});
    std::atomic<std::size_t> next_cut = 0;
    std::atomic<std::size_t> reconnected = 0;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (std::size_t at = next_cut++; at < cuts.size(); at = next_cut++) {
          const auto& [direction, after_bytes] = cuts[at];
          SCOPED_TRACE(fmt::format("cut after {} bytes to the {}", after_bytes,
                                   direction == Direction::kToService ? "service" : "client"));
          CuttingProxy cutting = proxy(cuts[at]);
          story(*client_of(cutting.endpoint()), volume_of(direction, after_bytes));
          reconnected += cutting.connections() > 1 ? 1 : 0;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    // Not where the cut came with the last byte of all.
    EXPECT_GE(reconnected + 2 * kThreads, cuts.size());
    EXPECT_THAT(client_of(served_.endpoint())->list(),
                ::testing::Truly([](const auto& names) { return names && names->empty(); }));
  }

  TemporaryFolder folder_;
  std::atomic<int> next_ = 0;
  RealService service_{folder_.path()};
  Served served_{{unix_at(folder_.path() + "/s.sock", "host-a")}, service_.handler(), service_.vms()};
};

TEST_F(CutConnection, AnywhereLosesNothingOfAVolumesFirstFormatting) {
  tell_with_cuts(
      [](ControlPlane& plane, const std::string& volume) {
        const VolumeName name = name_of(volume + "@ds");
        EXPECT_OK(plane.create(name, {{"size", "8mb"}, {"access", "read-only"}}, {}));
        EXPECT_OK(plane.set_init(name, InitState::kFormatting, ""));
        EXPECT_OK(plane.reset(name));
        EXPECT_OK(plane.set_init(name, InitState::kFormatted, "f00d"));
        auto info = plane.get(name);
        EXPECT_OK(info);
        if (info) {
          EXPECT_EQ(info->init, InitState::kFormatted);
          EXPECT_EQ(info->fs_uuid, "f00d");
          EXPECT_EQ(info->size_bytes, 8u << 20);
        }
        EXPECT_OK(plane.remove(name));
        EXPECT_EQ(code_of(plane.get(name)), "E_NOT_FOUND");
      },
      3);
}

TEST_F(CutConnection, AnywhereLosesNothingOfAnAttachAndADetach) {
  tell_with_cuts(
      [](ControlPlane& plane, const std::string& volume) {
        const VolumeName name = name_of(volume + "@ds");
        EXPECT_OK(plane.create(name, {{"size", "8mb"}}, {}));
        auto address = plane.attach(name);
        EXPECT_OK(address);
        auto info = plane.get(name);
        EXPECT_OK(info);
        if (info && address) {
          EXPECT_EQ(info->address, *address);
        }
        EXPECT_OK(plane.detach(name));
        EXPECT_OK(plane.remove(name));
      },
      11);
}

}  // namespace
}  // namespace vdvs::esx::testing
