// What is read again at every look: a volume's name, its descriptor and sidecar, the kernel's mounts; and the
// catalogue, which List compares with the datastore.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "esx-vmci/datastore/sidecar.h"
#include "esx-vmci/datastore/vmdk_descriptor.h"
#include "esx-vmci/volume_name.h"
#include "fs-format/mounter.h"
#include "mountd/volume_catalogue.h"

namespace vdvs {
namespace {

void parse_name(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(esx::VolumeName::parse("database-01@datastore"));
}
BENCHMARK(parse_name);

void parse_descriptor(benchmark::State& state) {
  esx::VmdkDescriptor descriptor;
  descriptor.size_bytes = 10ull << 30;
  descriptor.extent = "database-01-flat.vmdk";
  descriptor.uuid = "6000c2946d9f1d4e28fd1ee5b3b1a8a4";
  descriptor.is_thin = true;
  descriptor.sidecars = esx::sidecars_line(esx::sidecar_file_name("database-01"));
  const std::string text = esx::print_descriptor(descriptor);
  for (auto _ : state) {
    auto parsed = esx::parse_descriptor(text);
    if (!parsed) state.SkipWithError("not parsed");
    benchmark::DoNotOptimize(parsed);
  }
}
BENCHMARK(parse_descriptor);

void decode_sidecar(benchmark::State& state) {
  esx::Sidecar sidecar;
  sidecar.options = {{"size", "10gb"}, {"fstype", "ext4"}, {"diskformat", "thin"}, {"access", "read-write"}};
  sidecar.created = "Sat Nov 21 09:51:33 2026";
  sidecar.created_by = "docker-host-1";
  sidecar.attached =
      esx::AttachRecord{"dcb84419-83c7-4e47-ba16-26251269e656", "docker-host-1", "2026-11-21T09:51:33Z"};
  sidecar.fs_uuid = "ba099d05-03b4-4c94-a498-941fe8b1b02b";
  const std::string text = esx::encode_sidecar(sidecar).value();
  for (auto _ : state) {
    auto decoded = esx::decode_sidecar(text);
    if (!decoded) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(decoded);
  }
}
BENCHMARK(decode_sidecar);

void parse_mountinfo(benchmark::State& state) {
  std::string text;
  for (int i = 0; i < state.range(0); ++i) {
    text += fmt::format(
        "{} 71 7:{} / /mnt/vmdk/volume-{}@datastore rw,relatime shared:{} - ext4 /dev/loop{} rw\n", 100 + i,
        i, i, i, i);
  }
  for (auto _ : state) {
    auto mounts = fsformat::parse_mountinfo(text);
    if (mounts.size() != static_cast<std::size_t>(state.range(0))) state.SkipWithError("not parsed");
    benchmark::DoNotOptimize(mounts);
  }
}
BENCHMARK(parse_mountinfo)->Arg(20)->Arg(200);

/// With nothing to change, as nearly always.
void compare_catalogue(benchmark::State& state) {
  const std::string path =
      std::filesystem::temp_directory_path() / fmt::format("vdvs-bench-catalogue-{}", ::getpid());
  {
    auto catalogue = mountd::VolumeCatalogue::open(path);
    std::vector<std::string> names;
    for (int i = 0; i < state.range(0); ++i) names.push_back(fmt::format("volume-{:05}@datastore", i));
    if (!catalogue || !(*catalogue)->keep_only(names)) state.SkipWithError("no catalogue");
    for (auto _ : state) benchmark::DoNotOptimize((*catalogue)->keep_only(names));
  }
  std::filesystem::remove(path);
}
BENCHMARK(compare_catalogue)->Arg(5000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace vdvs
