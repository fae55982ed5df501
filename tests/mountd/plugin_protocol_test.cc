// Request bodies in, reply bodies out: what the engine's Go code sends and can read.
#include "mountd/plugin_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace vdvs::mountd {
namespace {

using base::Error;
using base::ErrorCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;

constexpr Method kWithBody[] = {Method::kCreate, Method::kGet,   Method::kRemove,
                                Method::kPath,   Method::kMount, Method::kUnmount};

std::string refusal(Method method, std::string_view body) {
  auto request = decode_request(method, body);
  return request ? "(decoded)" : request.error().text();
}

std::string body_of(const PluginReply& reply) { return encode_reply(reply).value().body; }

boost::json::object parsed(const std::string& body) { return boost::json::parse(body).as_object(); }

TEST(PluginEndpoint, IsFoundByItsExactPath) {
  EXPECT_EQ(std::get<Method>(find_endpoint("/VolumeDriver.Mount").value()), Method::kMount);
  EXPECT_EQ(std::get<Method>(find_endpoint("/VolumeDriver.Capabilities").value()), Method::kCapabilities);
  EXPECT_TRUE(std::holds_alternative<Activate>(find_endpoint("/Plugin.Activate").value()));
  for (const char* path :
       {"", "/", "/VolumeDriver.", "/VolumeDriver.mount", "/VolumeDriver.Mount/", "VolumeDriver.Mount",
        "/VolumeDriver.Activate", "/Plugin.Mount", "/VolumeDriver.Mount?x=1"}) {
    EXPECT_FALSE(find_endpoint(path)) << path;
  }
}

TEST(PluginEndpoint, UnknownPathIsAnsweredWithTheKnownOnes) {
  EXPECT_THAT(unknown_endpoint("/metrics").text(),
              AllOf(HasSubstr("serve '/metrics': no such endpoint [E_NOT_FOUND]"),
                    HasSubstr("/VolumeDriver.Create"), HasSubstr("/Plugin.Activate")));
  EXPECT_LT(unknown_endpoint(std::string(10'000, 'x')).text().size(), 1000u);
}

TEST(PluginRequest, CreateCarriesNameAndOptions) {
  auto request =
      decode_request(Method::kCreate, R"({"Name":"db","Opts":{"size":"10gb","fstype":"xfs"}})").value();
  EXPECT_EQ(request.method, Method::kCreate);
  EXPECT_EQ(request.name, "db");
  EXPECT_THAT(request.options, ElementsAre(Pair("fstype", "xfs"), Pair("size", "10gb")));
}

TEST(PluginRequest, MountAndUnmountCarryTheMountId) {
  EXPECT_EQ(decode_request(Method::kMount, R"({"Name":"db","ID":"b87d"})").value().mount_id, "b87d");
  EXPECT_EQ(decode_request(Method::kUnmount, R"({"Name":"db","ID":"b87d"})").value().mount_id, "b87d");
}

TEST(PluginRequest, MountIdMayBeAbsentAsInOldEngines) {
  EXPECT_EQ(decode_request(Method::kMount, R"({"Name":"db"})").value().mount_id, "");
}

TEST(PluginRequest, MemberNamesComeInAnyCaseAndTheLastCounts) {
  EXPECT_EQ(decode_request(Method::kGet, R"({"name":"db"})").value().name, "db");
  EXPECT_EQ(decode_request(Method::kGet, R"({"Name":"a","NAME":"b"})").value().name, "b");
}

TEST(PluginRequest, UnknownMembersAreIgnored) {
  EXPECT_EQ(decode_request(Method::kGet, R"({"Name":"db","More":[1,{"x":null}]})").value().name, "db");
}

TEST(PluginRequest, OptionsMayBeNullOrAbsent) {
  EXPECT_THAT(decode_request(Method::kCreate, R"({"Name":"db","Opts":null})").value().options, IsEmpty());
  EXPECT_THAT(decode_request(Method::kCreate, R"({"Name":"db"})").value().options, IsEmpty());
}

TEST(PluginRequest, OptionKeysKeepTheirCase) {
  EXPECT_THAT(decode_request(Method::kCreate, R"({"Name":"db","Opts":{"Size":"1"}})").value().options,
              ElementsAre(Pair("Size", "1")));
}

TEST(PluginRequest, OptionThatIsNotAStringIsNamed) {
  EXPECT_EQ(refusal(Method::kCreate, R"({"Name":"db","Opts":{"size":10}})"),
            "decode 'VolumeDriver.Create': option 'size' must be a string, not a number [E_INVALID]");
  EXPECT_THAT(refusal(Method::kCreate, R"({"Name":"db","Opts":["size"]})"), HasSubstr("not a list"));
}

TEST(PluginRequest, NameIsPassedOnAsItCame) {
  for (const char* name : {"", "../x", "a@b@c", "a b", "*", "-flat"}) {
    EXPECT_EQ(decode_request(Method::kGet, boost::json::serialize(boost::json::object{{"Name", name}}))
                  .value()
                  .name,
              name);
  }
  EXPECT_EQ(decode_request(Method::kGet, R"({"Name":"a\u0000b"})").value().name, std::string("a\0b", 3));
  EXPECT_EQ(decode_request(Method::kGet, R"({"Name":"d\u00e4ta"})").value().name, "d\xC3\xA4ta");
}

TEST(PluginRequest, WithoutABodySaysThatTheEngineRepeatsSo) {
  for (Method method : kWithBody) {
    EXPECT_THAT(refusal(method, ""),
                AllOf(HasSubstr("the request has no body"), HasSubstr("broken connection"),
                      HasSubstr("[E_INVALID]; repeat the command")));
    EXPECT_EQ(refusal(method, ""), refusal(method, " \r\n"));
  }
}

TEST(PluginRequest, WithoutANameIsRefusedAndNeverReadAsTheEmptyName) {
  for (Method method : kWithBody) {
    EXPECT_THAT(refusal(method, "{}"), HasSubstr("no member 'Name'")) << method_name(method);
    EXPECT_THAT(refusal(method, R"({"Name":null})"), HasSubstr("no member 'Name'"));
    EXPECT_THAT(refusal(method, R"({"Name":7})"), HasSubstr("member 'Name' must be a string, not a number"));
    EXPECT_THAT(refusal(method, "null"), HasSubstr("must be a JSON object, not null"));
    EXPECT_THAT(refusal(method, "[]"), HasSubstr("must be a JSON object, not a list"));
  }
}

TEST(PluginRequest, CutAtAnyByteIsRefused) {
  constexpr std::string_view kWhole = R"({"Name":"db","Opts":{"size":"10gb"}})";
  for (std::size_t bytes = 0; bytes < kWhole.size(); ++bytes) {
    EXPECT_THAT(refusal(Method::kCreate, kWhole.substr(0, bytes)), HasSubstr("[E_INVALID]")) << bytes;
  }
  EXPECT_THAT(refusal(Method::kCreate, std::string(kWhole) + "x"), HasSubstr("[E_INVALID]"));
}

TEST(PluginRequest, DeepNestingIsRefused) {
  const std::string deep = R"({"Name":"db","X":)" + std::string(100'000, '[');
  EXPECT_THAT(refusal(Method::kGet, deep), HasSubstr("[E_INVALID]"));
}

TEST(PluginRequest, BytesThatAreNotUtf8AreRefused) {
  EXPECT_THAT(refusal(Method::kGet, "{\"Name\":\"\xFF\"}"), HasSubstr("[E_INVALID]"));
}

TEST(PluginRequest, ListAndCapabilitiesAskNothingOfTheBody) {
  for (Method method : {Method::kList, Method::kCapabilities}) {
    for (const char* body : {"", "{}", "null", "{\"Name\":", "\xFF"}) {
      EXPECT_TRUE(decode_request(method, body)) << body;
    }
  }
}

TEST(PluginRequest, OnlyAGetWithoutBodyIsDroppedBecauseAnErrorErasesTheVolume) {
  EXPECT_TRUE(is_better_dropped(Method::kGet, ""));
  EXPECT_FALSE(is_better_dropped(Method::kGet, "{}"));
  EXPECT_FALSE(is_better_dropped(Method::kMount, ""));
  EXPECT_FALSE(is_better_dropped(Method::kList, ""));
}

TEST(PluginReply, HasAllMembersOfTheCommonShape) {
  EXPECT_EQ(body_of(Done{}),
            "{\"Mountpoint\":\"\",\"Err\":\"\",\"Volumes\":null,\"Volume\":null,\"Capabilities\":{\"Scope\":"
            "\"\"}}\n");
  EXPECT_EQ(encode_reply(Done{}).value().status, 200u);
}

TEST(PluginReply, MountPointStandsInItsMember) {
  EXPECT_THAT(body_of(MountPoint{"/mnt/vmdk/db"}), HasSubstr(R"("Mountpoint":"/mnt/vmdk/db","Err":"")"));
}

TEST(PluginReply, CapabilitiesCarryTheScope) {
  EXPECT_THAT(body_of(Capabilities{}), HasSubstr(R"("Capabilities":{"Scope":"global"})"));
}

TEST(PluginReply, ErrorIsStatus500WithOneText) {
  auto reply =
      encode_reply(std::unexpected(Error(ErrorCode::kInUse, "remove 'db': in use", "stop it"))).value();
  EXPECT_EQ(reply.status, 500u);
  EXPECT_EQ(reply.body,
            "{\"Mountpoint\":\"\",\"Err\":\"remove 'db': in use [E_IN_USE]; stop it\",\"Volumes\":null,"
            "\"Volume\":null,\"Capabilities\":{\"Scope\":\"\"}}\n");
}

TEST(PluginReply, InspectedVolumeCarriesItsStatus) {
  VolumeView view{.name = "db", .mount_point = "/mnt/vmdk/db", .created_at = "2018-03-27T18:02:11Z"};
  view.status = {{"status", "attached"},
                 {"capacity", {{"size", "10GB"}, {"allocated", 12}}},
                 {"list", {1, "x", nullptr}},
                 {"none", nullptr}};
  const auto reply = parsed(body_of(view));
  EXPECT_EQ(
      boost::json::serialize(reply.at("Volume")),
      R"({"Name":"db","Mountpoint":"/mnt/vmdk/db","CreatedAt":"2018-03-27T18:02:11Z",)"
      R"("Status":{"status":"attached","capacity":{"size":"10GB","allocated":12},"list":[1,"x",null],"none":null}})");
  EXPECT_TRUE(reply.at("Volumes").is_null());
}

TEST(PluginReply, ListedVolumesCarryNoStatus) {
  VolumeList list{{{.name = "a", .status = {{"status", "x"}}}, {.name = "b", .mount_point = "/m"}}};
  const auto reply = parsed(body_of(list));
  EXPECT_EQ(boost::json::serialize(reply.at("Volumes")),
            R"([{"Name":"a","Mountpoint":"","Status":null},{"Name":"b","Mountpoint":"/m","Status":null}])");
}

TEST(PluginReply, ListOfNothingIsAnEmptyList) {
  EXPECT_THAT(body_of(VolumeList{}), HasSubstr("\"Volumes\":[],"));
}

TEST(PluginReply, NoAnswerHasNoBytes) { EXPECT_FALSE(encode_reply(NoAnswer{})); }

TEST(PluginReply, TimeThatGoCannotReadIsLeftOut) {
  auto is_kept = [](const std::string& time) {
    return body_of(VolumeView{.name = "a", .created_at = time}).find("CreatedAt") != std::string::npos;
  };
  for (const char* good :
       {"2018-03-27T18:02:11Z", "2024-02-29T00:00:00+02:00", "2018-03-27T18:02:11.123456789-11:30"}) {
    EXPECT_TRUE(is_kept(good)) << good;
  }
  for (const char* bad :
       {"", "Tue Mar 27 18:02:11 2018", "2018-03-27", "2018-03-27 18:02:11Z", "2018-03-27T18:02:11",
        "2018-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2018-03-27T24:00:00Z", "2018-03-27T18:60:00Z",
        "2018-03-27T18:02:60Z", "2018-03-27T18:02:11.Z", "2018-03-27T18:02:11z", "2018-03-27T18:02:11+0200",
        "2018-03-27T18:02:11+24:00", "2018-03-27T18:02:11Zx"}) {
    EXPECT_FALSE(is_kept(bad)) << bad;
  }
}

TEST(PluginReply, TextIsEscapedSoThatItComesBackTheSame) {
  std::string every_byte;
  for (int c = 0; c < 128; ++c) every_byte += static_cast<char>(c);
  every_byte += "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\xB3";
  EXPECT_EQ(parsed(body_of(MountPoint{every_byte})).at("Mountpoint").as_string(), every_byte);
}

TEST(PluginReply, BytesThatAreNotUtf8BecomeTheReplacementCharacter) {
  const std::pair<std::string, std::string> cases[] = {
      {"a\xFFz", "a\xEF\xBF\xBDz"},                              // never a byte of UTF-8
      {"\xC3", "\xEF\xBF\xBD"},                                  // cut
      {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},                  // overlong '/'
      {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},  // a surrogate
      {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
  };
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(parsed(body_of(MountPoint{bytes})).at("Mountpoint").as_string(), text);
  }
}

TEST(PluginReply, ActivationNamesTheVolumeDriver) {
  EXPECT_EQ(boost::json::serialize(boost::json::parse(encode_activation().body)),
            R"({"Implements":["VolumeDriver"]})");
}

}  // namespace
}  // namespace vdvs::mountd
