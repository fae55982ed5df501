// `docker volume inspect`: the Status keys of the predecessor, spelled as it spelled them, and ours beside them.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "esx-vmci/control_plane.h"
#include "mountd/volume_catalogue.h"

namespace vdvs::mountd {

/// Bytes as the predecessor wrote them: a plain integer below 1 KiB, otherwise truncated to KB, MB or GB ("100MB", "2048GB").
std::string human_size(std::uint64_t bytes);

/// "Tue Mar 27 18:02:11 2018" (asctime, GMT) as RFC 3339; empty where it cannot be read: Docker refuses a reply with anything else.
std::string rfc3339_of_asctime(std::string_view text);

/// What the control plane says.
boost::json::object status_of(const esx::VolumeInfo& info);

/// What is remembered, with the reason why the control plane was not asked, or did not answer, under "backend".
boost::json::object status_of(const CatalogueRecord& record, const std::string& backend);

}  // namespace vdvs::mountd
