// A service without its sockets: two datastores that are folders, the real database, and VMs that exist only
// here.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "esx-vmci/admin/admin.h"
#include "esx-vmci/datastore/datastores_folder.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/service/volume_operations.h"
#include "esx-vmci/tenancy/tenancy.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::esx::testing {

/// Remembers which disk is in which VM; the tests change that at will.
class FakeHypervisor final : public Hypervisor {
 public:
  base::Result<base::DiskAddress> attach(const Vm& vm, const Disk& disk) override {
    auto [entry, is_new] = holders_.emplace(disk.extent_path, vm.uuid);
    if (!is_new && entry->second != vm.uuid)
      return base::fail(base::ErrorCode::kBusyElsewhere, "in another VM");
    return base::DiskAddress{};
  }
  base::Result<void> detach(const Vm& vm, const Disk& disk) override {
    const auto entry = holders_.find(disk.extent_path);
    if (entry != holders_.end() && entry->second == vm.uuid) holders_.erase(entry);
    return {};
  }
  base::Result<std::optional<Attachment>> find(const Disk& disk) override {
    const auto entry = holders_.find(disk.extent_path);
    if (entry == holders_.end()) return std::nullopt;
    return Attachment{
        .extent_path = entry->first, .vm_uuid = entry->second, .what = "a fake slot", .address = {}};
  }
  base::Result<std::vector<Attachment>> attached_in(const std::string& place) override {
    std::vector<Attachment> found;
    for (const auto& [path, vm] : holders_)
      if (std::filesystem::path(path).parent_path() == place)
        found.push_back({.extent_path = path, .vm_uuid = vm, .what = "a fake slot", .address = {}});
    return found;
  }

 private:
  std::map<std::string, std::string> holders_;
};

class FakeVmDirectory final : public VmDirectory {
 public:
  base::Result<Vm> identify(const Peer& peer) override {
    return base::fail(base::ErrorCode::kDenied, "{} is nobody here", peer.text());
  }
  base::Result<std::vector<VmState>> vms() override { return states; }
  base::Result<VmState> find_vm(std::string_view name) override {
    for (const VmState& state : states)
      if (state.vm.name == name || state.vm.uuid == name) return state;
    return base::fail(base::ErrorCode::kNotFound, "Cannot find vm {}", name);
  }
  void watch_power(std::function<void(const VmState&)>) override {}

  std::vector<VmState> states;
};

class AdminTest : public ::testing::Test {
 protected:
  using Flags = std::map<std::string, std::string>;
  using Row = std::vector<std::string>;

  AdminTest() {
    for (const char* name : {"web-1", "web-2", "db-1"}) add_vm(name);
    for (const char* name : {"ds1", "ds2"}) std::filesystem::create_directory(path_of(name));
    auto datastores = make_folder_datastores(
        {{.name = "ds1", .path = path_of("ds1")}, {.name = "ds2", .path = path_of("ds2")}}, false);
    EXPECT_TRUE(datastores) << datastores.error().text();
    datastores_ = std::move(*datastores);
    tenancy_ = make_sqlite_tenancy(database());
    operations_ = std::make_unique<VolumeOperations>(hypervisor_, &vms_);
    restart();
  }

  /// With what the test has changed in `options_`.
  void restart(PolicyStore* policies = nullptr,
               std::function<base::Result<void>(const Place&, std::string_view)> apply = {}) {
    admin_ = make_admin({.parts = {*datastores_, *tenancy_, vms_, *operations_, policies},
                         .database_path = database(),
                         .audit_file = audit_file(),
                         .local_sh = folder_.path() + "/local.sh",
                         .status = [this] { return status_; },
                         .apply_policy = std::move(apply)});
  }

  std::string path_of(const std::string& datastore) const { return folder_.path() + "/" + datastore; }
  std::string database() const { return folder_.path() + "/etc/auth-db"; }
  std::string audit_file() const { return folder_.path() + "/log/audit.log"; }

  void add_vm(const std::string& name) {
    vms_.states.push_back({.vm = {.uuid = "uuid-of-" + name, .name = name}, .power = PowerState::kOn});
  }
  Vm vm(const std::string& name) { return vms_.find_vm(name)->vm; }

  base::Result<AdminOutput> run(const std::string& verb, const Flags& flags = {}) {
    return admin_->run({.verb = verb, .flags = flags, .asked_by = "the test"});
  }
  /// The lines of a command that works.
  std::vector<std::string> lines(const std::string& verb, const Flags& flags = {}) {
    const auto output = run(verb, flags);
    EXPECT_TRUE(output) << verb << ": " << output.error().text();
    return output ? output->lines : std::vector<std::string>();
  }
  std::vector<Row> rows(const std::string& verb, const Flags& flags = {}) {
    const auto output = run(verb, flags);
    EXPECT_TRUE(output) << verb << ": " << output.error().text();
    return output ? output->rows : std::vector<Row>();
  }
  /// The message of a command that must fail.
  std::string error(const std::string& verb, const Flags& flags = {}) {
    const auto output = run(verb, flags);
    EXPECT_FALSE(output) << verb;
    return output ? "" : output.error().message();
  }

  void init() { lines("config init", {{"local", ""}}); }
  void make_group(const std::string& name, const std::string& datastore = "ds1") {
    lines("vmgroup create", {{"name", name}, {"default-datastore", datastore}});
  }

  Place place(const std::string& volume, const std::string& datastore = "ds1",
              const std::string& group = "_DEFAULT") {
    const auto found = tenancy_->find_group(group);
    EXPECT_TRUE(found) << found.error().text();
    const auto store = datastores_->store(datastore, {found->uuid, found->name}, true);
    EXPECT_TRUE(store) << store.error().text();
    return {*store, volume};
  }
  void make_volume(const std::string& volume, const std::string& datastore = "ds1",
                   const std::string& group = "_DEFAULT", const OptionMap& options = {{"size", "2mb"}}) {
    const auto parsed = VolumeOptions::parse(options);
    ASSERT_TRUE(parsed) << parsed.error().text();
    const auto made =
        operations_->create(vm("web-1"), place(volume, datastore, group), options, *parsed, [](double) {});
    ASSERT_TRUE(made) << made.error().text();
  }
  void attach(const std::string& vm_name, const Place& where) {
    const auto attached = operations_->attach(vm(vm_name), where);
    ASSERT_TRUE(attached) << attached.error().text();
  }

  tests::TemporaryFolder folder_;
  FakeHypervisor hypervisor_;
  FakeVmDirectory vms_;
  ServiceStatus status_;
  std::unique_ptr<Datastores> datastores_;
  std::unique_ptr<Tenancy> tenancy_;
  std::unique_ptr<VolumeOperations> operations_;
  std::unique_ptr<Admin> admin_;
};

}  // namespace vdvs::esx::testing
