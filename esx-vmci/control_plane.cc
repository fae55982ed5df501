#include "esx-vmci/control_plane.h"

#include <cstdlib>

namespace vdvs::esx {

std::string_view init_state_name(InitState state) {
  switch (state) {
    case InitState::kNew:
      return "new";
    case InitState::kFormatting:
      return "formatting";
    case InitState::kFormatted:
      return "formatted";
    case InitState::kReady:
      return "ready";
  }
  std::abort();
}

}  // namespace vdvs::esx
