// Requests and replies of SOAP, devices and places, and the configuration: what needs no server.
#include "esx-vmci/hypervisor/soap.h"

#include "esx-vmci/hypervisor/hypervisor_vsphere_devices.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"
#include "esx-vmci/hypervisor/vsphere_config.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {
namespace {

using soap::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string envelope(const std::string& body) {
  return "<?xml version=\"1.0\"?><soapenv:Envelope "
         "xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" "
         "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>" +
         body + "</soapenv:Body></soapenv:Envelope>";
}

TEST(SoapRequest, NamesTheMethodItsObjectAndItsArguments) {
  EXPECT_EQ(soap::print_request(soap::Service::kVim, "MakeDirectory", {"FileManager", "fm-1"},
                                soap::tag("name", "[ds] a&b"), ""),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\""
            " xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\""
            " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">"
            "<soapenv:Body><MakeDirectory xmlns=\"urn:vim25\"><_this type=\"FileManager\">fm-1</_this>"
            "<name>[ds] a&amp;b</name></MakeDirectory></soapenv:Body></soapenv:Envelope>");
}

TEST(SoapRequest, NoTextBreaksOutOfItsElement) {
  EXPECT_EQ(soap::tag("name", "</name><x a='1' b=\"2\">&\x01\n"),
            "<name>&lt;/name&gt;&lt;x a=&apos;1&apos; b=&quot;2&quot;&gt;&amp;\n</name>");
}

TEST(SoapReply, GivesTheElementsOfTheResponse) {
  auto reply = soap::decode_reply(
      envelope("<FindResponse xmlns=\"urn:vim25\"><returnval type=\"VirtualMachine\">vm-1</returnval>"
               "<returnval xsi:type=\"Big\"><a><b> x &amp; y </b></a><n>-7</n></returnval></FindResponse>"));
  ASSERT_OK(reply);
  EXPECT_FALSE(reply->fault);
  const auto values = reply->response.all("returnval");
  ASSERT_EQ(values.size(), 2u);
  EXPECT_EQ(values[0]->ref(), (soap::MoRef{"VirtualMachine", "vm-1"}));
  EXPECT_EQ(values[1]->xsi_type, "Big");
  EXPECT_EQ(values[1]->text_at("a.b"), " x & y ");
  EXPECT_EQ(values[1]->number_at("n"), -7);
  EXPECT_EQ(values[1]->number_at("a.b"), std::nullopt);
}

TEST(SoapReply, GivesTheKindOfAFaultFromItsTypeOrItsName) {
  const std::string begin = "<soapenv:Fault><faultcode>S</faultcode><faultstring>no</faultstring><detail>";
  const std::string end = "</detail></soapenv:Fault>";
  auto typed = soap::decode_reply(envelope(begin + "<XFault xsi:type=\"vim:FileLocked\"/>" + end));
  auto named = soap::decode_reply(envelope(begin + "<InvalidLoginFault/>" + end));
  ASSERT_OK(typed);
  ASSERT_OK(named);
  EXPECT_EQ(typed->fault->kind, "FileLocked");
  EXPECT_EQ(named->fault->kind, "InvalidLogin");
  EXPECT_EQ(soap::to_error(*typed->fault, "attach").code(), base::ErrorCode::kBusyElsewhere);
  EXPECT_EQ(soap::to_error(*named->fault, "log in").message(), "log in: no (InvalidLogin)");
}

TEST(SoapReply, WhatIsNoReplyIsAnError) {
  for (const std::string& text :
       {std::string(), std::string("plain"), std::string("<a/>"), std::string("<Envelope/>"), envelope(""),
        envelope("<a/><b/>"), std::string("<Envelope><Body><a></Body></Envelope>")}) {
    EXPECT_EQ(code_of(soap::decode_reply(text)), "E_CORRUPT") << text;
  }
}

TEST(SoapReply, IsBoundedInDepth) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<a>";
  for (int i = 0; i < 100; ++i) deep += "</a>";
  EXPECT_EQ(code_of(soap::decode_reply(envelope(deep))), "E_LIMIT");
}

TEST(SoapReply, ExpandsNoEntityOfADtd) {
  auto element = soap::decode_xml("<!DOCTYPE a [<!ENTITY b \"boom\">]><a>&b;</a>");
  ASSERT_OK(element);
  EXPECT_EQ(element->text, "&b;");
}

// ---- addresses ----

TEST(PciBus, IsThatOfTheBridgeOnTheRootBus) {
  const std::map<std::string, std::string> slots = {{"pcibridge4.pcislotnumber", "21"},
                                                    {"pcibridge5.pcislotnumber", "22"}};
  EXPECT_EQ(pci_bus_of(160, slots), "15.0");
  EXPECT_EQ(pci_bus_of(192, slots), "16.0");
  EXPECT_EQ(pci_bus_of(1184, slots), "15.1");
  EXPECT_EQ(pci_bus_of(16, slots), "10.0");
}

TEST(PciBus, IsNotMadeUpWhereABridgeIsMissing) {
  EXPECT_EQ(pci_bus_of(160, {}), std::nullopt);
  EXPECT_EQ(pci_bus_of(160, {{"pcibridge4.pcislotnumber", "x"}}), std::nullopt);
  EXPECT_EQ(pci_bus_of(160, {{"pcibridge4.pcislotnumber", "160"}}), std::nullopt);  // a loop
}

TEST(DatastorePath, IsTakenApart) {
  auto path = parse_datastore_path("[ds 1] dockvols/g/a]b.vmdk");
  ASSERT_OK(path);
  EXPECT_EQ(path->datastore, "ds 1");
  EXPECT_EQ(path->folder(), "[ds 1] dockvols/g");
  EXPECT_EQ(path->file(), "a]b.vmdk");
  EXPECT_EQ(path->text(), "[ds 1] dockvols/g/a]b.vmdk");
  EXPECT_EQ(code_of(parse_datastore_path("/vmfs/volumes/x")), "E_INVALID");
}

// ---- places ----

VsphereScsiController pvscsi(std::int64_t bus) {
  return {.key = 1000 + bus, .bus = bus, .is_pvscsi = true, .slot = std::nullopt};
}

TEST(VspherePlace, IsTheLowestFreeUnitAndNeverTheControllersOwn) {
  VsphereHardware hardware;
  hardware.controllers = {pvscsi(0)};
  std::vector<std::uint32_t> units;
  for (int i = 0; i < 15; ++i) {
    const VspherePlace place = choose_place(hardware).value();
    EXPECT_EQ(place.controller_key, 1000);
    EXPECT_EQ(place.new_bus, std::nullopt);
    units.push_back(place.unit);
    hardware.units[1000].push_back(place.unit);
  }
  EXPECT_THAT(units, ElementsAre(0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15));
  const VspherePlace next = choose_place(hardware).value();
  EXPECT_EQ(next.new_bus, 1);
  EXPECT_EQ(next.controller_key, 1001);
  EXPECT_EQ(next.unit, 0u);
}

TEST(VspherePlace, ControllersOfAllKindsCountToFour) {
  VsphereHardware hardware;
  hardware.controllers = {pvscsi(0), pvscsi(1), pvscsi(3)};
  hardware.controllers[0].is_pvscsi = false;
  hardware.controllers[1].is_pvscsi = false;
  hardware.controllers[2].is_pvscsi = false;
  EXPECT_EQ(choose_place(hardware).value().new_bus, 2);
  hardware.controllers.push_back(pvscsi(2));
  for (std::uint32_t unit = 0; unit < kScsiUnits; ++unit) hardware.units[1002].push_back(unit);
  auto full = choose_place(hardware);
  EXPECT_EQ(code_of(full), "E_LIMIT");
  EXPECT_EQ(message_of(full),
            "Failed to place new disk - The maximum number of supported volumes has been reached.");
}

TEST(VsphereSpec, HasControllerAndDiskInOneChange) {
  VsphereHardware hardware;
  hardware.change_version = "v1";
  const std::string spec =
      print_attach(hardware, {.controller_key = 1001, .unit = 0, .new_bus = 1},
                   {.descriptor_path = "[ds] a.vmdk", .extent_path = {}, .uuid = {}, .size_bytes = 2048});
  EXPECT_EQ(spec,
            "<spec><changeVersion>v1</changeVersion>"
            "<deviceChange xsi:type=\"VirtualDeviceConfigSpec\"><operation>add</operation>"
            "<device xsi:type=\"ParaVirtualSCSIController\"><key>1001</key><busNumber>1</busNumber>"
            "<sharedBus>noSharing</sharedBus></device></deviceChange>"
            "<deviceChange xsi:type=\"VirtualDeviceConfigSpec\"><operation>add</operation>"
            "<device xsi:type=\"VirtualDisk\"><key>-1</key>"
            "<deviceInfo xsi:type=\"Description\"><label>dockerDataVolume</label>"
            "<summary>dockerDataVolume</summary></deviceInfo>"
            "<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] a.vmdk</fileName>"
            "<diskMode>independent_persistent</diskMode></backing>"
            "<controllerKey>1001</controllerKey><unitNumber>0</unitNumber><capacityInKB>2</capacityInKB>"
            "</device></deviceChange></spec>");
}

TEST(VsphereSpec, ADetachKeepsTheFile) {
  const std::string spec = print_detach({}, {.key = 2001,
                                             .controller_key = 1000,
                                             .unit = 3,
                                             .files = {"[ds] a.vmdk"},
                                             .mode = "persistent",
                                             .uuid = {},
                                             .size_bytes = 0});
  EXPECT_THAT(spec, HasSubstr("<operation>remove</operation><device"));
  EXPECT_EQ(spec.find("fileOperation"), std::string::npos);
}

VsphereHardware hardware_of(const std::string& devices, const std::string& options = {}) {
  VsphereObject vm;
  vm.properties["name"].text = "web-1";
  vm.properties["config.hardware.device"] =
      soap::decode_xml("<val xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'>" + devices + "</val>")
          .value();
  vm.properties["config.extraConfig"] = soap::decode_xml("<val>" + options + "</val>").value();
  return decode_hardware(vm);
}

constexpr std::string_view kDevices =
    "<VirtualDevice "
    "xsi:type='ParaVirtualSCSIController'><key>1000</key><slotInfo><pciSlotNumber>160</pciSlotNumber>"
    "</slotInfo><busNumber>0</busNumber></VirtualDevice>"
    "<VirtualDevice "
    "xsi:type='VirtualLsiLogicController'><key>1001</key><busNumber>1</busNumber></VirtualDevice>"
    "<VirtualDevice xsi:type='VirtualDisk'><key>2000</key><backing xsi:type='VirtualDiskFlatVer2BackingInfo'>"
    "<fileName>[ds] dockvols/g/a-000002.vmdk</fileName><diskMode>persistent</diskMode>"
    "<uuid>6000C291-0000-1111-2222-333344445555</uuid><parent><fileName>[ds] "
    "dockvols/g/a.vmdk</fileName></parent>"
    "</backing><controllerKey>1000</controllerKey><unitNumber>2</unitNumber><capacityInKB>2048</capacityInKB>"
    "</VirtualDevice>"
    "<VirtualDevice xsi:type='VirtualCdrom'><controllerKey>1000</controllerKey><unitNumber>0</unitNumber>"
    "</VirtualDevice>";

TEST(VsphereHardware, FindsADiskUnderItsSnapshots) {
  const VsphereHardware hardware = hardware_of(std::string(kDevices));
  const VsphereDisk* disk =
      find_disk(hardware, {.descriptor_path = "[ds] dockvols/g/a.vmdk", .extent_path = {}, .uuid = {}});
  ASSERT_NE(disk, nullptr);
  EXPECT_EQ(disk->unit, 2u);
  EXPECT_EQ(disk->size_bytes, 2u << 20);
  EXPECT_EQ(describe(hardware, *disk), "SCSI disk 0:2 of vm 'web-1'");
  EXPECT_EQ(
      find_disk(hardware, {.descriptor_path = "[ds2] dockvols/g/a.vmdk", .extent_path = {}, .uuid = {}}),
      nullptr);
}

TEST(VsphereHardware, FindsADiskBySerialWhereItsFolderIsSpeltByUuid) {
  const VsphereHardware hardware = hardware_of(std::string(kDevices));
  Disk disk{.descriptor_path = "[ds] 5c0d-folder/a.vmdk",
            .extent_path = {},
            .uuid = "6000c291000011112222333344445555"};
  EXPECT_NE(find_disk(hardware, disk), nullptr);
  disk.uuid = "6000c291000011112222333344445556";
  EXPECT_EQ(find_disk(hardware, disk), nullptr);
}

TEST(VsphereHardware, TheAddressHasUuidSlotAndBus) {
  const VsphereHardware hardware =
      hardware_of(std::string(kDevices),
                  "<OptionValue><key>pciBridge4.pciSlotNumber</key><value>21</value></OptionValue>");
  const base::ScsiAddress address = address_of(hardware, hardware.disks.front(), "");
  EXPECT_EQ(
      address,
      (base::ScsiAddress{
          .disk_uuid = "6000c291000011112222333344445555", .pci_slot = 160, .pci_bus = "15.0", .unit = 2}));
}

TEST(VsphereHardware, ASlotMayBeInExtraConfigInAnySpelling) {
  VsphereHardware hardware = hardware_of(
      std::string(kDevices), "<OptionValue><key>SCSI0.pcislotnumber</key><value>192</value></OptionValue>");
  hardware.controllers.front().slot.reset();
  EXPECT_EQ(slot_of(hardware, hardware.disks.front()), 192u);
}

TEST(VsphereHardware, UnitsAreUsedByAnyKindOfDevice) {
  EXPECT_EQ(choose_place(hardware_of(std::string(kDevices))).value().unit, 1u);
}

// ---- VMs ----

VsphereVm vm(const std::string& name, const std::string& uuid, const std::string& instance) {
  return {.ref = {"VirtualMachine", name},
          .state = {.vm = {.uuid = uuid, .name = name, .instance_uuid = instance}}};
}

TEST(VsphereVms, TwoWithOneBiosUuidAreRefusedByName) {
  const std::vector<VsphereVm> vms = {vm("a", "u1", "i1"), vm("b", "U1", "i2"), vm("c", "u2", "i3")};
  auto refused = choose_vm(vms, "u1");
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_EQ(message_of(refused), "find vm 'u1': 2 VMs have this BIOS uuid ('a', 'b')");
  EXPECT_EQ(choose_vm(vms, "I2").value().state.vm.name, "b");
  EXPECT_EQ(choose_vm(vms, "c").value().state.vm.uuid, "u2");
  EXPECT_EQ(code_of(choose_vm(vms, "d")), "E_NOT_FOUND");
}

TEST(VsphereVms, AVmOfAHostThatIsAwayIsNotKnownToBeOff) {
  VsphereObject object;
  object.properties["runtime.powerState"].text = "poweredOff";
  object.properties["runtime.connectionState"].text = "disconnected";
  EXPECT_EQ(decode_vm(object).state.power, PowerState::kUnknown);
  object.properties["runtime.connectionState"].text = "connected";
  EXPECT_EQ(decode_vm(object).state.power, PowerState::kOff);
}

// ---- configuration ----

TEST(VsphereConfig, IsRead) {
  auto text = parse_vsphere_config(
      R"({"url": "https://vc.example:8443/sdk", "user": "u@vsphere.local", "password_file": "/etc/x",
          "thumbprint": "AA:)" +
      std::string(62, 'b') + R"(", "datacenter": "DC0", "datastores": ["d1", "d2"],
          "policies": {"gold": "id-1"}})");
  ASSERT_OK(text);
  EXPECT_EQ(text->config.server.host, "vc.example");
  EXPECT_EQ(text->config.server.port, 8443);
  EXPECT_EQ(text->config.server.thumbprint, "aa" + std::string(62, 'b'));
  EXPECT_EQ(text->config.path, "/sdk");
  EXPECT_THAT(text->config.datastores, ElementsAre("d1", "d2"));
  EXPECT_EQ(text->config.policies.at("gold"), "id-1");
  EXPECT_EQ(text->password_file, "/etc/x");
}

TEST(VsphereConfig, SaysWhichMemberIsWrong) {
  const auto with = [](const std::string& members) {
    return message_of(parse_vsphere_config("{" + members + "}"));
  };
  EXPECT_THAT(with(R"("url": "http://a", "user": "u")"), HasSubstr("url 'http://a'"));
  EXPECT_THAT(with(R"("url": "https://u:p@a", "user": "u")"), HasSubstr("the user belongs into 'user'"));
  EXPECT_THAT(with(R"("url": "https://a", "password": "p")"), HasSubstr("holds the password itself"));
  EXPECT_THAT(with(R"("url": "https://a", "user": "u")"), HasSubstr("'password_file' or 'password_env'"));
  EXPECT_THAT(with(R"("url": "https://a", "user": "u", "datastore": [])"),
              HasSubstr("no member 'datastore'"));
  EXPECT_THAT(with(R"("url": "https://a", "user": "u", "thumbprint": "12")"), HasSubstr("2 hex digits"));
}

TEST(VsphereConfig, APasswordThatOthersCanReadIsRefused) {
  TemporaryFolder folder;
  write_text(folder.path() + "/password", "secret\n");
  write_text(folder.path() + "/config",
             R"({"url": "https://a", "user": "u", "password_file": ")" + folder.path() + R"(/password"})");
  ASSERT_EQ(::chmod((folder.path() + "/password").c_str(), 0644), 0);
  EXPECT_EQ(code_of(load_vsphere_config(folder.path() + "/config")), "E_DENIED");
  ASSERT_EQ(::chmod((folder.path() + "/password").c_str(), 0600), 0);
  EXPECT_EQ(load_vsphere_config(folder.path() + "/config").value().password, "secret");
}

}  // namespace
}  // namespace vdvs::esx::testing
