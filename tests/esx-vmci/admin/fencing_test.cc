// Who may take a disk from whom: by what the hypervisor says of the VM that has it, never because it is
// silent.
#include "tests/esx-vmci/admin/admin_fixture.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Fencing : public AdminTest {
 protected:
  Fencing() { make_volume("db"); }

  void forget_vm(const std::string& name) {
    std::erase_if(vms_.states, [&](const VmState& state) { return state.vm.name == name; });
  }
  /// The hypervisor does not see the disk in any VM; the record stays.
  void drop_disk(const std::string& vm_name) {
    const Place where = place("db");
    const auto stored = where.store->load("db");
    ASSERT_TRUE(stored);
    ASSERT_TRUE(hypervisor_.detach(vm(vm_name), where.store->disk_of(*stored)));
  }
  base::Result<base::DiskAddress> try_attach(const std::string& vm_name) {
    return operations_->attach(vm(vm_name), place("db"));
  }
  std::string holder() {
    const auto info = operations_->get(vm("db-1"), place("db"));
    EXPECT_TRUE(info) << info.error().text();
    return info && info->holder ? info->holder->name : "nobody";
  }
  /// As on a file system that several hosts share: records of VMs that are not seen here count.
  void share_datastores() {
    auto datastores =
        make_folder_datastores({{.name = "ds1", .path = path_of("ds1"), .is_shared = true}}, false);
    ASSERT_TRUE(datastores) << datastores.error().text();
    datastores_ = std::move(*datastores);
    restart();
  }
};

TEST_F(Fencing, ADiskOfARunningVmIsRefusedWithWhoSinceWhenAndWhatToDo) {
  attach("web-1", place("db"));
  const auto refused = try_attach("web-2");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::kBusyElsewhere);
  EXPECT_THAT(refused.error().message(), StartsWith("attach 'db': disk is attached to vm 'web-1' since 2"));
  EXPECT_THAT(refused.error().remedy(), AllOf(HasSubstr("stop its container on 'web-1'"),
                                              HasSubstr("vdvs volume detach --force db@ds1")));
  EXPECT_EQ(holder(), "web-1");
}

TEST_F(Fencing, ADiskThatTheHypervisorSeesInAVmThatNobodyKnowsStays) {
  attach("web-1", place("db"));
  forget_vm("web-1");
  const auto refused = try_attach("web-2");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), StartsWith("attach 'db': disk is attached to vm '"));
}

TEST_F(Fencing, ADiskThatWasDetachedIsFreeAtOnce) {
  attach("web-1", place("db"));
  ASSERT_TRUE(operations_->detach(vm("web-1"), place("db")));
  ASSERT_TRUE(try_attach("web-2"));
}

TEST_F(Fencing, ByForceTheRecordOfAnotherHostGoes) {
  share_datastores();
  attach("web-1", place("db"));
  drop_disk("web-1");
  forget_vm("web-1");
  EXPECT_THAT(lines("volume detach", {{"volume", "db@ds1"}, {"force", ""}}),
              ElementsAre(StartsWith("Volume db@ds1 was detached from vm 'web-1', which had it since 2")));
  ASSERT_TRUE(try_attach("web-2"));
}

TEST_F(Fencing, ByForceADiskLeavesARunningVm) {
  attach("web-1", place("db"));
  lines("volume detach", {{"volume", "db"}, {"force", ""}});
  EXPECT_EQ(holder(), "nobody");
  ASSERT_TRUE(try_attach("web-2"));
  EXPECT_EQ(holder(), "web-2");
}

TEST_F(Fencing, ByForceADiskWhoseFilesAreDamagedIsStillLetGo) {
  attach("web-1", place("db"));
  const std::string descriptor = place("db").store->place() + "/db.vmdk";
  std::filesystem::resize_file(descriptor, 10);
  lines("volume detach", {{"volume", "db"}, {"force", ""}});
  const auto found = hypervisor_.find(place("db").store->disk_named("db"));
  ASSERT_TRUE(found);
  EXPECT_FALSE(*found);
}

}  // namespace
}  // namespace vdvs::esx::testing
