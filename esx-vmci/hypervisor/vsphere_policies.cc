#include "esx-vmci/hypervisor/vsphere_policies.h"

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;

/// The predecessor's text, in which Python prints a list.
std::unexpected<base::Error> unknown_policy(const std::string& name,
                                            const std::map<std::string, std::string>& known) {
  std::string list;
  for (const auto& [other, id] : known) list += fmt::format("{}'{}'", list.empty() ? "" : ", ", other);
  return fail(ErrorCode::kInvalid, "Policy {} does not exist.{}", name,
              list.empty() ? std::string() : fmt::format(" Available policies are: [{}]", list));
}

}  // namespace

Result<std::map<std::string, std::string>> VspherePolicies::ask(Deadline deadline) {
  const soap::MoRef instance{"PbmServiceInstance", "ServiceInstance"};
  auto content = session_.call_policies("PbmRetrieveServiceContent", instance, "", deadline);
  if (!content) {
    return std::unexpected(
        std::move(content)
            .error()
            .within("ask for storage policies")
            .with_remedy("set the policy's id as 'policies' in the vSphere configuration"));
  }
  const Element* manager = content->find_path("returnval.profileManager");
  if (manager == nullptr) return fail(ErrorCode::kCorrupt, "ask for storage policies: no profile manager");
  const std::string storage = soap::wrap("resourceType", "", soap::tag("resourceType", "STORAGE")) +
                              soap::tag("profileCategory", "REQUIREMENT");
  ASSIGN_OR_RETURN(const Element ids,
                   session_.call_policies("PbmQueryProfile", manager->ref(), storage, deadline));
  std::string wanted;
  for (const Element* id : ids.all("returnval"))
    wanted += soap::wrap("profileIds", "", soap::tag("uniqueId", id->text_at("uniqueId")));
  std::map<std::string, std::string> found;
  if (wanted.empty()) return found;
  ASSIGN_OR_RETURN(const Element profiles,
                   session_.call_policies("PbmRetrieveContent", manager->ref(), wanted, deadline));
  for (const Element* profile : profiles.all("returnval"))
    found[profile->text_at("name")] = profile->text_at("profileId.uniqueId");
  return found;
}

Result<std::string> VspherePolicies::find(const std::string& name, Deadline deadline) {
  const auto& configured = session_.config().policies;
  if (auto id = configured.find(name); id != configured.end()) return id->second;
  {
    base::MutexLock lock(mutex_);
    if (auto id = known_.find(name); id != known_.end()) return id->second;
  }
  ASSIGN_OR_RETURN(auto found, ask(deadline));
  base::MutexLock lock(mutex_);
  known_ = std::move(found);
  if (auto id = known_.find(name); id != known_.end()) return id->second;
  std::map<std::string, std::string> all = known_;
  all.insert(configured.begin(), configured.end());
  return unknown_policy(name, all);
}

}  // namespace vdvs::esx
