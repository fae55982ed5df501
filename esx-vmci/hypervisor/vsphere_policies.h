// Storage policies by name: from the configuration, or from the policy service (PBM) that vCenter has beside
// its own API. One ESXi host has none.
#pragma once

#include <map>
#include <string>

#include "base/mutex.h"
#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {

class VspherePolicies {
 public:
  explicit VspherePolicies(VsphereSession& session) : session_(session) {}
  /// The profile's id. Errors: kInvalid: there is no such policy; its text names those that are there.
  base::Result<std::string> find(const std::string& name, base::Deadline deadline) EXCLUDES(mutex_);

 private:
  base::Result<std::map<std::string, std::string>> ask(base::Deadline deadline);

  VsphereSession& session_;
  base::Mutex mutex_;  ///< A leaf.
  std::map<std::string, std::string> known_ GUARDED_BY(mutex_);
};

}  // namespace vdvs::esx
