#include "esx-vmci/admin/asker.h"

#include <fmt/format.h>
#include <pwd.h>

#include <array>
#include <charconv>
#include <optional>

#include "base/fd.h"

namespace vdvs::esx {
namespace {

constexpr uid_t kNobodyLoggedIn = static_cast<uid_t>(-1);  // audit(7): unset, as for services

std::optional<std::string> user_name(uid_t uid) {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return found->pw_name;
}

std::optional<uid_t> login_of(pid_t pid) {
  const auto text = base::read_line_file(fmt::format("/proc/{}/loginuid", pid));
  if (!text) return std::nullopt;
  uid_t uid = kNobodyLoggedIn;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), uid);
  if (error != std::errc() || uid == kNobodyLoggedIn) return std::nullopt;
  return uid;
}

}  // namespace

std::string describe_asker(uid_t uid, pid_t pid) {
  std::string text = fmt::format("uid {}", uid);
  if (const auto name = user_name(uid)) text += fmt::format(" ({})", *name);
  if (pid <= 0) return text;
  text += fmt::format(", pid {}", pid);
  if (const auto command = base::read_line_file(fmt::format("/proc/{}/comm", pid)))
    text += fmt::format(" ({})", *command);
  if (const auto login = login_of(pid))
    text += fmt::format(", login {}", user_name(*login).value_or(fmt::format("uid {}", *login)));
  return text;
}

}  // namespace vdvs::esx
