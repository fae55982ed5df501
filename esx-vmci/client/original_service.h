// The control plane before an original service, which knows seven commands and none of our extension. What is
// missing is made up for on this side:
//
//   our own options    are not sent (the service would refuse them) and kept in the memory
//   init states        a volume that this host made starts kNew; all others are kReady: their content is data
//   reset              removes the disk, which nobody has ever mounted, and makes it again
//   attached here      what this host has attached, or what is attached to a VM of this host's name
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "esx-vmci/client/original_memory.h"
#include "esx-vmci/client/service_link.h"
#include "esx-vmci/control_plane.h"

namespace vdvs::esx {

/// Asks for one thing, and says in errors of the way what was asked: "attach 'db': ...".
base::Result<Answer> ask_service(ServiceLink& link, Command command, const std::string& name,
                                 OptionMap options, std::chrono::milliseconds time);
/// Likewise, with the service's own errors.
base::Result<boost::json::value> command_service(ServiceLink& link, Command command, const std::string& name,
                                                 OptionMap options, std::chrono::milliseconds time);

/// What came of a create whose first try was lost: its volume, if it is as asked for.
bool is_as_asked(const VolumeInfo& info, const OptionMap& asked, bool is_size_rounded);

/// Thread: any; one operation at a time for each volume.
class OriginalService {
 public:
  OriginalService(ServiceLink& link, OriginalMemory& memory, std::string vm_name,
                  std::chrono::milliseconds request_time)
      : link_(link), memory_(memory), vm_name_(std::move(vm_name)), request_time_(request_time) {}

  base::Result<void> create(const VolumeName& name, const OptionMap& given);
  base::Result<void> remove(const VolumeName& name);
  base::Result<base::DiskAddress> attach(const VolumeName& name);
  base::Result<void> detach(const VolumeName& name);
  base::Result<VolumeInfo> get(const VolumeName& name);
  base::Result<std::vector<VolumeName>> attached_here();
  base::Result<void> set_init(const VolumeName& name, InitState state, const std::string& fs_uuid);
  base::Result<void> reset(const VolumeName& name);

 private:
  base::Result<boost::json::value> command(Command command, const VolumeName& name, OptionMap options = {}) {
    return command_service(link_, command, name.text(), std::move(options), request_time_);
  }
  base::Result<VolumeInfo> look(const VolumeName& name);
  base::Result<VolumeName> qualify(const VolumeName& name);
  base::Result<InitState> first_state(const OptionMap& given, const VolumeName& clone);
  void merge(const VolumeName& name, VolumeInfo& info);
  std::string own_name() const { return vm_name_.empty() ? memory_.vm_name() : vm_name_; }
  void learn_own_name(const VolumeInfo& info);

  ServiceLink& link_;
  OriginalMemory& memory_;
  const std::string vm_name_;
  const std::chrono::milliseconds request_time_;
};

}  // namespace vdvs::esx
