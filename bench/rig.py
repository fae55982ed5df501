"""A real mountd and the bare commands, side by side on one machine, with nothing left of them afterwards.

A Rig is a folder on a real file system, in a mount namespace of its own that this process and all that it starts live in: whatever is mounted ends with
the last of them. Loop devices do not, so the rig detaches those over its files, at its end and (for a rig whose process was killed) at the next start.
"""
import ctypes
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

RIGS = pathlib.Path("/var/tmp")  # loop devices with direct I/O want a real file system below them
PREFIX = "vdvs-bench-"
UDEVD = "/lib/systemd/systemd-udevd"
PATIENCE = 120.0
# As fs-format/mkfs_command.cc formats.
MKFS_EXT4 = ["mkfs.ext4", "-F", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
RECOVERED = "Refcounting successfully completed"

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000


class RigError(Exception):
    pass


def run(*argv):
    """The output of a command, or RigError with its words."""
    outcome = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if outcome.returncode != 0:
        raise RigError(f"{' '.join(map(str, argv))}: exit {outcome.returncode}: {outcome.stderr.strip()}")
    return outcome.stdout.strip()


def wait_for(what, predicate):
    """Looks until `predicate` gives something true, and returns it: for what offers no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while not (found := predicate()):
        if time.monotonic() > deadline:
            raise RigError(f"waited {PATIENCE:.0f} s in vain until {what}")
        time.sleep(0.002)
    return found


def enter_own_mount_namespace():
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise RigError(f"no mount namespace of one's own: {os.strerror(ctypes.get_errno())} (root is needed)")
    run("mount", "--make-rprivate", "/")


def loop_devices(folder):
    """Device to backing file, of all loop devices over files below `folder`, deleted ones too."""
    found = {}
    for device in pathlib.Path("/sys/block").glob("loop*"):
        try:
            backing = (device / "loop/backing_file").read_text().rstrip("\n")
        except OSError:
            continue
        if backing.startswith(f"{folder}/"):
            found[f"/dev/{device.name}"] = backing
    return found


def mounts_below(folder):
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


def _start_time(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def _erase(folder):
    for point in reversed(mounts_below(folder)):
        subprocess.run(["umount", "-l", point], check=False)
    for device in loop_devices(folder):
        subprocess.run(["losetup", "-d", device], check=False)
    subprocess.run(["chattr", "-R", "-f", "-i", folder], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def _sweep():
    """What killed runs have left. Their mountd has died with them, and their mounts with their namespace."""
    for folder in RIGS.glob(PREFIX + "*"):
        try:
            owner = json.loads((folder / "owner").read_text())
            is_running = _start_time(owner["pid"]) == owner["started"]
        except OSError:
            is_running = False
        except ValueError:
            continue  # being made right now
        if not is_running:
            _erase(folder)


class Connection:
    """One keep-alive connection to a plugin socket, as the Docker engine holds them, with as little of Python on the way as can be."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def send(self, endpoint, request):
        body = json.dumps(request).encode() if request is not None else b""
        self.socket.sendall(b"POST /%s HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
                            b"Accept: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: %d\r\n\r\n" % (endpoint.encode(), len(body)) + body)

    def receive(self):
        """The reply's body, as bytes; RigError where its status is not 200."""
        data = bytearray()
        end = -1
        while end < 0:
            data += self._some()
            end = data.find(b"\r\n\r\n")
        head = bytes(data[:end]).decode("latin-1").lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in head if line.startswith("content-length:"))
        while len(data) < end + 4 + length:
            data += self._some()
        body = bytes(data[end + 4:])
        if " 200 " not in head[0] + " ":
            raise RigError(f"{head[0]}: {body.decode(errors='replace').strip()}")
        return body

    def call(self, endpoint, request):
        self.send(endpoint, request)
        return self.receive()

    def _some(self):
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise RigError("mountd closed the connection")
        return piece

    # The endpoints, as Docker uses them.

    def create(self, name, **options):
        self.call("VolumeDriver.Create", {"Name": name, "Opts": options})

    def mount(self, name, mount_id="bench"):
        return json.loads(self.call("VolumeDriver.Mount", {"Name": name, "ID": mount_id}))["Mountpoint"]

    def unmount(self, name, mount_id="bench"):
        self.call("VolumeDriver.Unmount", {"Name": name, "ID": mount_id})

    def remove(self, name):
        self.call("VolumeDriver.Remove", {"Name": name})

    def get(self, name):
        return json.loads(self.call("VolumeDriver.Get", {"Name": name}))["Volume"]


def call_side_by_side(connections, endpoint, requests):
    """One request on each connection, all sent before the first reply is read; the time until the last reply."""
    start = time.perf_counter()
    for connection, request in zip(connections, requests, strict=True):
        connection.send(endpoint, request)
    for connection in connections:
        connection.receive()
    return time.perf_counter() - start


class Mountd:
    """One mountd process. It dies with this one."""

    def __init__(self, rig, program, *args):
        self.rig = rig
        self.socket_path = rig.plugins / "vsphere.sock"
        argv = [program, "--datastore", f"ds={rig.datastore}", "--state-dir", rig.state, "--run-dir", rig.run_dir, "--plugin-dir", rig.plugins,
                "--mount-root", rig.mount_root, "--driver", "vsphere", *args]
        if "--docker-socket" not in args:
            argv += ["--docker-socket", ""]
        self._log = open(rig.root / "mountd.log", "ab")
        self._log_start = (rig.root / "mountd.log").stat().st_size
        self.started = time.perf_counter()
        self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                        preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))

    @property
    def pid(self):
        return self.process.pid

    def try_connect(self):
        if self.process.poll() is not None:
            raise RigError(f"mountd has ended with {self.process.returncode}; the end of its log:\n{self.log()[-2000:]}")
        try:
            return Connection(self.socket_path)
        except OSError:
            return None

    def connect(self):
        return wait_for("mountd listens", self.try_connect)

    def log(self):
        return (self.rig.root / "mountd.log").read_bytes()[self._log_start:].decode(errors="replace")

    def wait_recovered(self):
        wait_for("mountd has recovered", lambda: RECOVERED in self.log())

    def memory_kib(self):
        """(all that is resident, the part of it that is not a mapped file)"""
        status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]), int(status["RssAnon"].split()[0])

    def switches(self):
        """How often each thread has gone to sleep or was pushed aside, so far: no thread runs without one of the two."""
        counts = {}
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            counts[f"{status['Name'].strip()}/{task.name}"] = sum(int(status[f"{kind}_ctxt_switches"]) for kind in ("voluntary", "nonvoluntary"))
        return counts

    def wait_ended(self, seconds):
        pidfd = os.pidfd_open(self.pid)
        try:
            select.select([pidfd], [], [], seconds)
        finally:
            os.close(pidfd)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.wait_ended(PATIENCE)
            self.process.kill()
        self.process.wait()
        self._log.close()


class Engine:
    """A Docker engine of the rig's own, without containers and without a network."""

    def __init__(self, rig):
        self.root = rig.root / "engine"
        self.socket_path = self.root / "docker.sock"

    def __enter__(self):
        (self.root / "data").mkdir(parents=True)
        (self.root / "daemon.json").write_text("{}")
        self._log = open(self.root / "log", "wb")
        self._process = subprocess.Popen(
            ["dockerd", "--config-file", self.root / "daemon.json", "--data-root", self.root / "data", "--exec-root", self.root / "exec", "--pidfile",
             self.root / "pid", "--host", f"unix://{self.socket_path}", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM))
        try:
            wait_for("the Docker engine answers", self._answers)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self._process.terminate()  # its containerd ends with it
        self._process.wait()
        self._log.close()

    def _answers(self):
        if self._process.poll() is not None:
            raise RigError(f"dockerd has ended with {self._process.returncode}: {(self.root / 'log').read_text(errors='replace')[-1000:]}")
        return subprocess.run(["/usr/bin/docker", "-H", f"unix://{self.socket_path}", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Rig:
    """`with Rig() as rig:`. Folders are laid out as in use: state and datastore on the disk, run folder on tmpfs."""

    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())
        self._mountds = []
        self._udevd = None

    def __enter__(self):
        if not os.access(self.program, os.X_OK):
            raise RigError(f"there is no {self.program}: build the release preset")
        enter_own_mount_namespace()
        _sweep()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit("ended by a signal"))
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=RIGS))
        (self.root / "owner").write_text(json.dumps({"pid": os.getpid(), "started": _start_time(os.getpid())}))
        try:
            self.fresh_folders()
            self._ensure_udevd()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and self._mountds:
            print("---- the end of mountd's log", (self.root / "mountd.log").read_text(errors="replace")[-4000:], sep="\n", file=sys.stderr)
        self._close()

    def _close(self):
        for mountd in self._mountds:
            mountd.stop(signal.SIGKILL)
        _erase(self.root)
        if self._udevd is not None:
            self._udevd.terminate()
            self._udevd.wait()

    def fresh_folders(self, datastore_in_memory=False):
        """Another, empty, world for the next mountd. A datastore in memory (tmpfs) has no disk's noise in its figures."""
        world = pathlib.Path(tempfile.mkdtemp(prefix="world-", dir=self.root))
        self.datastore, self.state, self.run_dir, self.plugins, self.mount_root, self.bare = (
            world / name for name in ("datastore", "state", "run", "run/plugins", "mnt", "bare"))
        for folder in (self.datastore, self.state, self.run_dir, self.mount_root, self.bare):
            folder.mkdir()
        if datastore_in_memory:
            run("mount", "-t", "tmpfs", "-o", "mode=755,size=90%", "none", self.datastore)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", self.run_dir)
        self.plugins.mkdir()

    def _ensure_udevd(self):
        """As on any real host. One that runs here already is used."""
        def answers():
            return subprocess.run(["udevadm", "control", "--ping", "--timeout=5"], stderr=subprocess.DEVNULL).returncode == 0
        if answers():
            return
        pathlib.Path("/run/udev").mkdir(exist_ok=True)
        self._udevd = subprocess.Popen([UDEVD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("udevd answers", answers)

    def mountd(self, *args):
        mountd = Mountd(self, self.program, *args)
        self._mountds.append(mountd)
        return mountd

    def settle(self):
        """Until udevd has dealt with the events so far, so that they are not counted against what comes next."""
        subprocess.run(["udevadm", "settle", "--timeout=30"], check=False)

    def wait_detached(self, name):
        wait_for(f"the disk of {name} is detached", lambda: not any(f"/{name}-flat" in file for file in loop_devices(self.root).values()))
