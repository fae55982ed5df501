#include "cli/vdvs_volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace vdvs::cli {
namespace {

using ::testing::HasSubstr;

VolumeArguments parse(std::vector<std::string> words) { return parse_volume_arguments(words); }

using Flags = std::map<std::string, std::string>;

TEST(VdvsVolume, DetachIsTheCommandThatErrorsPropose) {
  const auto arguments = parse({"detach", "--force", "db@ds1"});
  EXPECT_FALSE(arguments.exit_status) << arguments.message;
  EXPECT_EQ(arguments.command.verb, "volume detach");
  EXPECT_EQ(arguments.command.flags, (Flags{{"volume", "db@ds1"}, {"force", ""}}));
}

TEST(VdvsVolume, FlagsStandAnywhereAndTakeTheirValueEitherWay) {
  const auto arguments =
      parse({"detach", "db", "--vmgroup=g1", "--json", "--socket", "/run/s", "--config=/etc/c"});
  EXPECT_FALSE(arguments.exit_status) << arguments.message;
  EXPECT_EQ(arguments.command.flags, (Flags{{"volume", "db"}, {"vmgroup", "g1"}}));
  EXPECT_EQ(arguments.target.socket, "/run/s");
  EXPECT_EQ(arguments.target.config_file, "/etc/c");
  EXPECT_EQ(arguments.format, OutputFormat::kJson);
}

TEST(VdvsVolume, NamesThatBeginWithADashFollowTwoOfThem) {
  const auto arguments = parse({"detach", "--", "-rf"});
  EXPECT_FALSE(arguments.exit_status) << arguments.message;
  EXPECT_EQ(arguments.command.flags, (Flags{{"volume", "-rf"}}));
}

TEST(VdvsVolume, MistakesAreSaidAndNothingIsDone) {
  for (const auto& [words, why] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "what to do?"},
           {{"explode"}, "'explode': there is only: detach"},
           {{"detach"}, "VOLUME[@DATASTORE] is missing"},
           {{"detach", "a", "b"}, "one volume at a time: 'a' and 'b'"},
           {{"detach", "--vmgroup"}, "--vmgroup needs a value"},
           {{"detach", "--socket=", "a"}, "--socket needs a value"},
           {{"detach", "--force=no", "a"}, "'--force=no' is not a flag here"},
           {{"detach", "-f", "a"}, "'-f' is not a flag here"}}) {
    const auto arguments = parse(words);
    EXPECT_EQ(arguments.exit_status, 2) << why;
    EXPECT_THAT(arguments.message, HasSubstr(why));
  }
}

TEST(VdvsVolume, HelpIsNoMistake) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"--help"}, {"detach", "-h"}}) {
    const auto arguments = parse(words);
    EXPECT_EQ(arguments.exit_status, 0);
    EXPECT_THAT(arguments.message, HasSubstr("usage: vdvs volume detach"));
  }
}

}  // namespace
}  // namespace vdvs::cli
