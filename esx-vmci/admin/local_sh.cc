#include "esx-vmci/admin/local_sh.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::fail_errno;
using base::Result;

constexpr std::size_t kMaxLocalShBytes = 1024 * 1024;
constexpr std::string_view kEndOfScript = "exit 0";

/// The offset of the first line that begins with `start`, at or after `from` (itself a line's begin).
std::size_t find_line(std::string_view script, std::string_view start, std::size_t from) {
  while (from < script.size()) {
    if (script.substr(from).starts_with(start)) return from;
    const std::size_t end = script.find('\n', from);
    if (end == std::string_view::npos) break;
    from = end + 1;
  }
  return std::string_view::npos;
}

std::size_t after_line(std::string_view script, std::size_t position) {
  const std::size_t end = script.find('\n', position);
  return end == std::string_view::npos ? script.size() : end + 1;
}

/// As one word of a shell's.
std::string quoted(std::string_view text) {
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'')
      word += "'\\''";
    else
      word += c;
  }
  return word + "'";
}

}  // namespace

Result<std::string> local_sh_block(std::string_view link, std::string_view database) {
  for (const std::string_view path : {link, database}) {
    if (std::ranges::any_of(path, [](unsigned char c) { return c < ' ' || c == 0x7f; }))
      return fail(ErrorCode::kInvalid, "write the boot script: a path with control characters: {}",
                  quoted(path));
  }
  return fmt::format(
      "{}\n"
      "# Written by 'vmdkops_admin config', which also takes it away: changes made here by hand are lost.\n"
      "# It must stand before the script's \"exit 0\".\n"
      "link={}\n"
      "database={}\n"
      "if [ ! -e \"$link\" ] && [ ! -L \"$link\" ] && [ -d \"$(dirname \"$link\")\" ]; then\n"
      "  ln -s \"$database\" \"$link\"\n"
      "fi\n"
      "{}\n",
      kLocalShTag, quoted(link), quoted(database), kLocalShTag);
}

Result<std::string> with_local_sh_block(std::string_view script, std::string_view block) {
  const std::size_t begin = find_line(script, kLocalShTag, 0);
  if (begin != std::string_view::npos) {
    const std::size_t closing = find_line(script, kLocalShTag, after_line(script, begin));
    if (closing == std::string_view::npos) {
      return std::unexpected(base::Error(
          ErrorCode::kCorrupt, fmt::format("the line '{}' stands there once, not twice", kLocalShTag),
          "take the rest of the block out by hand, that line included"));
    }
    return fmt::format("{}{}{}", script.substr(0, begin), block, script.substr(after_line(script, closing)));
  }
  if (block.empty()) return std::string(script);
  const std::size_t end = find_line(script, kEndOfScript, 0);
  if (end != std::string_view::npos)
    return fmt::format("{}{}{}", script.substr(0, end), block, script.substr(end));
  const bool is_open = !script.empty() && !script.ends_with('\n');
  return fmt::format("{}{}{}", script, is_open ? "\n" : "", block);
}

Result<bool> update_local_sh(const std::string& path, std::string_view block) {
  // Behind a symbolic link lies the file that is meant; a rename would replace the link.
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return fail_errno(errno, "update '{}'", path);
  }
  const std::string file = resolved;
  ::free(resolved);
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return fail_errno(errno, "update '{}'", file);
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::kInvalid, "update '{}': it is not a regular file", file);
  ASSIGN_OR_RETURN(const std::string old, base::read_file(file, kMaxLocalShBytes));
  auto changed = with_local_sh_block(old, block);
  if (!changed) return std::unexpected(std::move(changed).error().within(fmt::format("update '{}'", file)));
  if (*changed == old) return false;
  const unsigned mode = status.st_mode & 07777;
  RETURN_IF_ERROR(base::replace_file_durably(file + ".bck", old, mode));
  RETURN_IF_ERROR(base::replace_file_durably(file, *changed, mode));
  return true;
}

}  // namespace vdvs::esx
