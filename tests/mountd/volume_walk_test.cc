// Every cell of the table, and every walk: from every state, to every goal, with every operation failing or the daemon
// dying before and after it took effect. Whatever happens, no promise is broken and the next walk arrives where an undisturbed one does.

#include "mountd/volume_walk.h"

#include <gtest/gtest.h>

#include "fake_world.h"

namespace vdvs::mountd {
namespace {

constexpr const char* kName = "db";

// Puts the disk "db" into the state that look() will call `seen`.
void arrange(FakeMachine& machine, Seen seen) {
  if (seen == Seen::kAbsent) return;
  FakeDisk& disk = machine.disks[kName];
  auto make_used = [&disk] {
    disk.init = esx::InitState::kReady;
    disk.content = FakeContent::kFileSystem;
    disk.fs_on_disk = disk.fs_uuid = "used";
    disk.has_user_data = true;
    disk.is_root_prepared = true;
  };
  if (seen >= Seen::kNoDevice) disk.place = FakeDisk::kHere;
  switch (seen) {
    case Seen::kUnreachable: make_used(); machine.is_reachable = false; break;
    case Seen::kAbsent: break;
    case Seen::kDetached: break;
    case Seen::kDetachedHalfway:
    case Seen::kHalfway:
      disk.init = esx::InitState::kFormatting;
      disk.content = FakeContent::kForeign;
      break;
    case Seen::kElsewhere: make_used(); disk.place = FakeDisk::kElsewhere; break;
    case Seen::kNoDevice: make_used(); disk.is_device_visible = false; break;
    case Seen::kBlank: break;
    case Seen::kBlankNotNew: make_used(); disk.content = FakeContent::kBlank; break;
    case Seen::kForeign: make_used(); disk.content = FakeContent::kForeign; break;
    case Seen::kWrongFileSystem: make_used(); disk.fs_on_disk = "another"; break;
    case Seen::kUnclean: make_used(); disk.is_unclean = true; break;
    case Seen::kFormatted: make_used(); break;
    case Seen::kMounted:
    case Seen::kHeld: make_used(); disk.is_mounted = true; break;
  }
}

WalkRequest request_to(Goal goal, bool is_held) {
  return {.goal = goal,
          .name = *esx::VolumeName::parse(kName),
          .known_as = "db@ds",
          .known_disk_uuid = {},
          .known_fs_uuid = {},
          .is_held = is_held,
          .options = {{"fstype", "ext4"}},
          .progress = {},
          .deadline = base::Deadline::max()};
}

struct Outcome {
  bool is_reached = false;
  std::string code;  ///< Of the refusal.
  Seen seen = Seen::kAbsent;
  bool operator==(const Outcome&) const = default;
};

Outcome run(FakeWorld& fake, Goal goal, bool is_held) {
  auto end = walk(fake.world, request_to(goal, is_held));
  if (!end) return {false, std::string(base::code_name(end.error().code())), Seen::kAbsent};
  return {true, "", end->seen};
}

std::string cell(Goal goal, Seen seen) {
  return std::string(goal_name(goal)) + " from " + std::string(seen_name(seen));
}

template <typename Body>
void for_every_cell(Body body) {
  for (int goal = 0; goal < kGoalCount; ++goal) {
    for (int seen = 0; seen < kSeenCount; ++seen) body(static_cast<Goal>(goal), static_cast<Seen>(seen));
  }
}

TEST(VolumePlan, EveryCellNamesAStep) {
  for_every_cell([](Goal goal, Seen seen) { EXPECT_FALSE(step_name(decide(goal, seen)).empty()) << cell(goal, seen); });
}

TEST(VolumePlan, ReadsAsItWasAgreed) {
  EXPECT_EQ(decide(Goal::kMounted, Seen::kDetached), Step::kAttach);
  EXPECT_EQ(decide(Goal::kMounted, Seen::kBlank), Step::kFormat);
  EXPECT_EQ(decide(Goal::kMounted, Seen::kForeign), Step::kRefuseForeign);
  EXPECT_EQ(decide(Goal::kMounted, Seen::kElsewhere), Step::kRefuseElsewhere);
  EXPECT_EQ(decide(Goal::kMounted, Seen::kAbsent), Step::kRefuseAbsent);
  EXPECT_EQ(decide(Goal::kDetached, Seen::kHeld), Step::kRefuseHeld);
  EXPECT_EQ(decide(Goal::kRemoved, Seen::kMounted), Step::kUnmount);
  EXPECT_EQ(decide(Goal::kRemoved, Seen::kAbsent), Step::kDone);
  EXPECT_EQ(decide(Goal::kPresent, Seen::kForeign), Step::kDone);
}

TEST(VolumeWalk, LookSeesEveryStateAsItWasArranged) {
  for (int seen = 0; seen < kSeenCount; ++seen) {
    FakeWorld fake;
    arrange(fake.machine, static_cast<Seen>(seen));
    auto end = look_at(fake.world, request_to(Goal::kMounted, static_cast<Seen>(seen) == Seen::kHeld));
    ASSERT_TRUE(end) << seen_name(static_cast<Seen>(seen));
    EXPECT_EQ(end->seen, static_cast<Seen>(seen)) << seen_name(end->seen);
  }
}

TEST(VolumeWalk, EveryWalkEndsInItsGoalOrARefusalAndKeepsEveryPromise) {
  for_every_cell([](Goal goal, Seen seen) {
    FakeWorld fake;
    arrange(fake.machine, seen);
    const bool had_data = fake.machine.disks.contains(kName) && fake.machine.disks[kName].has_user_data;
    const Outcome outcome = run(fake, goal, seen == Seen::kHeld);
    EXPECT_TRUE(fake.machine.broken_promises.empty()) << cell(goal, seen) << ": " << fake.machine.broken_promises.front();
    if (outcome.is_reached) {
      EXPECT_EQ(decide(goal, outcome.seen), Step::kDone) << cell(goal, seen);
    } else {
      EXPECT_NE(outcome.code, "E_INTERNAL") << cell(goal, seen);
    }
    const bool is_removed = goal == Goal::kRemoved && outcome.is_reached;
    if (had_data && !is_removed) {
      EXPECT_TRUE(fake.machine.disks[kName].has_user_data) << cell(goal, seen);
    }
  });
}

TEST(VolumeWalk, ConvergesFromEveryStateWhateverFailsOrDiesAnywhere) {
  int walks = 0;
  for_every_cell([&walks](Goal goal, Seen seen) {
    const bool is_held = seen == Seen::kHeld;
    FakeWorld undisturbed;
    arrange(undisturbed.machine, seen);
    const Outcome expected = run(undisturbed, goal, is_held);
    for (FaultKind kind : {FaultKind::kFailBefore, FaultKind::kFailAfter, FaultKind::kKillBefore, FaultKind::kKillAfter}) {
      for (int at = 0; at < undisturbed.machine.calls; ++at) {
        FakeWorld fake;
        arrange(fake.machine, seen);
        fake.machine.fault_at = at;
        fake.machine.fault = kind;
        try {
          (void)run(fake, goal, is_held);
        } catch (const Killed&) {
        }
        fake.machine.fault = FaultKind::kNone;
        EXPECT_EQ(run(fake, goal, is_held), expected) << cell(goal, seen) << ", fault " << static_cast<int>(kind) << " at " << at;
        EXPECT_TRUE(fake.machine.broken_promises.empty())
            << cell(goal, seen) << ", fault at " << at << ": " << fake.machine.broken_promises.front();
        ++walks;
      }
    }
  });
  RecordProperty("walks", walks);
  EXPECT_GT(walks, 200);
}

TEST(VolumeWalk, ADiskThatCannotBeReadIsDetachedAllTheSame) {
  FakeWorld fake;
  arrange(fake.machine, Seen::kFormatted);
  fake.prober.is_broken = true;
  EXPECT_FALSE(run(fake, Goal::kMounted, false).is_reached);
  EXPECT_TRUE(run(fake, Goal::kDetached, false).is_reached);
}

TEST(VolumeWalk, FirstMountPreparesTheRootAndALaterOneDoesNot) {
  FakeWorld fake;
  arrange(fake.machine, Seen::kDetached);
  ASSERT_TRUE(run(fake, Goal::kMounted, false).is_reached);
  EXPECT_TRUE(fake.machine.disks[kName].is_root_prepared);
  ASSERT_TRUE(run(fake, Goal::kDetached, false).is_reached);
  fake.machine.disks[kName].has_user_data = true;  // the fake breaks a promise if the root is prepared again
  ASSERT_TRUE(run(fake, Goal::kMounted, false).is_reached);
  EXPECT_TRUE(fake.machine.broken_promises.empty());
  EXPECT_EQ(fake.machine.formats, 1);
}

TEST(VolumeWalk, AFileSystemThatOnlyTheCatalogueKnowsIsComparedToo) {
  FakeWorld fake;
  arrange(fake.machine, Seen::kFormatted);
  fake.machine.disks[kName].fs_uuid.clear();  // a datastore that keeps no such record
  WalkRequest request = request_to(Goal::kMounted, false);
  request.known_disk_uuid = fake.machine.disks[kName].uuid;
  request.known_fs_uuid = "the one we made";
  auto end = walk(fake.world, request);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::ErrorCode::kCorrupt);
  EXPECT_NE(end.error().message().find("used"), std::string::npos) << end.error().text();
}

TEST(VolumeWalk, RefusalsSayWhoHoldsItAndWhatToDo) {
  FakeWorld fake;
  arrange(fake.machine, Seen::kElsewhere);
  auto end = walk(fake.world, request_to(Goal::kMounted, false));
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().text(),
            "mount 'db': disk is attached to 'web-2' since 2026-01-01T10:41:00Z [E_BUSY_ELSEWHERE]; stop its container on "
            "'web-2', then try again");
}

TEST(VolumeWalk, AMountedVolumeIsUnmountedThoughItsDescriptorIsGone) {
  FakeWorld fake;
  arrange(fake.machine, Seen::kMounted);
  fake.machine.is_reachable = false;
  EXPECT_TRUE(run(fake, Goal::kUnmounted, false).is_reached);
  EXPECT_FALSE(fake.machine.disks[kName].is_mounted);
}

}  // namespace
}  // namespace vdvs::mountd
