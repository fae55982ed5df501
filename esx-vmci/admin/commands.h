// The administrator's commands as one table: words, flags, what each takes and means. The command line
// parses, helps and completes by it, and the service refuses by it what no command line would have sent.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"

namespace vdvs::esx {

/// What completion may propose as a flag's value.
enum class ValueKind { kNone, kText, kVmGroup, kDatastore, kVms, kVolume, kPolicy, kColumns, kTrueFalse };

struct FlagRule {
  std::string_view name;     ///< Without dashes; one letter is a short option ("-c").
  std::string_view metavar;  ///< What help shows for its value; empty for a bare flag.
  ValueKind kind = ValueKind::kText;
  bool is_required = false;
  std::string_view help;

  bool takes_value() const { return kind != ValueKind::kNone; }
  /// "--name", "-c".
  std::string dashed() const;
};

struct CommandRule {
  std::string_view verb;  ///< "vmgroup vm add"
  bool is_change = false;
  std::string_view help;
  std::span<const FlagRule> flags;
  /// With this flag it takes something away that nobody can bring back: the audit log has it before it is
  /// done, too. Empty: never.
  std::string_view drastic_flag{};

  const FlagRule* find_flag(std::string_view name) const;
};

std::span<const CommandRule> command_rules();
const CommandRule* find_command_rule(std::string_view verb);

/// The words that may follow `prefix` ("vmgroup vm" -> add, ls, replace, rm), in the table's order.
std::vector<std::string_view> next_words(std::string_view prefix);
/// One line on a group of commands ("vmgroup vm"), for help.
std::string_view group_help(std::string_view prefix);

/// Errors: kInvalid: no such command, a flag that it does not have, a required one missing, a bare one with a
/// value.
base::Result<void> check_command(const AdminCommand& command);

/// The columns of `volume ls`: what "-c" calls them, and their headers, in the order in which they are shown.
struct VolumeColumn {
  std::string_view name;
  std::string_view header;
};
std::span<const VolumeColumn> volume_columns();
/// The columns' positions for "-c name,..." in the fixed order. Errors: kInvalid.
base::Result<std::vector<std::size_t>> parse_columns(std::string_view text);

}  // namespace vdvs::esx
