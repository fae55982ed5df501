#include "esx-vmci/datastore/vmdk_descriptor.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

constexpr std::string_view kSparseMagic = "KDMV";
constexpr std::string_view kEsxSparseMagic = "COWD";
constexpr std::uint32_t kNoParent = 0xffffffff;
constexpr std::size_t kUuidDigits = 32;

/// Where more than one sentence is needed, the remedy is the same: make it flat.
constexpr std::string_view kMakeItFlat =
    "convert it with 'qemu-img convert -O vmdk -o subformat=monolithicFlat'";

std::unexpected<base::Error> unsupported(std::string cause) {
  return std::unexpected(base::Error(ErrorCode::kUnsupported, std::move(cause), std::string(kMakeItFlat)));
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string_view unquote(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') return text.substr(1, text.size() - 2);
  return text;
}

std::optional<std::uint32_t> parse_hex(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "60 00 C2 9e ...-..." -> 32 lower-case digits, or empty.
std::string parse_uuid(std::string_view text) {
  std::string digits;
  for (char c : text) {
    if (c == ' ' || c == '-') continue;
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return {};
    digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return digits.size() == kUuidDigits ? digits : std::string();
}

std::string print_uuid(std::string_view digits) {
  std::string text;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    if (i != 0) text += i == kUuidDigits / 2 ? '-' : ' ';
    text += digits.substr(i, 2);
  }
  return text;
}

/// The next word of a line, taken off its front.
std::string_view take_word(std::string_view& line) {
  line = trim(line);
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

bool is_extent_line(std::string_view line) {
  const std::string_view access = take_word(line);
  return access == "RW" || access == "RDONLY" || access == "NOACCESS";
}

Result<void> check_extent_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..")
    return fail(ErrorCode::kCorrupt, "extent without a file name");
  if (name.find_first_of("/\\") != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::kUnsupported, "extent '{}' does not lie beside its descriptor", name);
  }
  return {};
}

/// `RW 20480 VMFS "db-flat.vmdk"` or `RW 20480 FLAT "db-flat.vmdk" 0`.
Result<void> parse_extent(std::string_view line, VmdkDescriptor& descriptor) {
  const std::string_view access = take_word(line);
  const std::string_view sectors = take_word(line);
  const std::string_view type = take_word(line);
  line = trim(line);
  std::uint64_t count = 0;
  auto [end, error] = std::from_chars(sectors.data(), sectors.data() + sectors.size(), count);
  if (error != std::errc() || end != sectors.data() + sectors.size() || count == 0) {
    return fail(ErrorCode::kCorrupt, "extent of '{}' sectors", sectors);
  }
  if (count > std::numeric_limits<std::int64_t>::max() / kSectorBytes) {
    return fail(ErrorCode::kCorrupt, "extent of {} sectors, which no file can hold", count);
  }
  if (access != "RW") return unsupported(fmt::format("extent with access {}: only RW is supported", access));
  if (type != "VMFS" && type != "FLAT")
    return unsupported(fmt::format("{} extent: only flat disks are supported", type));
  const std::size_t close = line.rfind('"');
  if (line.empty() || line.front() != '"' || close == 0)
    return fail(ErrorCode::kCorrupt, "extent without a file name");
  const std::string_view name = line.substr(1, close - 1);
  const std::string_view offset = trim(line.substr(close + 1));
  if (!offset.empty() && offset != "0")
    return unsupported(fmt::format("extent that begins at sector {}", offset));
  RETURN_IF_ERROR(check_extent_name(name));
  descriptor.size_bytes = count * kSectorBytes;
  descriptor.extent = name;
  return {};
}

Result<void> take_header(const std::string& key, std::string_view value, VmdkDescriptor& descriptor) {
  if (key == "cid") {
    descriptor.content_id = parse_hex(value).value_or(descriptor.content_id);
  } else if (key == "parentcid") {
    if (parse_hex(value) != kNoParent) {
      return unsupported(fmt::format("it is a snapshot of another disk (parentCID {})", value));
    }
  } else if (key == "parentfilenamehint") {
    return unsupported(fmt::format("it is a snapshot of another disk ('{}')", value));
  } else if (key == "createtype") {
    descriptor.create_type = value;
  } else if (key == "ddb.uuid") {
    descriptor.uuid = parse_uuid(value);
  } else if (key == "ddb.adaptertype") {
    descriptor.adapter_type = value;
  } else if (key == "ddb.thinprovisioned") {
    descriptor.is_thin = value == "1";
  } else if (key == "ddb.sidecars") {
    descriptor.sidecars = value;
  }
  return {};
}

struct Geometry {
  std::uint64_t cylinders;
  unsigned heads;
  unsigned sectors;
};

/// The sizes at which VMware's BIOS geometry for SCSI disks changes.
Geometry geometry_of(std::uint64_t size_bytes) {
  const std::uint64_t sectors = size_bytes / kSectorBytes;
  Geometry geometry = size_bytes < (1ull << 30)   ? Geometry{0, 64, 32}
                      : size_bytes < (2ull << 30) ? Geometry{0, 128, 32}
                                                  : Geometry{0, 255, 63};
  geometry.cylinders = std::max<std::uint64_t>(1, sectors / (geometry.heads * geometry.sectors));
  return geometry;
}

void fill_random(std::span<std::byte> bytes) {
  VDVS_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
}

Result<void> check_kind(const VmdkDescriptor& descriptor, std::size_t extents) {
  const std::string type = lower(descriptor.create_type);
  if (type != "vmfs" && type != "monolithicflat") {
    return unsupported(fmt::format("its type is {}: only flat disks (vmfs, monolithicFlat) are supported",
                                   descriptor.create_type.empty() ? "not given" : descriptor.create_type));
  }
  if (extents == 0) return fail(ErrorCode::kCorrupt, "descriptor without an extent");
  if (extents > 1) return unsupported(fmt::format("it is split into {} extents", extents));
  return {};
}

}  // namespace

Result<VmdkDescriptor> parse_descriptor(std::string_view text) {
  if (text.starts_with(kSparseMagic))
    return unsupported("it is a sparse disk (monolithicSparse or streamOptimized)");
  if (text.starts_with(kEsxSparseMagic)) return unsupported("it is a sparse disk (vmfsSparse)");
  if (text.size() > kMaxDescriptorBytes) {
    return fail(ErrorCode::kCorrupt, "{} bytes are too many for a descriptor (max is {})", text.size(),
                kMaxDescriptorBytes);
  }
  if (!text.starts_with("# Disk DescriptorFile"))
    return fail(ErrorCode::kCorrupt, "it is not a VMDK descriptor");
  VmdkDescriptor descriptor;
  descriptor.create_type.clear();
  std::vector<std::string_view> extents;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    if (is_extent_line(line)) {
      extents.push_back(line);
      continue;
    }
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos)
      return fail(ErrorCode::kCorrupt, "a line of its descriptor makes no sense ('{}')", line);
    RETURN_IF_ERROR(
        take_header(lower(trim(line.substr(0, equals))), unquote(trim(line.substr(equals + 1))), descriptor));
  }
  RETURN_IF_ERROR(check_kind(descriptor, extents.size()));
  RETURN_IF_ERROR(parse_extent(extents.front(), descriptor));
  return descriptor;
}

std::string print_descriptor(const VmdkDescriptor& descriptor) {
  const Geometry geometry = geometry_of(descriptor.size_bytes);
  const bool is_vmfs = lower(descriptor.create_type) == "vmfs";
  std::string text = fmt::format(
      "# Disk "
      "DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID=ffffffff\ncreateType=\"{}\"\n\n"
      "# Extent description\nRW {} {} \"{}\"{}\n\n# The Disk Data Base\n#DDB\n\n",
      descriptor.content_id, descriptor.create_type, descriptor.size_bytes / kSectorBytes,
      is_vmfs ? "VMFS" : "FLAT", descriptor.extent, is_vmfs ? "" : " 0");
  auto add = [&text](std::string_view key, const auto& value) {
    text += fmt::format("ddb.{} = \"{}\"\n", key, value);
  };
  add("adapterType", descriptor.adapter_type);
  add("geometry.cylinders", geometry.cylinders);
  add("geometry.heads", geometry.heads);
  add("geometry.sectors", geometry.sectors);
  if (!descriptor.sidecars.empty()) add("sidecars", descriptor.sidecars);
  if (descriptor.is_thin) add("thinProvisioned", 1);
  if (!descriptor.uuid.empty()) add("uuid", print_uuid(descriptor.uuid));
  add("virtualHWVersion", 8);
  return text;
}

std::string random_disk_uuid() {
  std::array<std::byte, kUuidDigits / 2> bytes;
  fill_random(bytes);
  bytes[0] = std::byte{0x60};
  bytes[1] = std::byte{0x00};
  bytes[2] = std::byte{0xC2};
  bytes[3] = (bytes[3] & std::byte{0x0F}) | std::byte{0x90};
  std::string digits;
  for (std::byte byte : bytes) digits += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return digits;
}

std::uint32_t random_content_id() {
  std::array<std::byte, 4> bytes;
  fill_random(bytes);
  std::uint32_t id = 0;
  for (std::byte byte : bytes) id = (id << 8) | std::to_integer<std::uint32_t>(byte);
  return id == kNoParent ? id - 1 : id;
}

}  // namespace vdvs::esx
