#include "mountd/startup_gate.h"

#include <gtest/gtest.h>

namespace vdvs::mountd {
namespace {

class Recorder : public PluginHandler {
 public:
  void handle(PluginRequest request, Respond respond) override {
    names.push_back(request.name);
    respond(Done{});
  }
  std::vector<std::string> names;
};

PluginRequest request_for(const std::string& name, Method method = Method::kGet) {
  return {.method = method, .driver = "vsphere", .name = name, .mount_id = {}, .options = {}, .request_id = {}};
}

TEST(StartupGate, KeepsRequestsUntilItOpensAndPassesThemOnInOrder) {
  StartupGate gate;
  int answers = 0;
  auto respond = [&](PluginReply) { ++answers; };
  gate.handle(request_for("a"), respond);
  gate.handle(request_for("b"), respond);
  EXPECT_EQ(answers, 0);
  Recorder recorder;
  gate.open(recorder);
  gate.handle(request_for("c"), respond);
  EXPECT_EQ(recorder.names, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(answers, 3);
}

TEST(StartupGate, AnswersCapabilitiesAtOnce) {
  StartupGate gate;
  bool is_answered = false;
  gate.handle(request_for("", Method::kCapabilities), [&](PluginReply reply) {
    is_answered = reply && std::holds_alternative<Capabilities>(*reply);
  });
  EXPECT_TRUE(is_answered);
}

TEST(StartupGate, DropsWhatIsMoreThanItsLimitWithoutAnAnswer) {
  StartupGate gate;
  std::size_t dropped = 0;
  for (std::size_t i = 0; i < kMaxWaitingRequests + 3; ++i) {
    gate.handle(request_for("x"), [&](PluginReply reply) { dropped += reply && std::holds_alternative<NoAnswer>(*reply); });
  }
  EXPECT_EQ(dropped, 3u);
}

}  // namespace
}  // namespace vdvs::mountd
