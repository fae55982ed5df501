// What a guest hears when several things are wrong at once: the predecessor's order, as a table. In each row
// at least two things are wrong, or one that must not be looked at yet.
#include <algorithm>

#include "tests/esx-vmci/service/service_fixture.h"

namespace vdvs::esx {
namespace {

using ::testing::HasSubstr;
using testing::request_of;
using ::testing::StartsWith;
namespace json = boost::json;

/// Who asks. "host" is of _DEFAULT, which may do everything; the others are of groups of their own:
/// "web" (default ds2) has no rights but to mount on ds2; "log" has no default datastore; "db" is of none,
/// once _DEFAULT is gone.
struct Row {
  const char* what;
  const char* vm;
  Request request;
  std::string error;  ///< How the answer begins; empty: it is no error.
};

Request with_version(Request request, int version) {
  request.version = version;
  return request;
}

const std::string kLong(101, 'x');

std::vector<Row> rows() {
  return {
      {"version before group", "db", with_version(request_of("get", "a/b"), 3),
       "There is a mismatch between VDVS client (Docker plugin) protocol version"},
      {"version before an unknown command", "host", with_version(request_of("explode", "db"), 1),
       "There is a mismatch between VDVS client (Docker plugin) protocol version"},
      {"`version` needs no group", "db", request_of("version"), ""},
      {"group before name", "db", request_of("get", "a/b"), "VM db does not belong to any vmgroup"},
      {"group before an unknown command", "db", request_of("explode", "a/b"),
       "VM db does not belong to any vmgroup"},
      {"`list` of nobody's VM is empty", "db", request_of("list"), ""},
      {"`detach` of nobody's VM needs no group", "db", request_of("detach", "x"), ""},
      {"... but a name", "db", request_of("detach", "a/b"), "Volume name contains illegal characters: /"},
      {"default datastore before list", "log", request_of("list"),
       "Default datastore is not set for vmgroup"},
      {"default datastore before name", "log", request_of("get", "a/b"),
       "Default datastore is not set for vmgroup"},
      {"name before datastore", "host", request_of("get", "x-123456@nowhere"),
       "Volume names ending with '-NNNNNN' (where N is a digit) are not supported"},
      {"the name's ending before its length", "host", request_of("get", kLong + "-123456"),
       "Volume names ending with '-NNNNNN' (where N is a digit) are not supported"},
      {"the name's length before the datastore's", "host", request_of("get", kLong + "@" + kLong),
       "Volume name is too long (max len is 100)"},
      {"the datastore's length before whether it is there", "host", request_of("get", "x@" + kLong),
       "Datastore name is too long (max len is 100)"},
      {"name before an unknown command", "host", request_of("explode", "a/b"),
       "Volume name contains illegal characters: /"},
      {"datastore before rights", "web", request_of("get", "x@nowhere"),
       "Invalid datastore 'nowhere'.\nKnown datastores: ds1, ds2.\nDefault datastore: ds2"},
      {"datastore before an unknown command", "host", request_of("explode", "x@nowhere"),
       "Invalid datastore 'nowhere'"},
      {"rights before existence", "web", request_of("get", "x@ds1"), "No access privilege exists"},
      {"rights before an unknown command", "web", request_of("explode", "x@ds1"),
       "No access privilege exists"},
      {"an unknown command last of all", "web", request_of("explode", "x"), "Unknown command:explode"},
      {"rights before options", "web", request_of("create", "x", {{"bogus", "1"}}), "No create privilege"},
      {"rights before existence, for a create", "web", request_of("create", "there", {}),
       "No create privilege"},
      {"rights before existence, for a remove", "web", request_of("remove", "missing"),
       "No delete privilege"},
      {"rights before the clone's options", "web",
       request_of("create", "x", {{"clone-from", "there"}, {"size", "1gb"}}), "No create privilege"},
      {"size before options, with a database", "host",
       request_of("create", "x@ds1", {{"size", "much"}, {"bogus", "1"}}), "Invalid volume size specified."},
      {"size before existence, with a database", "host", request_of("create", "there@ds1", {{"size", "0"}}),
       "Invalid volume size specified."},
      {"existence before options", "host", request_of("create", "there@ds1", {{"bogus", "1"}}), "File "},
      {"existence before quota", "host", request_of("create", "there@ds1", {{"size", "9gb"}}), "File "},
      {"quota before options", "host", request_of("create", "x@ds1", {{"size", "9gb"}, {"bogus", "1"}}),
       "Volume size exceeds the max volume size limit"},
      {"unknown options before bad values", "host",
       request_of("create", "x@ds1", {{"bogus", "1"}, {"access", "none"}}), "Invalid options: ['bogus']"},
      {"options before policy", "host",
       request_of("create", "x@ds1", {{"access", "none"}, {"vsan-policy-name", "p"}}),
       "Access type 'none' is not supported"},
      {"policy last", "host", request_of("create", "x@ds1", {{"vsan-policy-name", "p"}}),
       "Cannot use a VSAN policy on a non-VSAN datastore"},
      {"the clone's options before its source", "host",
       request_of("create", "x@ds1", {{"clone-from", "missing"}, {"size", "1gb"}}),
       "Cannot define the size for a clone"},
      {"the source's datastore before the source", "host",
       request_of("create", "x@ds1", {{"clone-from", "missing@nowhere"}}),
       "Invalid datastore 'nowhere'.\nKnown datastores: ds1, ds2.\nDefault datastore_url: "},
      {"a source that is not there", "host", request_of("create", "x@ds1", {{"clone-from", "missing"}}),
       "Could not find volume for cloning missing"},
      {"a source whose name is none", "host", request_of("create", "x@ds1", {{"clone-from", "../there"}}),
       "Could not find volume for cloning ../there"},
      {"the clone's existence before its source", "host",
       request_of("create", "there@ds1", {{"clone-from", "missing"}}), "File "},
  };
}

class PipelineOrder : public testing::ServiceTest {
 protected:
  /// Groups as the rows want them, and the volume "there" of each on both datastores.
  void set_up_groups() {
    init();
    make_group("hosts", {"host"}, url_of("ds2"));
    allow(group("hosts"), url_of("ds1"), true, 100, 1000);
    make("host", "there@ds1");
    make_group("webs", {"web"}, url_of("ds2"));
    make("web", "there");
    ASSERT_OK(tenancy_->change_privilege(group("webs"), url_of("ds2"), {.allow_create = false}));
    make_group("logs", {"log"}, url_of("ds1"));
    sql("update tenants set default_datastore_url = '' where name = 'logs'");
    ASSERT_OK(tenancy_->remove_group(group("_DEFAULT"), true));
  }
};

TEST_F(PipelineOrder, IsThePredecessors) {
  ASSERT_NO_FATAL_FAILURE(set_up_groups());
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.what);
    const json::value reply = ask(row.vm, row.request);
    const bool is_error = reply.is_object() && reply.as_object().contains("Error");
    EXPECT_EQ(is_error, !row.error.empty()) << json::serialize(reply);
    if (is_error) {
      EXPECT_THAT(refusal(row.vm, row.request), StartsWith(row.error));
    }
  }
}

TEST_F(PipelineOrder, NothingThatWasRefusedHasChangedAnything) {
  ASSERT_NO_FATAL_FAILURE(set_up_groups());
  auto everything = [&] {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path()))
      if (!entry.path().filename().string().starts_with("auth-db-")) files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
  };
  const auto files = everything();
  const std::string volumes = sql("select * from volumes order by 1, 2, 3");
  for (const Row& row : rows()) (void)ask(row.vm, row.request);
  EXPECT_EQ(everything(), files);
  EXPECT_EQ(sql("select * from volumes order by 1, 2, 3"), volumes);
}

TEST_F(PipelineOrder, WithoutADatabaseABadSizeIsAnOptionLikeOthers) {
  EXPECT_THAT(refusal("host", "create", "x", {{"size", "much"}}), StartsWith("Invalid format for size."));
  EXPECT_THAT(refusal("host", "create", "x", {{"size", "much"}, {"bogus", "1"}}),
              StartsWith("Invalid options: ['bogus']"));
}

TEST_F(PipelineOrder, ABrokenDatabaseRefusesEverythingButTheVersion) {
  ASSERT_EQ(::symlink((folder_.path() + "/gone").c_str(), database().c_str()), 0);
  for (const char* command : {"list", "get", "create", "remove", "attach", "detach"})
    EXPECT_THAT(refusal("host", command, "x"), StartsWith("DB access error at " + database())) << command;
  EXPECT_TRUE(ask("host", "version").as_object().contains("version"));
}

}  // namespace
}  // namespace vdvs::esx
