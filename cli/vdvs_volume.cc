#include "cli/vdvs_volume.h"

#include <optional>

namespace vdvs::cli {
namespace {

constexpr int kDone = 0;
constexpr int kNotDone = 1;
constexpr int kUsage = 2;

constexpr std::string_view kHelp =
    "usage: vdvs volume detach [--force] [--vmgroup NAME] [--json] [--socket PATH] [--config FILE]\n"
    "                          VOLUME[@DATASTORE]\n"
    "\n"
    "Takes a volume's disk out of the VM that has it, so that another one can attach it.\n"
    "\n"
    "  --force         needed while a VM has it: whatever it has not yet written is lost. Only for a VM "
    "that\n"
    "                  is known to write nothing any more; one that is off needs no force, the next attach\n"
    "                  takes its disk.\n"
    "  --vmgroup NAME  the vmgroup that the volume belongs to, where several have one of that name\n"
    "  --json          the answer as JSON\n"
    "  --socket PATH   the running service's admin socket\n"
    "  --config FILE   the service's settings, for its socket, and where none runs\n"
    "\n"
    "exit status: 0 done, 1 not done, 2 the command line is wrong\n";

void print(std::FILE* stream, std::string_view text) { std::fwrite(text.data(), 1, text.size(), stream); }

class Parser {
 public:
  explicit Parser(std::span<const std::string> words) : words_(words) {}

  VolumeArguments parse() {
    if (words_.empty() || words_.front() != "detach") return refuse_verb();
    for (position_ = 1; position_ < words_.size() && !result_.exit_status; ++position_) take();
    if (!result_.exit_status && !result_.command.flags.contains("volume"))
      refuse("which volume? VOLUME[@DATASTORE] is missing");
    return std::move(result_);
  }

 private:
  VolumeArguments refuse_verb() {
    if (!words_.empty() && (words_.front() == "--help" || words_.front() == "-h")) return help();
    refuse(words_.empty() ? "what to do? there is: detach"
                          : fmt::format("'{}': there is only: detach", words_.front()));
    return std::move(result_);
  }
  VolumeArguments help() {
    result_.exit_status = kDone;
    result_.message = kHelp;
    return std::move(result_);
  }
  void refuse(std::string_view why) {
    result_.exit_status = kUsage;
    result_.message = fmt::format("vdvs volume: {}\n'vdvs volume --help' shows how it is used\n", why);
  }

  void take() {
    const std::string& word = words_[position_];
    if (word.size() < 2 || !word.starts_with('-') || is_only_volume_left_) return take_volume(word);
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    if (name == "--") {
      is_only_volume_left_ = true;
    } else if (name == "--help" || name == "-h") {
      result_ = help();
    } else if (name == "--force" && !value) {
      result_.command.flags["force"] = "";
    } else if (name == "--json" && !value) {
      result_.format = OutputFormat::kJson;
    } else if (name == "--vmgroup") {
      take_value(name, std::move(value), result_.command.flags["vmgroup"]);
    } else if (name == "--socket") {
      take_value(name, std::move(value), result_.target.socket);
    } else if (name == "--config") {
      take_value(name, std::move(value), result_.target.config_file);
    } else {
      refuse(fmt::format("'{}' is not a flag here", word));
    }
  }

  void take_value(const std::string& name, std::optional<std::string> value, std::string& to) {
    if (!value && position_ + 1 < words_.size()) value = words_[++position_];
    if (!value || value->empty()) return refuse(fmt::format("{} needs a value", name));
    to = std::move(*value);
  }

  void take_volume(const std::string& word) {
    if (!result_.command.flags.emplace("volume", word).second)
      refuse(fmt::format("one volume at a time: '{}' and '{}'", result_.command.flags["volume"], word));
  }

  const std::span<const std::string> words_;
  std::size_t position_ = 0;
  bool is_only_volume_left_ = false;  ///< Behind "--".
  VolumeArguments result_{.command = {.verb = "volume detach", .flags = {}, .asked_by = {}}};
};

}  // namespace

VolumeArguments parse_volume_arguments(std::span<const std::string> words) { return Parser(words).parse(); }

int run_volume_command(std::span<const std::string> words, std::FILE* out, std::FILE* complaints) {
  const VolumeArguments arguments = parse_volume_arguments(words);
  if (arguments.exit_status) {
    print(*arguments.exit_status == kDone ? out : complaints, arguments.message);
    return *arguments.exit_status;
  }
  const AdminOutcome outcome = run_admin_command(arguments.target, arguments.command);
  if (!outcome.output) {
    const base::Error& error = outcome.output.error();
    if (arguments.format == OutputFormat::kJson)
      print(out, print_error(error, OutputFormat::kJson));
    else
      print(complaints, fmt::format("vdvs: {}\n", error.text()));
    return kNotDone;
  }
  // Lines only: no width is needed.
  const Printed printed = print_output(*outcome.output, arguments.format, 0);
  print(complaints, printed.notes);
  print(out, printed.out);
  return std::fflush(out) == 0 ? kDone : kNotDone;
}

}  // namespace vdvs::cli
