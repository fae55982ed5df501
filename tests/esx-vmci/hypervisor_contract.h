// What every Hypervisor promises, as tests that each implementation runs: derive a World and instantiate the
// suite with it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "esx-vmci/hypervisor/hypervisor.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

/// A place with a hypervisor, two virtual machines, and disks.
class HypervisorWorld {
 public:
  virtual ~HypervisorWorld() = default;
  virtual Hypervisor& hypervisor() = 0;
  /// A new disk in `folder()`, with these bytes at its beginning.
  virtual Disk make_disk(const std::string& name, std::string_view beginning) = 0;
  virtual std::string folder() const = 0;
  /// The first bytes of the disk as the machine sees it at that address.
  virtual std::string read_beginning(const base::DiskAddress& address, std::size_t bytes) = 0;

  const Vm one{"11111111-aaaa-4bbb-8ccc-000000000001", "web-1"};
  const Vm two{"11111111-aaaa-4bbb-8ccc-000000000002", "web-2"};
};

template <typename World>
class HypervisorContract : public ::testing::Test {
 protected:
  World world_;
  Hypervisor& hypervisor() { return world_.hypervisor(); }
};

TYPED_TEST_SUITE_P(HypervisorContract);

TYPED_TEST_P(HypervisorContract, AttachesTheDiskThatWasAskedFor) {
  const Disk disk = this->world_.make_disk("a", "the contents of a");
  (void)this->world_.make_disk("b", "the contents of b");
  auto address = this->hypervisor().attach(this->world_.one, disk);
  ASSERT_OK(address);
  EXPECT_EQ(this->world_.read_beginning(*address, 17), "the contents of a");
}

TYPED_TEST_P(HypervisorContract, AnswersTheSameForAnAttachAgain) {
  const Disk disk = this->world_.make_disk("a", "");
  auto first = this->hypervisor().attach(this->world_.one, disk);
  auto second = this->hypervisor().attach(this->world_.one, disk);
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(*first, *second);
}

TYPED_TEST_P(HypervisorContract, KeepsADiskInOneMachine) {
  const Disk disk = this->world_.make_disk("a", "");
  ASSERT_OK(this->hypervisor().attach(this->world_.one, disk));
  EXPECT_EQ(code_of(this->hypervisor().attach(this->world_.two, disk)), "E_BUSY_ELSEWHERE");
  ASSERT_OK(this->hypervisor().detach(this->world_.one, disk));
  EXPECT_OK(this->hypervisor().attach(this->world_.two, disk));
}

TYPED_TEST_P(HypervisorContract, DetachOfWhatIsNotAttachedSucceeds) {
  const Disk disk = this->world_.make_disk("a", "");
  EXPECT_OK(this->hypervisor().detach(this->world_.one, disk));
}

TYPED_TEST_P(HypervisorContract, DetachLeavesAnotherMachinesDiskAlone) {
  const Disk disk = this->world_.make_disk("a", "");
  ASSERT_OK(this->hypervisor().attach(this->world_.one, disk));
  EXPECT_OK(this->hypervisor().detach(this->world_.two, disk));
  auto found = this->hypervisor().find(disk);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->vm_uuid, this->world_.one.uuid);
}

TYPED_TEST_P(HypervisorContract, FindsADiskInWhicheverMachineItIs) {
  const Disk disk = this->world_.make_disk("a", "");
  EXPECT_EQ(this->hypervisor().find(disk)->has_value(), false);
  auto address = this->hypervisor().attach(this->world_.two, disk);
  ASSERT_OK(address);
  auto found = this->hypervisor().find(disk);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->vm_uuid, this->world_.two.uuid);
  EXPECT_EQ((*found)->address, *address);
  ASSERT_OK(this->hypervisor().detach(this->world_.two, disk));
  EXPECT_EQ(this->hypervisor().find(disk)->has_value(), false);
}

TYPED_TEST_P(HypervisorContract, ListsWhatIsAttachedInAFolder) {
  const Disk a = this->world_.make_disk("a", "");
  const Disk b = this->world_.make_disk("b", "");
  (void)this->world_.make_disk("c", "");
  ASSERT_OK(this->hypervisor().attach(this->world_.one, a));
  ASSERT_OK(this->hypervisor().attach(this->world_.two, b));
  auto all = this->hypervisor().attached_in(this->world_.folder());
  ASSERT_OK(all);
  std::vector<std::pair<std::string, std::string>> seen;
  for (const Attachment& attachment : *all) seen.emplace_back(attachment.extent_path, attachment.vm_uuid);
  EXPECT_THAT(seen, ::testing::UnorderedElementsAre(std::pair(a.extent_path, this->world_.one.uuid),
                                                    std::pair(b.extent_path, this->world_.two.uuid)));
  EXPECT_THAT(this->hypervisor().attached_in("/usr").value(), ::testing::IsEmpty());
}

TYPED_TEST_P(HypervisorContract, RefusesADiskThatIsShorterThanItSays) {
  Disk disk = this->world_.make_disk("a", "");
  disk.size_bytes *= 2;
  EXPECT_EQ(code_of(this->hypervisor().attach(this->world_.one, disk)), "E_CORRUPT");
  EXPECT_THAT(this->hypervisor().attached_in(this->world_.folder()).value(), ::testing::IsEmpty());
}

REGISTER_TYPED_TEST_SUITE_P(HypervisorContract, AttachesTheDiskThatWasAskedFor,
                            AnswersTheSameForAnAttachAgain, KeepsADiskInOneMachine,
                            DetachOfWhatIsNotAttachedSucceeds, DetachLeavesAnotherMachinesDiskAlone,
                            FindsADiskInWhicheverMachineItIs, ListsWhatIsAttachedInAFolder,
                            RefusesADiskThatIsShorterThanItSays);

}  // namespace vdvs::esx::testing
