// The vSAN policy expression, read by a small parser: a list of ("capability" value) in one pair of
// parentheses, blanks between any two parts.
//
//   expression = "(" pair { pair } ")"        pair = "(" string value ")"
//   value      = "i" digits | string          string = '"' characters but '"' '"'
//
// What vSAN knows is in a table (VMware: "vSAN policies", esxcli vsan policy). An unknown name or a value out
// of range would only fail when the policy is applied to a disk; here it fails when it is written.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>

#include "esx-vmci/tenancy/policies.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::Result;

struct Capability {
  std::string_view name;
  std::uint64_t least;
  std::uint64_t most;
  bool is_text = false;  ///< Then one of kReplicaPreferences.
};

constexpr std::array kCapabilities = {
    Capability{"hostFailuresToTolerate", 0, 3},
    Capability{"forceProvisioning", 0, 1},
    Capability{"stripeWidth", 1, 12},
    Capability{"cacheReservation", 0, 1'000'000},  // parts of a million
    Capability{"proportionalCapacity", 0, 100},    // percent
    Capability{"iopsLimit", 0, 2'147'483'647},     // 0: none
    Capability{"checksumDisabled", 0, 1},
    Capability{"replicaPreference", 0, 0, true},
};

constexpr std::array<std::string_view, 2> kReplicaPreferences = {"RAID-1 (Mirroring) - Performance",
                                                                 "RAID-5/6 (Erasure Coding) - Capacity"};

std::string known_capabilities() {
  std::string text;
  for (const Capability& capability : kCapabilities)
    text += fmt::format("{}{}", text.empty() ? "" : ", ", capability.name);
  return text;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<void> expression() {
    RETURN_IF_ERROR(expect('('));
    do {
      RETURN_IF_ERROR(pair());
      skip_blanks();
    } while (at_ < text_.size() && text_[at_] != ')');
    RETURN_IF_ERROR(expect(')'));
    skip_blanks();
    if (at_ != text_.size()) return complain("there is more after the last ')'");
    return {};
  }

 private:
  std::unexpected<base::Error> complain(std::string_view why) const {
    return base::fail(ErrorCode::kInvalid, "Error: Invalid policy string: at character {}: {}", at_ + 1, why);
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
  }

  Result<void> expect(char c) {
    skip_blanks();
    if (at_ >= text_.size()) return complain(fmt::format("it ends where '{}' should be", c));
    if (text_[at_] != c) return complain(fmt::format("'{}' should be here", c));
    ++at_;
    return {};
  }

  Result<std::string_view> string() {
    RETURN_IF_ERROR(expect('"'));
    const std::size_t end = text_.find('"', at_);
    if (end == std::string_view::npos) return complain("a '\"' has no end");
    const std::string_view found = text_.substr(at_, end - at_);
    at_ = end + 1;
    return found;
  }

  Result<void> pair() {
    RETURN_IF_ERROR(expect('('));
    skip_blanks();
    const std::size_t start = at_;
    ASSIGN_OR_RETURN(const std::string_view name, string());
    const auto capability = std::ranges::find(kCapabilities, name, &Capability::name);
    if (capability == kCapabilities.end()) {
      at_ = start;
      return complain(
          fmt::format("unknown capability '{}'; known are {}", printable(name), known_capabilities()));
    }
    if (!seen_.insert(name).second) {
      at_ = start;
      return complain(fmt::format("'{}' is there twice", name));
    }
    RETURN_IF_ERROR(capability->is_text ? text_value(*capability) : number_value(*capability));
    return expect(')');
  }

  Result<void> number_value(const Capability& capability) {
    RETURN_IF_ERROR(expect('i'));
    std::uint64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (end == begin || error != std::errc() || value < capability.least || value > capability.most) {
      return complain(
          fmt::format("'{}' takes i{} to i{}", capability.name, capability.least, capability.most));
    }
    at_ += static_cast<std::size_t>(end - begin);
    return {};
  }

  Result<void> text_value(const Capability& capability) {
    ASSIGN_OR_RETURN(const std::string_view value, string());
    if (std::ranges::find(kReplicaPreferences, value) == kReplicaPreferences.end()) {
      return complain(fmt::format("'{}' takes \"{}\" or \"{}\"", capability.name, kReplicaPreferences[0],
                                  kReplicaPreferences[1]));
    }
    return {};
  }

  static std::string printable(std::string_view text) {
    std::string result(text.substr(0, 64));
    for (char& c : result) {
      if (c < ' ' || c > '~') c = '?';
    }
    return result;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
  std::set<std::string_view> seen_;
};

}  // namespace

Result<void> validate_policy_content(std::string_view content) {
  if (content.size() > kMaxPolicyBytes) {
    return base::fail(ErrorCode::kInvalid, "Error: Invalid policy string: it has {} bytes (at most {})",
                      content.size(), kMaxPolicyBytes);
  }
  return Parser(content).expression();
}

Result<void> validate_policy_name(std::string_view name) {
  auto refuse = [&](std::string_view why) {
    return base::fail(ErrorCode::kInvalid, "Error: Invalid policy name: {}", why);
  };
  if (name.empty()) return refuse("it is empty");
  if (name.size() > kMaxPolicyNameBytes)
    return refuse(fmt::format("it has {} bytes (at most {})", name.size(), kMaxPolicyNameBytes));
  if (name.front() == '.') return refuse("it begins with '.'");
  if (name.find('/') != std::string_view::npos) return refuse("it contains '/'");
  if (std::ranges::any_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    return refuse("it contains control characters");
  for (const std::string_view ending : {".tmp", ".old", ".failed_volume_updates"}) {
    if (name.ends_with(ending))
      return refuse(fmt::format("names that end in '{}' are used during updates", ending));
  }
  return {};
}

}  // namespace vdvs::esx
