// The tables of the tenancy database: the predecessor's schema 1.2, column for column, since it inserts and
// reads by position and either side may be replaced alone.
#pragma once

#include "base/error.h"
#include "esx-vmci/tenancy/sqlite_file.h"

namespace vdvs::esx {

/// Tables, version row, and the group _DEFAULT with all rights. In the caller's transaction.
base::Result<void> make_schema(SqliteFile& file);

/// Checks that `file` is a tenancy database, and takes one of 1.1 to 1.2. Tables and columns that are not
/// ours stay. Errors: kUnsupported for another version; kCorrupt where tables or columns are missing.
base::Result<void> check_schema(SqliteFile& file, const std::string& path);

/// Full, unlimited rights on a datastore, unless there is a row already.
base::Result<void> add_full_privilege(SqliteFile& file, const std::string& group_uuid,
                                      std::string_view datastore_url);

}  // namespace vdvs::esx
