// What a service is made of, built from its settings: by vmdkopsd, and by the administrator's commands where
// no service runs.
#pragma once

#include <memory>

#include "base/error.h"
#include "esx-vmci/admin/admin.h"
#include "esx-vmci/datastore/datastores.h"
#include "esx-vmci/hypervisor/hypervisor.h"
#include "esx-vmci/hypervisor/vm_directory.h"
#include "esx-vmci/hypervisor/vsphere_session.h"
#include "esx-vmci/service/datastore_marks.h"
#include "esx-vmci/service/request_pipeline.h"
#include "esx-vmci/service/service_config.h"
#include "esx-vmci/service/volume_operations.h"
#include "esx-vmci/tenancy/policies.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {

/// Owns: all of it. The hypervisor's side ends first: its threads tell of VMs to those who use the rest.
struct ServiceAssembly {
  std::unique_ptr<VsphereSession> vsphere;        ///< With "vsphere:", for all calls but
  std::unique_ptr<VsphereSession> vsphere_watch;  ///< the one that waits for changes of power.
  std::unique_ptr<Tenancy> tenancy;
  std::unique_ptr<DatastoreMarks> marks;  ///< nullptr: the datastores are no folders of this machine.
  std::unique_ptr<Datastores> datastores;
  std::unique_ptr<PolicyStore> policies;  ///< nullptr: no datastore here knows policies.
  ApplyPolicy apply_policy;  ///< Empty: nothing here can change the policy of a disk that exists.
  std::unique_ptr<VolumeOperations> operations;
  std::unique_ptr<Hypervisor> hypervisor;
  std::unique_ptr<VmDirectory> vms;

  ServiceParts parts() const { return {*datastores, *tenancy, *vms, *operations, policies.get()}; }
};

/// Opens nothing that another service holds, and changes nothing on a datastore that is there.
/// `makes_datastores`: a datastore's folder that is missing, and never was seen, is made when it is first
/// used. Errors: kInvalid (a setting that means nothing), and those of the hypervisor's own settings.
base::Result<ServiceAssembly> assemble_service(const ServiceConfig& config, bool makes_datastores = false);

/// What an interrupted service has left: half-made and half-removed disks are taken away, the quotas' rows
/// are made what the datastores say. Blocks; takes the volumes' locks. A datastore that does not answer is
/// logged and left as it is. Before requests are served.
void settle_what_was_left(const ServiceParts& parts);

}  // namespace vdvs::esx
