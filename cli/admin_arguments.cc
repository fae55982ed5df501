#include "cli/admin_arguments.h"

#include <algorithm>
#include <array>

#include "cli/admin_help.h"

namespace vdvs::cli {
namespace {

using esx::CommandRule;
using esx::FlagRule;
using esx::ValueKind;

constexpr FlagRule kHelp{"help", "", ValueKind::kNone, false, ""};
constexpr FlagRule kHelpShort{"h", "", ValueKind::kNone, false, ""};
constexpr FlagRule kVersion{"version", "", ValueKind::kNone, false, ""};
constexpr FlagRule kJson{"json", "", ValueKind::kNone, false, ""};
constexpr FlagRule kOutputFormat{"output-format", "FORMAT", ValueKind::kText, false, ""};
constexpr FlagRule kSocket{"socket", "PATH", ValueKind::kText, false, ""};
constexpr FlagRule kConfig{"config", "FILE", ValueKind::kText, false, ""};
/// They may stand anywhere.
constexpr std::array<const FlagRule*, 7> kGlobals = {&kHelp,         &kHelpShort, &kVersion, &kJson,
                                                     &kOutputFormat, &kSocket,    &kConfig};

bool is_flag(std::string_view word) { return word.size() > 1 && word.front() == '-'; }

std::string_view without_dashes(std::string_view word) { return word.substr(word.starts_with("--") ? 2 : 1); }

/// The flags that `name` (without dashes, before any '=') is, or is the begin of.
std::vector<const FlagRule*> flags_like(const CommandRule* rule, std::string_view name) {
  std::vector<const FlagRule*> all(kGlobals.begin(), kGlobals.end());
  if (rule != nullptr)
    for (const FlagRule& flag : rule->flags) all.push_back(&flag);
  const auto exact = std::ranges::find_if(all, [&](const FlagRule* flag) { return flag->name == name; });
  if (exact != all.end()) return {*exact};
  std::erase_if(
      all, [&](const FlagRule* flag) { return flag->name.size() == 1 || !flag->name.starts_with(name); });
  return all;
}

class Parser {
 public:
  explicit Parser(std::span<const std::string> words) : words_(words) {}

  AdminArguments parse() {
    while (!is_done() && position_ < words_.size()) take_word(words_[position_++]);
    if (!is_done()) finish();
    return std::move(result_);
  }

 private:
  bool is_done() const { return result_.exit_status.has_value(); }

  void leave(int status, std::string message) {
    result_.exit_status = status;
    result_.message = std::move(message);
  }

  void refuse(std::string_view why, int status = kOperationFailed) {
    const std::string usage = rule_ != nullptr ? usage_of(*rule_) : usage_of_group(result_.command.verb);
    const std::string program = result_.command.verb.empty()
                                    ? std::string(kAdminProgram)
                                    : fmt::format("{} {}", kAdminProgram, result_.command.verb);
    leave(status, fmt::format("{}{}: error: {}\n", usage, program, why));
  }

  void take_word(const std::string& word) {
    if (is_flag(word)) return take_flag(word);
    if (rule_ != nullptr) return unrecognized_.push_back(word);
    std::string& verb = result_.command.verb;
    const auto next = esx::next_words(verb);
    if (std::ranges::find(next, word) == next.end()) {
      return refuse(fmt::format("argument command: invalid choice: '{}' (choose from '{}')", word,
                                fmt::join(next, "', '")),
                    kNoCommand);
    }
    verb += (verb.empty() ? "" : " ") + word;
    rule_ = esx::find_command_rule(verb);
  }

  void take_flag(const std::string& word) {
    const bool is_long = word.starts_with("--");
    const std::size_t equals = is_long ? word.find('=') : std::string::npos;
    std::string name(without_dashes(std::string_view(word).substr(0, equals)));
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    if (!is_long && name.size() > 1) {  // -ccapacity
      value = name.substr(name[1] == '=' ? 2 : 1);
      name.resize(1);
    }
    const auto flags = flags_like(rule_, name);
    const bool fits = flags.size() == 1 && (flags.front()->name.size() == 1) == !is_long;
    if (flags.size() > 1) {
      std::vector<std::string> names;
      for (const FlagRule* flag : flags) names.push_back(flag->dashed());
      return refuse(fmt::format("ambiguous option: {} could match {}", word, fmt::join(names, ", ")));
    }
    if (!fits) return unrecognized_.push_back(word);
    take_value(*flags.front(), std::move(value));
  }

  void take_value(const FlagRule& flag, std::optional<std::string> value) {
    const std::string what = flag.dashed();
    if (!flag.takes_value()) {
      if (value) return refuse(fmt::format("argument {}: ignored explicit argument '{}'", what, *value));
      return set(flag, "");
    }
    if (!value) {
      if (position_ == words_.size() || is_flag(words_[position_]))
        return refuse(fmt::format("argument {}: expected one argument", what));
      value = words_[position_++];
    }
    if (flag.kind == ValueKind::kColumns) {
      const auto columns = esx::parse_columns(*value);
      if (!columns) return refuse(fmt::format("argument {}: {}", what, columns.error().message()));
    }
    set(flag, *value);
  }

  void set(const FlagRule& flag, const std::string& value) {
    if (&flag == &kHelp || &flag == &kHelpShort)
      return leave(kOk, rule_ != nullptr ? help_of(*rule_) : help_of_group(result_.command.verb));
    if (&flag == &kVersion) return leave(kOk, fmt::format("{} {}\n", kAdminProgram, VDVS_VERSION));
    if (&flag == &kJson) {
      result_.format = OutputFormat::kJson;
    } else if (&flag == &kSocket) {
      result_.socket = value;
    } else if (&flag == &kConfig) {
      result_.config_file = value;
    } else if (&flag == &kOutputFormat) {
      const auto format = find_output_format(value);
      if (!format) {
        return refuse(fmt::format(
            "argument --output-format: invalid choice: '{}' (choose from 'plain', 'xml', 'json')", value));
      }
      result_.format = *format;
    } else {
      result_.command.flags[std::string(flag.name)] = value;
    }
  }

  void finish() {
    if (rule_ == nullptr) {
      if (!unrecognized_.empty())
        return refuse(fmt::format("unrecognized arguments: {}", fmt::join(unrecognized_, " ")));
      return leave(kNoCommand, help_of_group(result_.command.verb));
    }
    std::vector<std::string> missing;
    for (const FlagRule& flag : rule_->flags) {
      if (flag.is_required && !result_.command.flags.contains(std::string(flag.name)))
        missing.push_back(flag.dashed());
    }
    if (!missing.empty())
      return refuse(fmt::format("the following arguments are required: {}", fmt::join(missing, ", ")));
    if (!unrecognized_.empty())
      refuse(fmt::format("unrecognized arguments: {}", fmt::join(unrecognized_, " ")));
  }

  const std::span<const std::string> words_;
  std::size_t position_ = 0;
  const CommandRule* rule_ = nullptr;
  std::vector<std::string> unrecognized_;
  AdminArguments result_;
};

/// The verb that is begun in `words`, and the flags that were given.
struct Begun {
  std::string verb;
  const CommandRule* rule = nullptr;
  std::vector<const FlagRule*> given;
  const FlagRule* open = nullptr;  ///< The last word is its value.
};

Begun look_at(std::span<const std::string> words) {
  Begun begun;
  for (const std::string& word : words) {
    if (begun.open != nullptr) {
      begun.open = nullptr;
    } else if (is_flag(word)) {
      const std::size_t equals = word.find('=');
      const auto flags = flags_like(begun.rule, without_dashes(std::string_view(word).substr(0, equals)));
      if (flags.size() != 1) continue;
      begun.given.push_back(flags.front());
      if (flags.front()->takes_value() && equals == std::string::npos) begun.open = flags.front();
    } else if (begun.rule == nullptr) {
      begun.verb += (begun.verb.empty() ? "" : " ") + word;
      begun.rule = esx::find_command_rule(begun.verb);
    }
  }
  return begun;
}

void add_fitting(Completions& completions, std::string_view begun, std::string word) {
  if (word.starts_with(begun)) completions.words.push_back(std::move(word));
}

/// `prefix` is what stays: "--name=", or nothing. `value` is what was begun behind it.
void complete_value(Completions& completions, const FlagRule& flag, std::string prefix,
                    std::string_view value) {
  if (flag.kind == ValueKind::kVms || flag.kind == ValueKind::kColumns) {
    const std::size_t items = value.rfind(',') + 1;  // of a list only the last item is completed
    prefix += value.substr(0, items);
    value.remove_prefix(items);
    completions.goes_on = true;
  }
  completions.prefix = prefix;
  switch (flag.kind) {
    case ValueKind::kNone:
    case ValueKind::kText:
      if (&flag == &kOutputFormat)
        for (const char* format : {"plain", "xml", "json"})
          add_fitting(completions, prefix + std::string(value), prefix + format);
      return;
    case ValueKind::kTrueFalse:
      for (const char* word : {"True", "False"})
        add_fitting(completions, prefix + std::string(value), prefix + word);
      return;
    case ValueKind::kColumns:
      for (const esx::VolumeColumn& column : esx::volume_columns())
        add_fitting(completions, prefix + std::string(value), prefix + std::string(column.name));
      return;
    case ValueKind::kVmGroup:
    case ValueKind::kDatastore:
    case ValueKind::kVms:
    case ValueKind::kVolume:
    case ValueKind::kPolicy:
      completions.names = flag.kind;
      return;
  }
}

}  // namespace

AdminArguments parse_admin_arguments(std::span<const std::string> words) { return Parser(words).parse(); }

Completions complete_admin_arguments(std::span<const std::string> words) {
  Completions completions;
  if (words.empty()) return completions;
  const std::string& last = words.back();
  const Begun begun = look_at(words.first(words.size() - 1));
  if (begun.open != nullptr) {
    complete_value(completions, *begun.open, "", last);
  } else if (const std::size_t equals = last.find('='); is_flag(last) && equals != std::string::npos) {
    const auto flags = flags_like(begun.rule, without_dashes(std::string_view(last).substr(0, equals)));
    if (flags.size() == 1)
      complete_value(completions, *flags.front(), last.substr(0, equals + 1),
                     std::string_view(last).substr(equals + 1));
  } else if (begun.rule == nullptr && !last.starts_with('-')) {
    for (const std::string_view word : esx::next_words(begun.verb))
      add_fitting(completions, last, std::string(word));
  } else {
    std::vector<const FlagRule*> flags;
    if (begun.rule != nullptr)
      for (const FlagRule& flag : begun.rule->flags) flags.push_back(&flag);
    flags.insert(flags.end(), {&kHelp, &kJson, &kOutputFormat});
    for (const FlagRule* flag : flags) {
      if (std::ranges::find(begun.given, flag) == begun.given.end())
        add_fitting(completions, last, flag->dashed());
    }
  }
  return completions;
}

}  // namespace vdvs::cli
