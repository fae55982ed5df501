#include "esx-vmci/transport/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vdvs::esx {
namespace {

TEST(Endpoint, ReadsTheFormsOfVsock) {
  const Endpoint standard{.kind = Endpoint::Kind::kVsock, .cid = 2, .port = 1019};
  EXPECT_EQ(Endpoint::parse("vsock:"), standard);
  EXPECT_EQ(Endpoint::parse("vsock"), standard);
  EXPECT_EQ(Endpoint::parse("vsock:1020"), (Endpoint{.kind = Endpoint::Kind::kVsock, .port = 1020}));
  EXPECT_EQ(Endpoint::parse("vsock:1:1020"),
            (Endpoint{.kind = Endpoint::Kind::kVsock, .cid = 1, .port = 1020}));
}

TEST(Endpoint, ReadsAUnixPathAndTheVmItIsGivenTo) {
  EXPECT_EQ(Endpoint::parse("unix:/run/a.sock"),
            (Endpoint{.kind = Endpoint::Kind::kUnix, .path = "/run/a.sock"}));
  EXPECT_EQ(Endpoint::parse("unix:/run/a,vm=x,vm=web 1"),
            (Endpoint{.kind = Endpoint::Kind::kUnix, .path = "/run/a,vm=x", .assigned_vm = "web 1"}));
}

TEST(Endpoint, ReadsHostsAndAddresses) {
  EXPECT_EQ(Endpoint::parse("tcp:esx1:7000"),
            (Endpoint{.kind = Endpoint::Kind::kTcp, .port = 7000, .host = "esx1"}));
  EXPECT_EQ(Endpoint::parse("tcp:[::1]:7000"),
            (Endpoint{.kind = Endpoint::Kind::kTcp, .port = 7000, .host = "::1"}));
}

TEST(Endpoint, IsWrittenAsItIsRead) {
  for (const char* text : {"vsock:2:1019", "unix:/run/a.sock", "unix:/run/a.sock,vm=web-1", "tcp:esx1:7000",
                           "tcp:[fe80::1]:1"}) {
    EXPECT_EQ(Endpoint::parse(text)->text(), text);
  }
}

TEST(Endpoint, RefusesTheRestAndNamesTheForms) {
  for (const char* text : {"",          "vmci:",       "/run/a.sock",     "vsock:x",
                           "vsock:0",   "vsock:2:",    "vsock:2:3:4",     "vsock:-1",
                           "unix:",     "unix:a.sock", "unix:/a,vm=",     "tcp:",
                           "tcp:host",  "tcp::1",      "tcp:host:70000",  "tcp:::1:7000",
                           "tcp:a b:1", "tcp:[]:1",    "tcp:[2.1]]:7000", "tcp:[[::1]]:1",
                           "tcp:host:"}) {
    const auto endpoint = Endpoint::parse(text);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_EQ(endpoint.error().code(), base::ErrorCode::kInvalid);
    EXPECT_THAT(endpoint.error().text(), ::testing::HasSubstr("tcp:HOST:PORT"));
  }
}

TEST(Endpoint, SaysTheLimitOfAPath) {
  EXPECT_TRUE(Endpoint::parse("unix:/" + std::string(106, 'a')));
  EXPECT_THAT(Endpoint::parse("unix:/" + std::string(107, 'a')).error().message(),
              ::testing::HasSubstr("at most 107"));
}

}  // namespace
}  // namespace vdvs::esx
