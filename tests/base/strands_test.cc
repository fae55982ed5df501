#include "base/strands.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <latch>
#include <map>
#include <vector>

namespace vdvs::base {
namespace {

TEST(Strands, KeepTheOrderOfEachKey) {
  std::map<std::string, std::vector<int>> seen{{"a", {}}, {"b", {}}, {"c", {}}};
  {
    Strands strands("test", 4);
    for (int i = 0; i < 1000; ++i) {
      for (auto& [key, list] : seen) strands.post(key, [&list, i] { list.push_back(i); });
    }
  }
  for (const auto& [key, list] : seen) {
    ASSERT_EQ(list.size(), 1000u) << key;
    EXPECT_TRUE(std::is_sorted(list.begin(), list.end())) << key;
  }
}

TEST(Strands, ABlockedKeyDoesNotHoldUpAnother) {
  std::promise<void> gate;
  std::promise<void> other;
  Strands strands("test", 2);  // last: its work uses the promises until it is done
  strands.post("slow", [&] { gate.get_future().wait(); });
  strands.post("quick", [&] { other.set_value(); });
  other.get_future().wait();
  gate.set_value();
}

TEST(Strands, RunSideBySide) {
  Strands strands("test", 4);
  std::latch all(4);  // passed only if four run at once
  for (int i = 0; i < 4; ++i) strands.post(std::to_string(i), [&] { all.arrive_and_wait(); });
  strands.drain();
  EXPECT_TRUE(all.try_wait());
}

TEST(Strands, WorkMayPostMoreWork) {
  std::atomic<int> count = 0;
  {
    std::promise<void> done;
    Strands strands("test", 2);
    strands.post("a", [&] {
      ++count;
      strands.post("a", [&] {
        ++count;
        done.set_value();
      });
    });
    done.get_future().wait();
  }
  EXPECT_EQ(count, 2);
}

TEST(Strands, DrainRunsWhatWasPostedAndTakesNoMore) {
  Strands strands("test", 1);
  std::atomic<int> count = 0;
  for (int i = 0; i < 10; ++i) strands.post("a", [&] { ++count; });
  strands.drain();
  EXPECT_EQ(count, 10);
  strands.post("a", [&] { ++count; });
  EXPECT_EQ(count, 10);
}

}  // namespace
}  // namespace vdvs::base
