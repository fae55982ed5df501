#include "esx-vmci/volume_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <optional>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// The next code point of `text`, taken off its front; nullopt where the bytes are not UTF-8 (overlong forms
/// and surrogates included).
std::optional<char32_t> take_code_point(std::string_view& text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80 ? 1 : lead >= 0xF0 && lead < 0xF5 ? 4 : lead >= 0xE0 ? 3 : 2;
  if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || text.size() < length) return std::nullopt;
  char32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return std::nullopt;
    point = (point << 6) | (byte(i) & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = point >= 0xD800 && point <= 0xDFFF;
  if (point < kSmallest[length] || point > 0x10FFFF || is_surrogate) return std::nullopt;
  text.remove_prefix(length);
  return point;
}

/// How many characters `text` has. Error: it is not UTF-8, or has control characters. `kind` is "Volume" or
/// "Datastore".
Result<std::size_t> count_characters(std::string_view text, std::string_view kind) {
  std::size_t count = 0;
  while (!text.empty()) {
    std::optional<char32_t> point = take_code_point(text);
    if (!point) return fail(ErrorCode::kInvalid, "{} name is not valid UTF-8", kind);
    if (*point < 0x20 || (*point >= 0x7F && *point <= 0x9F)) {
      return fail(ErrorCode::kInvalid, "{} name contains a control character (U+{:04X})", kind,
                  static_cast<std::uint32_t>(*point));
    }
    ++count;
  }
  return count;
}

bool ends_like_a_snapshot(std::string_view volume) {
  constexpr std::size_t kSuffix = 7;  // '-' and six digits
  if (volume.size() < kSuffix || volume[volume.size() - kSuffix] != '-') return false;
  return std::ranges::all_of(volume.substr(volume.size() - 6), [](char c) { return c >= '0' && c <= '9'; });
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

/// What would make one volume's file look like another's. Case does not count, because ".VMDK" counts as
/// ".vmdk" for the predecessor.
Result<void> check_against_other_files(std::string_view volume) {
  const std::string folded = lower(volume);
  for (std::string_view ending : {"-flat", "-delta", "-ctk", "-digest"}) {
    if (!folded.ends_with(ending)) continue;
    return fail(ErrorCode::kInvalid,
                "Volume names ending with '{}' are not supported (such files are parts of other disks)",
                ending);
  }
  if (folded.find(".vmdk") != std::string::npos) {
    return fail(ErrorCode::kInvalid, "Volume names containing '.vmdk' are not supported");
  }
  return {};
}

Result<void> check_volume(std::string_view volume) {
  if (volume.empty()) return fail(ErrorCode::kInvalid, "Volume name is empty");
  if (ends_like_a_snapshot(volume)) {
    return fail(ErrorCode::kInvalid,
                "Volume names ending with '-NNNNNN' (where N is a digit) are not supported");
  }
  ASSIGN_OR_RETURN(const std::size_t characters, count_characters(volume, "Volume"));
  if (characters > kMaxVolumeNameChars) {
    return fail(ErrorCode::kInvalid, "Volume name is too long (max len is {})", kMaxVolumeNameChars);
  }
  if (volume.size() > kMaxVolumeNameBytes) {
    return fail(ErrorCode::kInvalid, "Volume name is too long (it has {} bytes, max is {})", volume.size(),
                kMaxVolumeNameBytes);
  }
  // The quote is ours: a descriptor names its extent in quotes, and has no way to escape one.
  if (std::size_t at = volume.find_first_of("/\\\""); at != std::string_view::npos) {
    return fail(ErrorCode::kInvalid, "Volume name contains illegal characters: {}", volume[at]);
  }
  if (volume == "." || volume == "..")
    return fail(ErrorCode::kInvalid, "Volume name '{}' is not supported", volume);
  return check_against_other_files(volume);
}

Result<void> check_datastore(std::string_view datastore) {
  if (datastore.empty()) return fail(ErrorCode::kInvalid, "Datastore name is empty");
  ASSIGN_OR_RETURN(const std::size_t characters, count_characters(datastore, "Datastore"));
  if (characters > kMaxDatastoreNameChars) {
    return fail(ErrorCode::kInvalid, "Datastore name is too long (max len is {})", kMaxDatastoreNameChars);
  }
  return {};
}

}  // namespace

Result<VolumeName> VolumeName::parse(std::string_view text) {
  const std::size_t at = text.rfind('@');
  const std::string_view volume = text.substr(0, at);
  RETURN_IF_ERROR(check_volume(volume));
  if (at == std::string_view::npos) return VolumeName(std::string(volume), {});
  const std::string_view datastore = text.substr(at + 1);
  RETURN_IF_ERROR(check_datastore(datastore));
  return VolumeName(std::string(volume), std::string(datastore));
}

std::string VolumeName::text() const { return is_qualified() ? volume_ + "@" + datastore_ : volume_; }

VolumeName VolumeName::on(std::string_view datastore) const {
  return VolumeName(volume_, std::string(datastore));
}

}  // namespace vdvs::esx
