// The predecessor's parser tests (its TestParsing, case by case), and what its argparse did besides.
#include "cli/admin_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vdvs::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Flags = std::map<std::string, std::string>;

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> words;
  std::istringstream stream(line);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

AdminArguments parse(const std::string& line) { return parse_admin_arguments(split(line)); }

void expect_command(const std::string& line, const std::string& verb, const Flags& flags) {
  const AdminArguments arguments = parse(line);
  EXPECT_FALSE(arguments.exit_status) << line << ": " << arguments.message;
  EXPECT_EQ(arguments.command.verb, verb) << line;
  EXPECT_EQ(arguments.command.flags, flags) << line;
}

void expect_mistake(const std::string& line, const std::string& error) {
  const AdminArguments arguments = parse(line);
  EXPECT_EQ(arguments.exit_status, kOperationFailed) << line;
  EXPECT_THAT(arguments.message, HasSubstr("error: " + error)) << line;
  EXPECT_THAT(arguments.message, StartsWith("usage: vmdkops_admin ")) << line;
}

TEST(AdminArguments, VolumeLs) {
  expect_command("volume ls", "volume ls", {});
  expect_command("volume ls -c created-by,created", "volume ls", {{"c", "created-by,created"}});
  expect_command("volume ls -cvolume --vmgroup=g*", "volume ls", {{"c", "volume"}, {"vmgroup", "g*"}});
  expect_mistake("volume ls -c personality",
                 "argument -c: invalid choice: 'personality' (choose from volume, ");
  expect_mistake("volume ls -c volume,", "argument -c: invalid choice: ''");
  expect_command("volume shortls --vmgroup g1", "volume shortls", {{"vmgroup", "g1"}});
}

TEST(AdminArguments, Policies) {
  EXPECT_EQ(parse("policy").exit_status, kNoCommand);
  expect_mistake("policy create", "the following arguments are required: --name, --content");
  expect_command("policy create --name=p --content=((\"proportionalCapacity\"i50))", "policy create",
                 {{"name", "p"}, {"content", "((\"proportionalCapacity\"i50))"}});
  expect_command("policy update --name=p --content=x", "policy update", {{"name", "p"}, {"content", "x"}});
  expect_command("policy rm --name=p", "policy rm", {{"name", "p"}});
  expect_mistake("policy rm", "the following arguments are required: --name");
  expect_command("policy ls", "policy ls", {});
  expect_mistake("policy ls --name=yo", "unrecognized arguments: --name=yo");
}

TEST(AdminArguments, VmGroups) {
  expect_command("vmgroup create --name=g --default-datastore=ds --vm-list vm1,vm2", "vmgroup create",
                 {{"name", "g"}, {"default-datastore", "ds"}, {"vm-list", "vm1,vm2"}});
  expect_command("vmgroup create --name=g --default-datastore=_VM_DS", "vmgroup create",
                 {{"name", "g"}, {"default-datastore", "_VM_DS"}});
  expect_mistake("vmgroup create", "the following arguments are required: --name, --default-datastore");
  expect_command("vmgroup update --name=g --new-name=h --description=d --default-datastore=ds",
                 "vmgroup update",
                 {{"name", "g"}, {"new-name", "h"}, {"description", "d"}, {"default-datastore", "ds"}});
  expect_mistake("vmgroup update", "the following arguments are required: --name");
  expect_command("vmgroup rm --name=g --remove-volumes", "vmgroup rm",
                 {{"name", "g"}, {"remove-volumes", ""}});
  expect_command("vmgroup rm --name=g --force", "vmgroup rm", {{"name", "g"}, {"force", ""}});
  expect_command("vmgroup rm --name=g", "vmgroup rm", {{"name", "g"}});
  expect_mistake("vmgroup rm", "the following arguments are required: --name");
  expect_command("vmgroup ls", "vmgroup ls", {});
}

TEST(AdminArguments, VmsOfAGroup) {
  for (const std::string verb : {"add", "rm", "replace"}) {
    expect_command("vmgroup vm " + verb + " --name=g --vm-list vm1,vm2", "vmgroup vm " + verb,
                   {{"name", "g"}, {"vm-list", "vm1,vm2"}});
    expect_mistake("vmgroup vm " + verb, "the following arguments are required: --name, --vm-list");
    expect_mistake("vmgroup vm " + verb + " --name=g", "the following arguments are required: --vm-list");
  }
  expect_command("vmgroup vm ls --name=g", "vmgroup vm ls", {{"name", "g"}});
  expect_mistake("vmgroup vm ls", "the following arguments are required: --name");
}

TEST(AdminArguments, AccessOfAGroup) {
  expect_command(
      "vmgroup access add --name=g --datastore=ds --allow-create --volume-maxsize=500MB "
      "--volume-totalsize=1GB",
      "vmgroup access add",
      {{"name", "g"},
       {"datastore", "ds"},
       {"allow-create", ""},
       {"volume-maxsize", "500MB"},
       {"volume-totalsize", "1GB"}});
  expect_mistake("vmgroup access add", "the following arguments are required: --name, --datastore");
  expect_mistake("vmgroup access add --name=g --datastore=ds --rights=create",
                 "unrecognized arguments: --rights=create");
  expect_mistake("vmgroup access add --name=g --datastore=ds --allow-create=True",
                 "argument --allow-create: ignored explicit argument 'True'");
  expect_command("vmgroup access set --name=g --datastore=ds --allow-create=True", "vmgroup access set",
                 {{"name", "g"}, {"datastore", "ds"}, {"allow-create", "True"}});
  expect_command("vmgroup access set --name=g --datastore=ds --volume-maxsize=1TB", "vmgroup access set",
                 {{"name", "g"}, {"datastore", "ds"}, {"volume-maxsize", "1TB"}});
  expect_mistake("vmgroup access set --name=g --datastore=ds --allow-create",
                 "argument --allow-create: expected one argument");
  expect_mistake("vmgroup access set", "the following arguments are required: --name, --datastore");
  expect_mistake("vmgroup access set --name=g --datastore=ds --rights=create", "unrecognized arguments");
  expect_command("vmgroup access rm --name=g --datastore=ds", "vmgroup access rm",
                 {{"name", "g"}, {"datastore", "ds"}});
  expect_mistake("vmgroup access rm", "the following arguments are required: --name, --datastore");
  expect_command("vmgroup access ls --name=g", "vmgroup access ls", {{"name", "g"}});
  expect_mistake("vmgroup access ls", "the following arguments are required: --name");
}

TEST(AdminArguments, StatusAndVolumeSet) {
  expect_command("status", "status", {});
  expect_command("status --fast", "status", {{"fast", ""}});
  expect_mistake("volume set", "the following arguments are required: --volume, --vmgroup, --options");
  expect_mistake("volume set --options=access=read-only",
                 "the following arguments are required: --volume, --vmgroup");
  expect_mistake("volume set --volume=v@ds --vmgroup=g", "the following arguments are required: --options");
  expect_mistake("volume set --volume=v@ds --vmgroup=g --options",
                 "argument --options: expected one argument");
  expect_command("volume set --volume=v@ds --vmgroup=g --options=access=read-only", "volume set",
                 {{"volume", "v@ds"}, {"vmgroup", "g"}, {"options", "access=read-only"}});
}

TEST(AdminArguments, Config) {
  expect_command("config init --datastore=x", "config init", {{"datastore", "x"}});
  expect_command("config init --datastore=x --force", "config init", {{"datastore", "x"}, {"force", ""}});
  expect_command("config rm --local --confirm", "config rm", {{"local", ""}, {"confirm", ""}});
  expect_command("config rm --no-backup --confirm --local", "config rm",
                 {{"no-backup", ""}, {"confirm", ""}, {"local", ""}});
  expect_command("config mv --to=x", "config mv", {{"to", "x"}});
  expect_command("config status", "config status", {});
  expect_mistake("config status --all", "unrecognized arguments: --all");
  // "--conf" is no begin of "--config" here: what is not a flag of the command is refused.
  expect_mistake("config init --confirm", "unrecognized arguments: --confirm");
  expect_mistake("config rm --no-backup --datastore=x", "unrecognized arguments: --datastore=x");
  expect_mistake("config mv --force", "the following arguments are required: --to");
}

TEST(AdminArguments, WithoutACommandHelpIsShown) {
  const AdminArguments none = parse("");
  EXPECT_EQ(none.exit_status, kNoCommand);
  EXPECT_THAT(none.message, HasSubstr("usage: vmdkops_admin [-h]"));
  EXPECT_THAT(none.message, HasSubstr("vmgroup"));
  const AdminArguments half = parse("vmgroup vm");
  EXPECT_EQ(half.exit_status, kNoCommand);
  EXPECT_THAT(half.message, HasSubstr("{add,rm,replace,ls}"));
}

TEST(AdminArguments, ACommandThatDoesNotExistIsNamed) {
  const AdminArguments arguments = parse("vmgroup destroy");
  EXPECT_EQ(arguments.exit_status, kNoCommand);
  EXPECT_THAT(arguments.message,
              HasSubstr("vmdkops_admin vmgroup: error: argument command: invalid choice: 'destroy'"));
}

TEST(AdminArguments, GlobalFlagsStandAnywhere) {
  EXPECT_EQ(parse("--output-format xml volume ls").format, OutputFormat::kXml);
  EXPECT_EQ(parse("--output-format=xml vmgroup vm ls --name=g").format, OutputFormat::kXml);
  EXPECT_EQ(parse("volume ls --output-format=json").format, OutputFormat::kJson);
  EXPECT_EQ(parse("volume --json ls").format, OutputFormat::kJson);
  EXPECT_EQ(parse("volume ls").format, OutputFormat::kPlain);
  expect_mistake("volume ls --output-format=yaml", "argument --output-format: invalid choice: 'yaml'");
  EXPECT_EQ(parse("--socket /s volume ls").socket, "/s");
  EXPECT_EQ(parse("status --config=/c").config_file, "/c");
}

TEST(AdminArguments, FlagsCanBeAbbreviated) {
  expect_command("vmgroup rm --n g --rem", "vmgroup rm", {{"name", "g"}, {"remove-volumes", ""}});
  expect_mistake("volume set --v x", "ambiguous option: --v could match --version, --volume, --vmgroup");
}

TEST(AdminArguments, TheLastOfARepeatedFlagCounts) {
  expect_command("policy rm --name=a --name=b", "policy rm", {{"name", "b"}});
}

TEST(AdminArguments, AValueMayBeEmptyOrHoldEquals) {
  expect_command("vmgroup vm add --name=g --vm-list=", "vmgroup vm add", {{"name", "g"}, {"vm-list", ""}});
  expect_command("policy rm --name=a=b", "policy rm", {{"name", "a=b"}});
}

TEST(AdminArguments, WordsBehindACommandAreRefused) {
  expect_mistake("volume ls please", "unrecognized arguments: please");
}

TEST(AdminArguments, HelpIsNoMistake) {
  const AdminArguments arguments = parse("vmgroup create -h");
  EXPECT_EQ(arguments.exit_status, kOk);
  EXPECT_THAT(arguments.message,
              StartsWith("usage: vmdkops_admin vmgroup create [-h] --name NAME --default-datastore DATASTORE "
                         "[--description TEXT] [--vm-list vm1,vm2,...]\n"));
  EXPECT_EQ(parse("--help").exit_status, kOk);
  EXPECT_THAT(parse("--version").message, StartsWith("vmdkops_admin "));
}

TEST(AdminArguments, EveryCommandHasHelpForEachOfItsFlags) {
  for (const esx::CommandRule& rule : esx::command_rules()) {
    const AdminArguments arguments = parse(std::string(rule.verb) + " --help");
    EXPECT_EQ(arguments.exit_status, kOk) << rule.verb;
    for (const esx::FlagRule& flag : rule.flags)
      EXPECT_THAT(arguments.message, HasSubstr("\n  " + flag.dashed()));
  }
}

Completions complete(const std::vector<std::string>& words) { return complete_admin_arguments(words); }

TEST(AdminCompletion, ProposesTheNextWord) {
  EXPECT_THAT(complete({"vmgroup", "vm", ""}).words, ElementsAre("add", "rm", "replace", "ls"));
  EXPECT_THAT(complete({"vmgroup", "vm", "r"}).words, ElementsAre("rm", "replace"));
  EXPECT_THAT(complete({"vo"}).words, ElementsAre("volume"));
}

TEST(AdminCompletion, ProposesTheFlagsThatAreNotGivenYet) {
  EXPECT_THAT(complete({"vmgroup", "access", "rm", "--name=g", ""}).words,
              ElementsAre("--datastore", "--help", "--json", "--output-format"));
  EXPECT_THAT(complete({"vmgroup", "rm", "--re"}).words, ElementsAre("--remove-volumes"));
}

TEST(AdminCompletion, AsksForNamesWhereAFlagTakesThem) {
  const Completions joined = complete({"vmgroup", "rm", "--name=g"});
  EXPECT_EQ(joined.names, esx::ValueKind::kVmGroup);
  EXPECT_EQ(joined.prefix, "--name=");
  const Completions apart = complete({"volume", "set", "--volume", "d"});
  EXPECT_EQ(apart.names, esx::ValueKind::kVolume);
  EXPECT_EQ(apart.prefix, "");
}

TEST(AdminCompletion, GoesOnWithinAList) {
  const Completions vms = complete({"vmgroup", "vm", "add", "--vm-list=a,b"});
  EXPECT_EQ(vms.names, esx::ValueKind::kVms);
  EXPECT_EQ(vms.prefix, "--vm-list=a,");
  EXPECT_TRUE(vms.goes_on);
  EXPECT_FALSE(complete({"vmgroup", "rm", "--name=a"}).goes_on);
  EXPECT_THAT(complete({"volume", "ls", "-c", "volume,d"}).words,
              ElementsAre("volume,datastore", "volume,disk-format"));
}

TEST(AdminCompletion, KnowsFixedValues) {
  EXPECT_THAT(complete({"vmgroup", "access", "set", "--allow-create=T"}).words,
              ElementsAre("--allow-create=True"));
  EXPECT_THAT(complete({"volume", "ls", "--output-format", ""}).words, ElementsAre("plain", "xml", "json"));
}

}  // namespace
}  // namespace vdvs::cli
