// What the tests of this folder share: temporary folders, file systems made on the spot, and a clean-up that
// leaves no loop device.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/command.h"
#include "base/error.h"
#include "base/fd.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/service/embedded.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::esx::testing {

template <typename T>
::testing::AssertionResult is_ok(const base::Result<T>& result) {
  if (result) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << result.error().text();
}

#define ASSERT_OK(expression) ASSERT_TRUE(::vdvs::esx::testing::is_ok(expression))
#define EXPECT_OK(expression) EXPECT_TRUE(::vdvs::esx::testing::is_ok(expression))

template <typename T>
std::string code_of(const base::Result<T>& result) {
  return result ? "OK" : std::string(base::code_name(result.error().code()));
}

template <typename T>
std::string message_of(const base::Result<T>& result) {
  return result ? "" : result.error().message();
}

using tests::TemporaryFolder;

inline std::string run(const std::vector<std::string>& argv) {
  auto outcome = base::run_command(argv);
  if (!outcome) {
    ADD_FAILURE() << outcome.error().text();
    return {};
  }
  EXPECT_EQ(outcome->exit_status, 0) << argv.front() << ": " << outcome->output;
  return outcome->output;
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_text(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

/// The folder of a datastore's volumes.
inline std::string volumes_folder(const std::string& datastore) {
  return datastore + "/dockvols/11111111-1111-1111-1111-111111111111";
}

/// The loop devices over files below `folder`, by node.
inline std::vector<std::string> loops_below(const std::string& folder) {
  std::vector<std::string> nodes;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
    auto backing = base::read_line_file(entry.path().string() + "/loop/backing_file");
    if (backing && backing->starts_with(folder + "/"))
      nodes.push_back("/dev/" + entry.path().filename().string());
  }
  return nodes;
}

/// Looks again and again until `is_done`, for a minute at most: for what other processes (udev's probing)
/// finish in a moment and no event tells a test.
inline bool soon(const std::function<bool()>& is_done) {
  const base::Deadline deadline = base::deadline_in(std::chrono::minutes(1));
  while (!is_done()) {
    if (base::has_passed(deadline)) return false;
    ::sched_yield();
  }
  return true;
}

/// As if the machine had lost them: whoever has one open for a moment only delays it.
inline void clear_loops_below(const std::string& folder) {
  for (const std::string& node : loops_below(folder)) (void)base::run_command({"losetup", "-d", node});
  EXPECT_TRUE(soon([&] { return loops_below(folder).empty(); })) << "a loop device is kept open";
}

inline void unmount(const std::string& path) {
  EXPECT_TRUE(soon([&] { return ::umount2(path.c_str(), 0) == 0 || errno != EBUSY; })) << ::strerror(errno);
}

/// A mount namespace of this process's own, so that what a test mounts is seen by nobody else and ends with
/// it. Once per process.
inline void enter_private_mount_namespace() {
  static const bool is_private =
      ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  ASSERT_TRUE(is_private) << "these tests need root";
}

/// Owns: a file system of its own in an image file, mounted.
class MountedImage {
 public:
  MountedImage(const std::vector<std::string>& mkfs, std::string type, std::uint64_t size_bytes) {
    enter_private_mount_namespace();
    const std::string image = folder_.path() + "/image";
    EXPECT_OK(base::write_file(image, ""));
    EXPECT_EQ(::truncate(image.c_str(), static_cast<off_t>(size_bytes)), 0);
    std::vector<std::string> argv = mkfs;
    argv.push_back(image);
    run(argv);
    node_ = run({"losetup", "--find", "--show", image});
    while (!node_.empty() && node_.back() == '\n') node_.pop_back();
    std::filesystem::create_directory(path());
    EXPECT_EQ(::mount(node_.c_str(), path().c_str(), type.c_str(), 0, ""), 0)
        << type << ": " << ::strerror(errno);
    type_ = std::move(type);
  }
  MountedImage(const MountedImage&) = delete;
  MountedImage& operator=(const MountedImage&) = delete;
  ~MountedImage() {
    clear_loops_below(path());
    unmount(path());
    run({"losetup", "-d", node_});
  }
  std::string path() const { return folder_.path() + "/mnt"; }
  void set_read_only(bool is_read_only) const {
    EXPECT_EQ(::mount(node_.c_str(), path().c_str(), type_.c_str(),
                      MS_REMOUNT | (is_read_only ? MS_RDONLY : 0), ""),
              0);
  }

 private:
  TemporaryFolder folder_;
  std::string node_;
  std::string type_;
};

inline VolumeName name_of(std::string_view text) {
  auto name = VolumeName::parse(text);
  VDVS_CHECK(name.has_value());
  return *name;
}

inline std::unique_ptr<ControlPlane> embedded(const std::string& datastore, std::string host = "host-a",
                                              bool is_shared = false) {
  EmbeddedOptions options{.datastores = {{"ds", datastore, is_shared}}, .vm = {host + "-uuid", host}};
  auto plane = make_embedded_control_plane(std::move(options), make_loop_hypervisor());
  EXPECT_OK(plane);
  return plane ? std::move(*plane) : nullptr;
}

/// Runs `work` in a child process. Returns its exit status, or 128 + the signal that ended it.
inline int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Runs `work(i)` in `count` processes at the same moment; their exit statuses.
inline std::vector<int> side_by_side(int count, const std::function<int(int)>& work) {
  int gate[2];
  VDVS_CHECK(::pipe2(gate, O_CLOEXEC) == 0);
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(gate[1]);
      char byte;
      (void)!::read(gate[0], &byte, 1);  // ends when the parent closes the other side
      ::_exit(work(i));
    }
    children.push_back(child);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  std::vector<int> statuses;
  for (pid_t child : children) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    statuses.push_back(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }
  return statuses;
}

/// Allocated bytes of a file.
inline std::uint64_t allocated_bytes(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0;
}

}  // namespace vdvs::esx::testing
