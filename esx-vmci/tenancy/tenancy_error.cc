// The predecessor's error numbers, their texts, and our codes for them. The texts are matched by its users'
// scripts and tests: they are not touched.
#include <string>

#include "esx-vmci/tenancy/tenancy.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;

std::string_view text_of_group(TenancyError error) {
  switch (error) {
    case TenancyError::kVmNotBelongToTenant:
      return "VM {0} does not belong to any vmgroup";
    case TenancyError::kTenantNotExist:
      return "Vmgroup {0} does not exist";
    case TenancyError::kTenantAlreadyExist:
      return "Vmgroup {0} already exists";
    case TenancyError::kTenantNameNotFound:
      return "Cannot find vmgroup name for vmgroup with {0}";
    case TenancyError::kTenantCreateFailed:
      return "Vmgroup {0} create failed with err: {1}";
    case TenancyError::kTenantSetAccessPrivilegesFailed:
      return "Vmgroup {0} set access privileges on datastore {1} failed with err: {2}";
    case TenancyError::kTenantGetFailed:
      return "Get vmgroup {0} failed";
    case TenancyError::kTenantNameInvalid:
      return "Vmgroup name {0} is invalid, only {1} is allowed";
    case TenancyError::kTenantNotEmpty:
      return "Cannot delete non-empty vmgroup {0}. Remove VMs from the vmgroup before deleting it.";
    case TenancyError::kVmNotFound:
      return "Cannot find vm {0}";
    case TenancyError::kReplaceVmEmpty:
      return "Replace VM cannot be empty";
    case TenancyError::kVmAlreadyInTenant:
      return "VM '{0}' has already been associated with tenant '{1}', cannot add it again";
    case TenancyError::kVmNotInTenant:
      return "VM '{0}' has not been associated with tenant '{1}', cannot remove it";
    case TenancyError::kVmInAnotherTenant:
      return "VM '{0}' has already been associated with tenant '{1}', can't add it";
    case TenancyError::kVmListEmpty:
      return "VM list cannot be empty";
    case TenancyError::kVmDuplicate:
      return "VMs {0} contain duplicates, they should be unique";
    case TenancyError::kVmWithMountedVolumes:
      return "VM '{0}' has volumes mounted.";
    default:
      return {};
  }
}

std::string_view text_of_privilege(TenancyError error) {
  switch (error) {
    case TenancyError::kPrivilegeNotFound:
      return "No access privilege exists for ({0}, {1})";
    case TenancyError::kPrivilegeAlreadyExist:
      return "Access privilege for ({0}, {1}) already exists";
    case TenancyError::kPrivilegeInvalidVolumeSize:
      return "Volume max size {0}MB exceeds the total size {1}MB";
    case TenancyError::kPrivilegeInvalidAllowCreateValue:
      return "Invalid value {0} for allow-create option";
    case TenancyError::kPrivilegeRemoveNotAllowed:
      return "Removing of access privilege to 'default_datastore' is not supported";
    case TenancyError::kPrivilegeNoPrivilege:
      return "No access privilege exists";
    case TenancyError::kPrivilegeNoMountPrivilege:
      return "No mount privilege";
    case TenancyError::kPrivilegeNoCreatePrivilege:
      return "No create privilege";
    case TenancyError::kPrivilegeNoDeletePrivilege:
      return "No delete privilege";
    case TenancyError::kPrivilegeMaxVolExceed:
      return "Volume size exceeds the max volume size limit";
    case TenancyError::kPrivilegeUsageQuotaExceed:
      return "The total volume size exceeds the usage quota";
    default:
      return {};
  }
}

std::string_view text_of_rest(TenancyError error) {
  switch (error) {
    case TenancyError::kDsDefaultNotSet:
      return "Default datastore is not set for vmgroup {0}";
    case TenancyError::kDsNotExist:
      return "Datastore {0} does not exist";
    case TenancyError::kDsDefaultNameInvalid:
      return "Default datastore name {0} is invalid";
    case TenancyError::kDsDefaultSetFailed:
      return "Set default datastore for vmgroup {0} failed ({1})";
    case TenancyError::kDsDefaultCannotUseAllDs:
      return "Cannot use _ALL_DS as default datastore. Please use specific datastore name or _VM_DS special "
             "datastore";
    case TenancyError::kTenantNameEmpty:
      return "Vmgroup name is empty";
    case TenancyError::kTenantNameTooLong:
      return "Vmgroup name exceeds 64 characters: {0}";
    case TenancyError::kTenantDescriptionTooLong:
      return "Vmgroup description exceeds 256 characters: {0}";
    case TenancyError::kInternalError:
      return "Internal Error({0})";
    case TenancyError::kInvalidArgument:
      return "Invalid Argument({0})";
    case TenancyError::kVolumeNameInvalid:
      return "Volume name {0} is invalid, only {1} is allowed";
    case TenancyError::kFeatureNotSupported:
      return "This feature is not supported for vmgroup {0}.";
    case TenancyError::kInitNeeded:
      return "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.";
    case TenancyError::kSqliteError:
      return "Sqlite3 error - see log for more info";
    case TenancyError::kVolumeSizeInvalid:
      return "Invalid volume size specified.";
    default:
      return {};
  }
}

std::string_view text_of(TenancyError error) {
  for (auto* texts : {&text_of_group, &text_of_privilege, &text_of_rest}) {
    if (const std::string_view text = texts(error); !text.empty()) return text;
  }
  return "Internal Error({0})";
}

ErrorCode code_of(TenancyError error) {
  switch (error) {
    case TenancyError::kTenantNotExist:
    case TenancyError::kTenantNameNotFound:
    case TenancyError::kVmNotFound:
    case TenancyError::kVmNotInTenant:
    case TenancyError::kPrivilegeNotFound:
    case TenancyError::kDsNotExist:
    case TenancyError::kInitNeeded:
      return ErrorCode::kNotFound;
    case TenancyError::kTenantAlreadyExist:
    case TenancyError::kVmAlreadyInTenant:
    case TenancyError::kVmInAnotherTenant:
    case TenancyError::kPrivilegeAlreadyExist:
      return ErrorCode::kExists;
    case TenancyError::kTenantNotEmpty:
    case TenancyError::kVmWithMountedVolumes:
      return ErrorCode::kInUse;
    case TenancyError::kVmNotBelongToTenant:
    case TenancyError::kPrivilegeNoPrivilege:
    case TenancyError::kPrivilegeNoMountPrivilege:
    case TenancyError::kPrivilegeNoCreatePrivilege:
    case TenancyError::kPrivilegeNoDeletePrivilege:
      return ErrorCode::kDenied;
    case TenancyError::kPrivilegeMaxVolExceed:
    case TenancyError::kPrivilegeUsageQuotaExceed:
    case TenancyError::kTenantNameTooLong:
    case TenancyError::kTenantDescriptionTooLong:
      return ErrorCode::kLimit;
    case TenancyError::kPrivilegeRemoveNotAllowed:
    case TenancyError::kFeatureNotSupported:
      return ErrorCode::kUnsupported;
    case TenancyError::kTenantCreateFailed:
    case TenancyError::kTenantSetAccessPrivilegesFailed:
    case TenancyError::kTenantGetFailed:
    case TenancyError::kDsDefaultSetFailed:
    case TenancyError::kInternalError:
    case TenancyError::kSqliteError:
      return ErrorCode::kIo;
    case TenancyError::kTenantNameInvalid:
    case TenancyError::kReplaceVmEmpty:
    case TenancyError::kVmListEmpty:
    case TenancyError::kVmDuplicate:
    case TenancyError::kPrivilegeInvalidVolumeSize:
    case TenancyError::kPrivilegeInvalidAllowCreateValue:
    case TenancyError::kDsDefaultNotSet:
    case TenancyError::kDsDefaultNameInvalid:
    case TenancyError::kDsDefaultCannotUseAllDs:
    case TenancyError::kTenantNameEmpty:
    case TenancyError::kInvalidArgument:
    case TenancyError::kVolumeNameInvalid:
    case TenancyError::kVolumeSizeInvalid:
      return ErrorCode::kInvalid;
  }
  return ErrorCode::kInternal;
}

/// Fills in "{0}".."{9}" once, so that braces in an argument stay as they are.
std::string fill_in(std::string_view text, std::initializer_list<std::string_view> arguments) {
  std::string filled;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_place = text[i] == '{' && i + 2 < text.size() && text[i + 2] == '}';
    if (!is_place) {
      filled += text[i];
      continue;
    }
    const auto index = static_cast<std::size_t>(text[i + 1] - '0');
    if (index < arguments.size()) filled += *(arguments.begin() + index);
    i += 2;
  }
  return filled;
}

}  // namespace

base::Error tenancy_error(TenancyError error, std::initializer_list<std::string_view> arguments) {
  return base::Error(code_of(error), fill_in(text_of(error), arguments));
}

std::string_view db_mode_text(DbMode mode) {
  switch (mode) {
    case DbMode::kNotConfigured:
      return "NotConfigured (no local DB, no symlink to shared DB)";
    case DbMode::kSingleNode:
      return "SingleNode (local DB exists)";
    case DbMode::kMultiNode:
      return "MultiNode (local symlink pointing to shared DB)";
    case DbMode::kBrokenLink:
      return "BrokenLink (Broken link or corrupted DB file)";
  }
  return "Unknown (not checked yet)";
}

}  // namespace vdvs::esx
