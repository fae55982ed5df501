// The datastores of a vCenter and the disks on them.
#include <thread>

#include "base/fault.h"
#include "esx-vmci/datastore/datastores_vsphere.h"
#include "esx-vmci/fault_points.h"
#include "tests/vsphere/vsphere_world.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Group kGroup{.uuid = "11111111-1111-1111-1111-111111111111", .name = "_DEFAULT"};

NewDisk wish(std::uint64_t size_bytes = 8 << 20, const OptionMap& options = {}) {
  NewDisk disk;
  disk.shape.size_bytes = size_bytes;
  disk.sidecar.options = options;
  disk.sidecar.created = "Sat Nov 21 10:00:00 2026";
  disk.sidecar.created_by = "web-1";
  return disk;
}

class VsphereStore : public ::testing::Test {
 protected:
  VsphereWorld world_;
  std::unique_ptr<Datastores> datastores_ = open(world_.session());
  DiskStore& store_ = *datastores_->store("LocalDS_0", kGroup, true).value();

  static std::unique_ptr<Datastores> open(VsphereSession& session) {
    auto opened = make_vsphere_datastores(session);
    EXPECT_OK(opened);
    return std::move(*opened);
  }
  ~VsphereStore() override { EXPECT_OK(base::set_faults("")); }

  base::Result<void> create(const std::string& volume, const NewDisk& disk = wish()) {
    ASSIGN_OR_RETURN(const DiskLock held, store_.lock(volume));
    return store_.create(volume, disk, std::nullopt, {});
  }
  std::vector<std::string> volumes() {
    std::vector<std::string> names;
    auto listed = store_.list();
    EXPECT_OK(listed);
    for (const VolumeName& name : listed.value_or(std::vector<VolumeName>())) names.push_back(name.text());
    return names;
  }
  std::string creating(const std::string& volume) { return volume + ".vmdk.creating"; }
};

// ---- datastores ----

TEST_F(VsphereStore, TheServersDatastoresAreKnownByName) {
  const auto all = datastores_->all();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "LocalDS_0");
  EXPECT_FALSE(all[0].url.empty());
  EXPECT_EQ(all[0].path, "");
  EXPECT_EQ(datastores_->find("localds_1").value().name, "LocalDS_1");
  auto unknown = datastores_->find("ds9");
  EXPECT_EQ(
      message_of(unknown),
      "Invalid datastore 'ds9'.\nKnown datastores: LocalDS_0, LocalDS_1.\nDefault datastore: LocalDS_0");
}

TEST_F(VsphereStore, TheConfigurationChoosesAndOrdersThem) {
  VsphereConfig config = world_.config();
  config.datastores = {"LocalDS_1", "LocalDS_0"};
  auto session = VsphereSession::make(config).value();
  EXPECT_EQ(open(*session)->all().front().name, "LocalDS_1");
  config.datastores = {"LocalDS_7"};
  session = VsphereSession::make(config).value();
  EXPECT_THAT(message_of(make_vsphere_datastores(*session)), HasSubstr("find datastore 'LocalDS_7'"));
  config.datastores.clear();
  config.datacenter = "DC9";
  session = VsphereSession::make(config).value();
  EXPECT_THAT(message_of(make_vsphere_datastores(*session)), HasSubstr("find datacenter 'DC9'"));
}

TEST_F(VsphereStore, ADatastoreThatNoHostReachesIsUnavailable) {
  world_.simulator("away LocalDS_1");
  auto datastores = open(world_.session());
  EXPECT_EQ(code_of(datastores->store("LocalDS_1", kGroup, true)), "E_UNAVAILABLE");
  world_.simulator("back LocalDS_1");
  EXPECT_OK(datastores->store("LocalDS_1", kGroup, true));
}

TEST_F(VsphereStore, AGroupsFolderIsMadeWhereItIsWrittenAlone) {
  const Group other{.uuid = "22222222-2222-2222-2222-222222222222", .name = "team"};
  EXPECT_EQ(datastores_->store("LocalDS_0", other, false).value(), nullptr);
  EXPECT_NE(datastores_->store("LocalDS_0", other, true).value(), nullptr);
  EXPECT_THAT(datastores_->groups("LocalDS_0").value(), ElementsAre(kGroup.uuid, other.uuid));
  EXPECT_OK(datastores_->remove_group(other));
  EXPECT_THAT(datastores_->groups("LocalDS_0").value(), ElementsAre(kGroup.uuid));
  EXPECT_EQ(code_of(datastores_->store("LocalDS_0", {.uuid = "../x", .name = "x"}, true)), "E_INVALID");
}

TEST_F(VsphereStore, AGroupWithVolumesIsNotRemoved) {
  ASSERT_OK(create("db"));
  EXPECT_EQ(code_of(datastores_->remove_group(kGroup)), "E_IN_USE");
  EXPECT_THAT(volumes(), ElementsAre("db@LocalDS_0"));
}

// ---- disks ----

TEST_F(VsphereStore, ADiskIsThereWithItsSidecar) {
  NewDisk disk = wish(16 << 20, {{"size", "16mb"}, {"fstype", "xfs"}});
  disk.shape.format = DiskFormat::kZeroedThick;
  ASSERT_OK(create("db", disk));
  auto loaded = store_.load("db");
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->descriptor.size_bytes, 16u << 20);
  EXPECT_EQ(loaded->descriptor.uuid.size(), 32u);
  EXPECT_EQ(loaded->descriptor.adapter_type, "busLogic");
  EXPECT_FALSE(loaded->descriptor.is_thin);
  EXPECT_TRUE(loaded->has_sidecar);
  EXPECT_EQ(loaded->sidecar.options.at("fstype"), "xfs");
  EXPECT_EQ(loaded->sidecar.created_by, "web-1");
  EXPECT_EQ(world_.read_file(sidecar_file_name("db"))->size() % kSidecarBlockBytes, 0u);
  EXPECT_EQ(world_.read_file(creating("db")), std::nullopt);
  EXPECT_THAT(volumes(), ElementsAre("db@LocalDS_0"));
  EXPECT_EQ(store_.disk_of(*loaded).descriptor_path, world_.folder() + "/db.vmdk");
  EXPECT_EQ(store_.volume_of_file(world_.folder() + "/db.vmdk"), "db");
}

TEST_F(VsphereStore, ASidecarIsSavedAndReadAgain) {
  ASSERT_OK(create("db"));
  StoredDisk disk = store_.load("db").value();
  disk.sidecar.attached = AttachRecord{.vm_uuid = "u", .vm_name = "web-1", .since = "2026-11-21T10:00:00Z"};
  ASSERT_OK(store_.save(disk, DiskStore::Durability::kNow));
  EXPECT_EQ(store_.load("db").value().sidecar.attached, disk.sidecar.attached);
}

TEST_F(VsphereStore, AllVolumesAreListedAndNothingElse) {
  for (const std::string name : {"b", "a", "c-000001"}) (void)create(name);
  world_.write_file("notes.txt", "x");
  world_.write_file("-flat.vmdk", "x");
  EXPECT_THAT(volumes(), ElementsAre("a@LocalDS_0", "b@LocalDS_0"));
}

TEST_F(VsphereStore, ASecondOfTheSameNameIsRefused) {
  ASSERT_OK(create("db"));
  const std::string before = world_.read_file("db.vmdk").value();
  EXPECT_EQ(code_of(create("db")), "E_EXISTS");
  EXPECT_EQ(world_.read_file("db.vmdk"), before);
  EXPECT_TRUE(store_.load("db").value().has_sidecar);
}

TEST_F(VsphereStore, DataWithoutADescriptorIsNeverOverwritten) {
  world_.write_file("db-flat.vmdk", "somebody's");
  EXPECT_EQ(code_of(create("db")), "E_FOREIGN_DATA");
  EXPECT_EQ(world_.read_file("db-flat.vmdk"), "somebody's");
  EXPECT_THAT(volumes(), IsEmpty());
}

TEST_F(VsphereStore, ARemovedDiskLeavesNothing) {
  ASSERT_OK(create("db"));
  ASSERT_OK(store_.remove(store_.load("db").value()));
  EXPECT_EQ(code_of(store_.load("db")), "E_NOT_FOUND");
  EXPECT_EQ(message_of(store_.load("db")), "Volume db not found (file: " + world_.folder() + "/db.vmdk)");
  for (const std::string& name :
       {std::string("db.vmdk"), std::string("db-flat.vmdk"), sidecar_file_name("db")})
    EXPECT_EQ(world_.read_file(name), std::nullopt) << name;
}

TEST_F(VsphereStore, ACopyHasTheDataAndAnUuidOfItsOwn) {
  ASSERT_OK(create("db"));
  world_.write_file("db-flat.vmdk", "precious");
  const StoredDisk source = store_.load("db").value();
  ASSERT_OK(store_.create("copy", wish(), DiskStore::CopySource{&store_, &source}, {}));
  EXPECT_EQ(world_.read_file("copy-flat.vmdk")->substr(0, 8), "precious");
  const StoredDisk copy = store_.load("copy").value();
  EXPECT_NE(copy.descriptor.uuid, source.descriptor.uuid);
  EXPECT_TRUE(copy.has_sidecar);
}

TEST_F(VsphereStore, ABlankDiskIsZeros) {
  ASSERT_OK(create("db"));
  world_.write_file("db-flat.vmdk", "precious");
  ASSERT_OK(store_.blank(store_.load("db").value()));
  EXPECT_EQ(world_.read_file("db-flat.vmdk"), std::string(8 << 20, '\0'));
}

// ---- faults ----

TEST_F(VsphereStore, ADiskThatDoesNotFitLeavesNothing) {
  world_.simulator("fail CreateVirtualDisk_Task NoDiskSpace");
  EXPECT_EQ(code_of(create("db")), "E_NO_SPACE");
  EXPECT_THAT(volumes(), IsEmpty());
  EXPECT_EQ(world_.read_file(creating("db")), std::nullopt);
  EXPECT_OK(create("db"));
}

TEST_F(VsphereStore, ALostAnswerIsNoSecondDisk) {
  world_.fault("cut-after CreateVirtualDisk_Task 1");
  ASSERT_OK(create("db"));
  EXPECT_EQ(world_.fault("count CreateVirtualDisk_Task"), "1");
  EXPECT_TRUE(store_.load("db").value().has_sidecar);
  world_.fault("cut-after DeleteVirtualDisk_Task 1");
  ASSERT_OK(store_.remove(store_.load("db").value()));
  EXPECT_THAT(volumes(), IsEmpty());
}

TEST_F(VsphereStore, ALostRequestIsMadeAgain) {
  world_.fault("cut-before CreateVirtualDisk_Task 1");
  ASSERT_OK(create("db"));
  world_.fault("cut-before DeleteVirtualDisk_Task 1");
  ASSERT_OK(store_.remove(store_.load("db").value()));
  EXPECT_THAT(volumes(), IsEmpty());
}

TEST_F(VsphereStore, ATaskThatWasBegunAndNotHeardOfIsWaitedFor) {
  world_.simulator("hold CreateVirtualDisk_Task");
  world_.fault("cut-after CreateVirtualDisk_Task 1");
  std::thread creating([&] { EXPECT_OK(create("db")); });
  world_.await_held(1);
  world_.simulator("release");
  creating.join();
  EXPECT_EQ(world_.fault("count CreateVirtualDisk_Task"), "1");
}

TEST_F(VsphereStore, ADiskOfARunningVmIsNotRemoved) {
  ASSERT_OK(create("db"));
  world_.simulator("fail DeleteVirtualDisk_Task FileLocked");
  EXPECT_EQ(code_of(store_.remove(store_.load("db").value())), "E_BUSY_ELSEWHERE");
  EXPECT_TRUE(store_.load("db").value().has_sidecar);
}

TEST_F(VsphereStore, AServerThatIsAwayIsNotAnEmptyFolder) {
  ASSERT_OK(create("db"));
  world_.fault("down");
  world_.fault("drop");
  EXPECT_EQ(code_of(store_.list()), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(store_.load("db")), "E_UNAVAILABLE");
}

TEST_F(VsphereStore, ADatastoreThatWentAwayIsNotAnEmptyFolder) {
  ASSERT_OK(create("db"));
  world_.simulator("lose LocalDS_0");
  EXPECT_EQ(code_of(store_.load("db")), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(store_.list()), "E_UNAVAILABLE");
  auto removed =
      store_.remove(StoredDisk{.volume = "db", .descriptor = {}, .sidecar_name = {}, .sidecar = {}});
  EXPECT_NE(code_of(removed), "OK");
}

TEST_F(VsphereStore, ACreateThatWasInterruptedIsFinishedOrTakenBack) {
  for (const std::string_view point : {kFaultCreateIntent, kFaultCreateExtent, kFaultCreateSidecar}) {
    const std::string volume = std::string(point.substr(7, point.find('.', 7) - 7));
    ASSERT_OK(base::set_faults(std::string(point) + "=fail"));
    EXPECT_EQ(code_of(create(volume)), "E_IO") << point;
    ASSERT_OK(base::set_faults(""));
    EXPECT_TRUE(world_.read_file(creating(volume)).has_value()) << point;
  }
  ASSERT_OK(store_.clean_up());
  EXPECT_THAT(volumes(), ElementsAre("extent@LocalDS_0", "sidecar@LocalDS_0"));
  for (const std::string volume : {"intent", "extent", "sidecar"})
    EXPECT_EQ(world_.read_file(creating(volume)), std::nullopt) << volume;
  EXPECT_EQ(store_.load("extent").value().sidecar.created_by, "web-1");
  EXPECT_EQ(store_.load("sidecar").value().sidecar.created_by, "web-1");
  EXPECT_OK(create("intent"));
}

TEST_F(VsphereStore, ACloneThatWasInterruptedIsTakenBack) {
  ASSERT_OK(create("db"));
  const StoredDisk source = store_.load("db").value();
  const NewDisk copy = wish(8 << 20, {{"clone-from", "db"}});
  ASSERT_OK(base::set_faults(std::string(kFaultCreateExtent) + "=fail"));
  EXPECT_EQ(code_of(store_.create("copy", copy, DiskStore::CopySource{&store_, &source}, {})), "E_IO");
  ASSERT_OK(base::set_faults(""));
  EXPECT_THAT(volumes(), ElementsAre("copy@LocalDS_0", "db@LocalDS_0"));
  world_.simulator("fail DeleteVirtualDisk_Task FileLocked");  // it is still being copied
  EXPECT_OK(store_.clean_up());
  EXPECT_TRUE(world_.read_file(creating("copy")).has_value());
  EXPECT_OK(store_.clean_up());
  EXPECT_THAT(volumes(), ElementsAre("db@LocalDS_0"));
  EXPECT_EQ(world_.read_file(creating("copy")), std::nullopt);
  EXPECT_OK(store_.create("copy", copy, DiskStore::CopySource{&store_, &source}, {}));
}

TEST_F(VsphereStore, ARemoveThatWasInterruptedLeavesNoOldSidecarToANewDisk) {
  ASSERT_OK(create("db", wish(8 << 20, {{"fstype", "xfs"}})));
  ASSERT_OK(base::set_faults(std::string(kFaultRemoveExtent) + "=fail"));
  EXPECT_EQ(code_of(store_.remove(store_.load("db").value())), "E_IO");
  ASSERT_OK(base::set_faults(""));
  EXPECT_THAT(volumes(), IsEmpty());
  ASSERT_OK(create("db"));
  EXPECT_FALSE(store_.load("db").value().sidecar.options.contains("fstype"));
}

TEST_F(VsphereStore, ALockIsHeldByOneOfAllWhoShareTheDatastores) {
  auto held = std::make_unique<DiskLock>(store_.lock("db").value());
  std::atomic<bool> has_second = false;
  std::thread second([&] {
    const DiskLock mine = store_.lock("db").value();
    has_second = true;
  });
  EXPECT_OK(store_.lock("other"));
  EXPECT_FALSE(has_second);
  held.reset();
  second.join();
  EXPECT_TRUE(has_second);
}

// ---- storage policies ----

TEST_F(VsphereStore, APolicyIsFoundByItsName) {
  const OptionMap options = {{"vsan-policy-name", "vSAN Default Storage Policy"}};
  EXPECT_OK(create("db", wish(8 << 20, options)));
  VspherePolicies policies(world_.session());
  auto id = policies.find("vSAN Default Storage Policy", soon_enough());
  ASSERT_OK(id);
  EXPECT_EQ(id->size(), 36u);
  const int asked = std::stoi(world_.fault("count PbmRetrieveContent"));
  EXPECT_OK(policies.find("vSAN Default Storage Policy", soon_enough()));
  EXPECT_EQ(std::stoi(world_.fault("count PbmRetrieveContent")), asked);
}

TEST_F(VsphereStore, AnUnknownPolicyIsRefusedWithTheKnownOnes) {
  auto refused = create("db", wish(8 << 20, {{"vsan-policy-name", "gold"}}));
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(message_of(refused), HasSubstr("Policy gold does not exist. Available policies are: ["));
  EXPECT_THAT(message_of(refused), HasSubstr("'VM Encryption Policy'"));
  EXPECT_THAT(volumes(), IsEmpty());
}

TEST_F(VsphereStore, APolicyOfTheConfigurationNeedsNoPolicyService) {
  VsphereConfig config = world_.config();
  config.policies = {{"gold", "aa6d5a82-1c88-45da-85d3-3d74b91a5bad"}};
  auto session = VsphereSession::make(config).value();
  VspherePolicies policies(*session);
  EXPECT_EQ(policies.find("gold", soon_enough()).value(), "aa6d5a82-1c88-45da-85d3-3d74b91a5bad");
  EXPECT_EQ(world_.fault("count PbmRetrieveServiceContent"), "0");
}

}  // namespace
}  // namespace vdvs::esx::testing
