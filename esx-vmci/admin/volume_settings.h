// "access=read-only,attach-as=persistent": what `volume set` may change of a volume that exists.
#pragma once

#include <string_view>

#include "base/error.h"
#include "esx-vmci/volume_options.h"

namespace vdvs::esx::admin {

/// At least one; each once. Errors: kInvalid, with what is allowed.
base::Result<OptionMap> parse_volume_settings(std::string_view text);

}  // namespace vdvs::esx::admin
