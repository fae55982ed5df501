#include "tests/fs-format/disk_fixture.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <ranges>
#include <stdexcept>

namespace vdvs::fsformat {
namespace {

// A test that cannot get its disk has nothing to go on with: gtest reports the exception.
template <typename T>
T must(base::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().text());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

void must_call(bool is_good, const char* what) {
  if (!is_good) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

LoopDisk::LoopDisk(std::string image, Access access) : image_(std::move(image)) {
  const int mode = access == Access::kReadOnly ? O_RDONLY : O_RDWR;
  const base::UniqueFd file = must(base::open_file(image_, mode));
  const base::UniqueFd control = must(base::open_file("/dev/loop-control", O_RDWR));
  loop_config config = {};
  config.fd = static_cast<__u32>(file.get());
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (access == Access::kReadOnly ? LO_FLAGS_READ_ONLY : 0);
  for (;;) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    must_call(number >= 0, "LOOP_CTL_GET_FREE");
    node_ = fmt::format("/dev/loop{}", number);
    fd_ = must(base::open_file(node_, mode));
    if (::ioctl(fd_.get(), LOOP_CONFIGURE, &config) == 0) return;
    must_call(errno == EBUSY, "LOOP_CONFIGURE");  // EBUSY: somebody else was quicker.
  }
}

void LoopDisk::write(std::uint64_t offset, std::string_view bytes) const {
  must(base::write_all_at(fd_, bytes, offset, node_));
  must(base::sync_data(fd_, node_));
}

std::string LoopDisk::read(std::uint64_t offset, std::size_t count) const {
  std::string bytes(count, '\0');
  must_call(
      ::pread(fd_.get(), bytes.data(), count, static_cast<off_t>(offset)) == static_cast<ssize_t>(count),
      "pread");
  return bytes;
}

void LoopDisk::refresh_size() const {
  must_call(::ioctl(fd_.get(), LOOP_SET_CAPACITY) == 0, "LOOP_SET_CAPACITY");
}

void DiskTest::SetUpTestSuite() {
  must_call(::unshare(CLONE_NEWNS) == 0, "unshare");
  must_call(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "make / private");
}

void DiskTest::TearDown() {
  const auto mounts = must(mounter_->list());
  for (const Mount& mount : std::views::reverse(mounts)) {
    if (mount.target.starts_with(folder_.path() + "/")) {
      ::umount2(mount.target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
      (void)mounter_->unmount(mount.target);
    }
  }
  run_shell(fmt::format("chattr -R -f -i '{}' || true", folder_.path()));
}

std::string DiskTest::make_image(const std::string& name, std::uint64_t size_bytes) const {
  const base::UniqueFd file = must(base::open_file(path(name), O_RDWR | O_CREAT | O_EXCL));
  must_call(::ftruncate(file.get(), static_cast<off_t>(size_bytes)) == 0, "ftruncate");
  return path(name);
}

Content DiskTest::probe(const LoopDisk& disk) const { return must(make_blkid_prober()->probe(disk.node())); }

FileSystem DiskTest::format(const LoopDisk& disk, const FormatRequest& request) const {
  Content content = probe(disk);
  if (!std::holds_alternative<Blank>(content)) throw std::runtime_error("not blank: " + describe(content));
  return must(formatter_->format(std::get<Blank>(std::move(content)), request, deadline()));
}

FileSystem DiskTest::expect_file_system(const LoopDisk& disk) const {
  Content content = probe(disk);
  if (!std::holds_alternative<FileSystem>(content))
    throw std::runtime_error("no file system: " + describe(content));
  return std::get<FileSystem>(std::move(content));
}

DetachedMount DiskTest::open_mount(const MountRequest& request) const {
  return must(mounter_->open(request));
}

void DiskTest::mount(const LoopDisk& disk, const std::string& fstype, const std::string& target,
                     const std::string& options) const {
  must(mounter_->attach(open_mount({.node = disk.node(), .fstype = fstype, .options = options}), target));
}

void run(const std::vector<std::string>& argv) {
  const auto outcome = must(base::run_command(argv));
  if (outcome.exit_status != 0)
    throw std::runtime_error(fmt::format("{}: {}", fmt::join(argv, " "), outcome.output));
}

void run_shell(const std::string& script) { run({"/bin/sh", "-c", script}); }

std::string describe(const Content& content) {
  if (const auto* fs = std::get_if<FileSystem>(&content)) return fmt::format("file system {}", fs->type);
  if (const auto* foreign = std::get_if<Foreign>(&content)) return fmt::format("foreign {}", foreign->what);
  return "blank";
}

}  // namespace vdvs::fsformat
