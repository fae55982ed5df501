// Whole disks as sysfs shows them, below a root that a test can make. Everything here looks once and may find
// that the disk went away between two reads: that is an answer (nullopt), never an error.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "blockdev/device_watcher.h"

namespace vdvs::blockdev {

/// What one look for an address found.
struct Sighting {
  std::optional<Device> device{};  ///< The disk that was sought; nullopt: not there, or not yet.
  std::string seen{};              ///< Without a device: what is there instead, in words, for the error.
  bool is_conflict =
      false;  ///< Another disk stands where this one should be: waiting may help, using it never.
};

/// Turns "it is not there" (ENOENT, ENODEV, ENXIO, ENOTDIR) into nullopt and leaves every other error.
template <typename T>
base::Result<std::optional<T>> optional_if_missing(base::Result<T> result) {
  if (result) return std::optional<T>(std::move(*result));
  const base::Error& error = result.error();
  const bool is_missing = error.code() == base::ErrorCode::kNotFound || error.system_errno() == ENOTDIR;
  if (is_missing) return std::optional<T>();
  return std::unexpected(std::move(result).error());
}

/// A short attribute file, or nullopt where the kernel does not offer it.
base::Result<std::optional<std::string>> find_attribute(const std::string& path);

/// The names of a folder, sorted; empty where there is no such folder.
base::Result<std::vector<std::string>> list_folder(const std::string& path);

/// The disks whose kernel name starts with `prefix` ("loop", "sd", or "" for all of them), sorted. No
/// partitions.
base::Result<std::vector<std::string>> list_disks(const WatcherOptions& options, std::string_view prefix);

/// The disk of this kernel name; nullopt: gone, or replaced by another disk while it was read.
base::Result<std::optional<Device>> read_disk(const WatcherOptions& options, const std::string& name);

/// True where the node exists and has the device's number: with a /dev that is not the kernel's own it may be
/// late.
bool has_node(const Device& device);

/// The sysfs folder of a device number: it goes away before the remove event is sent (device_del in
/// drivers/base/core.c).
std::string sysfs_folder(const WatcherOptions& options, dev_t number);

/// What a device still carries, or nullopt where this identity (number and diskseq) is gone. A loop device is
/// gone when it has no file.
base::Result<std::optional<std::string>> find_remains(const WatcherOptions& options, const Device& device);

}  // namespace vdvs::blockdev
