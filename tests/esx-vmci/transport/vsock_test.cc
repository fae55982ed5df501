// How the address family is found, and how source ports are. ESXi is played by three functions; the real
// sockets are in transport_vsock_test.cc.
#include "esx-vmci/transport/vsock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "esx-vmci/transport/channel.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;

/// An ESXi host whose device is at `path` and gives `family`.
VsockSystem esxi(const std::string& path, int family, std::vector<unsigned long>* asked = nullptr) {
  return {.has_family = [](int) { return false; },
          .open_device = [path](const std::string& asked_path) -> base::Result<base::UniqueFd> {
            if (asked_path != path) return base::fail(ErrorCode::kNotFound, "no '{}'", asked_path);
            return base::open_file("/dev/null", O_RDONLY);
          },
          .ask =
              [family, asked](const base::UniqueFd&, unsigned long request) {
                if (asked != nullptr) asked->push_back(request);
                return request == 1976 ? family : 1;
              }};
}

TEST(VsockFamily, IsLinuxsOwnWhereTheKernelHasIt) {
  VsockSystem system = esxi("/dev/vsock", 99);
  system.has_family = [](int family) { return family == 40; };
  const auto family = find_vsock_family(system);
  ASSERT_TRUE(family);
  EXPECT_EQ(family->number, 40);
  EXPECT_FALSE(family->device.is_open());
}

TEST(VsockFamily, IsAskedForOnEsxiAndItsDeviceStaysOpen) {
  std::vector<unsigned long> asked;
  const auto family = find_vsock_family(esxi("/dev/vsock", 28, &asked));
  ASSERT_TRUE(family);
  EXPECT_EQ(family->number, 28);
  EXPECT_TRUE(family->device.is_open());
  EXPECT_THAT(asked, ::testing::ElementsAre(1972, 1976));
}

TEST(VsockFamily, IsAskedForAtTheOtherPathToo) {
  EXPECT_EQ(find_vsock_family(esxi("/vmfs/devices/char/vsock/vsock", 28))->number, 28);
}

TEST(VsockFamily, SaysWhatToDoWhereThereIsNone) {
  for (const VsockSystem& system : {esxi("/nowhere", 28), esxi("/dev/vsock", -1), esxi("/dev/vsock", 0)}) {
    const auto family = find_vsock_family(system);
    ASSERT_FALSE(family);
    EXPECT_EQ(family.error().code(), ErrorCode::kUnsupported);
    EXPECT_THAT(family.error().text(), ::testing::HasSubstr("vhost_vsock"));
  }
}

TEST(VsockListener, IsRefusedWithARemedyOnAKernelWithoutVsock) {
  boost::asio::io_context loop;
  if (vsock_family()) GTEST_SKIP() << "limit of the machine: it has vsock, so that nothing is refused";
  const auto listener = make_listener(loop, {.kind = Endpoint::Kind::kVsock}, {}, {});
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code(), ErrorCode::kUnsupported);
  EXPECT_THAT(listener.error().text(), ::testing::AllOf(::testing::HasSubstr("vsock:2:1019"),
                                                        ::testing::HasSubstr("use unix: or tcp:")));
}

TEST(PrivilegedPort, EachAttemptTakesTheNextOf100To1023) {
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 924; ++i) seen.insert(next_privileged_port());
  EXPECT_EQ(seen.size(), 924);
  EXPECT_EQ(*seen.begin(), 100);
  EXPECT_EQ(*seen.rbegin(), 1023);
}

TEST(PrivilegedPort, OneThatIsInUseIsPassedOver) {
  int attempts = 0;
  EXPECT_TRUE(bind_privileged_port([&](std::uint32_t) { return ++attempts < 3 ? EADDRINUSE : 0; }));
  EXPECT_EQ(attempts, 3);
}

TEST(PrivilegedPort, GivesUpWhenAllAreInUse) {
  int attempts = 0;
  const auto bound = bind_privileged_port([&](std::uint32_t) {
    ++attempts;
    return EADDRINUSE;
  });
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(attempts, 923);
}

TEST(PrivilegedPort, WhoIsNotRootIsToldAtOnce) {
  int attempts = 0;
  const auto bound = bind_privileged_port([&](std::uint32_t) {
    ++attempts;
    return EACCES;
  });
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code(), ErrorCode::kDenied);
  EXPECT_THAT(bound.error().remedy(), ::testing::HasSubstr("root"));
  EXPECT_EQ(attempts, 1);
}

}  // namespace
}  // namespace vdvs::esx
