// volume ls, shortls, set, detach.
#include <algorithm>
#include <array>
#include <map>

#include "esx-vmci/admin/commands.h"
#include "esx-vmci/admin/handlers.h"
#include "esx-vmci/admin/sizes.h"
#include "esx-vmci/admin/volume_scan.h"
#include "esx-vmci/admin/volume_settings.h"

namespace vdvs::esx::admin {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::string_view kDetached = "detached";

std::string option_or(const VolumeInfo& info, const std::string& name, std::string_view otherwise) {
  const auto found = info.options.find(name);
  return found == info.options.end() || found->second.empty() ? std::string(otherwise) : found->second;
}

std::string or_not_available(const std::string& text) {
  return text.empty() ? std::string(kNotAvailable) : text;
}

/// What VMs are called now, by uuid and instance uuid: a record keeps the name of its day.
using VmNames = std::map<std::string, std::string, std::less<>>;

VmNames names_of_vms(VmDirectory& directory) {
  VmNames names;
  const auto vms = directory.vms();
  if (!vms) return names;
  for (const VmState& state : *vms) {
    names.emplace(state.vm.uuid, state.vm.name);
    if (!state.vm.instance_uuid.empty()) names.emplace(state.vm.instance_uuid, state.vm.name);
  }
  return names;
}

std::string holder_text(const DiskHolder& holder, const VmNames& names) {
  const auto now = names.find(holder.uuid);
  if (!holder.uuid.empty() && now != names.end()) return now->second;
  if (!holder.name.empty()) return holder.name;
  return or_not_available(holder.uuid.empty() ? holder.what : holder.uuid);
}

/// The cells of one row, in the order of volume_columns().
std::vector<std::string> row_of(const ScannedVolume& volume, const VmNames& names) {
  std::vector<std::string> row(volume_columns().size(), std::string(kNotAvailable));
  row[0] = volume.volume;
  row[1] = volume.datastore.name;
  row[2] = or_not_available(volume.group.name);
  if (!volume.info) return row;
  const VolumeInfo& info = *volume.info;
  const bool knows_policies = volume.datastore.type == "vsan";
  row[3] = bytes_text(info.size_bytes);
  row[4] = bytes_text(info.allocated_bytes);
  row[5] = option_or(info, "fstype", kNotAvailable);
  row[6] = option_or(info, "vsan-policy-name", knows_policies ? "[VSAN default]" : kNotAvailable);
  row[7] = option_or(info, "diskformat", kNotAvailable);
  row[8] = info.holder ? holder_text(*info.holder, names) : std::string(kDetached);
  row[9] = option_or(info, "access", "read-write");
  row[10] = option_or(info, "attach-as", "independent_persistent");
  row[11] = or_not_available(info.created_by);
  row[12] = or_not_available(info.created);
  return row;
}

bool needs_info(const std::vector<std::size_t>& columns) {
  return std::ranges::any_of(columns, [](std::size_t column) { return column > 2; });
}

Result<AdminOutput> list_volumes(const AdminOptions& options, const Flags& flags,
                                 const std::vector<std::size_t>& columns) {
  ScanWish wish{.with_info = needs_info(columns)};
  wish.group_glob = find_flag(flags, "vmgroup").value_or("*");
  ASSIGN_OR_RETURN(Scan scan, scan_volumes(options.parts, wish));
  const VmNames names = wish.with_info ? names_of_vms(options.parts.vms) : VmNames();
  AdminOutput output{.lines = std::move(scan.notes)};
  for (const std::size_t column : columns) output.columns.emplace_back(volume_columns()[column].header);
  output.rows.reserve(scan.volumes.size());
  for (const ScannedVolume& volume : scan.volumes) {
    std::vector<std::string> all = row_of(volume, names);
    std::vector<std::string> row;
    for (const std::size_t column : columns) row.push_back(std::move(all[column]));
    output.rows.push_back(std::move(row));
  }
  return output;
}

}  // namespace

Result<AdminOutput> volume_ls(const AdminOptions& options, const Flags& flags) {
  std::string all;
  for (const VolumeColumn& column : volume_columns()) all.append(all.empty() ? "" : ",").append(column.name);
  ASSIGN_OR_RETURN(const auto columns, parse_columns(find_flag(flags, "c").value_or(all)));
  return list_volumes(options, flags, columns);
}

Result<AdminOutput> volume_shortls(const AdminOptions& options, const Flags& flags) {
  ASSIGN_OR_RETURN(const auto columns, parse_columns("volume,capacity,disk-format,attached-to"));
  return list_volumes(options, flags, columns);
}

Result<AdminOutput> volume_set(const AdminOptions& options, const Flags& flags) {
  const std::string& name = flag(flags, "volume");
  const Result<void> done = [&]() -> Result<void> {
    if (name.find('@') == std::string::npos)
      return base::fail(ErrorCode::kInvalid, "name the volume's datastore: volume@datastore");
    ASSIGN_OR_RETURN(const OptionMap settings, parse_volume_settings(flag(flags, "options")));
    ASSIGN_OR_RETURN(const ScannedVolume volume, find_volume(options.parts, name, flag(flags, "vmgroup")));
    return options.parts.operations.set_options(volume.place(), settings);
  }();
  if (done) return text(fmt::format("Successfully updated settings for {}", name));
  return std::unexpected(base::Error(done.error().code(),
                                     fmt::format("Failed to update {} for {}.", flag(flags, "options"), name),
                                     done.error().message()));
}

Result<AdminOutput> volume_detach(const AdminOptions& options, const Flags& flags) {
  const std::string& name = flag(flags, "volume");
  ASSIGN_OR_RETURN(const ScannedVolume volume,
                   find_volume(options.parts, name, find_flag(flags, "vmgroup").value_or("")));
  const std::string full_name = fmt::format("{}@{}", volume.volume, volume.datastore.name);
  if (!has_flag(flags, "force")) {
    // Nothing is done to a disk that somebody has; who it is, is what the administrator must know first.
    ASSIGN_OR_RETURN(const VolumeInfo info,
                     options.parts.operations.get(Vm{.uuid = {}, .name = "administrator"}, volume.place()));
    if (!info.holder) return text(fmt::format("Volume {} is attached to no VM", full_name));
    const std::string vm = holder_text(*info.holder, names_of_vms(options.parts.vms));
    return std::unexpected(base::Error(
        ErrorCode::kBusyElsewhere,
        fmt::format("detach '{}': disk is attached to vm '{}'{}", full_name, vm,
                    info.holder->since.empty() ? "" : " since " + info.holder->since),
        fmt::format("stop its container on '{}'; if that VM will never write again, add --force: what it has "
                    "not yet written is lost",
                    vm)));
  }
  ASSIGN_OR_RETURN(const auto holder, options.parts.operations.force_detach(volume.place()));
  if (!holder) return text(fmt::format("Volume {} is attached to no VM", full_name));
  return text(fmt::format("Volume {} was detached from vm '{}'{}", full_name,
                          holder_text(*holder, names_of_vms(options.parts.vms)),
                          holder->since.empty() ? "" : ", which had it since " + holder->since));
}

}  // namespace vdvs::esx::admin
