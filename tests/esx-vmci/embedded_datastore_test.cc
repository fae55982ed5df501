// The embedded datastore on real file systems: what is on the disk before, what is there after, and what is
// refused.
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>

#include "esx-vmci/datastore/sidecar.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

class EmbeddedDatastore : public ::testing::Test {
 protected:
  EmbeddedDatastore() { std::filesystem::create_directories(files_); }
  ~EmbeddedDatastore() override { clear_loops_below(folder_.path()); }
  std::string file(const std::string& name) const { return files_ + "/" + name; }

  TemporaryFolder folder_;
  const std::string files_ = volumes_folder(folder_.path());
};

TEST_F(EmbeddedDatastore, HasThePredecessorsLayout) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("vol1"), {{"size", "8mb"}}, {}));
  EXPECT_THAT(files_in(files_),
              ElementsAre(".vdvs.lock", "vol1-e581c22f8baec9c1.vmfd", "vol1-flat.vmdk", "vol1.vmdk"));
  EXPECT_EQ(std::filesystem::read_symlink(folder_.path() + "/dockvols/_DEFAULT"), files_);
  EXPECT_EQ(std::filesystem::file_size(file("vol1-flat.vmdk")), 8u << 20);
  EXPECT_EQ(std::filesystem::file_size(file("vol1-e581c22f8baec9c1.vmfd")), 4096u);
  EXPECT_THAT(read_text(file("vol1.vmdk")),
              HasSubstr("ddb.sidecars = \"docker-volume-vsphere_1,vol1-e581c22f8baec9c1.vmfd;\""));
}

TEST_F(EmbeddedDatastore, KeepsThePredecessorsAbsoluteLink) {
  std::filesystem::create_directory_symlink(files_, folder_.path() + "/dockvols/_DEFAULT");
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("a"), {}, {}));
  EXPECT_EQ(std::filesystem::read_symlink(folder_.path() + "/dockvols/_DEFAULT"), files_);
}

TEST_F(EmbeddedDatastore, QemuReadsOurDisks) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "3gb"}}, {}));
  const std::string info = run({"qemu-img", "info", file("db.vmdk")});
  EXPECT_THAT(info, HasSubstr("file format: vmdk"));
  EXPECT_THAT(info, HasSubstr("3221225472 bytes"));
  EXPECT_THAT(info, HasSubstr("create type: vmfs"));
  EXPECT_THAT(run({"qemu-img", "check", file("db.vmdk")}), HasSubstr("No errors were found"));
}

TEST_F(EmbeddedDatastore, QemuSeesTheDataWhereWePutIt) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  auto address = plane->attach(name_of("db"));
  ASSERT_OK(address);
  {
    auto device = base::open_file(std::get<base::LoopAddress>(*address).node, O_RDWR);
    ASSERT_OK(device);
    ASSERT_OK(base::write_all_at(*device, "written through the device", 1 << 20, "device"));
    ASSERT_OK(base::sync_all(*device, "device"));
  }
  ASSERT_OK(plane->detach(name_of("db")));
  run({"qemu-img", "convert", "-f", "vmdk", "-O", "raw", file("db.vmdk"), folder_.path() + "/raw"});
  EXPECT_EQ(read_text(folder_.path() + "/raw").substr(1 << 20, 26), "written through the device");
}

TEST_F(EmbeddedDatastore, AdoptsADiskMadeByQemu) {
  run({"qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", file("old.vmdk"), "24M"});
  auto plane = embedded(folder_.path());
  auto info = plane->get(name_of("old"));
  ASSERT_OK(info);
  EXPECT_EQ(info->size_bytes, 24u << 20);
  EXPECT_EQ(info->init, InitState::kReady) << "whatever is on it is data";
  EXPECT_EQ(info->options, (OptionMap{{"size", "24mb"}}));
  ASSERT_OK(plane->attach(name_of("old")));
  EXPECT_EQ(plane->get(name_of("old"))->holder->name, "host-a");
  ASSERT_OK(plane->detach(name_of("old")));
  EXPECT_OK(plane->remove(name_of("old")));
  EXPECT_THAT(files_in(files_), ElementsAre(".vdvs.lock"));
}

TEST_F(EmbeddedDatastore, ReadsASidecarOfThePredecessor) {
  run({"qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", file("vol1.vmdk"), "24M"});
  write_text(
      file("vol1-e581c22f8baec9c1.vmfd"),
      R"({"status": "attached", "volOpts": {"size": "24mb", "fstype": "xfs"}, "created": "Tue Mar 27 18:02:11 2018", )"
      R"("created-by": "esx-vm", "attachedVMUuid": "564d", "attachedVMName": "gone", "attachedVMDevice": {"Unit": "0"}})");
  auto plane = embedded(folder_.path());
  auto info = plane->get(name_of("vol1"));
  ASSERT_OK(info);
  EXPECT_EQ(info->options.at("fstype"), "xfs");
  EXPECT_EQ(info->created, "Tue Mar 27 18:02:11 2018");
  EXPECT_EQ(info->created_by, "esx-vm");
  EXPECT_FALSE(info->holder) << "a record that nothing stands behind, on a file system of this kernel alone";
  ASSERT_OK(plane->attach(name_of("vol1")));
  auto sidecar = decode_sidecar(read_text(file("vol1-e581c22f8baec9c1.vmfd")));
  ASSERT_TRUE(sidecar);
  EXPECT_EQ(sidecar->attached->vm_name, "host-a");
  EXPECT_EQ(sidecar->options.at("fstype"), "xfs");
}

TEST_F(EmbeddedDatastore, ASidecarUnderTheOldKeyIsFound) {
  run({"qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", file("vol1.vmdk"), "24M"});
  write_text(file(sidecar_file_name("vol1", kOldSidecarKey)), R"({"created-by": "esx-vm"})");
  EXPECT_EQ(embedded(folder_.path())->get(name_of("vol1"))->created_by, "esx-vm");
}

TEST_F(EmbeddedDatastore, ACutSidecarHealsItself) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("vol1"), {{"size", "8mb"}}, {}));
  const std::string sidecar = file("vol1-e581c22f8baec9c1.vmfd");
  for (const std::string& content : {std::string(), std::string("{\"status\": \"att"),
                                     std::string(4096, '\0'), std::string(100000, 'x')}) {
    write_text(sidecar, content);
    auto info = plane->get(name_of("vol1"));
    ASSERT_OK(info);
    EXPECT_EQ(info->init, InitState::kReady) << "nothing proves that it is blank";
    ASSERT_OK(plane->attach(name_of("vol1")));
    EXPECT_TRUE(decode_sidecar(read_text(sidecar)).has_value());
    ASSERT_OK(plane->detach(name_of("vol1")));
  }
}

TEST_F(EmbeddedDatastore, KnowsItsDisksEvenWithoutTheirRecord) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("vol1"), {{"size", "8mb"}}, {}));
  auto address = plane->attach(name_of("vol1"));
  ASSERT_OK(address);
  write_text(file("vol1-e581c22f8baec9c1.vmfd"), "");
  auto restarted = embedded(folder_.path());
  auto info = restarted->get(name_of("vol1"));
  ASSERT_OK(info);
  EXPECT_TRUE(info->is_attached_here);
  EXPECT_EQ(info->address, *address);
  EXPECT_EQ(code_of(embedded(folder_.path(), "host-b")->attach(name_of("vol1"))), "E_BUSY_ELSEWHERE");
  EXPECT_OK(restarted->detach(name_of("vol1")));
}

TEST_F(EmbeddedDatastore, ARecordOfALostHostIsStaleOnALocalFileSystemOnly) {
  auto plane = embedded(folder_.path(), "host-a");
  ASSERT_OK(plane->create(name_of("vol1"), {{"size", "8mb"}}, {}));
  ASSERT_OK(plane->attach(name_of("vol1")));
  clear_loops_below(folder_.path());  // as if host-a had lost its power

  auto shared = embedded(folder_.path(), "host-b", true);
  EXPECT_EQ(shared->get(name_of("vol1"))->holder->name, "host-a");
  auto busy = shared->attach(name_of("vol1"));
  EXPECT_EQ(code_of(busy), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(busy.error().remedy(), HasSubstr("frees its disks when it starts again"));
  EXPECT_EQ(code_of(shared->remove(name_of("vol1"))), "E_BUSY_ELSEWHERE");
  EXPECT_FALSE(plane->get(name_of("vol1"))->holder) << "host-a itself knows better";

  auto local = embedded(folder_.path(), "host-c", false);
  EXPECT_FALSE(local->get(name_of("vol1"))->holder);
  EXPECT_OK(local->attach(name_of("vol1")));
}

TEST_F(EmbeddedDatastore, SaysThatADiskWasAttachedByHand) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  run({"losetup", "--find", file("db-flat.vmdk")});
  auto busy = plane->attach(name_of("db"));
  EXPECT_EQ(code_of(busy), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(busy), StartsWith("attach 'db': disk is attached by hand (loop device /dev/loop"));
  EXPECT_EQ(code_of(plane->remove(name_of("db"))), "E_BUSY_ELSEWHERE");
  EXPECT_TRUE(std::filesystem::exists(file("db-flat.vmdk")));
}

struct Damage {
  const char* name;
  const char* code;
  const char* cause;
  std::function<void(const std::string& files)> act;
};

class DamagedDisk : public EmbeddedDatastore, public ::testing::WithParamInterface<Damage> {};

TEST_P(DamagedDisk, IsRefusedWithItsReasonAndNothingIsHarmed) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  ASSERT_OK(plane->create(name_of("victim"), {{"size", "8mb"}}, {}));
  write_text(folder_.path() + "/outside", std::string(8 << 20, 'o'));
  GetParam().act(files_);
  auto info = plane->get(name_of("db"));
  EXPECT_EQ(code_of(info), GetParam().code);
  EXPECT_THAT(message_of(info), HasSubstr(GetParam().cause));
  EXPECT_EQ(code_of(plane->attach(name_of("db"))), GetParam().code);
  EXPECT_EQ(code_of(plane->create(name_of("db"), {}, {})), "E_EXISTS");
  EXPECT_EQ(code_of(plane->create(name_of("copy"), {{"clone-from", "db"}}, {})), GetParam().code);
  (void)plane->remove(name_of("db"));
  EXPECT_THAT(loops_below(folder_.path()), IsEmpty());
  EXPECT_EQ(read_text(folder_.path() + "/outside"), std::string(8 << 20, 'o'));
  EXPECT_OK(plane->get(name_of("victim")));
  EXPECT_OK(plane->attach(name_of("victim")));
}

void replace_text(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read_text(path);
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos);
  write_text(path, text.replace(at, from.size(), to));
}

INSTANTIATE_TEST_SUITE_P(
    Table, DamagedDisk,
    ::testing::Values(Damage{"MissingExtent", "E_CORRUPT", "is missing",
                             [](const std::string& f) { std::filesystem::remove(f + "/db-flat.vmdk"); }},
                      Damage{"ShortExtent", "E_CORRUPT", "is short (4096 bytes of 8388608)",
                             [](const std::string& f) {
                               std::filesystem::resize_file(f + "/db-flat.vmdk", 4096);
                             }},
                      Damage{"LinkedExtent", "E_UNSUPPORTED", "a symbolic link, which is never followed",
                             [](const std::string& f) {
                               std::filesystem::remove(f + "/db-flat.vmdk");
                               std::filesystem::create_symlink("../../../outside", f + "/db-flat.vmdk");
                             }},
                      Damage{"FifoExtent", "E_UNSUPPORTED", "not a regular file",
                             [](const std::string& f) {
                               std::filesystem::remove(f + "/db-flat.vmdk");
                               ASSERT_EQ(::mkfifo((f + "/db-flat.vmdk").c_str(), 0600), 0);
                             }},
                      Damage{"ExtentAbove", "E_UNSUPPORTED", "does not lie beside its descriptor",
                             [](const std::string& f) {
                               replace_text(f + "/db.vmdk", "\"db-flat.vmdk\"", "\"../../../outside\"");
                             }},
                      Damage{"AbsoluteExtent", "E_UNSUPPORTED", "does not lie beside its descriptor",
                             [](const std::string& f) {
                               replace_text(f + "/db.vmdk", "\"db-flat.vmdk\"", "\"/etc/passwd\"");
                             }},
                      Damage{"AnotherVolumesExtent", "E_UNSUPPORTED", "is not its own",
                             [](const std::string& f) {
                               replace_text(f + "/db.vmdk", "\"db-flat.vmdk\"", "\"victim-flat.vmdk\"");
                             }},
                      Damage{"LinkedDescriptor", "E_UNSUPPORTED", "symbolic link, which is never followed",
                             [](const std::string& f) {
                               std::filesystem::remove(f + "/db.vmdk");
                               std::filesystem::create_symlink("victim.vmdk", f + "/db.vmdk");
                             }},
                      Damage{"FolderAsDescriptor", "E_UNSUPPORTED", "not a regular file",
                             [](const std::string& f) {
                               std::filesystem::remove(f + "/db.vmdk");
                               std::filesystem::create_directory(f + "/db.vmdk");
                             }},
                      Damage{"LinkedSidecar", "E_UNSUPPORTED", "symbolic link, which is never followed",
                             [](const std::string& f) {
                               std::filesystem::remove(f + "/" + sidecar_file_name("db"));
                               std::filesystem::create_symlink("../../../outside",
                                                               f + "/" + sidecar_file_name("db"));
                             }},
                      Damage{"Empty", "E_CORRUPT", "not a VMDK descriptor",
                             [](const std::string& f) { write_text(f + "/db.vmdk", ""); }},
                      Damage{"Sparse", "E_UNSUPPORTED", "sparse disk",
                             [](const std::string& f) {
                               run({"qemu-img", "create", "-q", "-f", "vmdk", "-o",
                                    "subformat=monolithicSparse", f + "/db.vmdk", "8M"});
                             }},
                      Damage{"Split", "E_UNSUPPORTED", "its type is twoGbMaxExtentFlat",
                             [](const std::string& f) {
                               run({"qemu-img", "create", "-q", "-f", "vmdk", "-o",
                                    "subformat=twoGbMaxExtentFlat", f + "/db.vmdk", "8M"});
                             }},
                      Damage{"Snapshot", "E_UNSUPPORTED", "snapshot of another disk",
                             [](const std::string& f) {
                               replace_text(f + "/db.vmdk", "parentCID=ffffffff", "parentCID=12345678");
                             }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST_F(EmbeddedDatastore, LetsGoOfADiskWhoseFilesWereDamagedMeanwhile) {
  auto plane = embedded(folder_.path());
  const std::vector<std::function<void()>> damages = {
      [&] { write_text(file("db.vmdk"), "garbage"); },
      [&] { std::filesystem::remove(file("db.vmdk")); },
      [&] { std::filesystem::remove(file("db-flat.vmdk")); },
      [&] { write_text(file(sidecar_file_name("db")), ""); },
  };
  for (const auto& damage : damages) {
    for (const std::string& name : files_in(files_)) std::filesystem::remove(file(name));
    ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
    ASSERT_OK(plane->attach(name_of("db")));
    damage();
    EXPECT_THAT(*plane->attached_here(), ElementsAre(name_of("db@ds")));
    EXPECT_OK(plane->detach(name_of("db")));
    EXPECT_THAT(loops_below(folder_.path()), IsEmpty());
    EXPECT_THAT(*plane->attached_here(), IsEmpty());
  }
}

TEST_F(EmbeddedDatastore, AMarkerBesideADiskThatCountsIsTakenAwayBeforeItsUse) {
  // As a crash between the two steps of a publication over NFS leaves it.
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  std::filesystem::create_hard_link(file("db.vmdk"), file("db.vmdk.creating"));
  ASSERT_OK(plane->attach(name_of("db")));
  EXPECT_FALSE(std::filesystem::exists(file("db.vmdk.creating")));
}

TEST_F(EmbeddedDatastore, ADiskWithoutAnExtentCanBeRemoved) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  std::filesystem::remove(file("db-flat.vmdk"));
  EXPECT_OK(plane->remove(name_of("db")));
  EXPECT_THAT(files_in(files_), ElementsAre(".vdvs.lock"));
}

TEST_F(EmbeddedDatastore, NeverOverwritesAnExtentThatNobodyKnows) {
  write_text(file("db-flat.vmdk"), "precious");
  auto plane = embedded(folder_.path());
  auto refused = plane->create(name_of("db"), {}, {});
  EXPECT_EQ(code_of(refused), "E_FOREIGN_DATA");
  EXPECT_THAT(message_of(refused), Not(HasSubstr("already exists"))) << "which old clients take for success";
  EXPECT_THAT(refused.error().remedy(), HasSubstr("move the file away"));
  EXPECT_OK(plane->remove(name_of("db")));
  EXPECT_EQ(read_text(file("db-flat.vmdk")), "precious");
  EXPECT_THAT(files_in(files_), ElementsAre(".vdvs.lock", "db-flat.vmdk"));
}

TEST_F(EmbeddedDatastore, ListsVolumesOnly) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("db"), {}, {}));
  for (const char* name : {"x-flat.vmdk", "x-delta.vmdk", "x-123456.vmdk", "x-ctk.vmdk",
                           "x.vmdk.creating.txt", ".vmdk", "notes.txt"}) {
    write_text(file(name), "# Disk DescriptorFile\n");
  }
  write_text(file("large.vmdk"), std::string(5001, 'x'));
  std::filesystem::create_directory(file("folder.vmdk"));
  std::filesystem::create_symlink("db.vmdk", file("link.vmdk"));
  EXPECT_THAT(*plane->list(), ElementsAre(name_of("db@ds")));
}

TEST_F(EmbeddedDatastore, TheListFollowsEveryChange) {
  // Including changes by others, and changes faster than the file system's clock.
  auto one = embedded(folder_.path(), "host-a");
  auto two = embedded(folder_.path(), "host-b");
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK(one->create(name_of("db"), {{"size", "1mb"}}, {}));
    ASSERT_EQ(two->list()->size(), 1u);
    ASSERT_OK(two->remove(name_of("db")));
    ASSERT_EQ(two->list()->size(), 0u);
    ASSERT_EQ(one->list()->size(), 0u);
  }
}

TEST_F(EmbeddedDatastore, ADeletedDatastoreIsAnErrorNotAnEmptyOne) {
  auto plane = embedded(folder_.path());
  std::filesystem::remove_all(folder_.path() + "/dockvols");
  EXPECT_EQ(code_of(plane->list()), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(plane->get(name_of("db"))), "E_UNAVAILABLE");
}

TEST_F(EmbeddedDatastore, GetAndListMakeNothing) {
  auto plane = embedded(folder_.path());
  std::filesystem::remove(folder_.path() + "/dockvols/_DEFAULT");
  EXPECT_EQ(code_of(plane->get(name_of("db"))), "E_NOT_FOUND");
  EXPECT_OK(plane->list());
  EXPECT_THAT(files_in(folder_.path() + "/dockvols"),
              ElementsAre(".vdvs-datastore", "11111111-1111-1111-1111-111111111111"));
  EXPECT_THAT(files_in(files_), IsEmpty());
}

TEST_F(EmbeddedDatastore, SparseAndReservedAndWritten) {
  auto plane = embedded(folder_.path());
  ASSERT_OK(plane->create(name_of("thin"), {{"size", "64mb"}}, {}));
  ASSERT_OK(plane->create(name_of("thick"), {{"size", "64mb"}, {"diskformat", "zeroedthick"}}, {}));
  ASSERT_OK(plane->create(name_of("eager"), {{"size", "64mb"}, {"diskformat", "eagerzeroedthick"}}, {}));
  EXPECT_LT(plane->get(name_of("thin"))->allocated_bytes, 1u << 20);
  EXPECT_GE(plane->get(name_of("thick"))->allocated_bytes, 64u << 20);
  EXPECT_GE(plane->get(name_of("eager"))->allocated_bytes, 64u << 20);
  EXPECT_EQ(read_text(file("eager-flat.vmdk")), std::string(64 << 20, '\0'));
}

TEST_F(EmbeddedDatastore, ResetMakesADiskBlankAgain) {
  auto plane = embedded(folder_.path());
  for (const char* format : {"thin", "zeroedthick", "eagerzeroedthick"}) {
    const std::string name = format;
    ASSERT_OK(plane->create(name_of(name), {{"size", "4mb"}, {"diskformat", format}}, {}));
    ASSERT_OK(plane->set_init(name_of(name), InitState::kFormatting, ""));
    {
      auto extent = base::open_file(file(name + "-flat.vmdk"), O_RDWR);
      ASSERT_OK(base::write_all_at(*extent, std::string(1 << 20, 'x'), 12345, "extent"));
    }
    const std::uint64_t before = plane->get(name_of(name))->allocated_bytes;
    ASSERT_OK(plane->reset(name_of(name)));
    EXPECT_EQ(read_text(file(name + "-flat.vmdk")), std::string(4 << 20, '\0')) << format;
    EXPECT_LE(plane->get(name_of(name))->allocated_bytes, before);
  }
}

TEST_F(EmbeddedDatastore, TheEmbeddedPlaneIsRefusedABadSetUp) {
  auto with = [&](std::vector<DatastoreFolder> folders) {
    return code_of(make_embedded_control_plane({std::move(folders), {"u", "n"}}, make_loop_hypervisor()));
  };
  EXPECT_EQ(with({}), "E_INVALID");
  EXPECT_EQ(
      code_of(make_embedded_control_plane({{{"a", folder_.path()}}, {"", "n"}}, make_loop_hypervisor())),
      "E_INVALID");
  EXPECT_EQ(code_of(make_embedded_control_plane({{{"a", folder_.path()}}, {std::string(59, 'x'), "n"}},
                                                make_loop_hypervisor())),
            "E_INVALID");
  EXPECT_EQ(with({{"a", folder_.path() + "/1"}, {"A", folder_.path() + "/2"}}), "E_INVALID");
  EXPECT_EQ(with({{"a", folder_.path() + "/1"}, {"b", folder_.path() + "/./1"}}), "E_INVALID");
  write_text(folder_.path() + "/file", "");
  EXPECT_NE(with({{"a", folder_.path() + "/file"}}), "OK");
}

TEST_F(EmbeddedDatastore, RefusesAPolicyBecauseItHasNone) {
  auto refused = embedded(folder_.path())->create(name_of("db"), {{"vsan-policy-name", "gold"}}, {});
  EXPECT_EQ(message_of(refused), "Cannot use a VSAN policy on a non-VSAN datastore");
}

TEST(DatastoreFolder, IsReadFromItsFlag) {
  auto plain = parse_datastore_folder("/var/lib/vdvs/main/");
  ASSERT_OK(plain);
  EXPECT_EQ(plain->name, "main");
  EXPECT_EQ(plain->path, "/var/lib/vdvs/main");
  auto named = parse_datastore_folder("fast=/mnt/a=b");
  ASSERT_OK(named);
  EXPECT_EQ(named->name, "fast");
  EXPECT_EQ(named->path, "/mnt/a=b");
  EXPECT_EQ(parse_datastore_folder("/mnt/a=b")->name, "a=b");
  for (const char* text : {"", "=", "x=", "=/mnt", "a@b=/mnt", "/"})
    EXPECT_EQ(code_of(parse_datastore_folder(text)), "E_INVALID") << text;
}

}  // namespace
}  // namespace vdvs::esx::testing
