#include "mountd/volume_plan.h"

#include <array>
#include <cstdlib>

namespace vdvs::mountd {
namespace {

using enum Step;

// Rows: what is seen. Columns: what is wanted.
using Row = std::array<Step, kGoalCount>;
constexpr std::array<Row, kSeenCount> kTable = {{
    // clang-format off
    //                   present             formatted               mounted                 unmounted    detached            removed
    /* unreachable  */ {{kRefuseUnreachable, kRefuseUnreachable,     kRefuseUnreachable,     kDone,       kRefuseUnreachable, kRefuseUnreachable}},
    /* absent       */ {{kCreate,            kCreate,                kRefuseAbsent,          kDone,       kDone,              kDone}},
    /* detached     */ {{kDone,              kAttach,                kAttach,                kDone,       kDone,              kRemove}},
    /* det. halfway */ {{kDone,              kReset,                 kReset,                 kDone,       kDone,              kRemove}},
    /* elsewhere    */ {{kDone,              kRefuseElsewhere,       kRefuseElsewhere,       kDone,       kDone,              kRefuseElsewhere}},
    /* no device    */ {{kDone,              kAwaitDevice,           kAwaitDevice,           kDone,       kDetach,            kDetach}},
    /* halfway      */ {{kDone,              kDetach,                kDetach,                kDone,       kDetach,            kDetach}},
    /* blank        */ {{kDone,              kFormat,                kFormat,                kDone,       kDetach,            kDetach}},
    /* blank, old   */ {{kDone,              kRefuseBlankNotNew,     kRefuseBlankNotNew,     kDone,       kDetach,            kDetach}},
    /* foreign      */ {{kDone,              kRefuseForeign,         kRefuseForeign,         kDone,       kDetach,            kDetach}},
    /* wrong fs     */ {{kDone,              kRefuseWrongFileSystem, kRefuseWrongFileSystem, kDone,       kDetach,            kDetach}},
    /* unclean      */ {{kDone,              kDone,                  kCheck,                 kDone,       kDetach,            kDetach}},
    /* formatted    */ {{kDone,              kDone,                  kMount,                 kDone,       kDetach,            kDetach}},
    /* mounted      */ {{kDone,              kDone,                  kDone,                  kUnmount,    kUnmount,           kUnmount}},
    /* held         */ {{kDone,              kDone,                  kDone,                  kRefuseHeld, kRefuseHeld,        kRefuseHeld}},
    // clang-format on
}};

constexpr Step at(Goal goal, Seen seen) { return kTable[static_cast<std::size_t>(seen)][static_cast<std::size_t>(goal)]; }

template <typename Predicate>
constexpr bool for_every_cell(Predicate predicate) {
  for (int goal = 0; goal < kGoalCount; ++goal) {
    for (int seen = 0; seen < kSeenCount; ++seen) {
      if (!predicate(static_cast<Goal>(goal), static_cast<Seen>(seen), at(static_cast<Goal>(goal), static_cast<Seen>(seen)))) {
        return false;
      }
    }
  }
  return true;
}

static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kFormat || seen == Seen::kBlank; }),
              "only a disk that is proven blank and that the service made new is formatted");
static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kReset || seen == Seen::kDetachedHalfway; }),
              "only a disk that nobody has ever mounted is made blank again, and only while it is attached nowhere");
static_assert(for_every_cell([](Goal goal, Seen seen, Step step) {
                return step != kRemove ||
                       (goal == Goal::kRemoved && (seen == Seen::kDetached || seen == Seen::kDetachedHalfway));
              }),
              "a volume is removed only on request, and only while it is attached nowhere");
static_assert(for_every_cell([](Goal, Seen seen, Step step) {
                return step != kDetach || (seen >= Seen::kNoDevice && seen < Seen::kMounted);
              }),
              "a mounted disk is never detached");
static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kUnmount || seen == Seen::kMounted; }),
              "what a container holds is never unmounted");
static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kMount || seen == Seen::kFormatted; }),
              "only a clean file system, the right one, is mounted");
static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kCreate || seen == Seen::kAbsent; }),
              "nothing is created over something");
static_assert(for_every_cell([](Goal, Seen seen, Step step) { return step != kAttach || seen == Seen::kDetached; }),
              "a disk that somebody has is never attached");

}  // namespace

Step decide(Goal goal, Seen seen) { return at(goal, seen); }

std::string_view goal_name(Goal goal) {
  switch (goal) {
    case Goal::kPresent: return "present";
    case Goal::kFormatted: return "formatted";
    case Goal::kMounted: return "mounted";
    case Goal::kUnmounted: return "unmounted";
    case Goal::kDetached: return "detached";
    case Goal::kRemoved: return "removed";
  }
  std::abort();
}

std::string_view seen_name(Seen seen) {
  switch (seen) {
    case Seen::kUnreachable: return "control plane unreachable";
    case Seen::kAbsent: return "absent";
    case Seen::kDetached: return "detached";
    case Seen::kDetachedHalfway: return "detached, formatting interrupted";
    case Seen::kElsewhere: return "attached elsewhere";
    case Seen::kNoDevice: return "attached";
    case Seen::kHalfway: return "attached, formatting interrupted";
    case Seen::kBlank: return "attached, blank and new";
    case Seen::kBlankNotNew: return "attached, blank but not new";
    case Seen::kForeign: return "attached, foreign data";
    case Seen::kWrongFileSystem: return "attached, another file system";
    case Seen::kUnclean: return "attached, file system unclean";
    case Seen::kFormatted: return "attached, formatted";
    case Seen::kMounted: return "mounted";
    case Seen::kHeld: return "mounted, in use";
  }
  std::abort();
}

std::string_view step_name(Step step) {
  switch (step) {
    case kDone: return "done";
    case kCreate: return "create";
    case kReset: return "reset";
    case kAttach: return "attach";
    case kAwaitDevice: return "await-device";
    case kFormat: return "format";
    case kCheck: return "check";
    case kMount: return "mount";
    case kUnmount: return "unmount";
    case kDetach: return "detach";
    case kRemove: return "remove";
    case kRefuseUnreachable: return "refuse-unreachable";
    case kRefuseAbsent: return "refuse-absent";
    case kRefuseElsewhere: return "refuse-elsewhere";
    case kRefuseBlankNotNew: return "refuse-blank-not-new";
    case kRefuseForeign: return "refuse-foreign";
    case kRefuseWrongFileSystem: return "refuse-wrong-file-system";
    case kRefuseHeld: return "refuse-held";
  }
  std::abort();
}

bool changes_the_world(Step step) { return step != kDone && step < kRefuseUnreachable && step != kAwaitDevice; }

}  // namespace vdvs::mountd
