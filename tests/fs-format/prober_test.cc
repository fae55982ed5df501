// What the prober says about real disks that real tools have written. The one that matters: never Blank where
// there is anything.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <numeric>
#include <random>

#include "tests/fs-format/disk_fixture.h"

namespace vdvs::fsformat {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kDiskBytes = 320 * kMiB;  // xfs wants 300 MiB.

std::string little_endian(std::uint64_t value, std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

// A RAID member's superblock, version 1.2 (kernel: include/uapi/linux/raid/md_p.h), as mdadm writes it: that
// needs a kernel with md.
std::string md_superblock(std::uint64_t super_offset = 8) {
  std::string block(256, '\0');
  auto put = [&](std::size_t offset, std::uint64_t value, std::size_t count) {
    block.replace(offset, count, little_endian(value, count));
  };
  put(0, 0xa92b4efc, 4);                      // magic
  put(4, 1, 4);                               // major version
  block.replace(16, 16, "0123456789abcdef");  // set_uuid
  put(72, 1, 4);                              // level
  put(80, 131072, 8);                         // size
  put(92, 2, 4);                              // raid_disks
  put(128, 2048, 8);                          // data_offset
  put(136, 131072, 8);                        // data_size
  put(144, super_offset, 8);                  // super_offset
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); i += 4) {
    for (std::size_t j = 0; j < 4; ++j)
      sum += std::uint64_t{static_cast<unsigned char>(block[i + j])} << (8 * j);
  }
  put(216, (sum & 0xffffffff) + (sum >> 32), 4);
  return block;
}

/// The CRC of LVM's labels (lib/misc/crc.c of LVM2: reflected 0xedb88320, initial value 0xf597a6cf).
std::uint32_t lvm_crc(std::string_view bytes) {
  std::uint32_t crc = 0xf597a6cf;
  for (char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
  }
  return crc;
}

/// A physical volume's label, which stands in the second sector.
std::string lvm_label() {
  std::string sector(512, '\0');
  sector.replace(0, 8, "LABELONE");
  sector.replace(8, 8, little_endian(1, 8));    // its sector
  sector.replace(20, 4, little_endian(32, 4));  // offset of the content
  sector.replace(24, 8, "LVM2 001");
  sector.replace(32, 32, "0123456789abcdefghijklmnopqrstuv");
  sector.replace(16, 4, little_endian(lvm_crc(std::string_view(sector).substr(20)), 4));
  return sector;
}

std::string random_bytes(std::size_t count) {
  const unsigned seed = std::random_device()();
  testing::Test::RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

struct Signature {
  std::string name;
  std::function<void(const LoopDisk&)> write;
  std::string expected;  ///< Part of what describe() says.
};

void PrintTo(const Signature& signature, std::ostream* out) { *out << signature.name; }

Signature by_tool(std::string name, std::vector<std::string> argv, std::string expected) {
  auto write = [argv](const LoopDisk& disk) {
    std::vector<std::string> whole = argv;
    whole.push_back(disk.node());
    run(whole);
  };
  return {std::move(name), write, std::move(expected)};
}

Signature by_bytes(std::string name, std::uint64_t offset, std::function<std::string()> bytes,
                   std::string expected) {
  return {std::move(name), [=](const LoopDisk& disk) { disk.write(offset, bytes()); }, std::move(expected)};
}

Signature by_sfdisk(std::string name, std::string_view label, std::string expected) {
  const std::string script = fmt::format("echo 'label: {}' | sfdisk -q ", label);
  return {std::move(name), [=](const LoopDisk& disk) { run_shell(script + disk.node()); },
          std::move(expected)};
}

std::vector<Signature> all_signatures() {
  return {
      by_tool("ext2", {"mkfs.ext2", "-q", "-F"}, "file system ext2"),
      by_tool("ext3", {"mkfs.ext3", "-q", "-F"}, "file system ext3"),
      by_tool("ext4", {"mkfs.ext4", "-q", "-F"}, "file system ext4"),
      by_tool("xfs", {"mkfs.xfs", "-q"}, "file system xfs"),
      by_tool("btrfs", {"mkfs.btrfs", "-q"}, "file system btrfs"),
      by_tool("vfat", {"mkfs.vfat", "-I", "--mbr=n"}, "file system vfat"),
      by_tool("ntfs", {"mkntfs", "-F", "-Q", "-q"}, "file system ntfs"),
      by_tool("minix", {"mkfs.minix"}, "file system minix"),
      by_tool("swap", {"mkswap"}, "foreign swap"),
      by_tool("luks",
              {"cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000",
               "--key-file=/proc/version"},
              "foreign crypto_LUKS"),
      by_bytes("lvm", 512, lvm_label, "foreign LVM2_member"),
      by_bytes(
          "mdraid", 4096, [] { return md_superblock(); }, "foreign linux_raid_member"),
      by_sfdisk("gpt", "gpt", "foreign GPT partition table"),
      by_sfdisk("mbr", "dos", "foreign MBR partition table"),
      by_bytes(
          "mbr_with_bytes_nobody_knows", 510, [] { return std::string("\x55\xAA"); }, "foreign"),
      by_bytes(
          "random_first_mib", 0, [] { return random_bytes(kMiB); }, "foreign"),
      by_bytes(
          "one_byte_at_the_end_of_the_first_mib", kMiB - 1, [] { return std::string("x"); },
          "foreign data that is not zero at byte 1048575"),
      by_bytes(
          "first_byte_of_the_last_mib", kDiskBytes - kMiB, [] { return std::string("x"); },
          fmt::format("foreign data that is not zero at byte {}", kDiskBytes - kMiB)),
      by_bytes(
          "last_byte", kDiskBytes - 1, [] { return std::string("x"); },
          fmt::format("foreign data that is not zero at byte {}", kDiskBytes - 1)),
  };
}

class EverySignature : public DiskTest, public testing::WithParamInterface<Signature> {};

TEST_P(EverySignature, IsNeverBlank) {
  const LoopDisk disk = make_disk(kDiskBytes);
  GetParam().write(disk);
  EXPECT_THAT(describe(probe(disk)), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(Prober, EverySignature, testing::ValuesIn(all_signatures()),
                         [](const auto& test) { return test.param.name; });

class ProberOnDisk : public DiskTest {};

TEST_F(ProberOnDisk, FindsASparseDiskBlank) { EXPECT_EQ(describe(probe(make_disk())), "blank"); }

TEST_F(ProberOnDisk, FindsADiskSmallerThanTwoMibBlankAndNot) {
  const LoopDisk disk = make_disk(kMiB + 512);
  EXPECT_EQ(describe(probe(disk)), "blank");
  disk.write(kMiB + 511, "x");
  EXPECT_EQ(describe(probe(disk)), fmt::format("foreign data that is not zero at byte {}", kMiB + 511));
}

TEST_F(ProberOnDisk, HoldsTheExclusiveLockAsLongAsTheBlankLives) {
  const LoopDisk disk = make_disk();
  auto other = base::open_file(disk.node(), O_RDONLY);
  ASSERT_TRUE(other);
  {
    const Content content = probe(disk);
    ASSERT_EQ(describe(content), "blank");
    EXPECT_NE(::flock(other->get(), LOCK_SH | LOCK_NB), 0);
  }
  EXPECT_EQ(::flock(other->get(), LOCK_SH), 0);
}

TEST_F(ProberOnDisk, SaysInUseAndByWhomWhileAnotherProcessHoldsTheLock) {
  const LoopDisk disk = make_disk();
  std::array<int, 2> ready;
  std::array<int, 2> done;
  ASSERT_EQ(::pipe(ready.data()) | ::pipe(done.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    const int fd = ::open(disk.node().c_str(), O_RDONLY);
    const bool is_locked = fd >= 0 && ::flock(fd, LOCK_EX) == 0;
    ::close(done[1]);
    if (is_locked && ::write(ready[1], "x", 1) == 1) (void)!::read(done[0], &byte, 1);
    ::_exit(0);
  }
  ::close(done[0]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto content = make_blkid_prober({.lock_wait = std::chrono::milliseconds(20)})->probe(disk.node());
  ::close(done[1]);
  // Gets the lock when the child has gone.
  const auto later = make_blkid_prober({.lock_wait = std::chrono::minutes(1)})->probe(disk.node());
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code(), base::ErrorCode::kInUse);
  EXPECT_THAT(content.error().message(), HasSubstr(fmt::format("(pid {})", child)));
  ASSERT_TRUE(later) << later.error().text();
  EXPECT_EQ(describe(*later), "blank");
}

TEST_F(ProberOnDisk, SharesTheLockWithReadersOfAFileSystem) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", disk.node()});
  auto udev = base::open_file(disk.node(), O_RDONLY);
  ASSERT_TRUE(udev);
  ASSERT_EQ(::flock(udev->get(), LOCK_SH), 0);
  const auto content = make_blkid_prober({.lock_wait = std::chrono::seconds(0)})->probe(disk.node());
  ASSERT_TRUE(content) << content.error().text();
  EXPECT_EQ(describe(*content), "file system ext4");
}

TEST_F(ProberOnDisk, RefusesABlankDiskThatSomebodyHasClaimed) {
  const LoopDisk disk = make_disk();
  auto claim = base::open_file(disk.node(), O_RDWR | O_EXCL);
  ASSERT_TRUE(claim);
  const auto content = make_blkid_prober()->probe(disk.node());
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code(), base::ErrorCode::kInUse);
}

TEST_F(ProberOnDisk, CountsASuperblockWithABadChecksumAsAFileSystemToBeChecked) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", "-O", "metadata_csum", disk.node()});
  disk.write(1024 + 0x78, "damaged");  // The label, which the checksum covers.
  const FileSystem fs = expect_file_system(disk);
  EXPECT_EQ(fs.type, "ext4");
  EXPECT_TRUE(fs.needs_check);
}

TEST_F(ProberOnDisk, CountsADamagedXfsAsAFileSystem) {
  const LoopDisk disk = make_disk(kDiskBytes);
  run({"mkfs.xfs", "-q", disk.node()});
  disk.write(108, "damaged");
  EXPECT_EQ(describe(probe(disk)), "file system xfs");
}

TEST_F(ProberOnDisk, NamesBothAFileSystemAndAPartitionTable) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", disk.node()});
  run_shell("printf 'label: dos\\n,,L\\n' | sfdisk -q --wipe never --no-reread " + disk.node());
  EXPECT_EQ(describe(probe(disk)), "foreign ext4 and MBR partition table");
}

TEST_F(ProberOnDisk, NamesAllSignaturesWhereThereAreSeveral) {
  const LoopDisk disk = make_disk(kDiskBytes);
  const LoopDisk btrfs = make_disk(kDiskBytes, "btrfs.img");
  run({"mkfs.ext4", "-q", disk.node()});
  run({"mkfs.btrfs", "-q", btrfs.node()});
  constexpr std::uint64_t kBtrfsSuperblock = 65536;
  disk.write(kBtrfsSuperblock, btrfs.read(kBtrfsSuperblock, 4096));
  EXPECT_THAT(describe(probe(disk)), testing::AnyOf("foreign ext4 and btrfs", "foreign btrfs and ext4"));
}

TEST_F(ProberOnDisk, SeesLuksThatWasPutOverAFileSystem) {
  const LoopDisk luks = make_disk(64 * kMiB, "luks.img");
  run({"cryptsetup", "luksFormat", "--type=luks1", "--batch-mode", "--pbkdf-force-iterations=1000",
       "--key-file=/proc/version", luks.node()});
  for (const char* fstype : {"ext4", "btrfs"}) {
    const LoopDisk disk = make_disk(kDiskBytes, fstype);
    run({fmt::format("mkfs.{}", fstype), "-q", disk.node()});
    disk.write(0, luks.read(0, 592));
    EXPECT_EQ(describe(probe(disk)), "foreign crypto_LUKS") << fstype;
  }
}

TEST_F(ProberOnDisk, SeesARaidSuperblockAtTheEndOfAFileSystem) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", disk.node()});
  constexpr std::uint64_t kSector = (64 * kMiB / 512 - 16) & ~std::uint64_t{7};  // Version 1.0.
  disk.write(kSector * 512, md_superblock(kSector));
  EXPECT_EQ(describe(probe(disk)), "foreign linux_raid_member");
}

TEST_F(ProberOnDisk, SeesASecondGptAtTheEndOfAFileSystem) {
  const LoopDisk disk = make_disk();
  const LoopDisk table = make_disk(64 * kMiB, "table.img");
  run({"mkfs.ext4", "-q", disk.node()});
  run_shell("echo 'label: gpt' | sfdisk -q " + table.node());
  constexpr std::uint64_t kSecondTableBytes = 33 * 512;
  disk.write(64 * kMiB - kSecondTableBytes, table.read(64 * kMiB - kSecondTableBytes, kSecondTableBytes));
  EXPECT_EQ(describe(probe(disk)), "foreign ext4 and GPT partition table");
}

TEST_F(ProberOnDisk, RefusesABtrfsThatSpansSeveralDisks) {
  const LoopDisk one = make_disk(kDiskBytes, "one.img");
  const LoopDisk two = make_disk(kDiskBytes, "two.img");
  run({"mkfs.btrfs", "-q", one.node(), two.node()});
  EXPECT_EQ(describe(probe(one)), "foreign btrfs that spans several disks");
}

TEST_F(ProberOnDisk, TellsUuidAndLabel) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-L", "files", disk.node()});
  EXPECT_EQ(expect_file_system(disk), (FileSystem{.type = "ext4",
                                                  .uuid = "01234567-89ab-cdef-0123-456789abcdef",
                                                  .label = "files",
                                                  .needs_check = false}));
}

TEST_F(ProberOnDisk, WantsAnExt4CheckedThatWasNotUnmounted) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", disk.node()});
  mount(disk, "ext4", path("target"));
  run({"cp", "--sparse=always", disk.image(), path("copy.img")});
  EXPECT_TRUE(expect_file_system(LoopDisk(path("copy.img"))).needs_check);
  ASSERT_TRUE(mounter_->unmount(path("target")));
  EXPECT_FALSE(expect_file_system(disk).needs_check);
}

TEST_F(ProberOnDisk, WantsNoCheckOfWhatIsMounted) {
  const LoopDisk disk = make_disk();
  run({"mkfs.ext4", "-q", disk.node()});
  mount(disk, "ext4", path("target"));
  EXPECT_FALSE(expect_file_system(disk).needs_check);
}

TEST_F(ProberOnDisk, SeesWhatTheDeviceHoldsAndNotWhatThisHostHasCached) {
  const LoopDisk disk = make_disk();
  (void)disk.read(0, kMiB);  // Zeros, in the page cache of the device from here on.
  auto file = base::open_file(disk.image(), O_RDWR);
  ASSERT_TRUE(file);
  ASSERT_TRUE(base::write_all_at(*file, "x", 4096, disk.image()));
  EXPECT_EQ(describe(probe(disk)), "foreign data that is not zero at byte 4096");
}

TEST_F(ProberOnDisk, RefusesWhatIsNoBlockDevice) {
  const auto content = make_blkid_prober()->probe(make_image("plain", kMiB));
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code(), base::ErrorCode::kInvalid);
}

}  // namespace
}  // namespace vdvs::fsformat
