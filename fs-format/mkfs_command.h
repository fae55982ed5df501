// The command line of mkfs for each kind of file system: our quick options, the label, and what the user
// added. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "fs-format/formatter.h"

namespace vdvs::fsformat {

/// argv of mkfs.<fstype> for `node`. The user's options stand after ours, so that they win; of the ext
/// family's -E, of which mkfs obeys only the last, ours and theirs are put together.
///
/// Errors: kInvalid for an fstype that is no plain name, and for an option that would touch anything else
/// than the disk: another device, a file, or an argument that is no option's value (mkfs would take it for
/// the device). Only short and long options that the table in mkfs_command.cc lists may have their value in
/// the next argument; others need it in the same ("-x8", "--name=8").
base::Result<std::vector<std::string>> make_mkfs_command(const FormatRequest& request,
                                                         const std::string& node);

}  // namespace vdvs::fsformat
