// What happens to one request of one VM, in the order that its errors show (reference, section 3.2): version,
// group, default datastore, list, name and datastore, rights, the disk's folder, the operation. No I/O of its
// own, no threads: it may be called from many at once.
#pragma once

#include <memory>

#include "base/error.h"
#include "esx-vmci/datastore/datastores.h"
#include "esx-vmci/hypervisor/vm_directory.h"
#include "esx-vmci/protocol/message.h"
#include "esx-vmci/service/volume_operations.h"
#include "esx-vmci/tenancy/policies.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {

/// All that a service owns. Nothing here owns another; main does.
struct ServiceParts {
  Datastores& datastores;
  Tenancy& tenancy;
  VmDirectory& vms;
  VolumeOperations& operations;
  PolicyStore* policies = nullptr;  ///< nullptr: no datastore here knows policies.
};

/// Whatever answers requests.
class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  /// The body of the reply: null, an object, an array, {"Error": ...}; never throws, always answers. Thread:
  /// any; blocks.
  virtual boost::json::value answer(const Vm& vm, const Request& request) const = 0;
};

class RequestPipeline final : public RequestHandler {
 public:
  explicit RequestPipeline(ServiceParts parts) : parts_(parts) {}
  boost::json::value answer(const Vm& vm, const Request& request) const override;

 private:
  const ServiceParts parts_;
};

/// {"Error": text} (what to do behind it where the disk is elsewhere), and for who asked with the extension
/// "details" also "code" ("E_BUSY_ELSEWHERE") and, where there is one, "remedy".
boost::json::value error_body(const base::Error& error, bool with_details);

}  // namespace vdvs::esx
