#!/usr/bin/env bash
# From a fresh Debian 12 to a database volume in a container, before your eyes:
#
#   sudo ./quickstart.sh            install what is missing, build, start mountd, and do the job once
#   sudo ./quickstart.sh --down     stop what it started, and undo what it set up (volumes stay: --purge removes them too)
#
# Run again, it uses what is there. It starts a Docker engine or udevd only where none runs.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

data=${VDVS_QUICKSTART_DIR:-/var/lib/vdvs}     # datastore and state
run=/run/vdvs
mount_root=/mnt/vmdk
started=$run/quickstart                        # one file for each process that this script started
image=vdvs-busybox:local
volume=${VDVS_QUICKSTART_VOLUME:-MyVolume}
plugin_socket=/run/docker/plugins/vsphere.sock

bold=; plain=; dim=
if [ -t 1 ]; then bold=$(tput bold || true); dim=$(tput dim || true); plain=$(tput sgr0 || true); fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
die() { printf '\nquickstart: %s\n' "$*" >&2; exit 1; }
docker() { /usr/bin/docker "$@"; }

# Shows a command, runs it, and tells how long it took: step TEXT COMMAND... With TEXT "refused: ..." the command must fail.
step() {
  local text=$1 from to expect=; shift
  case "$text" in refused:*) expect=refused ;; esac
  printf '\n%s# %s%s\n$ %s\n' "$dim" "$text" "$plain" "$*"
  from=$(date +%s%N)
  $expect "$@" || die "this step failed: $*  (mountd's log: $data/mountd.log)"
  to=$(date +%s%N)
  printf '%s  took %d ms%s\n' "$dim" $(((to - from) / 1000000)) "$plain"
}

# Waits until a command succeeds: for a process that was just started.
await() {
  local what=$1 i; shift
  for i in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  die "$what does not come up"
}

is_ours_alive() { [ -s "$started/$1.pid" ] && kill -0 "$(cat "$started/$1.pid")" 2>/dev/null; }

stop_ours() {
  local name=$1 pid
  is_ours_alive "$name" || { rm -f "$started/$name.pid"; return 0; }
  pid=$(cat "$started/$name.pid")
  kill "$pid"
  tail --pid="$pid" -f /dev/null
  rm -f "$started/$name.pid"
  echo "stopped $name (pid $pid)"
}

down() {
  say "Stopping what the quick start has started"
  if docker version >/dev/null 2>&1; then
    docker rm -f vdvs-writer vdvs-reader >/dev/null 2>&1 || true
    if [ "${1:-}" = --purge ] && [ -S "$plugin_socket" ]; then
      docker volume rm "$volume" >/dev/null 2>&1 || true
    fi
    docker image rm "$image" >/dev/null 2>&1 || true
  fi
  # What containers no longer hold is unmounted and detached a moment after the last one: that is waited for.
  for _ in $(seq 100); do
    grep -q " $mount_root/" /proc/self/mountinfo || losetup --noheadings -O BACK-FILE | grep -q "^$data/" || break
    sleep 0.1
  done
  stop_ours mountd
  local left
  left=$(findmnt -rno TARGET | grep "^$mount_root/" || true)
  if [ -n "$left" ]; then
    echo "still mounted, since a container uses it:"; echo "$left"
  elif mountpoint -q "$mount_root" 2>/dev/null; then
    umount "$mount_root"
  fi
  stop_ours dockerd
  stop_ours udevd
  if [ "${1:-}" = --purge ]; then rm -rf "$data"; echo "removed $data"; else echo "the volumes stay in $data (--down --purge removes them)"; fi
  rm -rf "$started"
  [ -n "$left" ] || rm -rf "$run"  # the mount counts are of use only while something is mounted
  rmdir "$mount_root" 2>/dev/null || true
}

start_udevd() {
  pgrep -x systemd-udevd >/dev/null && return
  say "Starting udevd: none is running"
  /lib/systemd/systemd-udevd --daemon
  pgrep -xn systemd-udevd >"$started/udevd.pid"
  udevadm control --ping --timeout=10
}

start_docker() {
  docker version >/dev/null 2>&1 && return
  say "Starting the Docker engine: none is running"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    nohup /usr/sbin/dockerd >"$data/dockerd.log" 2>&1 </dev/null &
    echo $! >"$started/dockerd.pid"
  fi
  await "the Docker engine (log: $data/dockerd.log)" docker version
}

start_mountd() {
  if mountd_answers; then
    echo "mountd is running"
    return
  fi
  say "Starting mountd with an embedded datastore in $data/datastore"
  nohup build/release/mountd/mountd --datastore "$data/datastore" --state-dir "$data" --log-file "$data/mountd.log" \
    >"$data/mountd.out" 2>&1 </dev/null &
  echo $! >"$started/mountd.pid"
  await "mountd (see $data/mountd.out and $data/mountd.log)" mountd_answers
}

# Somebody takes connections at the socket: of a mountd that was killed the file, or even the process, may still be there.
listens() { perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ARGV[0])) or exit 1' "$1"; }
mountd_answers() { listens "$plugin_socket" && /usr/bin/docker volume ls -q -f driver=vsphere >/dev/null 2>&1; }

make_image() {
  docker image inspect "$image" >/dev/null 2>&1 && return
  say "Making a container image of Debian's static busybox: nothing is pulled"
  local root
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,data,etc,proc,sys,tmp}
  cp /bin/busybox "$root/bin/busybox"
  for applet in sh cat cp date dd df echo ls md5sum mount sleep sync tail touch; do ln -s busybox "$root/bin/$applet"; done
  tar -C "$root" -c . | docker import -c 'CMD ["/bin/sh"]' - "$image" >/dev/null
  rm -rf "$root"
}

refused() {
  local words
  if words=$("$@" 2>&1); then return 1; fi
  printf '%s\n' "$words"
}

session() {
  say "The job: one volume, from its creation to its end"
  docker rm -f vdvs-writer vdvs-reader >/dev/null 2>&1 || true
  # Never somebody's data: a volume of that name may be in earnest use.
  if docker volume inspect "$volume" >/dev/null 2>&1; then
    die "there is a volume '$volume' already; if it is only left of an interrupted quick start, remove it: docker volume rm $volume (or choose another name: VDVS_QUICKSTART_VOLUME=Other $0)"
  fi
  step "a volume of 10 GB: a VMDK on the datastore" docker volume create --driver=vsphere --name="$volume" -o size=10gb
  step "it is listed" docker volume ls
  step "and described" docker volume inspect "$volume"
  step "a container writes to it (the first use: hot-plug, detect, format, mount)" \
    docker run -d --name vdvs-writer -v "$volume:/data" "$image" sh -c 'echo "written by the first container" >/data/note; sync; exec sleep 3600'
  step "a second one shares it at the same time" docker run --rm --name vdvs-reader -v "$volume:/data" "$image" sh -c 'cat /data/note; df -h /data'
  step "refused: removing it while a container uses it" docker volume rm "$volume"
  step "the container goes" docker rm -f vdvs-writer
  step "a third container reads the data back" docker run --rm -v "$volume:/data" "$image" cat /data/note
  step "now it can be removed" docker volume rm "$volume"
}

case "${1:-}" in
  "" | --down | --help | -h) ;;
  *) die "unknown argument '$1': see the head of this script" ;;
esac
case "${1:-}" in --help | -h) sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;; esac
[ "$(id -u)" = 0 ] || die "loop devices, mounts and the Docker engine need root: sudo $0"
if [ "${1:-}" = --down ]; then down "${2:-}"; exit 0; fi

say "Packages and build"
packaging/install-packages.sh build run
cmake --preset release >/dev/null
cmake --build --preset release --target mountd
mkdir -p "$data" "$started"
start_udevd
start_docker
start_mountd
make_image
session

cat <<EOT

${bold}It runs.${plain} mountd goes on serving the drivers vsphere and vmdk.
  use it:      docker volume create --driver=vsphere --name=db -o size=20gb
               docker run -v db:/data $image sh -c 'ls /data'
  look at it:  docker volume ls; docker volume inspect db; tail -f $data/mountd.log; losetup --list; findmnt $mount_root -R
  stop it:     sudo ./quickstart.sh --down
EOT
