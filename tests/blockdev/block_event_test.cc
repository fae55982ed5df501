#include "blockdev/block_event.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <vector>

namespace vdvs::blockdev {
namespace {

TEST(BlockEvent, ReadsWhatTheKernelSaysOfALoopDevice) {
  const std::vector<EventProperty> properties = {
      {"ACTION", "change"},   {"DEVPATH", "/devices/virtual/block/loop3"},
      {"SUBSYSTEM", "block"}, {"MAJOR", "7"},
      {"MINOR", "3"},         {"DEVNAME", "loop3"},
      {"DEVTYPE", "disk"},    {"DISKSEQ", "91"}};
  EXPECT_EQ(
      decode_block_event(properties),
      (BlockEvent{.action = EventAction::kChange, .name = "loop3", .number = makedev(7, 3), .diskseq = 91}));
}

TEST(BlockEvent, ReadsUdevdsNodeNameAsTheKernelsName) {
  const std::vector<EventProperty> properties = {
      {"ACTION", "add"}, {"MAJOR", "8"}, {"MINOR", "17"}, {"DEVNAME", "/dev/sdb1"}, {"DEVTYPE", "partition"}};
  EXPECT_EQ(
      decode_block_event(properties),
      (BlockEvent{
          .action = EventAction::kAdd, .name = "sdb1", .number = makedev(8, 17), .is_partition = true}));
}

TEST(BlockEvent, KnowsNothingWithoutActionNameAndNumber) {
  const std::vector<EventProperty> whole = {
      {"ACTION", "remove"}, {"DEVNAME", "sdb"}, {"MAJOR", "8"}, {"MINOR", "16"}};
  ASSERT_TRUE(decode_block_event(whole));
  for (std::size_t left_out = 0; left_out < whole.size(); ++left_out) {
    auto properties = whole;
    properties.erase(properties.begin() + static_cast<std::ptrdiff_t>(left_out));
    EXPECT_EQ(decode_block_event(properties), std::nullopt) << whole[left_out].key;
  }
  EXPECT_EQ(decode_block_event({}), std::nullopt);
}

TEST(BlockEvent, TakesNoNumberThatIsNone) {
  for (const char* text : {"", "-1", "7x", " 7", "4294967296", "0x7"}) {
    const std::vector<EventProperty> properties = {
        {"ACTION", "add"}, {"DEVNAME", "sdb"}, {"MAJOR", text}, {"MINOR", "0"}};
    EXPECT_EQ(decode_block_event(properties), std::nullopt) << "'" << text << "'";
  }
}

TEST(BlockEvent, TreatsAnUnreadableDiskseqAsUnknown) {
  const std::vector<EventProperty> properties = {{"ACTION", "add"},
                                                 {"DEVNAME", "sdb"},
                                                 {"MAJOR", "8"},
                                                 {"MINOR", "0"},
                                                 {"DISKSEQ", "18446744073709551616"}};
  EXPECT_EQ(decode_block_event(properties)->diskseq, 0u);
}

TEST(BlockEvent, LetsTheLastOfARepeatedKeyCount) {
  const std::vector<EventProperty> properties = {
      {"ACTION", "add"}, {"DEVNAME", "sdb"}, {"MAJOR", "8"}, {"MINOR", "0"}, {"ACTION", "remove"}};
  EXPECT_EQ(decode_block_event(properties)->action, EventAction::kRemove);
}

TEST(BlockEvent, ReadsNoMorePropertiesThanItsLimit) {
  std::vector<EventProperty> properties(kMaxEventProperties, {"X", "y"});
  for (EventProperty property :
       {EventProperty{"ACTION", "add"}, {"DEVNAME", "sdb"}, {"MAJOR", "8"}, {"MINOR", "0"}}) {
    properties.push_back(property);
  }
  EXPECT_EQ(decode_block_event(properties), std::nullopt);
}

}  // namespace
}  // namespace vdvs::blockdev
