// The flat extent of a disk: making it in each disk format, copying it, making it blank again.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "esx-vmci/control_plane.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx {

struct ExtentShape {
  std::uint64_t size_bytes = 0;
  DiskFormat format = DiskFormat::kThin;
};

/// Whether an extent of this shape can fit at all: a thick one into what is free, a thin one (which may be
/// overcommitted) into what the file system has in total. Errors: kNoSpace.
base::Result<void> check_space(int folder_fd, const ExtentShape& shape);

/// Gives an empty file its size and space: thin is a hole, zeroedthick is reserved, eagerzeroedthick is
/// reserved and then written with zeros, with progress. Not synced. Errors: kNoSpace, kUnsupported (the file
/// system has no files of that size).
base::Result<void> allocate_extent(const base::UniqueFd& extent, const ExtentShape& shape,
                                   const Progress& progress, std::string_view what);

/// Copies `source` into the empty file `target`: by reference where the file system can (thin only), else its
/// data, keeping holes.
base::Result<void> copy_extent(const base::UniqueFd& source, const base::UniqueFd& target,
                               const ExtentShape& shape, const Progress& progress, std::string_view what);

/// Makes all of it read as zeros again, in its format. It may be interrupted and repeated.
base::Result<void> blank_extent(const base::UniqueFd& extent, const ExtentShape& shape,
                                std::string_view what);

}  // namespace vdvs::esx
