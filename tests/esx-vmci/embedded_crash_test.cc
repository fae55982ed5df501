// The process is killed at every fault point of every operation, and a new one must find a volume that is
// there as a whole or not at all, with nothing left over. Then the same with the step failing instead.
#include <algorithm>
#include <map>
#include <set>

#include "base/fault.h"
#include "esx-vmci/fault_points.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::AnyOf;
using ::testing::IsEmpty;

constexpr int kKilled = 128 + SIGKILL;

/// An operation on the volume "db", and what must stand before it.
struct Operation {
  const char* name;
  std::function<void(ControlPlane&)> prepare;
  std::function<base::Result<void>(ControlPlane&)> run;
};

base::Result<void> drop_value(const base::Result<base::DiskAddress>& address) {
  if (!address) return std::unexpected(address.error());
  return {};
}

void make(ControlPlane& plane, const std::string& name, InitState state) {
  ASSERT_OK(plane.create(name_of(name), {{"size", "4mb"}}, {}));
  if (state != InitState::kNew) {
    ASSERT_OK(plane.set_init(name_of(name), state, ""));
  }
}

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"create", [](ControlPlane&) {},
       [](ControlPlane& p) { return p.create(name_of("db"), {{"size", "4mb"}}, {}); }},
      {"clone", [](ControlPlane& p) { make(p, "src", InitState::kReady); },
       [](ControlPlane& p) { return p.create(name_of("db"), {{"clone-from", "src"}}, {}); }},
      {"remove", [](ControlPlane& p) { make(p, "db", InitState::kReady); },
       [](ControlPlane& p) { return p.remove(name_of("db")); }},
      {"attach", [](ControlPlane& p) { make(p, "db", InitState::kReady); },
       [](ControlPlane& p) { return drop_value(p.attach(name_of("db"))); }},
      {"detach",
       [](ControlPlane& p) {
         make(p, "db", InitState::kReady);
         ASSERT_OK(p.attach(name_of("db")));
       },
       [](ControlPlane& p) { return p.detach(name_of("db")); }},
      {"reset", [](ControlPlane& p) { make(p, "db", InitState::kFormatting); },
       [](ControlPlane& p) { return p.reset(name_of("db")); }},
  };
  return all;
}

class EmbeddedCrash : public ::testing::Test {
 protected:
  ~EmbeddedCrash() override {
    EXPECT_OK(base::set_faults(""));
    clear_loops_below(folder_.path());
  }

  /// What must be true after any crash, and stay true when the operation is asked for again.
  void expect_convergence(const Operation& operation) {
    auto plane = embedded(folder_.path());
    auto info = plane->get(name_of("db"));
    const bool is_there = info.has_value();
    if (!is_there) {
      EXPECT_EQ(code_of(info), "E_NOT_FOUND");
    }
    auto names = plane->list();
    ASSERT_OK(names);
    EXPECT_EQ(std::ranges::count(*names, name_of("db@ds")), is_there ? 1 : 0);
    if (is_there) {
      EXPECT_EQ(loops_below(folder_.path()).empty(), !info->is_attached_here)
          << "a device that nobody knows of";
    }

    auto again = operation.run(*plane);
    const std::string name = operation.name;
    if (name == "create" || name == "clone") {
      EXPECT_THAT(code_of(again), AnyOf("OK", "E_EXISTS"));
    }
    if (name == "remove" || name == "attach" || name == "detach") {
      EXPECT_OK(again);
    }
    if (name == "reset") {  // invalid: it was done
      EXPECT_THAT(code_of(again), AnyOf("OK", "E_INVALID"));
    }

    if (name != "remove") {
      ASSERT_OK(plane->attach(name_of("db")));
      EXPECT_TRUE(plane->get(name_of("db"))->is_attached_here);
      ASSERT_OK(plane->detach(name_of("db")));
    }
    EXPECT_THAT(loops_below(folder_.path()), IsEmpty());
    ASSERT_OK(plane->remove(name_of("db")));
    ASSERT_OK(plane->remove(name_of("src")));
    std::vector<std::string> rest;
    for (const auto& entry : std::filesystem::directory_iterator(volumes_folder(folder_.path())))
      rest.push_back(entry.path().filename());
    EXPECT_THAT(rest, ::testing::ElementsAre(".vdvs.lock")) << "something was left over";
  }

  TemporaryFolder folder_;
};

TEST_F(EmbeddedCrash, ConvergesAfterAKillAtEveryPoint) {
  std::set<std::string_view> reached;
  for (const Operation& operation : operations()) {
    for (std::string_view point : kFaultPoints) {
      SCOPED_TRACE(fmt::format("{} killed at {}", operation.name, point));
      operation.prepare(*embedded(folder_.path()));
      const int status = in_child([&] {
        auto plane = embedded(folder_.path());
        if (!base::set_faults(std::string(point) + "=kill")) return 2;
        return operation.run(*plane) ? 0 : 1;
      });
      ASSERT_THAT(status, AnyOf(0, kKilled));
      if (status == kKilled) reached.insert(point);
      expect_convergence(operation);
    }
  }
  EXPECT_EQ(reached.size(), kFaultPoints.size()) << "a fault point that no operation passes";
}

TEST_F(EmbeddedCrash, ConvergesAfterAFailureAtEveryPoint) {
  for (const Operation& operation : operations()) {
    for (std::string_view point : kFaultPoints) {
      SCOPED_TRACE(fmt::format("{} failing at {}", operation.name, point));
      auto plane = embedded(folder_.path());
      operation.prepare(*plane);
      ASSERT_OK(base::set_faults(std::string(point) + "=fail"));
      auto outcome = operation.run(*plane);
      ASSERT_OK(base::set_faults(""));
      EXPECT_THAT(code_of(outcome), AnyOf("OK", "E_IO"));
      expect_convergence(operation);
    }
  }
}

TEST_F(EmbeddedCrash, AWorkingInstanceFinishesWhatAnotherLeft) {
  // Without a restart: the next create of that name clears the way.
  auto plane = embedded(folder_.path());
  for (std::string_view point :
       {kFaultCreateIntent, kFaultCreateSidecar, kFaultCreateExtent, kFaultCreateCommit}) {
    SCOPED_TRACE(point);
    ASSERT_EQ(in_child([&] {
                (void)base::set_faults(std::string(point) + "=kill");
                return embedded(folder_.path())->create(name_of("db"), {{"size", "4mb"}}, {}) ? 0 : 1;
              }),
              kKilled);
    EXPECT_THAT(code_of(plane->create(name_of("db"), {{"size", "4mb"}}, {})), AnyOf("OK", "E_EXISTS"));
    ASSERT_OK(plane->remove(name_of("db")));
  }
}

TEST_F(EmbeddedCrash, StartLeavesACreateThatIsStillRunningAlone) {
  const std::string gate = folder_.path() + "/gate";
  const pid_t child = ::fork();
  if (child == 0) {
    auto plane = embedded(folder_.path());
    (void)base::set_faults("create.extent.after=block:" + gate);
    ::_exit(plane->create(name_of("db"), {{"size", "4mb"}}, {}) ? 0 : 1);
  }
  const std::string extent = volumes_folder(folder_.path()) + "/db-flat.vmdk";
  // The child makes the file and then waits at the gate: looking is all that can be done from outside.
  while (!std::filesystem::exists(extent)) ::sched_yield();
  auto plane = embedded(folder_.path());
  EXPECT_TRUE(std::filesystem::exists(extent)) << "the start of another instance took it away";
  write_text(gate, "");
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_OK(plane->get(name_of("db")));
}

TEST_F(EmbeddedCrash, ExactlyOneOfManyProcessesCreates) {
  (void)embedded(folder_.path());
  for (int round = 0; round < 5; ++round) {
    const std::string name = fmt::format("db{}", round);
    const std::vector<int> statuses = side_by_side(6, [&](int i) {
      auto plane = embedded(folder_.path(), fmt::format("host-{}", i));
      auto made = plane->create(name_of(name), {{"size", "4mb"}}, {});
      return made ? 0 : made.error().code() == base::ErrorCode::kExists ? 1 : 2;
    });
    EXPECT_EQ(std::ranges::count(statuses, 0), 1);
    EXPECT_EQ(std::ranges::count(statuses, 1), 5);
  }
}

TEST_F(EmbeddedCrash, ExactlyOneOfManyHostsAttaches) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "4mb"}}, {}));
  const std::vector<int> statuses = side_by_side(6, [&](int i) {
    auto address = embedded(folder_.path(), fmt::format("host-{}", i))->attach(name_of("db"));
    return address ? 0 : address.error().code() == base::ErrorCode::kBusyElsewhere ? 1 : 2;
  });
  EXPECT_EQ(std::ranges::count(statuses, 0), 1);
  EXPECT_EQ(std::ranges::count(statuses, 1), 5);
  const auto winner = std::ranges::find(statuses, 0) - statuses.begin();
  EXPECT_EQ(plane->get(name_of("db"))->holder->name, fmt::format("host-{}", winner));
}

}  // namespace
}  // namespace vdvs::esx::testing
