// HTTP as the plugin server speaks it: what dockerd sends, what other clients may, and what is refused with
// which status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "base/command.h"
#include "mountd/plugin_server.h"
#include "tests/mountd/plugin_client.h"

namespace vdvs::mountd {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const std::string kGetDb = post("/VolumeDriver.Get", R"({"Name":"db"})");

PluginReply echo_name(const PluginRequest& request) { return MountPoint{"/mnt/" + request.name}; }

TEST(PluginHttp, OtherMethodsThanPostAre405) {
  RunningServer running;
  for (const char* method : {"GET", "PUT", "DELETE", "OPTIONS"}) {
    RawClient client = running.connect();
    client.send(fmt::format("{} /VolumeDriver.List HTTP/1.1\r\nHost: x\r\n\r\n", method));
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 405u) << method;
    EXPECT_THAT(reply.head, HasSubstr("Allow: POST\r\n"));
  }
}

TEST(PluginHttp, HeadIsAnsweredWithoutABody) {
  RunningServer running;
  RawClient client = running.connect();
  client.send("HEAD /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  client.end_sending();
  EXPECT_EQ(client.receive().status,
            0u);  // The head says how long a body would be, and then the connection ends.
}

TEST(PluginHttp, PipelinedRequestsAreAnsweredInOrder) {
  RunningServer running;
  running.handler.answer_with(echo_name);
  RawClient client = running.connect();
  std::string all;
  constexpr int kRequests = 500;
  for (int i = 0; i < kRequests; ++i)
    all += post("/VolumeDriver.Path", fmt::format(R"({{"Name":"v{}"}})", i));
  std::thread sender([&] { client.send(all); });
  for (int i = 0; i < kRequests; ++i)
    ASSERT_THAT(client.receive().body, HasSubstr(fmt::format("\"/mnt/v{}\"", i)));
  sender.join();
}

TEST(PluginHttp, RequestThatComesByteByByteIsAnswered) {
  RunningServer running;
  RawClient client = running.connect();
  for (char byte : kGetDb) ASSERT_TRUE(client.send(std::string_view(&byte, 1)));
  EXPECT_EQ(client.receive().status, 200u);
}

TEST(PluginHttp, RequestCutAtAnyByteCostsOnlyItsConnection) {
  RunningServer running;
  for (std::size_t bytes = 0; bytes < kGetDb.size(); ++bytes) {
    RawClient cut = running.connect();
    cut.send(std::string_view(kGetDb).substr(0, bytes));
    cut.end_sending();
    EXPECT_TRUE(cut.is_ended()) << bytes;
  }
  EXPECT_TRUE(running.handler.seen().empty());
  RawClient whole = running.connect();
  whole.send(kGetDb);
  whole.end_sending();
  EXPECT_EQ(whole.receive().status, 200u);
}

TEST(PluginHttp, BytesThatAreNotHttpAre400AndTheEnd) {
  RunningServer running;
  const std::string cases[] = {
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),  // TLS
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",                               // gRPC
      "hello\r\n\r\n",
      "POST /VolumeDriver.List HTTP/9.9\r\n\r\n",
      "POST /VolumeDriver.List HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "POST /VolumeDriver.List HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "POST /VolumeDriver.List HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST /VolumeDriver.List HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  };
  for (const std::string& bytes : cases) {
    RawClient client = running.connect();
    client.send(bytes);
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 400u) << bytes;
    EXPECT_THAT(reply.head, HasSubstr("Connection: close\r\n"));
    EXPECT_THAT(std::string(boost::json::parse(reply.body).at("Err").as_string()),
                StartsWith("read a request: not HTTP/1"));
    EXPECT_TRUE(client.is_ended());
  }
  EXPECT_TRUE(running.handler.seen().empty());
}

TEST(PluginHttp, HeaderBeyondTheLimitIs431AndTheEnd) {
  RunningServer running({.max_header_bytes = 1024});
  const std::string cases[] = {
      "POST /" + std::string(5000, 'x'), "POST /VolumeDriver.List HTTP/1.1\r\nX: " + std::string(5000, 'x'),
      "POST /VolumeDriver.List HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(20'000, 'x')};
  for (const std::string& bytes : cases) {
    RawClient client = running.connect();
    client.send(bytes);
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 431u) << bytes.substr(0, 50);
    EXPECT_THAT(reply.body, HasSubstr("more than 1024 bytes"));
    client.end_sending();
    EXPECT_TRUE(client.is_ended());
  }
}

TEST(PluginHttp, BodyBeyondTheLimitIs413AndTheEnd) {
  RunningServer running({.max_body_bytes = 1000});
  const std::string big(100'000, ' ');
  for (const std::string& bytes :
       {post("/VolumeDriver.List", big),
        "POST /VolumeDriver.List HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + big}) {
    RawClient client = running.connect();
    EXPECT_TRUE(client.send(bytes));
    const ReceivedReply reply = client.receive();
    EXPECT_EQ(reply.status, 413u);
    EXPECT_THAT(reply.body, HasSubstr("the body has more than 1000 bytes"));
    client.end_sending();
    EXPECT_TRUE(client.is_ended());
  }
  RawClient fits = running.connect();
  fits.send(post("/VolumeDriver.List", std::string(1000, ' ')));
  EXPECT_EQ(fits.receive().status, 200u);
}

TEST(PluginHttp, ClientThatSendsAllOfABodyTooLargeGetsToTheReply) {
  RunningServer running;
  RawClient client = running.connect();
  EXPECT_TRUE(client.send(post("/VolumeDriver.Create", std::string(8 << 20, ' '))));
  EXPECT_EQ(client.receive().status, 413u);
}

TEST(PluginHttp, ChunkedBodyIsRead) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(
      "POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
      "chunked\r\n\r\n9\r\n{\"Name\":\"\r\n4\r\ndb\"}\r\n0\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200u);
  EXPECT_EQ(running.handler.seen().at(0).name, "db");
}

TEST(PluginHttp, ExpectContinueIsAnsweredBeforeTheBody) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(
      "POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n");
  EXPECT_EQ(client.receive().status, 100u);
  client.send(R"({"Name":"db"})");
  EXPECT_EQ(client.receive().status, 200u);
}

TEST(PluginHttp, ExpectContinueOfABodyTooLargeIsRefusedAtOnce) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(
      "POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
      "99999999\r\n\r\n");
  EXPECT_EQ(client.receive().status, 413u);
}

TEST(PluginHttp, Http10ConnectionEndsWithTheReplyUnlessItIsToGoOn) {
  RunningServer running;
  RawClient once = running.connect();
  once.send("POST /VolumeDriver.List HTTP/1.0\r\n\r\n");
  EXPECT_THAT(once.receive().head, StartsWith("HTTP/1.0 200 OK"));
  EXPECT_TRUE(once.is_ended());
  RawClient kept = running.connect();
  for (int i = 0; i < 2; ++i) {
    kept.send("POST /VolumeDriver.List HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(kept.receive().status, 200u);
  }
}

TEST(PluginHttp, ConnectionCloseIsHonoured) {
  RunningServer running;
  RawClient client = running.connect();
  client.send(post("/VolumeDriver.List", "{}", "Connection: close\r\n"));
  EXPECT_THAT(client.receive().head, HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(client.is_ended());
}

TEST(PluginHttp, CurlUnderstandsIt) {
  RunningServer running;
  running.handler.answer_with([](const PluginRequest& request) {
    return VolumeView{.name = request.name, .status = {{"status", "detached"}}};
  });
  auto curl = base::run_command({"curl", "-sS", "-i", "--max-time", "20", "--unix-socket", running.socket(),
                                 "-d", R"({"Name":"db"})", "http://plugin/VolumeDriver.Get"});
  ASSERT_TRUE(curl) << curl.error().text();
  EXPECT_EQ(curl->exit_status, 0);
  EXPECT_THAT(curl->output,
              AllOf(StartsWith("HTTP/1.1 200 OK"),
                    HasSubstr(R"("Name":"db","Mountpoint":"","Status":{"status":"detached"})")));
}

}  // namespace
}  // namespace vdvs::mountd
