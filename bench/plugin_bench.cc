// What a request of Docker costs besides its work: decoding it, deciding, encoding the reply.
#include <benchmark/benchmark.h>

#include <string>
#include <string_view>

#include "mountd/plugin_protocol.h"
#include "mountd/volume_plan.h"

namespace vdvs::mountd {
namespace {

void decode_create(benchmark::State& state) {
  constexpr std::string_view kBody =
      R"({"Name":"database-01","Opts":{"size":"10gb","fstype":"ext4","diskformat":"thin","access":"read-write"}})";
  for (auto _ : state) {
    auto request = decode_request(Method::kCreate, kBody);
    if (!request) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(request);
  }
}
BENCHMARK(decode_create);

void decode_mount(benchmark::State& state) {
  constexpr std::string_view kBody =
      R"({"Name":"database-01","ID":"0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"})";
  for (auto _ : state) {
    auto request = decode_request(Method::kMount, kBody);
    if (!request) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(request);
  }
}
BENCHMARK(decode_mount);

void encode_list(benchmark::State& state) {
  VolumeList list;
  for (int i = 0; i < state.range(0); ++i) {
    VolumeView view{.name = "volume-" + std::to_string(i), .mount_point = {}, .created_at = {}, .status = {}};
    if (i % 50 == 0) view.mount_point = "/mnt/vmdk/" + view.name + "@datastore";
    list.volumes.push_back(std::move(view));
  }
  const PluginReply reply = list;
  std::size_t bytes = 0;
  for (auto _ : state) {
    auto encoded = encode_reply(reply);
    bytes = encoded->body.size();
    benchmark::DoNotOptimize(encoded);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}
BENCHMARK(encode_list)->Arg(100)->Arg(5000);

void encode_get(benchmark::State& state) {
  const boost::json::object status = {
      {"created by VM", "docker-host-1"},
      {"created", "Sat Nov 21 09:51:33 2026"},
      {"status", "attached"},
      {"capacity", {{"size", "10GB"}, {"allocated", "132MB"}}},
      {"datastore", "datastore"},
      {"disk uuid", "6000c2946d9f1d4e28fd1ee5b3b1a8a4"},
      {"attached to VM", "docker-host-1"},
      {"device", "/dev/loop3"},
      {"fstype", "ext4"},
      {"diskformat", "thin"},
      {"attach-as", "independent_persistent"},
      {"access", "read-write"},
      {"clone-from", "None"},
      {"file system uuid", "ba099d05-03b4-4c94-a498-941fe8b1b02b"},
      {"mounts", 2},
  };
  const PluginReply reply = VolumeView{.name = "database-01",
                                       .mount_point = "/mnt/vmdk/database-01@datastore",
                                       .created_at = "2026-11-21T09:51:33Z",
                                       .status = status};
  for (auto _ : state) benchmark::DoNotOptimize(encode_reply(reply));
}
BENCHMARK(encode_get);

void decide_every_cell(benchmark::State& state) {
  for (auto _ : state) {
    for (int goal = 0; goal < kGoalCount; ++goal) {
      for (int seen = 0; seen < kSeenCount; ++seen) {
        benchmark::DoNotOptimize(decide(static_cast<Goal>(goal), static_cast<Seen>(seen)));
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * kGoalCount * kSeenCount);
}
BENCHMARK(decide_every_cell);

}  // namespace
}  // namespace vdvs::mountd
