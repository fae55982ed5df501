// The texts that scripts and the predecessor's tests look for.
#include "tests/esx-vmci/tenancy/tenancy_support.h"

namespace vdvs::esx::testing {
namespace {

std::string text(TenancyError error, std::initializer_list<std::string_view> arguments = {}) {
  return tenancy_error(error, arguments).message();
}

TEST(TenancyErrors, FillTheirPlacesOnce) {
  EXPECT_EQ(text(TenancyError::kVmInAnotherTenant, {"web", "g{0}"}),
            "VM 'web' has already been associated with tenant 'g{0}', can't add it");
  EXPECT_EQ(text(TenancyError::kTenantSetAccessPrivilegesFailed, {"g", "ds", "busy"}),
            "Vmgroup g set access privileges on datastore ds failed with err: busy");
}

TEST(TenancyErrors, StandWhereAnArgumentIsMissing) {
  EXPECT_EQ(text(TenancyError::kTenantNotExist), "Vmgroup  does not exist");
}

TEST(TenancyErrors, HaveThePredecessorsTexts) {
  EXPECT_EQ(text(TenancyError::kVmNotBelongToTenant, {"web"}), "VM web does not belong to any vmgroup");
  EXPECT_EQ(text(TenancyError::kFeatureNotSupported, {"_DEFAULT"}),
            "This feature is not supported for vmgroup _DEFAULT.");
  EXPECT_EQ(text(TenancyError::kPrivilegeNoPrivilege), "No access privilege exists");
  EXPECT_EQ(text(TenancyError::kPrivilegeNoCreatePrivilege), "No create privilege");
  EXPECT_EQ(text(TenancyError::kPrivilegeNoDeletePrivilege), "No delete privilege");
  EXPECT_EQ(text(TenancyError::kPrivilegeMaxVolExceed), "Volume size exceeds the max volume size limit");
  EXPECT_EQ(text(TenancyError::kPrivilegeUsageQuotaExceed), "The total volume size exceeds the usage quota");
  EXPECT_EQ(text(TenancyError::kInitNeeded),
            "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.");
}

TEST(TenancyErrors, HaveACodeAndATextEach) {
  for (int number : {1,   2,   3,   4,   5,   6,   7,   8,   9,   101, 102, 103, 104, 105, 106,
                     107, 108, 201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 211, 301, 302,
                     303, 304, 305, 401, 402, 403, 501, 502, 503, 504, 505, 506, 507}) {
    const base::Error error = tenancy_error(static_cast<TenancyError>(number), {"a", "b", "c"});
    EXPECT_NE(error.code(), base::ErrorCode::kInternal) << number;
    EXPECT_EQ(error.message().starts_with("Internal Error"), number == 501) << number;
    EXPECT_EQ(error.message().find('{'), std::string::npos) << number;
  }
}

TEST(TenancyErrors, SayWhichModeTheDatabaseIsIn) {
  EXPECT_EQ(db_mode_text(DbMode::kNotConfigured), "NotConfigured (no local DB, no symlink to shared DB)");
  EXPECT_EQ(db_mode_text(DbMode::kSingleNode), "SingleNode (local DB exists)");
  EXPECT_EQ(db_mode_text(DbMode::kMultiNode), "MultiNode (local symlink pointing to shared DB)");
  EXPECT_EQ(db_mode_text(DbMode::kBrokenLink), "BrokenLink (Broken link or corrupted DB file)");
}

}  // namespace
}  // namespace vdvs::esx::testing
