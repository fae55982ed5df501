#include "cli/vdvs_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vdvs::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

CertCommand cert_of(const Words& words) {
  const VdvsArguments arguments = parse_vdvs_arguments(words);
  EXPECT_FALSE(arguments.exit_status) << arguments.message;
  const auto* command = std::get_if<CertCommand>(&arguments.command);
  EXPECT_NE(command, nullptr);
  return command == nullptr ? CertCommand() : *command;
}

void expect_mistake(const Words& words, const std::string& cause) {
  const VdvsArguments arguments = parse_vdvs_arguments(words);
  EXPECT_EQ(arguments.exit_status, kVdvsUsage);
  EXPECT_THAT(arguments.message, HasSubstr(cause));
}

TEST(VdvsArguments, AnAuthorityNeedsNothing) {
  const CertCommand command = cert_of({"cert", "authority"});
  EXPECT_EQ(command.kind, CertCommand::Kind::kAuthority);
  EXPECT_EQ(command.folder, "/etc/vdvs/tls");
  EXPECT_EQ(command.wish.name, "vdvs authority");
  EXPECT_EQ(command.wish.valid_for.count(), 0) << "the usual time";
  EXPECT_EQ(cert_of({"cert", "authority", "--name", "ours"}).wish.name, "ours");
}

TEST(VdvsArguments, AServiceIsNamedAfterItsFirstHost) {
  const CertCommand command =
      cert_of({"cert", "service", "--host", "esx-1", "--host=10.0.0.1", "--folder", "/tmp/x", "--days", "7"});
  EXPECT_EQ(command.kind, CertCommand::Kind::kService);
  EXPECT_THAT(command.wish.hosts, ElementsAre("esx-1", "10.0.0.1"));
  EXPECT_EQ(command.wish.name, "esx-1");
  EXPECT_EQ(command.folder, "/tmp/x");
  EXPECT_EQ(command.wish.valid_for, std::chrono::days(7));
  EXPECT_EQ(cert_of({"cert", "service", "--name", "s", "--host", "h"}).wish.name, "s");
}

TEST(VdvsArguments, AGuestIsNamedAfterItsVm) {
  const CertCommand command = cert_of({"cert", "guest", "web-1"});
  EXPECT_EQ(command.kind, CertCommand::Kind::kGuest);
  EXPECT_EQ(command.wish.name, "web-1");
}

TEST(VdvsArguments, ADetachMustBeMeant) {
  const VdvsArguments arguments = parse_vdvs_arguments(Words{"volume", "detach", "--force", "db@ds1"});
  ASSERT_FALSE(arguments.exit_status) << arguments.message;
  const auto& command = std::get<DetachCommand>(arguments.command);
  EXPECT_EQ(command.volume, "db@ds1");
  EXPECT_EQ(command.vmgroup, "");
  EXPECT_EQ(command.socket, "") << "by the service's settings";
  expect_mistake({"volume", "detach", "db"}, "--force is required");
  expect_mistake({"volume", "detach", "--force"}, "volume is required");
}

TEST(VdvsArguments, MistakesAreExplainedAndHelpIsNone) {
  expect_mistake({}, "A subcommand is required");
  expect_mistake({"cert"}, "A subcommand is required");
  expect_mistake({"cert", "service"}, "--host is required");
  expect_mistake({"cert", "guest"}, "name is required");
  expect_mistake({"cert", "guest", "a", "--days", "0"}, "--days");
  expect_mistake({"cert", "guest", "a", "--dayss", "1"}, "--dayss");
  for (const Words& words : {Words{"--help"}, Words{"cert", "guest", "--help"}, Words{"--version"}}) {
    const VdvsArguments arguments = parse_vdvs_arguments(words);
    EXPECT_EQ(arguments.exit_status, kVdvsOk);
    EXPECT_FALSE(arguments.message.empty());
  }
}

}  // namespace
}  // namespace vdvs::cli
