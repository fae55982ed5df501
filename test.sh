#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test:   sudo ./test.sh
#   ./test.sh quick     the release build and its tests alone, without the sanitizers and the fuzzers
# Its exit status is that of the tests. A test that cannot run here counts as a failure, unless it names a limit of the machine.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
mode=${1:-all}
[ "$(id -u)" = 0 ] || { echo "the tests make loop devices, mounts and a Docker engine: run them as root (sudo ./test.sh)" >&2; exit 1; }

say() { printf '\n== %s (%s)\n' "$*" "$(date +%T)"; }
packaging/install-packages.sh build run test

presets=(release)
[ "$mode" = quick ] || presets+=(asan tsan)
failed=()
passed_total=0
failed_total=0
limits_total=0
summary=()

# Debian's packages start no udevd where there is no systemd; the tests want its events.
started_udevd=
# (Looked for as a process: one that is merely busy must not get a second one beside it.)
if ! pgrep -x systemd-udevd >/dev/null; then
  say "starting udevd for the tests"
  /lib/systemd/systemd-udevd --daemon
  started_udevd=$(pgrep -xn systemd-udevd)
  udevadm control --ping --timeout=10
fi
finish() { [ -z "$started_udevd" ] || kill "$started_udevd" 2>/dev/null || true; }
trap finish EXIT

run_preset() {
  local preset=$1 report
  say "$preset: build"
  cmake --preset "$preset" >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; return 1; }
  rm -f "build-$preset.log" "build/$preset/tests.count" "build/$preset/tests.failures"
  cmake --build --preset "$preset" || return 1
  say "$preset: tests"
  report=$(pwd)/build/$preset/tests.xml
  local status=0
  ctest --preset "$preset" --output-junit "$report" -j 2 || status=$?
  /usr/bin/python3 tests/summary.py "$report" || status=1
  return $status
}

for preset in "${presets[@]}"; do
  if run_preset "$preset"; then summary+=("$preset: good"); else summary+=("$preset: FAILED"); failed+=("$preset"); fi
  read -r p f l <"build/$preset/tests.count" 2>/dev/null || { p=0 f=1 l=0; }
  passed_total=$((passed_total + p)); failed_total=$((failed_total + f)); limits_total=$((limits_total + l))
done

say "all done"
for preset in "${presets[@]}"; do cat "build/$preset/tests.failures" 2>/dev/null || true; done
printf '%s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ] && [ "$failed_total" = 0 ]; then failed_total=1; fi
echo "$passed_total passed, $failed_total failed, $limits_total skipped"
[ ${#failed[@]} -eq 0 ]
