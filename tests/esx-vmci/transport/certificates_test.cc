// The certificates that 'vdvs cert' makes, looked at by OpenSSL's own program.
#include "esx-vmci/transport/certificates.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "base/command.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Certificates : public ::testing::Test {
 protected:
  static base::CommandOutcome openssl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    auto outcome = base::run_command(arguments);
    EXPECT_TRUE(outcome) << outcome.error().text();
    return outcome ? *outcome : base::CommandOutcome();
  }
  static std::string text_of(const std::string& certificate) {
    return openssl({"x509", "-in", certificate, "-noout", "-text"}).output;
  }
  bool is_good_for(const std::string& purpose, const std::string& certificate) const {
    return openssl(
               {"verify", "-x509_strict", "-CAfile", folder_ / "ca.crt", "-purpose", purpose, certificate})
               .exit_status == 0;
  }
  static std::string content_of(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  static unsigned mode_of(const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }
  void make_one_authority() const {
    auto made = make_authority(folder_.path(), {.name = "the authority", .hosts = {}});
    ASSERT_TRUE(made) << made.error().text();
  }

  Folder folder_;
};

TEST_F(Certificates, OpensslAgreesWhatEachIsGoodFor) {
  make_one_authority();
  const auto service = make_service_certificate(
      folder_.path(), {.name = "esx-1", .hosts = {"esx-1.example", "10.0.0.1", "fe80::1"}});
  const auto guest = make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}});
  ASSERT_TRUE(service) << service.error().text();
  ASSERT_TRUE(guest) << guest.error().text();
  EXPECT_TRUE(is_good_for("sslserver", service->certificate));
  EXPECT_FALSE(is_good_for("sslclient", service->certificate));
  EXPECT_TRUE(is_good_for("sslclient", guest->certificate));
  EXPECT_FALSE(is_good_for("sslserver", guest->certificate));
  const std::string authority = text_of(folder_ / "ca.crt");
  EXPECT_THAT(authority, HasSubstr("CA:TRUE, pathlen:0"));
  EXPECT_THAT(authority, HasSubstr("Certificate Sign, CRL Sign"));
  const std::string of_service = text_of(service->certificate);
  EXPECT_THAT(of_service, HasSubstr("DNS:esx-1.example, IP Address:10.0.0.1, IP Address:FE80:0:0:0:0:0:0:1"));
  EXPECT_THAT(of_service, HasSubstr("NIST CURVE: P-256"));
  EXPECT_THAT(of_service, HasSubstr("ecdsa-with-SHA256"));
  EXPECT_THAT(text_of(guest->certificate), HasSubstr("Subject: CN = web-1"));
}

TEST_F(Certificates, TheFilesAreWhereItIsSaidAndKeysAreTheirOwnersAlone) {
  make_one_authority();
  const auto guest = make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}});
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->authority, folder_ / "ca.crt");
  EXPECT_EQ(guest->certificate, folder_ / "guest-web-1.crt");
  EXPECT_EQ(guest->key, folder_ / "guest-web-1.key");
  EXPECT_EQ(mode_of(folder_ / "ca.key"), 0600u);
  EXPECT_EQ(mode_of(guest->key), 0600u);
  EXPECT_EQ(mode_of(guest->certificate), 0644u);
  const auto made = make_authority(folder_ / "new/tls", {.name = "another", .hosts = {}});
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(mode_of(folder_ / "new/tls"), 0700u);
}

TEST_F(Certificates, NothingIsEverOverwritten) {
  make_one_authority();
  ASSERT_TRUE(make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}}));
  for (const std::string name : {"ca", "guest-web-1"}) {
    const std::string key = content_of(folder_ / (name + ".key"));
    const std::string certificate = content_of(folder_ / (name + ".crt"));
    const auto again = name == "ca" ? make_authority(folder_.path(), {.name = "x", .hosts = {}})
                                    : make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}});
    EXPECT_CODE(again, ErrorCode::kExists);
    EXPECT_THAT(again.error().text(), HasSubstr("move it away"));
    EXPECT_EQ(content_of(folder_ / (name + ".key")), key);
    EXPECT_EQ(content_of(folder_ / (name + ".crt")), certificate);
  }
}

TEST_F(Certificates, AKeyIsNotLeftWithoutItsCertificate) {
  make_one_authority();
  std::ofstream(folder_ / "guest-web-1.crt") << "somebody's";
  EXPECT_CODE(make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}}), ErrorCode::kExists);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "guest-web-1.key"));
  EXPECT_EQ(content_of(folder_ / "guest-web-1.crt"), "somebody's");
}

TEST_F(Certificates, NoTwoHaveOneSerialOrKey) {
  make_one_authority();
  std::vector<std::string> serials;
  for (const char* name : {"a", "b", "c"}) {
    const auto files = make_guest_certificate(folder_.path(), {.name = name, .hosts = {}});
    ASSERT_TRUE(files);
    serials.push_back(openssl({"x509", "-in", files->certificate, "-noout", "-serial", "-pubkey"}).output);
  }
  std::ranges::sort(serials);
  EXPECT_EQ(std::ranges::adjacent_find(serials), serials.end());
}

TEST_F(Certificates, LastAsLongAsAskedAndNeverLongerThanTheirAuthority) {
  constexpr std::chrono::hours kDay(24);
  ASSERT_TRUE(make_authority(folder_.path(), {.name = "short", .hosts = {}, .valid_for = 30 * kDay}));
  const auto week =
      make_guest_certificate(folder_.path(), {.name = "week", .hosts = {}, .valid_for = 7 * kDay});
  ASSERT_TRUE(week) << week.error().text();
  auto is_valid_after = [&](std::chrono::seconds time) {
    return openssl({"x509", "-in", week->certificate, "-noout", "-checkend", std::to_string(time.count())})
               .exit_status == 0;
  };
  EXPECT_TRUE(is_valid_after(6 * kDay));
  EXPECT_FALSE(is_valid_after(8 * kDay));
  const auto longer =
      make_guest_certificate(folder_.path(), {.name = "year", .hosts = {}, .valid_for = 365 * kDay});
  EXPECT_CODE(longer, ErrorCode::kInvalid);
  EXPECT_THAT(longer.error().text(), HasSubstr("it would outlive its authority"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "guest-year.key"));
}

TEST_F(Certificates, WithoutAnAuthorityTheErrorSaysHowToMakeOne) {
  const auto guest = make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}});
  EXPECT_CODE(guest, ErrorCode::kNotFound);
  EXPECT_THAT(guest.error().text(), HasSubstr("'vdvs cert authority'"));
}

TEST_F(Certificates, WhatIsNoAuthorityDoesNotSign) {
  make_one_authority();
  const auto guest = make_guest_certificate(folder_.path(), {.name = "web-1", .hosts = {}});
  ASSERT_TRUE(guest);
  const Folder other;
  std::filesystem::copy_file(guest->certificate, other / "ca.crt");
  std::filesystem::copy_file(guest->key, other / "ca.key");
  EXPECT_CODE(make_guest_certificate(other.path(), {.name = "web-2", .hosts = {}}), ErrorCode::kInvalid);
  std::filesystem::copy_file(folder_ / "ca.crt", other / "ca.crt",
                             std::filesystem::copy_options::overwrite_existing);
  const auto mixed = make_guest_certificate(other.path(), {.name = "web-2", .hosts = {}});
  EXPECT_CODE(mixed, ErrorCode::kInvalid);
  EXPECT_THAT(mixed.error().message(), HasSubstr("its key is another's"));
  std::ofstream(other / "ca.key") << "garbage";
  EXPECT_CODE(make_guest_certificate(other.path(), {.name = "web-2", .hosts = {}}), ErrorCode::kInvalid);
}

TEST_F(Certificates, NamesThatLeaveTheFolderOrMeanNothingAreRefused) {
  make_one_authority();
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("a/b"), std::string(".hidden"), std::string("a\nb"),
        std::string("a\0b", 3), std::string(65, 'x')}) {
    EXPECT_CODE(make_guest_certificate(folder_.path(), {.name = name, .hosts = {}}), ErrorCode::kInvalid);
  }
  const auto longest = make_guest_certificate(folder_.path(), {.name = std::string(64, 'x'), .hosts = {}});
  EXPECT_TRUE(longest) << longest.error().text();
  EXPECT_TRUE(make_guest_certificate(folder_.path(), {.name = "ünï 1", .hosts = {}}));
}

TEST_F(Certificates, HostsThatAreNoneAreRefused) {
  make_one_authority();
  for (const char* host : {"", "a,IP:10.0.0.1", "a b", "a:b", "DNS:x\n"}) {
    EXPECT_CODE(make_service_certificate(folder_.path(), {.name = "s", .hosts = {host}}),
                ErrorCode::kInvalid);
  }
  const auto none = make_service_certificate(folder_.path(), {.name = "s", .hosts = {}});
  EXPECT_CODE(none, ErrorCode::kInvalid);
  EXPECT_THAT(none.error().text(), HasSubstr("--host"));
}

}  // namespace
}  // namespace vdvs::esx::test
