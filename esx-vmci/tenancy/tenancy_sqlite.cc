// Tenancy over the SQLite database: which mode it is in, a connection, a transaction; the rules themselves
// are in group_rows and privilege_rows.
#include <unistd.h>

#include <algorithm>
#include <type_traits>

#include "base/log.h"
#include "base/mutex.h"
#include "esx-vmci/datastore/volume_folder.h"
#include "esx-vmci/tenancy/connections.h"
#include "esx-vmci/tenancy/group_rows.h"
#include "esx-vmci/tenancy/privilege_rows.h"
#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::Result;

std::unexpected<base::Error> refuse(TenancyError error,
                                    std::initializer_list<std::string_view> arguments = {}) {
  return std::unexpected(tenancy_error(error, arguments));
}

VmGroup only_group() {
  return VmGroup{.uuid = std::string(kDefaultGroupUuid),
                 .name = std::string(kDefaultGroupName),
                 .description = "This is a default vmgroup",
                 .default_datastore_url = std::string(kVmDatastoreUrl)};
}

Privilege all_rights(std::string_view url) {
  return Privilege{.datastore_url = std::string(url), .allow_create = true};
}

/// An error after which a connection is not used again: what it has cached or opened may be wrong.
bool is_of_the_file(const base::Error& error) {
  switch (error.code()) {
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
    case ErrorCode::kReadOnly:
    case ErrorCode::kNoSpace:
    case ErrorCode::kUnavailable:
    case ErrorCode::kInternal:
      return true;
    case ErrorCode::kInvalid:
    case ErrorCode::kNotFound:
    case ErrorCode::kExists:
    case ErrorCode::kInUse:
    case ErrorCode::kBusyElsewhere:
    case ErrorCode::kTimeout:
    case ErrorCode::kForeignData:
    case ErrorCode::kUnsupported:
    case ErrorCode::kDenied:
    case ErrorCode::kLimit:
      return false;
  }
  return true;
}

/// The volumes that this process is making, so that a comparison with the datastore lets them be. Thread:
/// any.
class InTheMaking {
 public:
  struct Entry {
    std::string group_uuid;
    std::string url;
    std::string volume;
    bool operator==(const Entry&) const = default;
  };
  void add(const Entry& entry) EXCLUDES(mutex_) {
    const base::MutexLock lock(mutex_);
    entries_.push_back(entry);
  }
  void remove(const Entry& entry) EXCLUDES(mutex_) {
    const base::MutexLock lock(mutex_);
    if (auto found = std::ranges::find(entries_, entry); found != entries_.end()) entries_.erase(found);
  }
  std::vector<std::string> volumes_on(const std::string& group_uuid, std::string_view url) const
      EXCLUDES(mutex_) {
    const base::MutexLock lock(mutex_);
    std::vector<std::string> names;
    for (const Entry& entry : entries_) {
      if (entry.group_uuid == group_uuid && entry.url == url) names.push_back(entry.volume);
    }
    return names;
  }

 private:
  mutable base::Mutex mutex_;
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
};

class SqliteTenancy final : public Tenancy {
 public:
  explicit SqliteTenancy(std::string path) : connections_(std::move(path)) {}

  DbMode mode() const override {
    const DbMode mode = look_at_database(connections_.path());
    if (mode != DbMode::kSingleNode && mode != DbMode::kMultiNode) return mode;
    // That a file is there says nothing about what is in it.
    const auto lease = connections_.lease();
    return !lease && lease.error().code() == ErrorCode::kCorrupt ? DbMode::kBrokenLink : mode;
  }
  std::string path() const override { return connections_.path(); }
  std::string shared_location() const override {
    std::string target(4096, '\0');
    const ssize_t length = ::readlink(connections_.path().c_str(), target.data(), target.size());
    target.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    return target;
  }

  Result<VmGroup> group_of(std::string_view vm_uuid, std::string_view vm_name) override {
    return read<VmGroup>(only_group(),
                         [&](SqliteFile& file) { return read_group_of(file, vm_uuid, vm_name); });
  }

  Result<Privilege> authorize(const VmGroup& group, std::string_view datastore_url,
                              std::string_view vm_datastore_url, Access access) override {
    return read<Privilege>(all_rights(kAllDatastoresUrl), [&](SqliteFile& file) {
      return read_allowed(file, place_of(group, datastore_url, vm_datastore_url), access);
    });
  }

  Result<QuotaReservation> reserve(const VmGroup& group, std::string_view datastore_url,
                                   std::string_view vm_datastore_url, std::string_view volume,
                                   std::uint64_t size_mb) override {
    if (look_at_database(connections_.path()) == DbMode::kNotConfigured) return QuotaReservation();
    const PlaceOfVolume place = place_of(group, datastore_url, vm_datastore_url);
    const std::string name(volume);
    const InTheMaking::Entry entry{place.group_uuid, place.real_url(), name};
    making_.add(entry);
    auto row =
        change<ReservedRow>([&](SqliteFile& file) { return reserve_volume(file, place, name, size_mb); });
    if (!row) {
      making_.remove(entry);
      return std::unexpected(row.error());
    }
    return QuotaReservation(
        [this, row = *row, entry] {
          log_failure(
              change_rows([&](SqliteFile& file) { return give_volume_back(file, row, entry.volume); }),
              entry.volume);
          making_.remove(entry);
        },
        [this, place, entry, size_mb] {
          log_failure(ensure_row(place, entry.volume, size_mb), entry.volume);
          making_.remove(entry);
        });
  }

  Result<VolumeRow> row_of_volume(const VmGroup& group, std::string_view datastore_url,
                                  std::string_view volume) override {
    return read<VolumeRow>({}, [&](SqliteFile& file) -> Result<VolumeRow> {
      ASSIGN_OR_RETURN(const auto id, find_volume_row(file, place_of(group, datastore_url, datastore_url),
                                                      std::string(volume)));
      return VolumeRow{id};
    });
  }
  Result<void> forget_volume(const VmGroup& group, std::string_view datastore_url, std::string_view volume,
                             const VolumeRow& row) override {
    if (!row.id || is_not_configured()) return {};
    return change_rows([&](SqliteFile& file) {
      return delete_volume_row(file, place_of(group, datastore_url, datastore_url), std::string(volume),
                               *row.id);
    });
  }

  Result<std::vector<VmGroup>> groups() override {
    return read<std::vector<VmGroup>>({only_group()}, [](SqliteFile& file) { return read_groups(file); });
  }
  Result<VmGroup> find_group(std::string_view name) override {
    if (is_not_configured() && name != kDefaultGroupName)
      return refuse(TenancyError::kTenantNotExist, {name});
    return read<VmGroup>(only_group(), [&](SqliteFile& file) { return read_group(file, name); });
  }
  Result<std::vector<Member>> members(const VmGroup& group) override {
    return read<std::vector<Member>>({}, [&](SqliteFile& file) { return read_members(file, group); });
  }
  Result<VmGroup> create_group(std::string_view name, std::string_view description,
                               std::string_view default_datastore_url,
                               const std::vector<Member>& vms) override {
    const VmGroup wish{.uuid = {},
                       .name = std::string(name),
                       .description = std::string(description),
                       .default_datastore_url = std::string(default_datastore_url)};
    return change<VmGroup>([&](SqliteFile& file) { return insert_group(file, wish, vms); });
  }
  Result<void> name_members(const std::vector<Member>& known) override {
    if (is_not_configured()) return {};
    ASSIGN_OR_RETURN(const bool is_needed,
                     read<bool>(false, [](SqliteFile& file) { return has_nameless_members(file); }));
    if (!is_needed) return {};
    return change_rows([&](SqliteFile& file) { return write_missing_names(file, known); });
  }
  Result<VmGroup> update_group(const VmGroup& group, const GroupChange& change_of) override {
    return change<VmGroup>([&](SqliteFile& file) { return change_group(file, group, change_of); });
  }
  Result<void> remove_group(const VmGroup& group, bool even_with_members) override {
    return change_rows([&](SqliteFile& file) { return delete_group(file, group, even_with_members); });
  }
  Result<void> add_vms(const VmGroup& group, const std::vector<Member>& vms) override {
    return change_rows([&](SqliteFile& file) { return insert_members(file, group, vms); });
  }
  Result<void> remove_vms(const VmGroup& group, const std::vector<Member>& vms) override {
    return change_rows([&](SqliteFile& file) { return delete_members(file, group, vms); });
  }
  Result<void> replace_vms(const VmGroup& group, const std::vector<Member>& vms) override {
    return change_rows([&](SqliteFile& file) { return replace_members(file, group, vms); });
  }
  Result<std::vector<Privilege>> privileges(const VmGroup& group) override {
    return read<std::vector<Privilege>>({all_rights(kAllDatastoresUrl), all_rights(kVmDatastoreUrl)},
                                        [&](SqliteFile& file) { return read_privileges(file, group); });
  }
  Result<void> add_privilege(const VmGroup& group, const Privilege& privilege) override {
    return change_rows([&](SqliteFile& file) { return insert_privilege(file, group, privilege); });
  }
  Result<void> change_privilege(const VmGroup& group, std::string_view datastore_url,
                                const PrivilegeChange& change_of) override {
    return change_rows(
        [&](SqliteFile& file) { return change_privilege_row(file, group, datastore_url, change_of); });
  }
  Result<void> remove_privilege(const VmGroup& group, std::string_view datastore_url) override {
    return change_rows([&](SqliteFile& file) { return delete_privilege(file, group, datastore_url); });
  }
  Result<std::vector<std::pair<std::string, std::uint64_t>>> usage(const VmGroup& group) override {
    return read<std::vector<std::pair<std::string, std::uint64_t>>>(
        {}, [&](SqliteFile& file) { return read_usage(file, group); });
  }
  Result<void> reconcile_volumes(const VmGroup& group, std::string_view datastore_url,
                                 const std::vector<StoredVolume>& volumes) override {
    if (is_not_configured()) return {};
    const PlaceOfVolume place = place_of(group, datastore_url, datastore_url);
    return change_rows([&](SqliteFile& file) {
      // Asked for inside the transaction: what is reserved later has its row later.
      return match_volumes(file, place, volumes, making_.volumes_on(group.uuid, datastore_url));
    });
  }

 private:
  static PlaceOfVolume place_of(const VmGroup& group, std::string_view url, std::string_view vm_url) {
    return PlaceOfVolume{group.uuid, std::string(url), std::string(vm_url)};
  }

  bool is_not_configured() const { return look_at_database(connections_.path()) == DbMode::kNotConfigured; }

  /// One statement, which sees one state. `unconfigured`: the answer where there is no database.
  template <typename T, typename Work>
  Result<T> read(T unconfigured, const Work& work) {
    switch (look_at_database(connections_.path())) {
      case DbMode::kNotConfigured:
        return unconfigured;
      case DbMode::kBrokenLink:
        return std::unexpected(broken());
      case DbMode::kSingleNode:
      case DbMode::kMultiNode:
        break;
    }
    ASSIGN_OR_RETURN(auto lease, connections_.lease());
    Result<T> answer = work(lease.file());
    if (!answer && is_of_the_file(answer.error())) lease.discard();
    return answer;
  }

  template <typename T, typename Work>
  Result<T> change(const Work& work) {
    switch (look_at_database(connections_.path())) {
      case DbMode::kNotConfigured:
        return refuse(TenancyError::kInitNeeded);
      case DbMode::kBrokenLink:
        return std::unexpected(broken());
      case DbMode::kSingleNode:
      case DbMode::kMultiNode:
        break;
    }
    ASSIGN_OR_RETURN(const auto turn, connections_.writer_turn());
    ASSIGN_OR_RETURN(auto lease, connections_.lease());
    Result<T> answer = base::fail(ErrorCode::kInternal, "change '{}': no answer", connections_.path());
    const Result<void> done = lease.file().transaction([&]() -> Result<void> {
      answer = work(lease.file());
      if (!answer) return std::unexpected(answer.error());
      return {};
    });
    if (!done && is_of_the_file(done.error())) lease.discard();
    if (!done) return std::unexpected(done.error());
    return answer;
  }

  struct Nothing {};
  template <typename Work>
  Result<void> change_rows(const Work& work) {
    const auto done = change<Nothing>([&](SqliteFile& file) -> Result<Nothing> {
      RETURN_IF_ERROR(work(file));
      return Nothing{};
    });
    if (!done) return std::unexpected(done.error());
    return {};
  }

  /// A kept volume's row is there, unless another service has compared just between reservation and disk:
  /// only then this writes.
  Result<void> ensure_row(const PlaceOfVolume& place, const std::string& volume, std::uint64_t size_mb) {
    using RowId = std::optional<std::int64_t>;
    ASSIGN_OR_RETURN(const RowId row, read<RowId>(RowId(0), [&](SqliteFile& file) {
                       return find_volume_row(file, place, volume);
                     }));
    if (row) return {};
    return change_rows([&](SqliteFile& file) { return keep_volume(file, place, volume, size_mb); });
  }

  static void log_failure(const Result<void>& done, const std::string& volume) {
    if (done) return;
    base::log::warn("a volume's size is not recorded; the comparison at the next start sets it right",
                    {{"volume", volume}, {"error", done.error().text()}});
  }

  base::Error broken() const {
    return broken_database(
        connections_.path(),
        "the link's target is missing or the file cannot be read: bring the datastore or the "
        "file back, or take it away with 'config rm'");
  }

  mutable Connections connections_;
  InTheMaking making_;
};

}  // namespace

std::unique_ptr<Tenancy> make_sqlite_tenancy(std::string path) {
  return std::make_unique<SqliteTenancy>(std::move(path));
}

}  // namespace vdvs::esx
