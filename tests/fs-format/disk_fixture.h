// Real disks for the kernel tests: sparse image files behind loop devices, in a mount namespace of the test's
// own. Whatever happens to the test, nothing stays: the loop devices let go of their files with their last
// user, the mounts go with the namespace.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/command.h"
#include "base/deadline.h"
#include "base/fd.h"
#include "fs-format/formatter.h"
#include "fs-format/mounter.h"
#include "fs-format/prober.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::fsformat {

inline constexpr std::uint64_t kMiB = 1024 * 1024;

/// Owns: an image file's loop device. It is told to detach itself when its last user closes it.
class LoopDisk {
 public:
  enum class Access { kReadWrite, kReadOnly };

  explicit LoopDisk(std::string image, Access access = Access::kReadWrite);

  const std::string& node() const { return node_; }
  const std::string& image() const { return image_; }
  /// Writes through the block device.
  void write(std::uint64_t offset, std::string_view bytes) const;
  std::string read(std::uint64_t offset, std::size_t count) const;
  /// Lets the device see that its file has grown.
  void refresh_size() const;

 private:
  std::string image_;
  std::string node_;
  base::UniqueFd fd_;
};

class DiskTest : public testing::Test {
 protected:
  static void SetUpTestSuite();
  void TearDown() override;

  /// A sparse image, all zero.
  std::string make_image(const std::string& name, std::uint64_t size_bytes) const;
  LoopDisk make_disk(std::uint64_t size_bytes = 64 * kMiB, const std::string& name = "disk.img") const {
    return LoopDisk(make_image(name, size_bytes));
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  base::Deadline deadline() const { return base::deadline_in(std::chrono::minutes(2)); }

  /// Probes, and fails the test with the error where that is not possible.
  Content probe(const LoopDisk& disk) const;
  FileSystem format(const LoopDisk& disk, const FormatRequest& request) const;
  FileSystem expect_file_system(const LoopDisk& disk) const;
  DetachedMount open_mount(const MountRequest& request) const;
  void mount(const LoopDisk& disk, const std::string& fstype, const std::string& target,
             const std::string& options = {}) const;

  std::unique_ptr<Formatter> formatter_ = make_tool_formatter();
  std::unique_ptr<Mounter> mounter_ = make_kernel_mounter();

 private:
  tests::TemporaryFolder folder_;
};

/// Runs a command that the test relies on; its words are in the failure.
void run(const std::vector<std::string>& argv);
void run_shell(const std::string& script);

std::string describe(const Content& content);

}  // namespace vdvs::fsformat
