#!/usr/bin/env bash
# Installs the Debian packages of the given lists (build, run, test) that are not there yet.
#   packaging/install-packages.sh build run
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
wanted=()
for list in "$@"; do
  while read -r package; do wanted+=("$package"); done < <(grep -v '^#' "$here/packages-$list.txt")
done
missing=()
for package in "${wanted[@]}"; do
  # An engine that came from elsewhere stays: Debian's would conflict with it.
  [ "$package" = docker.io ] && command -v dockerd >/dev/null && continue
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
[ "$(id -u)" = 0 ] || { echo "these packages are missing, and installing them needs root: ${missing[*]}" >&2; exit 1; }
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Services of the packages are started by whoever needs them, not by the installation.
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "installing failed; the whole log is $log" >&2
  exit 1
fi
rm -f "$log"
