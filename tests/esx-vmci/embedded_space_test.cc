// The embedded datastore on file systems made for the test: full, read-only, with reflinks, without holes
// lost.
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <array>

#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kMegabyte = 1 << 20;

std::vector<std::string> volume_files(const std::string& datastore) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(volumes_folder(datastore)))
    names.push_back(entry.path().filename());
  return names;
}

void fill(const std::string& extent, std::uint64_t offset, std::uint64_t bytes) {
  auto file = base::open_file(extent, O_RDWR);
  ASSERT_OK(file);
  ASSERT_OK(base::write_all_at(*file, std::string(bytes, 'd'), offset, extent));
  ASSERT_OK(base::sync_all(*file, extent));
}

/// Bytes of a file that it shares with another.
std::uint64_t shared_bytes(const std::string& path) {
  constexpr unsigned kExtents = 64;
  alignas(fiemap) std::array<char, sizeof(fiemap) + kExtents * sizeof(fiemap_extent)> buffer = {};
  auto* map = reinterpret_cast<fiemap*>(buffer.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = kExtents;
  auto file = base::open_file(path, O_RDONLY);
  EXPECT_OK(file);
  EXPECT_EQ(::ioctl(file->get(), FS_IOC_FIEMAP, map), 0);
  const auto* extents = reinterpret_cast<const fiemap_extent*>(buffer.data() + sizeof(fiemap));
  std::uint64_t shared = 0;
  for (unsigned i = 0; i < map->fm_mapped_extents; ++i) {
    if ((extents[i].fe_flags & FIEMAP_EXTENT_SHARED) != 0) shared += extents[i].fe_length;
  }
  return shared;
}

class FullDatastore : public ::testing::TestWithParam<const char*> {};

TEST_P(FullDatastore, FailsCleanlyAndGoesOn) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 48 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("other"), {{"size", "8mb"}, {"diskformat", "zeroedthick"}}, {}));
  auto refused = plane->create(name_of("db"), {{"size", "40mb"}, {"diskformat", GetParam()}}, {});
  EXPECT_EQ(code_of(refused), "E_NO_SPACE");
  EXPECT_EQ(code_of(plane->get(name_of("db"))), "E_NOT_FOUND");
  EXPECT_EQ(volume_files(image.path()).size(), 4u) << "the lock and the three files of the other";
  EXPECT_OK(plane->attach(name_of("other")));
  EXPECT_OK(plane->detach(name_of("other")));
  EXPECT_OK(plane->create(name_of("db"), {{"size", "8mb"}, {"diskformat", GetParam()}}, {}));
}

INSTANTIATE_TEST_SUITE_P(Formats, FullDatastore, ::testing::Values("zeroedthick", "eagerzeroedthick"));

TEST(EmbeddedSpace, AThinDiskMayBeLargerThanWhatIsFreeButNotThanTheDatastore) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 64 * kMegabyte);
  auto plane = embedded(image.path());
  EXPECT_OK(plane->create(name_of("a"), {{"size", "50mb"}}, {}));
  EXPECT_OK(plane->create(name_of("b"), {{"size", "50mb"}}, {}));
  auto refused = plane->create(name_of("c"), {{"size", "1gb"}}, {});
  EXPECT_EQ(code_of(refused), "E_NO_SPACE");
  EXPECT_THAT(message_of(refused), HasSubstr("larger than the datastore"));
}

TEST(EmbeddedSpace, AFullDatastoreStillRemoves) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 48 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}}, {}));
  (void)base::write_file(image.path() + "/filler", std::string(64 * kMegabyte, 'f'));
  EXPECT_OK(plane->attach(name_of("db"))) << "its record fits where the old one was";
  EXPECT_OK(plane->detach(name_of("db")));
  EXPECT_OK(plane->remove(name_of("db")));
}

TEST(EmbeddedSpace, ATmpfsIsADatastoreToo) {
  enter_private_mount_namespace();
  TemporaryFolder folder;
  ASSERT_EQ(::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=32m"), 0);
  {
    auto plane = embedded(folder.path());
    EXPECT_OK(plane->create(name_of("db"), {{"size", "8mb"}, {"diskformat", "zeroedthick"}}, {}));
    EXPECT_EQ(
        code_of(plane->create(name_of("big"), {{"size", "30mb"}, {"diskformat", "eagerzeroedthick"}}, {})),
        "E_NO_SPACE");
    EXPECT_OK(plane->attach(name_of("db")));
    EXPECT_OK(plane->detach(name_of("db")));
  }
  unmount(folder.path());
}

TEST(EmbeddedSpace, AReadOnlyDatastoreSaysSo) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 48 * kMegabyte);
  ASSERT_OK(embedded(image.path())->create(name_of("db"), {{"size", "8mb"}}, {}));
  image.set_read_only(true);
  auto plane = embedded(image.path());
  EXPECT_THAT(*plane->list(), ElementsAre(name_of("db@ds")));
  EXPECT_OK(plane->get(name_of("db")));
  EXPECT_EQ(code_of(plane->create(name_of("new"), {}, {})), "E_READ_ONLY");
  EXPECT_EQ(code_of(plane->attach(name_of("db"))), "E_READ_ONLY");
  EXPECT_EQ(code_of(plane->remove(name_of("db"))), "E_READ_ONLY");
  EXPECT_EQ(code_of(plane->set_init(name_of("db"), InitState::kFormatting, "")), "E_READ_ONLY");
  image.set_read_only(false);
  EXPECT_OK(plane->remove(name_of("db")));
}

TEST(EmbeddedSpace, ADatastoreThatBecameReadOnlyLetsItsDisksGo) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 48 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("db"), {{"size", "8mb"}, {"access", "read-only"}}, {}));
  ASSERT_OK(plane->set_init(name_of("db"), InitState::kReady,
                            ""));  // so that the device is read-only and does not hinder the remount
  ASSERT_OK(plane->attach(name_of("db")));
  image.set_read_only(true);
  EXPECT_OK(plane->detach(name_of("db")));
  EXPECT_THAT(loops_below(image.path()), IsEmpty());
  EXPECT_FALSE(plane->get(name_of("db"))->holder) << "the device counts, not the record";
}

TEST(EmbeddedSpace, AnEmptyReadOnlyDatastoreIsRefusedAtOnce) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 48 * kMegabyte);
  image.set_read_only(true);
  auto refused = make_embedded_control_plane({{{"ds", image.path()}}, {"u", "n"}}, make_loop_hypervisor());
  EXPECT_EQ(code_of(refused), "E_READ_ONLY");
}

struct FileSystem {
  const char* type;
  std::vector<std::string> mkfs;
};

class Reflink : public ::testing::TestWithParam<FileSystem> {};

TEST_P(Reflink, AThinCloneSharesItsSourcesBlocks) {
  MountedImage image(GetParam().mkfs, GetParam().type, 512 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("src"), {{"size", "100mb"}}, {}));
  const std::string folder = volumes_folder(image.path());
  fill(folder + "/src-flat.vmdk", 10 * kMegabyte, 20 * kMegabyte);
  ASSERT_OK(plane->set_init(name_of("src"), InitState::kReady, ""));
  ASSERT_OK(plane->create(name_of("copy"), {{"clone-from", "src"}}, {}));
  EXPECT_EQ(shared_bytes(folder + "/copy-flat.vmdk"), 20 * kMegabyte);
  run({"cmp", folder + "/src-flat.vmdk", folder + "/copy-flat.vmdk"});
  fill(folder + "/copy-flat.vmdk", 10 * kMegabyte, kMegabyte);
  ASSERT_OK(plane->remove(name_of("src")));
  EXPECT_OK(plane->get(name_of("copy")));
}

INSTANTIATE_TEST_SUITE_P(FileSystems, Reflink,
                         ::testing::Values(FileSystem{"xfs", {"mkfs.xfs", "-q"}},
                                           FileSystem{"btrfs", {"mkfs.btrfs", "-q"}}),
                         [](const auto& row) { return std::string(row.param.type); });

TEST(EmbeddedClone, KeepsHolesWhereThereAreNoReflinks) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 256 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("src"), {{"size", "100mb"}}, {}));
  const std::string folder = volumes_folder(image.path());
  fill(folder + "/src-flat.vmdk", 0, kMegabyte);
  fill(folder + "/src-flat.vmdk", 50 * kMegabyte + 4096, 2 * kMegabyte);
  ASSERT_OK(plane->set_init(name_of("src"), InitState::kReady, ""));
  ASSERT_OK(plane->create(name_of("copy"), {{"clone-from", "src"}}, {}));
  run({"cmp", folder + "/src-flat.vmdk", folder + "/copy-flat.vmdk"});
  EXPECT_LE(allocated_bytes(folder + "/copy-flat.vmdk"), 4 * kMegabyte);
}

TEST(EmbeddedClone, AThickCloneHasAllItsSpace) {
  for (const FileSystem& type :
       {FileSystem{"xfs", {"mkfs.xfs", "-q"}}, FileSystem{"ext4", {"mkfs.ext4", "-q"}}}) {
    MountedImage image(type.mkfs, type.type, 512 * kMegabyte);
    auto plane = embedded(image.path());
    ASSERT_OK(plane->create(name_of("src"), {{"size", "50mb"}}, {}));
    const std::string folder = volumes_folder(image.path());
    fill(folder + "/src-flat.vmdk", 5 * kMegabyte, kMegabyte);
    ASSERT_OK(plane->set_init(name_of("src"), InitState::kReady, ""));
    for (const char* format : {"zeroedthick", "eagerzeroedthick"}) {
      ASSERT_OK(plane->create(name_of(format), {{"clone-from", "src"}, {"diskformat", format}}, {}));
      run({"cmp", folder + "/src-flat.vmdk", folder + "/" + format + "-flat.vmdk"});
      EXPECT_GE(allocated_bytes(folder + "/" + format + "-flat.vmdk"), 50 * kMegabyte) << type.type;
    }
  }
}

TEST(EmbeddedClone, ThatDoesNotFitLeavesNothing) {
  MountedImage image({"mkfs.ext4", "-q"}, "ext4", 64 * kMegabyte);
  auto plane = embedded(image.path());
  ASSERT_OK(plane->create(name_of("src"), {{"size", "50mb"}}, {}));
  fill(volumes_folder(image.path()) + "/src-flat.vmdk", 0, 35 * kMegabyte);
  ASSERT_OK(plane->set_init(name_of("src"), InitState::kReady, ""));
  EXPECT_EQ(code_of(plane->create(name_of("copy"), {{"clone-from", "src"}}, {})), "E_NO_SPACE");
  EXPECT_EQ(volume_files(image.path()).size(), 4u);
  EXPECT_OK(plane->get(name_of("src")));
}

TEST(EmbeddedClone, GoesFromDatastoreToDatastoreUnderOneName) {
  TemporaryFolder folder;
  auto plane = make_embedded_control_plane(
      {{{"one", folder.path() + "/1"}, {"two", folder.path() + "/2"}}, {"u", "n"}}, make_loop_hypervisor());
  ASSERT_OK(plane);
  ASSERT_OK((*plane)->create(name_of("db"), {{"size", "4mb"}}, {}));
  fill(volumes_folder(folder.path() + "/1") + "/db-flat.vmdk", 0, kMegabyte);
  ASSERT_OK((*plane)->set_init(name_of("db"), InitState::kReady, ""));
  ASSERT_OK((*plane)->create(name_of("db@two"), {{"clone-from", "db@one"}}, {}));
  EXPECT_THAT(*(*plane)->list(), ElementsAre(name_of("db@one"), name_of("db@two")));
  EXPECT_EQ(code_of((*plane)->create(name_of("x@two"), {{"clone-from", "y"}}, {})), "E_NOT_FOUND");
  EXPECT_EQ(code_of((*plane)->create(name_of("db@two"), {{"clone-from", "db"}}, {})), "E_EXISTS");
}

}  // namespace
}  // namespace vdvs::esx::testing
