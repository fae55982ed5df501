// What is particular to unix sockets: files, credentials, and what happens when descriptors run out.
#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

constexpr uid_t kStranger = 65534;
constexpr gid_t kGroup = 54321;

class UnixListener : public TransportContract {
 protected:
  /// Connects as another user, and waits until the service has closed or answered. True: it was served.
  bool is_served_as(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
    const pid_t child = ::fork();
    if (child == 0) {
      const bool is_changed = ::setgroups(groups.size(), groups.data()) == 0 && ::setgid(gid) == 0 && ::setuid(uid) == 0;
      if (!is_changed) ::_exit(3);
      const base::UniqueFd fd = connect_unix(endpoint_.path);
      if (!fd.is_open()) ::_exit(2);
      char byte = 0;
      ::_exit(::recv(fd.get(), &byte, 1, 0) == 1 ? 0 : 1);
    }
    int status = -1;
    EXPECT_TRUE(run_until([&] {
      for (auto& channel : served_) channel->write("hello", soon(), [](base::Result<void>) {});
      served_.clear_after_writes();
      return ::waitpid(child, &status, WNOHANG) == child;
    }));
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_NE(WEXITSTATUS(status), 3);
    return WEXITSTATUS(status) == 0;
  }
};

}  // namespace
}  // namespace vdvs::esx::test
