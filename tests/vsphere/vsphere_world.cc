#include "tests/vsphere/vsphere_world.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>

#include "esx-vmci/datastore/vmdk_descriptor.h"
#include "esx-vmci/hypervisor/hypervisor_vsphere_vms.h"

namespace vdvs::esx::testing {
namespace {

constexpr std::string_view kFolder = "dockvols/11111111-1111-1111-1111-111111111111";
constexpr std::uint64_t kDiskBytes = 8 << 20;

void make_certificate(const std::string& folder, const std::string& name) {
  run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
       "-subj", "/CN=" + name, "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-keyout",
       folder + "/" + name + ".key", "-out", folder + "/" + name + ".crt"});
  write_text(folder + "/" + name + ".pem",
             read_text(folder + "/" + name + ".key") + read_text(folder + "/" + name + ".crt"));
}

}  // namespace

base::Deadline soon_enough() { return base::deadline_in(std::chrono::minutes(1)); }

Helper::Helper(const std::vector<std::string>& argv) {
  int in[2];
  int out[2];
  VDVS_CHECK(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const int error = ::posix_spawnp(&process_, words[0], &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  input_ = base::UniqueFd(in[1]);
  output_ = base::UniqueFd(out[0]);
  VDVS_CHECK(error == 0);
  const std::string line = read_line();
  VDVS_CHECK(line.starts_with("ready "));
  port_ = std::stoi(line.substr(6));
}

Helper::~Helper() {
  input_.reset();
  int status = 0;
  if (process_ > 0) ::waitpid(process_, &status, 0);
}

std::string Helper::read_line() {
  std::string line;
  char c = 0;
  while (::read(output_.get(), &c, 1) == 1 && c != '\n') line += c;
  return line;
}

std::string Helper::ask(const std::string& line) {
  EXPECT_OK(base::write_all(input_, line + "\n", "a helper"));
  return read_line();
}

VsphereWorld::VsphereWorld(const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {VDVS_VCSIM};
  argv.insert(argv.end(), flags.begin(), flags.end());
  simulator_ = std::make_unique<Helper>(argv);
  for (const std::string name : {"a", "b"}) make_certificate(folder_.path(), name);
  proxy_ = std::make_unique<Helper>(std::vector<std::string>{
      "/usr/bin/python3", VDVS_FAULT_PROXY, std::to_string(simulator_->port()), folder_.path()});
  session_ = another_session();
  // The simulator's certificate is Go's own for tests: its thumbprint is learnt from the refusal.
  VsphereConfig config = this->config();
  config.server.port = static_cast<std::uint16_t>(simulator_->port());
  config.server.thumbprint = std::string(64, '0');
  auto refused = VsphereSession::make(config).value()->roots(soon_enough());
  const std::string text = message_of(refused);
  const std::string_view marker = "has the thumbprint ";
  VDVS_CHECK(text.find(marker) != std::string::npos);
  config.server.thumbprint = text.substr(text.find(marker) + marker.size(), 64);
  direct_ = VsphereSession::make(config).value();
  datacenter_name_ = direct().read_all("Datacenter", {"name"}, soon_enough()).value().front().text("name");
  const std::vector<VmState> there = vms();
  for (std::size_t i = 0; i < 2; ++i) {
    reconfigure(there[i].vm.name,
                soap::tag("name", fmt::format("web-{}", i + 1)) +
                    soap::tag("uuid", fmt::format("11111111-aaaa-4bbb-8ccc-{:012}", i + 1)));
  }
}

VsphereWorld::~VsphereWorld() {
  session_->stop();
  direct_->stop();
}

VsphereConfig VsphereWorld::config() const {
  VsphereConfig config;
  config.server = {
      .host = "127.0.0.1", .port = static_cast<std::uint16_t>(proxy_->port()), .thumbprint = thumbprint("a")};
  config.user = "user";
  config.password = "pass";
  return config;
}

std::unique_ptr<VsphereSession> VsphereWorld::another_session() const {
  return VsphereSession::make(config()).value();
}

std::string VsphereWorld::certificate_file(const std::string& certificate) const {
  return folder_.path() + "/" + certificate + ".crt";
}

std::string VsphereWorld::thumbprint(const std::string& certificate) const {
  const std::string text =
      run({"openssl", "x509", "-in", certificate_file(certificate), "-noout", "-fingerprint", "-sha256"});
  return soap::normalize_thumbprint(text.substr(text.find('=') + 1, 95)).value();
}

std::vector<VmState> VsphereWorld::vms() {
  auto found = read_vms(direct(), soon_enough());
  EXPECT_OK(found);
  std::vector<VmState> states;
  for (const VsphereVm& vm : found.value_or(std::vector<VsphereVm>())) states.push_back(vm.state);
  std::ranges::sort(states, {}, [](const VmState& state) { return state.vm.name; });
  return states;
}

std::vector<VsphereHardware> VsphereWorld::hardware() {
  auto objects = direct().read_all("VirtualMachine", hardware_properties(), soon_enough());
  EXPECT_OK(objects);
  std::vector<VsphereHardware> all;
  for (const VsphereObject& object : objects.value_or(std::vector<VsphereObject>()))
    all.push_back(decode_hardware(object));
  return all;
}

soap::MoRef VsphereWorld::vm_ref(const std::string& name) {
  auto found = read_vms(direct(), soon_enough());
  EXPECT_OK(found);
  return choose_vm(*found, name).value().ref;
}

void VsphereWorld::reconfigure(const std::string& vm, const std::string& specification) {
  EXPECT_OK(
      direct().run_task("ReconfigVM_Task", vm_ref(vm), soap::wrap("spec", "", specification), soon_enough()));
}

void VsphereWorld::power(const std::string& vm, const std::string& method) {
  EXPECT_OK(direct().run_task(method, vm_ref(vm), "", soon_enough()));
}

soap::MoRef VsphereWorld::datacenter() {
  return direct().read_all("Datacenter", {"name"}, soon_enough()).value().front().ref;
}

Disk VsphereWorld::make_disk(const std::string& name, std::string_view beginning) {
  const VsphereRoots roots = direct().roots(soon_enough()).value();
  const soap::MoRef datacenter = this->datacenter();
  auto made = direct().call("MakeDirectory", roots.file_manager,
                            soap::tag("name", folder()) + soap::tag("datacenter", datacenter) +
                                soap::tag_bool("createParentDirectories", true),
                            VsphereSession::Effect::kChanges, soon_enough());
  EXPECT_TRUE(made || made.error().code() == base::ErrorCode::kExists);
  const std::string path = folder() + "/" + name + ".vmdk";
  Disk disk{.descriptor_path = path, .extent_path = path, .uuid = {}, .size_bytes = kDiskBytes};
  const std::string specification =
      soap::wrap("spec", "FileBackedVirtualDiskSpec",
                 soap::tag("diskType", "thin") + soap::tag("adapterType", "busLogic") +
                     soap::tag_number("capacityKb", kDiskBytes / 1024));
  EXPECT_OK(direct().run_task("CreateVirtualDisk_Task", roots.disk_manager,
                              soap::tag("name", path) + soap::tag("datacenter", datacenter) + specification,
                              soon_enough()));
  if (!beginning.empty()) write_file(name + "-flat.vmdk", beginning);
  disk.uuid = parse_descriptor(read_file(name + ".vmdk").value()).value().uuid;
  return disk;
}

std::optional<std::string> VsphereWorld::read_file(const std::string& name) {
  auto text = direct().get_file(datacenter_name_, "LocalDS_0", std::string(kFolder) + "/" + name, 16 << 20,
                                soon_enough());
  EXPECT_OK(text);
  return text.value_or(std::nullopt);
}

void VsphereWorld::write_file(const std::string& name, std::string_view bytes) {
  EXPECT_OK(direct().put_file(datacenter_name_, "LocalDS_0", std::string(kFolder) + "/" + name, bytes,
                              soon_enough()));
}

}  // namespace vdvs::esx::testing
