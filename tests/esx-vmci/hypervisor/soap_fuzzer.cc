// Replies of a server that may say anything: decoded as a reply, and as what is made of one.
#include <cstdint>
#include <string_view>

#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"
#include "esx-vmci/hypervisor/soap.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vdvs::esx;
  auto reply = soap::decode_reply({reinterpret_cast<const char*>(data), size});
  if (!reply) return 0;
  if (reply->fault) {
    (void)soap::to_error(*reply->fault, "fuzz");
    return 0;
  }
  VsphereObject vm;
  for (const soap::Element* value : reply->response.all("returnval")) {
    vm.properties["config.hardware.device"] = *value;
    vm.properties["config.extraConfig"] = *value;
    const VsphereHardware hardware = decode_hardware(vm);
    (void)choose_place(hardware);
    for (const VsphereDisk& disk : hardware.disks) (void)address_of(hardware, disk, "");
    (void)find_disk(hardware, {.descriptor_path = "[ds] a.vmdk", .extent_path = {}, .uuid = {}});
    (void)decode_vm(vm);
  }
  return 0;
}
