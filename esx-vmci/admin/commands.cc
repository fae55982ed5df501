#include "esx-vmci/admin/commands.h"

#include <algorithm>
#include <array>
#include <string>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr FlagRule kGroupName{"name", "NAME", ValueKind::kVmGroup, true, "the vmgroup's name"};
constexpr FlagRule kNewGroupName{"name", "NAME", ValueKind::kText, true, "the vmgroup's name"};
constexpr FlagRule kVmListNeeded{"vm-list", "vm1,vm2,...", ValueKind::kVms, true,
                                 "names or uuids of the VMs, separated by commas"};
constexpr FlagRule kVmList{"vm-list", "vm1,vm2,...", ValueKind::kVms, false,
                           "names or uuids of the VMs, separated by commas"};
constexpr FlagRule kGroupGlob{"vmgroup", "GLOB", ValueKind::kVmGroup, false,
                              "only vmgroups whose name fits, as of a file"};
constexpr FlagRule kPrivilegeDatastore{"datastore", "DATASTORE", ValueKind::kDatastore, true,
                                       "a datastore's name, _VM_DS or _ALL_DS"};
constexpr FlagRule kMaxSize{"volume-maxsize", "N{MB,GB,TB}", ValueKind::kText, false,
                            "the largest volume; 0MB for no limit"};
constexpr FlagRule kTotalSize{"volume-totalsize", "N{MB,GB,TB}", ValueKind::kText, false,
                              "the most that all volumes take together; 0MB for no limit"};

constexpr std::array kVolumeLs{FlagRule{"c", "COLUMN,...", ValueKind::kColumns, false, "only these columns"},
                               kGroupGlob};
constexpr std::array kVolumeShortLs{kGroupGlob};
constexpr std::array kVolumeSet{
    FlagRule{"volume", "VOLUME@DATASTORE", ValueKind::kVolume, true, "the volume, with its datastore"},
    FlagRule{"vmgroup", "NAME", ValueKind::kVmGroup, true, "the vmgroup that it belongs to"},
    FlagRule{"options", "OPTION=VALUE,...", ValueKind::kText, true,
             "access=read-only or read-write, attach-as=persistent or independent_persistent"}};
constexpr std::array kVolumeDetach{
    FlagRule{"volume", "VOLUME[@DATASTORE]", ValueKind::kVolume, true, "the volume"},
    FlagRule{"vmgroup", "NAME", ValueKind::kVmGroup, false,
             "the vmgroup that it belongs to, where several have one"},
    FlagRule{"force", "", ValueKind::kNone, false,
             "needed while a VM has it: the disk goes, whatever that VM is doing with it"}};
constexpr std::array kPolicyContent{
    FlagRule{"name", "NAME", ValueKind::kPolicy, true, "the policy's name"},
    FlagRule{"content", "CONTENT", ValueKind::kText, true,
             "a vSAN expression: (('hostFailuresToTolerate' i1)), with double quotes"}};
constexpr std::array kPolicyName{FlagRule{"name", "NAME", ValueKind::kPolicy, true, "the policy's name"}};
constexpr std::array kGroupCreate{
    kNewGroupName,
    FlagRule{"default-datastore", "DATASTORE", ValueKind::kDatastore, true,
             "where volumes go that name no datastore; or _VM_DS: where the VM lives"},
    FlagRule{"description", "TEXT", ValueKind::kText, false, "what it is for"}, kVmList};
constexpr std::array kGroupUpdate{
    kGroupName, FlagRule{"new-name", "NAME", ValueKind::kText, false, "its name from now on"},
    FlagRule{"description", "TEXT", ValueKind::kText, false, "what it is for"},
    FlagRule{"default-datastore", "DATASTORE", ValueKind::kDatastore, false,
             "where volumes go that name no datastore; or _VM_DS"}};
constexpr std::array kGroupRm{kGroupName,
                              FlagRule{"remove-volumes", "", ValueKind::kNone, false,
                                       "BE CAREFUL: with all its volumes and their data"},
                              FlagRule{"force", "", ValueKind::kNone, false, "even while VMs belong to it"}};
constexpr std::array kOnlyGroupName{kGroupName};
constexpr std::array kGroupVms{kGroupName, kVmListNeeded};
constexpr std::array kAccessAdd{
    kGroupName, kPrivilegeDatastore,
    FlagRule{"allow-create", "", ValueKind::kNone, false, "volumes may be made and removed there"}, kMaxSize,
    kTotalSize};
constexpr std::array kAccessSet{kGroupName, kPrivilegeDatastore,
                                FlagRule{"allow-create", "True|False", ValueKind::kTrueFalse, false,
                                         "whether volumes may be made and removed there"},
                                kMaxSize, kTotalSize};
constexpr std::array kAccessRm{kGroupName, kPrivilegeDatastore};
constexpr std::array kConfigInit{
    FlagRule{"datastore", "DATASTORE", ValueKind::kDatastore, false,
             "one database for all hosts, on this datastore"},
    FlagRule{"local", "", ValueKind::kNone, false, "a database of this host alone"},
    FlagRule{"force", "", ValueKind::kNone, false, "even where there is one already"}};
constexpr std::array kConfigRm{
    FlagRule{"local", "", ValueKind::kNone, false, "the database of this host"},
    FlagRule{"unlink", "", ValueKind::kNone, false, "the link to the shared database, which stays"},
    FlagRule{"no-backup", "", ValueKind::kNone, false, "erase it, do not move it aside"},
    FlagRule{"confirm", "", ValueKind::kNone, false, "needed: yes, remove it"}};
constexpr std::array kConfigMv{
    FlagRule{"to", "DATASTORE", ValueKind::kDatastore, true, "the datastore to move the database to"},
    FlagRule{"force", "", ValueKind::kNone, false, "even where there is one already"}};
constexpr std::array kStatus{
    FlagRule{"fast", "", ValueKind::kNone, false, "without version and port"},
    FlagRule{"counters", "", ValueKind::kNone, false, "with the service's counters"}};

constexpr std::array kRules{
    CommandRule{"volume ls", false, "List volumes", kVolumeLs},
    CommandRule{"volume shortls", false, "List volumes with the main columns", kVolumeShortLs},
    CommandRule{"volume set", true, "Change settings of a volume", kVolumeSet},
    CommandRule{"volume detach", true, "Take a volume's disk out of its VM", kVolumeDetach, "force"},
    CommandRule{"policy create", true, "Make a storage policy", kPolicyContent},
    CommandRule{"policy rm", true, "Remove a storage policy", kPolicyName},
    CommandRule{"policy ls", false, "List storage policies and whether they are used", {}},
    CommandRule{"policy update", true, "Change a storage policy, and the volumes that use it",
                kPolicyContent},
    CommandRule{"vmgroup create", true, "Make a vmgroup", kGroupCreate},
    CommandRule{"vmgroup update", true, "Change a vmgroup", kGroupUpdate},
    CommandRule{"vmgroup rm", true, "Remove a vmgroup", kGroupRm, "remove-volumes"},
    CommandRule{"vmgroup ls", false, "List vmgroups and their VMs", {}},
    CommandRule{"vmgroup vm add", true, "Put VMs into a vmgroup", kGroupVms},
    CommandRule{"vmgroup vm rm", true, "Take VMs out of a vmgroup", kGroupVms},
    CommandRule{"vmgroup vm replace", true, "Put VMs into a vmgroup, and all others out", kGroupVms},
    CommandRule{"vmgroup vm ls", false, "List the VMs of a vmgroup", kOnlyGroupName},
    CommandRule{"vmgroup access add", true, "Let a vmgroup use a datastore", kAccessAdd},
    CommandRule{"vmgroup access set", true, "Change what a vmgroup may do on a datastore", kAccessSet},
    CommandRule{"vmgroup access rm", true, "Let a vmgroup use a datastore no longer", kAccessRm},
    CommandRule{"vmgroup access ls", false, "List the datastores of a vmgroup", kOnlyGroupName},
    CommandRule{"config init", true, "Make the configuration database", kConfigInit},
    CommandRule{"config rm", true, "Remove the configuration database", kConfigRm, "no-backup"},
    CommandRule{"config mv", true, "Move the configuration database", kConfigMv},
    CommandRule{"config status", false, "Show which configuration database is used", {}},
    CommandRule{"datastore ls", false, "List the datastores that the service has", {}},
    CommandRule{"vm ls", false, "List the VMs that the hypervisor knows", {}},
    CommandRule{"status", false, "Show the service and its configuration", kStatus},
};

struct GroupHelp {
  std::string_view prefix;
  std::string_view help;
};
constexpr std::array kGroupHelp{
    GroupHelp{"volume", "Volumes"},
    GroupHelp{"policy", "Storage policies"},
    GroupHelp{"vmgroup", "Groups of VMs, and what they may do"},
    GroupHelp{"vmgroup vm", "The VMs of a vmgroup"},
    GroupHelp{"vmgroup access", "What a vmgroup may do on which datastore"},
    GroupHelp{"datastore", "Datastores"},
    GroupHelp{"vm", "Virtual machines"},
    GroupHelp{"config", "The configuration database"},
};

constexpr std::array kColumns{
    VolumeColumn{"volume", "Volume"},
    VolumeColumn{"datastore", "Datastore"},
    VolumeColumn{"vmgroup", "VMGroup"},
    VolumeColumn{"capacity", "Capacity"},
    VolumeColumn{"used", "Used"},
    VolumeColumn{"fstype", "Filesystem"},
    VolumeColumn{"policy", "Policy"},
    VolumeColumn{"disk-format", "Disk Format"},
    VolumeColumn{"attached-to", "Attached-to"},
    VolumeColumn{"access", "Access"},
    VolumeColumn{"attach-as", "Attach-as"},
    VolumeColumn{"created-by", "Created By"},
    VolumeColumn{"created", "Created Date"},
};

}  // namespace

std::string FlagRule::dashed() const { return (name.size() == 1 ? "-" : "--") + std::string(name); }

const FlagRule* CommandRule::find_flag(std::string_view flag) const {
  const auto found = std::ranges::find(flags, flag, &FlagRule::name);
  return found == flags.end() ? nullptr : &*found;
}

std::span<const CommandRule> command_rules() { return kRules; }

const CommandRule* find_command_rule(std::string_view verb) {
  const auto found = std::ranges::find(kRules, verb, &CommandRule::verb);
  return found == kRules.end() ? nullptr : &*found;
}

std::vector<std::string_view> next_words(std::string_view prefix) {
  std::vector<std::string_view> words;
  const std::string start = prefix.empty() ? "" : std::string(prefix) + " ";
  for (const CommandRule& rule : kRules) {
    if (!rule.verb.starts_with(start)) continue;
    std::string_view rest = rule.verb.substr(start.size());
    rest = rest.substr(0, rest.find(' '));
    if (words.empty() || words.back() != rest) words.push_back(rest);
  }
  return words;
}

std::string_view group_help(std::string_view prefix) {
  const auto found = std::ranges::find(kGroupHelp, prefix, &GroupHelp::prefix);
  return found == kGroupHelp.end() ? std::string_view() : found->help;
}

Result<void> check_command(const AdminCommand& command) {
  const CommandRule* rule = find_command_rule(command.verb);
  if (rule == nullptr) return fail(ErrorCode::kInvalid, "no command '{}'", command.verb);
  for (const auto& [name, value] : command.flags) {
    const FlagRule* flag = rule->find_flag(name);
    if (flag == nullptr) return fail(ErrorCode::kInvalid, "{}: no flag '{}'", rule->verb, name);
    if (!flag->takes_value() && !value.empty())
      return fail(ErrorCode::kInvalid, "{}: flag '{}' takes no value", rule->verb, name);
  }
  for (const FlagRule& flag : rule->flags) {
    if (flag.is_required && !command.flags.contains(std::string(flag.name)))
      return fail(ErrorCode::kInvalid, "{}: {} is required", rule->verb, flag.dashed());
  }
  return {};
}

std::span<const VolumeColumn> volume_columns() { return kColumns; }

Result<std::vector<std::size_t>> parse_columns(std::string_view text) {
  std::array<bool, kColumns.size()> is_wanted{};
  while (true) {
    const std::string_view name = text.substr(0, text.find(','));
    const auto found = std::ranges::find(kColumns, name, &VolumeColumn::name);
    if (found == kColumns.end()) {
      std::string known;
      for (const VolumeColumn& column : kColumns) known.append(known.empty() ? "" : ", ").append(column.name);
      return fail(ErrorCode::kInvalid, "invalid choice: '{}' (choose from {})", name, known);
    }
    is_wanted[static_cast<std::size_t>(found - kColumns.begin())] = true;
    if (name.size() == text.size()) break;
    text.remove_prefix(name.size() + 1);
  }
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < is_wanted.size(); ++i)
    if (is_wanted[i]) positions.push_back(i);
  return positions;
}

}  // namespace vdvs::esx
