// A loop device of the test's own: a node that LOOP_CTL_ADD makes, so that nothing else on the machine picks
// it, and that goes away with the test, failed or not.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "base/deadline.h"
#include "base/disk_address.h"
#include "base/fd.h"

namespace vdvs::blockdev {

/// Asks again until `condition` holds: for states of the kernel that no event tells. Fails the test after a
/// minute.
inline void wait_until(const std::string& what, const std::function<bool()>& condition) {
  const auto deadline = base::deadline_in(std::chrono::minutes(1));
  while (!condition()) {
    if (base::has_passed(deadline)) {
      ADD_FAILURE() << "waited in vain: " << what;
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// A sparse file that a loop device can carry.
inline void make_disk_file(const std::string& path, off_t size_bytes = 16 * 1024 * 1024) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0) << path;
  EXPECT_EQ(::ftruncate(fd, size_bytes), 0);
  ::close(fd);
}

/// The address of whatever loop device carries `path`: no node, no diskseq.
inline base::LoopAddress address_of_file(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return {.node = {}, .file_device = status.st_dev, .file_inode = status.st_ino};
}

class LoopNode {
 public:
  LoopNode() {
    control_ = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    EXPECT_GE(control_, 0) << "this test needs root and /dev/loop-control";
    // Out of the way of LOOP_CTL_GET_FREE, which hands out the lowest free number.
    for (int candidate = 2000 + ::getpid() % 50000; index_ < 0 && candidate < 100000; ++candidate) {
      index_ = ::ioctl(control_, LOOP_CTL_ADD, candidate);
    }
    EXPECT_GE(index_, 0);
  }

  ~LoopNode() {
    remove();
    ::close(control_);
  }
  LoopNode(const LoopNode&) = delete;
  LoopNode& operator=(const LoopNode&) = delete;

  std::string name() const { return "loop" + std::to_string(index_); }
  std::string path() const { return "/dev/" + name(); }

  /// Puts `file` into the device; the address is what the control plane would answer.
  base::LoopAddress attach(const std::string& file, unsigned flags = 0) {
    const int file_fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config{};
    config.fd = static_cast<unsigned>(file_fd);
    config.info.lo_flags = flags;
    base::LoopAddress address = address_of_file(file);
    address.node = path();
    // Busy while udevd has it open since an earlier use: the last close ends that use, so it is opened for
    // each try.
    wait_until("attach to " + path(), [&] {
      const int node_fd = open_node();
      const int status = ::ioctl(node_fd, LOOP_CONFIGURE, &config);
      const int error = status == 0 ? 0 : errno;
      EXPECT_TRUE(error == 0 || error == EBUSY) << path() << ": " << ::strerror(error);
      (void)::ioctl(node_fd, BLKGETDISKSEQ, &address.diskseq);
      ::close(node_fd);
      return error != EBUSY;
    });
    ::close(file_fd);
    return address;
  }

  void detach() {
    const int node_fd = open_node();
    EXPECT_EQ(::ioctl(node_fd, LOOP_CLR_FD, 0), 0) << path() << ": " << ::strerror(errno);
    ::close(node_fd);
  }

  /// Makes the node itself go away.
  void remove() {
    if (index_ < 0) return;
    const int node_fd = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
    if (node_fd >= 0) {
      (void)::ioctl(node_fd, LOOP_CLR_FD, 0);
      ::close(node_fd);
    }
    // Busy while udevd still looks at it.
    wait_until("remove " + path(),
               [this] { return ::ioctl(control_, LOOP_CTL_REMOVE, index_) >= 0 || errno != EBUSY; });
    index_ = -1;
  }

  /// Has the kernel send an event about the device that means nothing.
  void poke() const { EXPECT_TRUE(base::write_file("/sys/block/" + name() + "/uevent", "change")); }

 private:
  int open_node() const {
    const int fd = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_GE(fd, 0) << path();
    return fd;
  }

  int control_ = -1;
  int index_ = -1;
};

/// Waits until thread `tid` of this process sleeps in poll(2).
inline void wait_until_polling(pid_t tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/syscall";
  wait_until("a thread polls", [&] {
    const auto line = base::read_line_file(path);
    return line && (line->starts_with("7 ") || line->starts_with("271 "));  // poll, ppoll on x86-64.
  });
}

}  // namespace vdvs::blockdev
