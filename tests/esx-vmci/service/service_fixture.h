// A service without its sockets: two datastores that are folders, the real database, real loop devices, and
// guests that are known by their names.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "esx-vmci/datastore/datastores_folder.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/service/request_pipeline.h"
#include "tests/esx-vmci/service/raw_guest.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

/// "web" lives on ds2, everybody else on ds1.
inline Vm vm_of(const std::string& name) {
  return {.uuid = "uuid-of-" + name, .name = name, .datastore = name == "web" ? "ds2" : "ds1"};
}

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    std::vector<DatastoreFolder> folders;
    for (const char* name : {"ds1", "ds2"}) {
      std::filesystem::create_directory(path_of(name));
      folders.push_back({.name = name, .path = path_of(name)});
    }
    auto datastores = make_folder_datastores(std::move(folders), false);
    EXPECT_OK(datastores);
    datastores_ = std::move(*datastores);
    tenancy_ = make_sqlite_tenancy(database());
    hypervisor_ = make_loop_hypervisor();
    vms_ = make_local_vm_directory(vm_of("host"), {vm_of("web"), vm_of("db"), vm_of("log")});
    operations_ = std::make_unique<VolumeOperations>(*hypervisor_, vms_.get());
    pipeline_ = std::make_unique<RequestPipeline>(parts());
  }
  ~ServiceTest() override { clear_loops_below(folder_.path()); }

  ServiceParts parts() { return {*datastores_, *tenancy_, *vms_, *operations_, nullptr}; }
  std::string path_of(const std::string& datastore) const { return folder_.path() + "/" + datastore; }
  std::string url_of(const std::string& datastore) const { return datastore_url(path_of(datastore)); }
  std::string database() const { return folder_.path() + "/auth-db"; }
  /// The rows that a statement gives, by the sqlite3 command: "a|b\n".
  std::string sql(const std::string& statement) const { return run({"sqlite3", database(), statement}); }

  boost::json::value ask(const std::string& vm, const Request& request) const {
    return pipeline_->answer(vm_of(vm), request);
  }
  boost::json::value ask(const std::string& vm, std::string command, std::string name = {},
                         OptionMap options = {}) const {
    return ask(vm, request_of(std::move(command), std::move(name), std::move(options)));
  }
  /// The text of a refusal; the reply itself where it is none.
  std::string refusal(const std::string& vm, const Request& request) const {
    const boost::json::value reply = ask(vm, request);
    const boost::json::object* members = reply.if_object();
    const boost::json::value* text = members != nullptr ? members->if_contains("Error") : nullptr;
    if (text == nullptr || !text->is_string()) return "not refused: " + boost::json::serialize(reply);
    return std::string(text->as_string());
  }
  std::string refusal(const std::string& vm, std::string command, std::string name = {},
                      OptionMap options = {}) const {
    return refusal(vm, request_of(std::move(command), std::move(name), std::move(options)));
  }
  void expect_done(const std::string& vm, std::string command, std::string name = {},
                   OptionMap options = {}) const {
    SCOPED_TRACE(command + " " + name);
    EXPECT_EQ(ask(vm, std::move(command), std::move(name), std::move(options)), boost::json::value(nullptr));
  }
  void make(const std::string& vm, const std::string& name, std::string size = "2mb") const {
    expect_done(vm, "create", name, {{"size", std::move(size)}});
  }
  std::vector<std::string> listed(const std::string& vm) const {
    std::vector<std::string> names;
    const boost::json::value reply = ask(vm, "list");
    EXPECT_TRUE(reply.is_array()) << boost::json::serialize(reply);
    if (!reply.is_array()) return names;
    for (const auto& entry : reply.as_array()) names.emplace_back(entry.at("Name").as_string());
    return names;
  }
  /// The device that an attach gave.
  std::string device_of(const boost::json::value& reply) const {
    const boost::json::value* device = reply.is_object() ? reply.as_object().if_contains("Device") : nullptr;
    EXPECT_NE(device, nullptr) << boost::json::serialize(reply);
    return device != nullptr ? std::string(device->as_string()) : std::string();
  }

  // Tenancy.
  void init() { ASSERT_OK(init_local_database(database(), false)); }
  VmGroup group(const std::string& name) {
    auto found = tenancy_->find_group(name);
    EXPECT_OK(found);
    return found ? *found : VmGroup{};
  }
  /// A group with full rights on its default datastore.
  VmGroup make_group(const std::string& name, const std::vector<std::string>& vms,
                     const std::string& default_url) {
    std::vector<Tenancy::Member> members;
    for (const std::string& vm : vms) members.push_back({vm_of(vm).uuid, vm});
    auto made = tenancy_->create_group(name, "", default_url, members);
    EXPECT_OK(made);
    return made ? *made : VmGroup{};
  }
  void allow(const VmGroup& group, const std::string& url, bool allow_create, std::uint64_t max_mb = 0,
             std::uint64_t quota_mb = 0) {
    ASSERT_OK(tenancy_->add_privilege(group, {url, allow_create, max_mb, quota_mb}));
  }
  void limit(const VmGroup& group, const std::string& url, std::uint64_t max_mb, std::uint64_t quota_mb) {
    ASSERT_OK(tenancy_->change_privilege(group, url, {.max_volume_mb = max_mb, .usage_quota_mb = quota_mb}));
  }
  std::uint64_t used_mb(const VmGroup& group) {
    const auto usage = tenancy_->usage(group);
    EXPECT_OK(usage);
    std::uint64_t sum = 0;
    for (const auto& [url, megabytes] : *usage) sum += megabytes;
    return sum;
  }
  std::string folder_of(const VmGroup& group, const std::string& datastore = "ds1") const {
    return path_of(datastore) + "/dockvols/" + group.uuid;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Datastores> datastores_;
  std::unique_ptr<Tenancy> tenancy_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<VmDirectory> vms_;
  std::unique_ptr<VolumeOperations> operations_;
  std::unique_ptr<RequestPipeline> pipeline_;
};

}  // namespace vdvs::esx::testing
