#include "esx-vmci/datastore/datastores_vsphere.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "base/mutex.h"

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;
using soap::MoRef;

constexpr std::string_view kDockvolsFolder = "dockvols";
constexpr std::chrono::seconds kLookTime{30};
/// How often a name that is not known makes us ask again.
constexpr std::chrono::seconds kListAge{10};
constexpr int kMaxInventoryDepth = 32;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

bool is_uuid(std::string_view text) {
  constexpr std::size_t kUuidChars = 36;
  return text.size() == kUuidChars && std::ranges::all_of(text, [](char c) {
           return c == '-' || std::isxdigit(static_cast<unsigned char>(c));
         });
}

MoRef ref_at(const VsphereObject& object, const std::string& property) {
  const Element* element = object.find(property);
  return element == nullptr ? MoRef() : element->ref();
}

std::string join(const std::vector<std::string>& names, std::string_view quote) {
  std::string list;
  for (const std::string& name : names)
    list += fmt::format("{}{}{}{}", list.empty() ? "" : ", ", quote, name, quote);
  return list;
}

/// "Europe/DC1": the names from below the root folder down to the datacenter.
Result<std::string> path_of(VsphereSession& session, const VsphereObject& datacenter, Deadline deadline) {
  ASSIGN_OR_RETURN(const VsphereRoots roots, session.roots(deadline));
  std::string path = datacenter.text("name");
  MoRef parent = ref_at(datacenter, "parent");
  for (int depth = 0; !parent.is_empty() && parent != roots.root_folder; ++depth) {
    if (depth == kMaxInventoryDepth)
      return fail(ErrorCode::kLimit, "datacenter '{}' lies deeper than {} folders", path, depth);
    ASSIGN_OR_RETURN(const VsphereObject folder, session.read(parent, {"name", "parent"}, deadline));
    path = folder.text("name") + "/" + path;
    parent = ref_at(folder, "parent");
  }
  return path;
}

class VsphereDatastores final : public Datastores {
 public:
  explicit VsphereDatastores(VsphereSession& session) : session_(session), policies_(session) {}

  /// Reads what is there. Errors: kInvalid where something that was configured is not.
  Result<void> refresh() const EXCLUDES(mutex_);

  std::vector<Datastore> all() const override EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    std::vector<Datastore> all;
    for (const VsphereDatastore& datastore : known_) all.push_back(shown(datastore));
    return all;
  }

  Result<Datastore> find(std::string_view name) const override {
    auto datastore = find_known(name);
    if (!datastore && is_old()) {  // it may be a new one
      RETURN_IF_ERROR(refresh());
      datastore = find_known(name);
    }
    if (!datastore) return std::unexpected(std::move(datastore).error());
    return shown(*datastore);
  }

  Result<DiskStore*> store(const std::string& datastore, const Group& group, bool make) override {
    ASSIGN_OR_RETURN(VsphereDatastore where, find_known(datastore));
    const std::pair key(where.name, group.uuid);
    {
      base::MutexLock lock(mutex_);
      if (auto found = stores_.find(key); found != stores_.end()) return found->second.get();
    }
    if (!is_uuid(group.uuid))
      return fail(ErrorCode::kInvalid, "group '{}': its uuid '{}'", group.name, group.uuid);
    if (!where.is_accessible) {
      RETURN_IF_ERROR(refresh());
      ASSIGN_OR_RETURN(where, find_known(datastore));
    }
    if (!where.is_accessible)
      return fail(ErrorCode::kUnavailable, "datastore '{}': no host reaches it now", where.name);
    const Deadline deadline = base::deadline_in(kLookTime);
    VsphereFolder folder = folder_of(where, group);
    if (make) {
      RETURN_IF_ERROR(folder.make(deadline));
    } else {
      ASSIGN_OR_RETURN(const auto entries, folder.list("*.vmdk", deadline));
      if (!entries) return nullptr;
    }
    ASSIGN_OR_RETURN(const VsphereRoots roots, session_.roots(deadline));
    auto made = make_vsphere_disk_store(session_, policies_, locks_, std::move(folder),
                                        !roots.is_vcenter && where.has_many_hosts);
    RETURN_IF_ERROR(made->clean_up());
    base::MutexLock lock(mutex_);
    return stores_.try_emplace(key, std::move(made)).first->second.get();
  }

  Result<std::vector<std::string>> groups(const std::string& datastore) override {
    ASSIGN_OR_RETURN(const VsphereDatastore where, find_known(datastore));
    VsphereFolder folder(session_, where, std::string(kDockvolsFolder));
    ASSIGN_OR_RETURN(auto names, folder.folders(base::deadline_in(kLookTime)));
    std::erase_if(names, [](const std::string& name) { return !is_uuid(name); });
    return names;
  }

  /// The API makes no links, so that there is none to rename.
  Result<void> rename_group(const Group&, const std::string&) override { return {}; }

  Result<void> remove_group(const Group& group) override {
    std::vector<VsphereFolder> folders;
    for (const Datastore& datastore : all()) {
      ASSIGN_OR_RETURN(const VsphereDatastore where, find_known(datastore.name));
      VsphereFolder folder = folder_of(where, group);
      ASSIGN_OR_RETURN(const auto disks, folder.list("*.vmdk", base::deadline_in(kLookTime)));
      if (!disks) continue;
      if (!disks->empty()) {
        return fail(ErrorCode::kInUse, "remove group '{}': there are {} disks in '{}'", group.name,
                    disks->size(), folder.text());
      }
      folders.push_back(std::move(folder));
    }
    for (const VsphereFolder& folder : folders) {
      RETURN_IF_ERROR(folder.erase_folder(base::deadline_in(kLookTime)));
      base::MutexLock lock(mutex_);
      auto store = stores_.find({folder.datastore().name, group.uuid});
      if (store == stores_.end()) continue;
      retired_.push_back(std::move(store->second));
      stores_.erase(store);
    }
    return {};
  }

 private:
  VsphereFolder folder_of(const VsphereDatastore& where, const Group& group) const {
    return {session_, where, fmt::format("{}/{}", kDockvolsFolder, group.uuid)};
  }

  static Datastore shown(const VsphereDatastore& datastore) {
    return {.name = datastore.name, .url = datastore.url, .type = datastore.type, .path = {}};
  }

  Result<VsphereDatastore> find_known(std::string_view name) const EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    std::vector<std::string> names;
    std::vector<std::string> matching;
    const VsphereDatastore* found = nullptr;
    for (const VsphereDatastore& datastore : known_) {
      names.push_back(datastore.name);
      if (!equals_ignoring_case(datastore.name, name)) continue;
      matching.push_back(datastore.name);
      found = &datastore;
    }
    if (matching.size() == 1) return *found;
    if (!matching.empty()) {
      return fail(ErrorCode::kInvalid,
                  "Found multiple datastores with same name (ignoring case difference): [{}]",
                  join(matching, "'"));
    }
    return fail(ErrorCode::kInvalid, "Invalid datastore '{}'.\nKnown datastores: {}.\nDefault datastore: {}",
                name, join(names, ""), names.empty() ? std::string() : names.front());
  }

  Result<void> select(std::vector<VsphereDatastore> seen) const EXCLUDES(mutex_);

  bool is_old() const EXCLUDES(mutex_) {
    base::MutexLock lock(mutex_);
    return base::Clock::now() - read_at_ > kListAge;
  }

  VsphereSession& session_;
  VspherePolicies policies_;
  KeyedLocks locks_;           ///< By disk.
  mutable base::Mutex mutex_;  ///< A leaf.
  mutable std::vector<VsphereDatastore> known_ GUARDED_BY(mutex_);
  mutable base::Clock::time_point read_at_ GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::string>, std::unique_ptr<DiskStore>> stores_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<DiskStore>> retired_ GUARDED_BY(mutex_);  ///< Of removed groups: still in use.
};

Result<void> VsphereDatastores::refresh() const {
  const Deadline deadline = base::deadline_in(kLookTime);
  ASSIGN_OR_RETURN(const auto datacenters,
                   session_.read_all("Datacenter", {"name", "parent", "datastore"}, deadline));
  std::map<MoRef, std::pair<MoRef, std::string>> homes;  // of datastores
  bool is_found = false;
  for (const VsphereObject& datacenter : datacenters) {
    const std::string& wanted = session_.config().datacenter;
    if (!wanted.empty() && datacenter.text("name") != wanted) continue;
    is_found = true;
    ASSIGN_OR_RETURN(const std::string path, path_of(session_, datacenter, deadline));
    const Element* datastores = datacenter.find("datastore");
    if (datastores == nullptr) continue;
    for (const Element& ref : datastores->children) homes[ref.ref()] = {datacenter.ref, path};
  }
  if (!is_found)
    return fail(ErrorCode::kInvalid, "find datacenter '{}': the server shows none of that name",
                session_.config().datacenter);
  ASSIGN_OR_RETURN(const auto objects, session_.read_all("Datastore",
                                                         {"name", "browser", "info.url", "summary.type",
                                                          "summary.accessible", "summary.multipleHostAccess"},
                                                         deadline));
  std::vector<VsphereDatastore> seen;
  for (const VsphereObject& object : objects) {
    const auto home = homes.find(object.ref);
    if (home == homes.end()) continue;
    seen.push_back({.ref = object.ref,
                    .browser = ref_at(object, "browser"),
                    .name = object.text("name"),
                    .url = object.text("info.url"),
                    .type = object.text("summary.type"),
                    .is_accessible = object.text("summary.accessible") != "false",
                    .has_many_hosts = object.text("summary.multipleHostAccess") == "true",
                    .datacenter = home->second.first,
                    .datacenter_path = home->second.second});
  }
  return select(std::move(seen));
}

Result<void> VsphereDatastores::select(std::vector<VsphereDatastore> seen) const {
  std::ranges::sort(seen, {}, &VsphereDatastore::name);
  std::vector<VsphereDatastore> chosen;
  for (const std::string& name : session_.config().datastores) {
    const auto matches = std::ranges::count(seen, name, &VsphereDatastore::name);
    if (matches == 0) return fail(ErrorCode::kInvalid, "find datastore '{}': the server shows none", name);
    if (matches > 1) {
      return std::unexpected(
          base::Error(ErrorCode::kInvalid, fmt::format("find datastore '{}': there are {}", name, matches),
                      "name their datacenter as 'datacenter' in the vSphere configuration"));
    }
    chosen.push_back(*std::ranges::find(seen, name, &VsphereDatastore::name));
  }
  base::MutexLock lock(mutex_);
  read_at_ = base::Clock::now();
  known_ = chosen.empty() ? std::move(seen) : std::move(chosen);
  return {};
}

}  // namespace

Result<std::unique_ptr<Datastores>> make_vsphere_datastores(VsphereSession& session) {
  auto datastores = std::make_unique<VsphereDatastores>(session);
  RETURN_IF_ERROR(datastores->refresh());
  return std::unique_ptr<Datastores>(std::move(datastores));
}

}  // namespace vdvs::esx
