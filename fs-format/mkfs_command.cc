#include "fs-format/mkfs_command.h"

#include <algorithm>
#include <array>
#include <span>

namespace vdvs::fsformat {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::size_t kMaxMkfsOptions = 64;
constexpr std::size_t kMaxMkfsOptionBytes = 1024;
constexpr std::string_view kExtDefaults = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";

/// What there is to know about one family of mkfs programs (their manual pages, as of Debian 12).
struct Family {
  std::array<std::string_view, 3> fstypes;
  std::string_view quick_flags;     ///< Ours, separated by blanks.
  std::string_view label_flag;      ///< Empty: no label.
  std::string_view valued_letters;  ///< Short options that take a value.
  std::string_view valued_names;    ///< Long options that take a value, separated by blanks.
  std::string_view denied_letters;  ///< Short options that read or write a file.
  /// The same, as words anywhere in an argument, separated by blanks; long names so far as getopt_long would
  /// complete them.
  std::string_view denied_words;
};

// -F (ext): a whole disk, not a partition, is meant. -K (xfs, btrfs), nodiscard: a fresh disk has nothing to
// discard. xfs and btrfs are not given -f, so that they look for signatures once more themselves. -I (vfat):
// a whole disk. --mbr=n: no partition table for show.
constexpr std::array kFamilies = {
    Family{.fstypes = {"ext2", "ext3", "ext4"},
           .quick_flags = "-F -q",
           .label_flag = "-L",
           .valued_letters = "bCdeEgGiIJlLmMNoOrRstTUz",
           .valued_names = "",
           .denied_letters = "dlz",
           .denied_words = "device= journal_dev"},
    Family{.fstypes = {"xfs"},
           .quick_flags = "-K -q",
           .label_flag = "-L",
           .valued_letters = "bcdilLmnprs",
           .valued_names = "",
           .denied_letters = "cp",
           .denied_words = "logdev= rtdev= name= file"},
    Family{.fstypes = {"btrfs"},
           .quick_flags = "-K -q",
           .label_flag = "-L",
           .valued_letters = "AbdlLmnOrRsU",
           .valued_names =
               "alloc-start byte-count checksum csum data features label leafsize metadata nodesize "
               "runtime-features sectorsize uuid",
           .denied_letters = "r",
           .denied_words = "--ro --sub"},
    Family{.fstypes = {"vfat", "fat", "msdos"},
           .quick_flags = "-I --mbr=n",
           .label_flag = "-n",
           .valued_letters = "bDfFghilmMnrRsS",
           .valued_names = "codepage invariant mbr variant offset",
           .denied_letters = "Clm",
           .denied_words = ""},
    Family{.fstypes = {"ntfs"},
           .quick_flags = "-F -Q -q",
           .label_flag = "-L",
           .valued_letters = "cHLpsSz",
           .valued_names = "",
           .denied_letters = "",
           .denied_words = ""},
    Family{.fstypes = {"exfat"},
           .quick_flags = "",
           .label_flag = "-L",
           .valued_letters = "bcLsU",
           .valued_names = "",
           .denied_letters = "",
           .denied_words = ""},
    Family{.fstypes = {"f2fs"},
           .quick_flags = "-q -t0",
           .label_flag = "-l",
           .valued_letters = "aCdeEglORsStTUwz",
           .valued_names = "",
           .denied_letters = "c",
           .denied_words = ""},
    Family{.fstypes = {"jfs"},
           .quick_flags = "-q",
           .label_flag = "-L",
           .valued_letters = "JjLs",
           .valued_names = "",
           .denied_letters = "jJ",
           .denied_words = ""},
    Family{.fstypes = {"nilfs2"},
           .quick_flags = "-q -K",
           .label_flag = "-L",
           .valued_letters = "bBcLmOP",
           .valued_names = "",
           .denied_letters = "",
           .denied_words = ""},
};

constexpr Family kUnknownFamily = {};

const Family& family_of(std::string_view fstype) {
  for (const Family& family : kFamilies) {
    if (std::ranges::find(family.fstypes, fstype) != family.fstypes.end()) return family;
  }
  return kUnknownFamily;
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

std::unexpected<base::Error> refuse(const FormatRequest& request, std::string_view option,
                                    std::string_view why) {
  return base::fail(ErrorCode::kInvalid, "read options of mkfs.{}: '{}' {}", request.fstype, option, why);
}

/// A cluster of short options: "-F", "-b1024", "-qE" (whose value is in the next argument).
struct Short {
  char valued = '\0';      ///< The letter that takes a value, always the last of the cluster.
  std::string_view value;  ///< Its value, if that is in the same argument.
  char denied = '\0';
};

Short read_short(std::string_view argument, const Family& family) {
  Short read;
  for (std::size_t i = 1; i < argument.size(); ++i) {
    const char letter = argument[i];
    if (family.denied_letters.find(letter) != std::string_view::npos) read.denied = letter;
    if (family.valued_letters.find(letter) == std::string_view::npos) {
      // With no table an option may have anything glued to it.
      if (family.fstypes[0].empty()) break;
      continue;
    }
    read.valued = letter;
    read.value = argument.substr(i + 1);
    break;
  }
  return read;
}

bool takes_next(std::string_view argument, const Family& family) {
  if (argument.starts_with("--")) {
    const auto names = split_words(family.valued_names);
    return std::ranges::find(names, argument.substr(2)) != names.end();
  }
  const Short read = read_short(argument, family);
  return read.valued != '\0' && read.value.empty();
}

Result<void> check_argument(const FormatRequest& request, std::string_view argument, const Family& family) {
  if (argument.size() > kMaxMkfsOptionBytes) {
    return refuse(request, argument.substr(0, 32),
                  fmt::format("... has more than {} bytes", kMaxMkfsOptionBytes));
  }
  if (std::ranges::any_of(argument, [](char byte) { return static_cast<unsigned char>(byte) < 0x20; })) {
    return refuse(request, "...", "has a control character");
  }
  if (argument.find('/') != std::string_view::npos)
    return refuse(request, argument, "names a file or another device");
  for (std::string_view word : split_words(family.denied_words)) {
    if (argument.find(word) != std::string_view::npos)
      return refuse(request, argument, "names a file or another device");
  }
  return {};
}

/// The user's options, with the values of -E taken out into `extended`.
Result<std::vector<std::string>> check_options(const FormatRequest& request, const Family& family,
                                               std::string& extended) {
  const bool is_ext = family.fstypes[0] == "ext2";
  if (request.mkfs_options.size() > kMaxMkfsOptions) {
    return refuse(request, "...", fmt::format("are more than {} arguments", kMaxMkfsOptions));
  }
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < request.mkfs_options.size(); ++i) {
    const std::string& argument = request.mkfs_options[i];
    RETURN_IF_ERROR(check_argument(request, argument, family));
    if (argument.size() < 2 || argument[0] != '-' || argument == "--") {
      return refuse(request, argument, "is not an option (write a value as \"-x8\" or \"--name=8\")");
    }
    const bool is_long = argument.starts_with("--");
    const Short read = is_long ? Short{} : read_short(argument, family);
    if (read.denied != '\0') return refuse(request, argument, "names a file or another device");
    std::string value(read.value);
    const bool is_split = takes_next(argument, family);
    if (is_split) {
      if (++i == request.mkfs_options.size()) return refuse(request, argument, "has no value");
      value = request.mkfs_options[i];
      RETURN_IF_ERROR(check_argument(request, value, family));
    }
    if (is_ext && read.valued == 'E') {
      extended += "," + value;
      const std::string_view flags = std::string_view(argument).substr(0, argument.find('E'));
      if (flags.size() > 1) kept.emplace_back(flags);
      continue;
    }
    kept.push_back(argument);
    if (is_split) kept.push_back(value);
  }
  return kept;
}

bool is_plain_name(std::string_view fstype) {
  return !fstype.empty() && fstype.size() <= 32 && fstype[0] != '-' &&
         std::ranges::all_of(fstype, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
         });
}

}  // namespace

Result<std::vector<std::string>> make_mkfs_command(const FormatRequest& request, const std::string& node) {
  if (!is_plain_name(request.fstype)) {
    return base::fail(ErrorCode::kInvalid, "read fstype '{}': not the name of a file system", request.fstype);
  }
  const Family& family = family_of(request.fstype);
  std::string extended(kExtDefaults);
  ASSIGN_OR_RETURN(auto user_options, check_options(request, family, extended));

  std::vector<std::string> argv = {"mkfs." + request.fstype};
  for (std::string_view flag : split_words(family.quick_flags)) argv.emplace_back(flag);
  const std::string label = fit_label(request.label, request.fstype);
  if (!family.label_flag.empty() && !label.empty()) {
    argv.emplace_back(family.label_flag);
    argv.push_back(label);
  }
  if (family.fstypes[0] == "ext2") {
    argv.emplace_back("-E");
    argv.push_back(extended);
  }
  std::ranges::move(user_options, std::back_inserter(argv));
  argv.push_back(node);
  return argv;
}

}  // namespace vdvs::fsformat
