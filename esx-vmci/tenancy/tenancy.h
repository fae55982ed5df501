// Groups of VMs (vmgroups), what each may do on which datastore, and how much it has used. The predecessor's
// rules, error codes and texts (reference, sections 3.10 to 3.12) and its SQLite schema 1.2; without a
// database every VM is in _DEFAULT and may do everything.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace vdvs::esx {

inline constexpr std::string_view kVmDatastoreUrl = "_VM_DS://";
inline constexpr std::string_view kAllDatastoresUrl = "_ALL_DS://";

/// Why a rule said no: the predecessor's numbers.
enum class TenancyError {
  kVmNotBelongToTenant = 1,
  kTenantNotExist = 2,
  kTenantAlreadyExist = 3,
  kTenantNameNotFound = 4,
  kTenantCreateFailed = 5,
  kTenantSetAccessPrivilegesFailed = 6,
  kTenantGetFailed = 7,
  kTenantNameInvalid = 8,
  kTenantNotEmpty = 9,
  kVmNotFound = 101,
  kReplaceVmEmpty = 102,
  kVmAlreadyInTenant = 103,
  kVmNotInTenant = 104,
  kVmInAnotherTenant = 105,
  kVmListEmpty = 106,
  kVmDuplicate = 107,
  kVmWithMountedVolumes = 108,
  kPrivilegeNotFound = 201,
  kPrivilegeAlreadyExist = 202,
  kPrivilegeInvalidVolumeSize = 203,
  kPrivilegeInvalidAllowCreateValue = 204,
  kPrivilegeRemoveNotAllowed = 205,
  kPrivilegeNoPrivilege = 206,
  kPrivilegeNoMountPrivilege = 207,
  kPrivilegeNoCreatePrivilege = 208,
  kPrivilegeNoDeletePrivilege = 209,
  kPrivilegeMaxVolExceed = 210,
  kPrivilegeUsageQuotaExceed = 211,
  kDsDefaultNotSet = 301,
  kDsNotExist = 302,
  kDsDefaultNameInvalid = 303,
  kDsDefaultSetFailed = 304,
  kDsDefaultCannotUseAllDs = 305,
  kTenantNameEmpty = 401,
  kTenantNameTooLong = 402,
  kTenantDescriptionTooLong = 403,
  kInternalError = 501,
  kInvalidArgument = 502,
  kVolumeNameInvalid = 503,
  kFeatureNotSupported = 504,
  kInitNeeded = 505,
  kSqliteError = 506,
  kVolumeSizeInvalid = 507,
};
/// The predecessor's text with its {0}, {1}, {2} filled in, as an Error whose code fits (kDenied for
/// privileges, kInvalid, kNotFound, kExists, ...).
base::Error tenancy_error(TenancyError error, std::initializer_list<std::string_view> arguments = {});

struct VmGroup {
  std::string uuid;
  std::string name;
  std::string description;
  std::string default_datastore_url;  ///< May be kVmDatastoreUrl.
};

struct Privilege {
  std::string datastore_url;  ///< Real, kVmDatastoreUrl or kAllDatastoresUrl.
  bool allow_create = false;
  std::uint64_t max_volume_mb = 0;   ///< 0: no limit.
  std::uint64_t usage_quota_mb = 0;  ///< 0: no limit. Per datastore.
  bool operator==(const Privilege&) const = default;
};

enum class Access { kGet, kMount, kCreate, kRemove };

/// Where the database is, and in which state (section 3.10).
enum class DbMode { kNotConfigured, kSingleNode, kMultiNode, kBrokenLink };
/// "SingleNode (local DB exists)", ...
std::string_view db_mode_text(DbMode mode);

/// Room that was reserved for a volume that is being made. Unless kept, it is given back: keep it as soon as
/// the disk is there, also where another request has made it. Move-only. Must not outlive its Tenancy.
class QuotaReservation {
 public:
  explicit QuotaReservation(std::function<void()> give_back = {}, std::function<void()> keep = {})
      : give_back_(std::move(give_back)), keep_(std::move(keep)) {}
  QuotaReservation(QuotaReservation&& other) noexcept
      : give_back_(std::exchange(other.give_back_, {})), keep_(std::exchange(other.keep_, {})) {}
  QuotaReservation& operator=(QuotaReservation&&) = delete;
  ~QuotaReservation() {
    if (give_back_) give_back_();
  }
  void keep() {
    give_back_ = {};
    if (auto keep = std::exchange(keep_, {})) keep();
  }

 private:
  std::function<void()> give_back_;
  std::function<void()> keep_;
};

/// Thread: any. The database may be shared by several services; each call is one transaction, and waits for a
/// busy one (kUnavailable after 5 s). Without a database (kNotConfigured) reads answer as if there were only
/// _DEFAULT with all rights, and changes of groups are kInitNeeded. With a broken one everything is "DB
/// access error at <path>: <mode text>". The mode is looked at on each call: init and rm need no restart.
class Tenancy {
 public:
  virtual ~Tenancy() = default;

  virtual DbMode mode() const = 0;
  /// The path of the database, and where its link points to (kMultiNode).
  virtual std::string path() const = 0;
  virtual std::string shared_location() const = 0;

  // For each request.
  /// kVmNotBelongToTenant where it is in none and there is no _DEFAULT.
  virtual base::Result<VmGroup> group_of(std::string_view vm_uuid, std::string_view vm_name) = 0;
  /// The row that counts for `datastore_url`: its own, or _VM_DS's where it equals `vm_datastore_url`, or
  /// _ALL_DS's. A short name of a group whose default datastore is kVmDatastoreUrl passes that: then _VM_DS's
  /// row comes first. kPrivilegeNoPrivilege and so on where it does not allow `access`.
  virtual base::Result<Privilege> authorize(const VmGroup& group, std::string_view datastore_url,
                                            std::string_view vm_datastore_url, Access access) = 0;
  /// authorize for kCreate, the size within max and quota, and the row of the volume, in one transaction.
  /// Sizes in MB, rounded up. kVmDatastoreUrl counts for `vm_datastore_url`. A volume that has a row already
  /// is counted once.
  virtual base::Result<QuotaReservation> reserve(const VmGroup& group, std::string_view datastore_url,
                                                 std::string_view vm_datastore_url, std::string_view volume,
                                                 std::uint64_t size_mb) = 0;
  /// The row that a volume has now; asked for before its disk is removed. `datastore_url` is the real one.
  struct VolumeRow {
    std::optional<std::int64_t> id;  ///< nullopt: it has none.
  };
  virtual base::Result<VolumeRow> row_of_volume(const VmGroup& group, std::string_view datastore_url,
                                                std::string_view volume) = 0;
  /// After the removal. Only that row goes: a volume that somebody has made again meanwhile has another.
  virtual base::Result<void> forget_volume(const VmGroup& group, std::string_view datastore_url,
                                           std::string_view volume, const VolumeRow& row) = 0;

  // For the administrator.
  virtual base::Result<std::vector<VmGroup>> groups() = 0;
  virtual base::Result<VmGroup> find_group(std::string_view name) = 0;  ///< kTenantNotExist.
  struct Member {
    std::string vm_uuid;
    std::string vm_name;  ///< As stored when it was added.
  };
  virtual base::Result<std::vector<Member>> members(const VmGroup& group) = 0;
  virtual base::Result<VmGroup> create_group(std::string_view name, std::string_view description,
                                             std::string_view default_datastore_url,
                                             const std::vector<Member>& vms) = 0;
  /// Gives members that were stored without a name (by a database of version 1.1) theirs, as in `known`;
  /// other names stay as they are.
  virtual base::Result<void> name_members(const std::vector<Member>& known) = 0;
  struct GroupChange {
    std::optional<std::string> name;
    std::optional<std::string> description;
    std::optional<std::string> default_datastore_url;
  };
  virtual base::Result<VmGroup> update_group(const VmGroup& group, const GroupChange& change) = 0;
  virtual base::Result<void> remove_group(const VmGroup& group, bool even_with_members) = 0;
  virtual base::Result<void> add_vms(const VmGroup& group, const std::vector<Member>& vms) = 0;
  virtual base::Result<void> remove_vms(const VmGroup& group, const std::vector<Member>& vms) = 0;
  virtual base::Result<void> replace_vms(const VmGroup& group, const std::vector<Member>& vms) = 0;
  virtual base::Result<std::vector<Privilege>> privileges(const VmGroup& group) = 0;
  virtual base::Result<void> add_privilege(const VmGroup& group, const Privilege& privilege) = 0;
  struct PrivilegeChange {
    std::optional<bool> allow_create;
    std::optional<std::uint64_t> max_volume_mb;   ///< 0 takes the limit away.
    std::optional<std::uint64_t> usage_quota_mb;  ///< 0 takes the limit away.
  };
  virtual base::Result<void> change_privilege(const VmGroup& group, std::string_view datastore_url,
                                              const PrivilegeChange& change) = 0;
  virtual base::Result<void> remove_privilege(const VmGroup& group, std::string_view datastore_url) = 0;
  /// MB in use by datastore url.
  virtual base::Result<std::vector<std::pair<std::string, std::uint64_t>>> usage(const VmGroup& group) = 0;
  /// Makes the rows of `volumes` match what is really on a datastore: after a crash between disk and row.
  /// `volumes` has those too that are being made, by whichever service: their rows, and those of this
  /// process's own reservations, are left alone.
  struct StoredVolume {
    std::string name;
    std::optional<std::uint64_t> size_mb;  ///< nullopt: in the making.
  };
  virtual base::Result<void> reconcile_volumes(const VmGroup& group, std::string_view datastore_url,
                                               const std::vector<StoredVolume>& volumes) = 0;
};

/// `path`: "/etc/vmware/vmdkops/auth-db" on ESXi. It need not exist. Schema 1.1 is upgraded when it is
/// opened; others but 1.2 are refused.
std::unique_ptr<Tenancy> make_sqlite_tenancy(std::string path);

// `config init` and `config rm` (section 3.13).
base::Result<void> init_local_database(const std::string& path, bool force);
/// Makes <datastore path>/dockvols/vmdkops_config.db where there is none, and links `path` to it.
base::Result<void> init_shared_database(const std::string& path, const std::string& datastore_path,
                                        bool force);
/// Moves a local one to "<path>.bak_<asctime, '_' for spaces>", or erases it (no_backup). Says where it went.
base::Result<std::string> remove_local_database(const std::string& path, bool no_backup);
/// Takes the link away, never the shared database.
base::Result<void> unlink_shared_database(const std::string& path);

}  // namespace vdvs::esx
