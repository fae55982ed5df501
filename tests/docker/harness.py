"""Real Docker engines and real mountds for tests, side by side with whatever else runs on the machine, and
nothing left of them afterwards.

A Lab is a folder with datastores, and hosts that use them. A Host is a mount namespace of its own, in which
/run/docker (where the engine looks for plugin sockets, and nowhere else), /run/containerd and /etc/docker are
empty file systems; in it run one mountd and one dockerd, which starts its own containerd. The containers have
no network, so no bridge and no firewall rule is made. All processes of a host are found again by its mount
namespace and its cgroup, so that a clean-up needs no pid file: that also ends what a killed test run has left
(`sweep`).

    with Lab(mountd="build/dev/mountd/mountd") as lab:
        host = lab.host()
        host.start_mountd()
        host.start_engine()
        host.docker("volume", "create", "-d", "vsphere", "-o", "size=1gb", "db")
        host.run("db:/data", "echo hello > /data/greeting")
        lab.assert_nothing_leaked()
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile

from machine import (PATIENCE, HarnessError, adopt_orphans, end_all, erase, is_alive, loop_devices, mounts_of, reap_orphans,
                     record_process, recorded_processes, run, start_time, wait_for)
from plugin_client import NoAnswer, Plugin, PluginError  # noqa: F401 (part of this module's face)

DOCKER = "/usr/bin/docker"
BUSYBOX = "/bin/busybox"
UDEVD = "/lib/systemd/systemd-udevd"
IMAGE = "busybox:vdvs-test"
# On a real file system, since loop devices with direct I/O sit on it.
LABS = pathlib.Path("/var/tmp")
PREFIX = "vdvs-docker-"
# Folders of the host's own: what a real engine on this machine has there is covered.
COVERED = ("/run/docker", "/run/containerd", "/etc/docker")
# The service of a lab has a socket for each.
HOST_NAMES = ("host1", "host2", "alpha", "beta")
# What dockerd and containerd say at each start.
LOG_NOISE = ("loading plugin", "[core]", "serving...", "does not support", "skip loading", "deprecated")


def sweep():
    """Ends what the labs of killed test runs have left."""
    for folder in LABS.glob(PREFIX + "*"):
        try:
            owner = json.loads((folder / "owner").read_text())
        except (OSError, ValueError):
            continue  # being made right now
        if is_alive(owner["pid"]) and start_time(owner["pid"]) == owner["started"]:
            continue
        for host in folder.glob("hosts/*"):
            end_all(recorded_processes(host), f"{folder.name}-{host.name}")
        erase(folder)


def print_end_of(path, whose):
    if path.exists():
        lines = [line for line in path.read_text(errors="replace").splitlines() if not any(noise in line for noise in LOG_NOISE)]
        print(f"---- {whose}: the end of {path.name}", *lines[-80:], sep="\n", file=sys.stderr)


class Lab:
    """Datastores and hosts. Leaving the `with` ends and removes everything; after a failure the logs' ends
    are printed first. With `service`, a vmdkopsd owns the datastore, and each mountd is a guest of it over a
    unix socket that is given to that host; without, each mountd opens the datastore itself."""

    host_names = HOST_NAMES

    def __init__(self, mountd, engine_probe=None, service=None):
        self.mountd = str(pathlib.Path(mountd).resolve())
        self.engine_probe = engine_probe
        self.hosts = []
        self._udevd = None
        self._service_binary = service
        self._service = None

    def __enter__(self):
        if os.geteuid() != 0:
            raise HarnessError("these tests need root: they mount and make loop devices")
        sweep()
        adopt_orphans()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=LABS))
        (self.root / "owner").write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit("ended by a signal"))
        try:
            self._ensure_udevd()
            self.image = self._make_image()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            for host in self.hosts:
                host.print_logs()
            if self._service is not None:
                print_end_of(self._service_folder / "vmdkopsd.log", "the service")
        self._close()

    def _close(self):
        for host in self.hosts:
            host.end()
        if self._service is not None:
            self._service.kill()
            self._service.wait()
        if self._udevd is not None:
            self._udevd.terminate()
            self._udevd.wait()
        erase(self.root)

    def _ensure_udevd(self):
        if run(["pgrep", "-x", "systemd-udevd"], check=False).returncode == 0:
            return
        pathlib.Path("/run/udev").mkdir(exist_ok=True)
        self._udevd = subprocess.Popen([UDEVD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        wait_for("udevd answers",
                 lambda: run(["udevadm", "control", "--ping", "--timeout=5"], check=False).returncode == 0)

    def _make_image(self):
        """A tree with the static busybox and its links. Without /data: Docker would give its owner and mode
        to each new volume mounted there."""
        tree = self.root / "image"
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
            (tree / folder).mkdir(parents=True)
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        for applet in run([BUSYBOX, "--list"]).stdout.split():
            if applet != "busybox":
                (tree / "bin" / applet).symlink_to("busybox")
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\n")
        return tree

    def datastore(self, name="ds1"):
        folder = self.root / "datastores" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- the control plane

    @property
    def _service_folder(self):
        return self.root / "hosts/service"

    def ask_service(self, host):
        """The arguments by which that host's mountd finds the service, which is started when it is first
        needed; none where there is no service."""
        if self._service_binary is None:
            return []
        if self._service is None:
            self._service_folder.mkdir(parents=True)
            self.start_service()
        return ["--control-plane", f"unix:{self._service_folder}/{host}.sock"]

    def start_service(self, environment=None):
        folder = self._service_folder
        listen = [word for host in self.host_names for word in ("--listen", f"unix:{folder}/{host}.sock,vm={host}")]
        with open(folder / "vmdkopsd.log", "ab") as output:
            self._service = subprocess.Popen(
                [self._service_binary, *listen, "--datastore", f"ds1={self.datastore()}", "--state-dir", folder / "state",
                 "--database", folder / "auth-db", "--admin-socket", folder / "admin.sock", "--audit-log", folder / "audit.log",
                 "--host-name", "service", "--log-level", "debug", *self.service_args()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})})
        record_process(folder, self._service.pid)
        wait_for("the service listens", self._service_listens)

    def service_args(self):
        """More arguments of the service, for labs whose hosts need some."""
        return []

    def _service_listens(self):
        if self._service.poll() is not None:
            raise HarnessError(f"vmdkopsd has ended with {self._service.returncode}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._service_folder / f"{self.host_names[-1]}.sock")) == 0

    def kill_service(self):
        self._service.kill()
        self._service.wait()

    def stop_service(self):
        self._service.terminate()
        if (status := self._service.wait(PATIENCE)) != 0:
            raise HarnessError(f"vmdkopsd has ended with {status}")

    # --- hosts

    def host(self, name="host1"):
        return self.add_host(Host(self, name))

    def add_host(self, host):
        self.hosts.append(host)
        host.begin()
        return host

    def loop_devices(self):
        return loop_devices(self.root / "datastores")

    def assert_nothing_leaked(self):
        """Once the last container is gone: no loop device over a datastore, no mount and no folder under a
        mount root."""
        wait_for("no loop device is left", lambda: not self.loop_devices())
        for host in self.hosts:
            left = [*host.mounts(), *(str(path) for path in host.mount_root.iterdir())]
            if left:
                raise HarnessError(f"{host.name}: left under the mount root: {left}")


class Host:
    """A Docker host: a mount namespace with a mountd and an engine in it, each started, stopped and killed as
    the test wants."""

    # The engine leaves the machine's network alone.
    network_args = ("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.root = lab.root / "hosts" / name
        self.mount_root = self.root / "mnt"
        self.run_dir = self.root / "run"  # as seen on the host, like the next one
        self.exec_root = self.root / "exec"
        self.docker_socket = self.root / "docker.sock"
        self.cgroup = f"{lab.root.name}-{name}"
        self.mountd = None
        self.engine = None
        self._keeper = None
        self.mountd_args = []
        self._engine_args = []

    def begin(self):
        for folder in ("state", "run", "mnt", "data", "exec"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "daemon.json").write_text("{}")
        script = ["set -e", "mount --make-rshared /"]
        for folder in COVERED:
            script += [f"mkdir -p {folder}", f"mount -t tmpfs -o mode=755 none {folder}"]
        script += ["mkdir /run/docker/plugins", "echo ready", "exec sleep infinity"]
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", "; ".join(script)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._keeper.stdout.readline() != "ready\n":
            raise HarnessError(f"{self.name}: no mount namespace: {self._keeper.stderr.read()}")
        record_process(self.root, self._keeper.pid)

    @property
    def keeper_pid(self):
        """The process that keeps the namespace open: `nsenter -t` it to be on this host."""
        return self._keeper.pid

    def end(self):
        if self._keeper is None:
            return
        end_all([self._keeper.pid], self.cgroup)
        for process in (self._keeper, self.mountd, self.engine):
            if process is not None:
                process.wait()
        self._keeper.stdout.close()
        self._keeper.stderr.close()

    def print_logs(self):
        for name in ("run/holders.json", "mountd.log", "dockerd.log"):
            print_end_of(self.root / name, self.name)

    def inside(self, path):
        """A path of this host's mount namespace, as seen from outside."""
        return pathlib.Path(f"/proc/{self._keeper.pid}/root{path}")

    def enter(self):
        """The words before a command that make it run on this host."""
        return ["nsenter", "-t", str(self._keeper.pid), "-m", "--"]

    def signal(self, process, number):
        """To what `_spawn` has started."""
        process.send_signal(number)

    def _spawn(self, argv, log, environment=None):
        with open(self.root / log, "ab") as output:
            process = subprocess.Popen([*self.enter(), *map(str, argv)],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       env={**os.environ, **(environment or {})})
        record_process(self.root, process.pid)
        return process

    # --- mountd

    def start_mountd(self, *args, linger="200ms", environment=None, wait=True):
        """Starts mountd with this host's folders, on the lab's datastore `ds1` unless `args` name others."""
        args = [str(arg) for arg in args]
        if "--datastore" not in args:
            args += self.lab.ask_service(self.name) or ["--datastore", f"ds1={self.lab.datastore()}"]
        self.mountd_args = [
            "--state-dir", self.root / "state", "--run-dir", self.run_dir, "--mount-root", self.mount_root,
            "--docker-socket", self.docker_socket, "--host-name", self.name, "--detach-linger", linger,
            "--log-level", "debug", *args]
        self._launch_mountd(environment, wait)

    def _launch_mountd(self, environment=None, wait=True):
        self.mountd = self._spawn([self.lab.mountd, *self.mountd_args], "mountd.log", environment)
        if wait:
            wait_for("mountd answers", self._mountd_answers)

    def _mountd_answers(self):
        if self.mountd.poll() is not None:
            raise HarnessError(f"mountd has ended with {self.mountd.returncode}")
        try:
            self.plugin().activate()
        except NoAnswer:
            return False
        return True

    def stop_mountd(self):
        self.signal(self.mountd, signal.SIGTERM)
        if (status := self.mountd.wait(PATIENCE)) != 0:
            raise HarnessError(f"mountd has ended with {status}")

    def kill_mountd(self):
        self.signal(self.mountd, signal.SIGKILL)
        self.mountd.wait()

    def restart_mountd(self, environment=None, wait=True):
        """Again with the same arguments, after a stop or a kill."""
        self._launch_mountd(environment, wait)

    def plugin(self, driver=None):
        """The raw client of this host's plugin socket: of `driver`, or of the first that mountd serves."""
        if driver is None:
            args = self.mountd_args
            driver = args[args.index("--driver") + 1] if "--driver" in args else "vsphere"
        return Plugin(self.inside(f"/run/docker/plugins/{driver}.sock"))

    def mounts(self):
        return mounts_of(self._keeper.pid, self.mount_root)

    # --- the engine

    def start_engine(self, *args):
        self._engine_args = list(args)
        self._launch_engine()
        tar = tempfile.TemporaryFile()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            archive.add(self.lab.image, arcname=".")
        tar.seek(0)
        self.docker("import", "-c", 'CMD ["/bin/sh"]', "-", IMAGE, stdin=tar)

    def _launch_engine(self, wait=True):
        (self.root / "docker.pid").unlink(missing_ok=True)
        self.engine = self._spawn(
            ["dockerd", "--config-file", self.root / "daemon.json", "--data-root", self.root / "data", "--exec-root",
             self.exec_root, "--pidfile", self.root / "docker.pid", "--host", f"unix://{self.docker_socket}",
             "--cgroup-parent", f"/{self.cgroup}", "--exec-opt", "native.cgroupdriver=cgroupfs", *self.network_args,
             *self._engine_args], "dockerd.log")
        if wait:
            self.wait_for_engine()

    def engine_log(self):
        return (self.root / "dockerd.log").read_text(errors="replace")

    def wait_for_engine(self):
        wait_for("the Docker engine answers", self._engine_answers)

    def _engine_answers(self):
        if self.engine.poll() is not None:
            raise HarnessError(f"dockerd has ended with {self.engine.returncode}")
        return self.docker("version", check=False).returncode == 0

    def stop_engine(self):
        self.signal(self.engine, signal.SIGTERM)
        self.engine.wait(PATIENCE)

    def kill_engine(self):
        """kill -9: containers run on under their shims, and nothing is unmounted."""
        containerd = int((self.root / "exec/containerd/containerd.pid").read_text())
        self.engine.kill()
        self.engine.wait()
        wait_for("containerd has died with its engine", lambda: reap_orphans() or not pathlib.Path(f"/proc/{containerd}").exists())

    def restart_engine(self, wait=True):
        """Again with the same arguments, after a stop or a kill."""
        self._launch_engine(wait)

    def docker(self, *args, check=True, **options):
        """The docker command against this host's engine. With check: its output without the trailing
        newline."""
        outcome = run([DOCKER, "-H", f"unix://{self.docker_socket}", *args], check=check, timeout=180, **options)
        return outcome.stdout.rstrip("\n") if check else outcome

    def docker_fails(self, *args):
        """Docker's words where a command fails, as it must."""
        outcome = self.docker(*args, check=False)
        if outcome.returncode == 0:
            raise HarnessError(f"docker {' '.join(args)} succeeded: {outcome.stdout.strip()}")
        return outcome.stderr.strip()

    def create_volume(self, name, driver="vsphere", **options):
        """Options with a dash are given as `clone_from=`."""
        words = [word for key, value in options.items() for word in ("-o", f"{key.replace('_', '-')}={value}")]
        return self.docker("volume", "create", "-d", driver, *words, name)

    def inspect_volume(self, name):
        return json.loads(self.docker("volume", "inspect", name))[0]

    def run(self, volumes, script, *args):
        """A container that runs a shell script to its end and is removed; its output. `volumes`: one or
        several `-v` values."""
        return self.docker("run", "--rm", "--network", "none", *self._volume_args(volumes), *args, IMAGE, "sh", "-c", script)

    def start(self, name, volumes, script="sleep 1000000", *args):
        """A container that goes on in the background."""
        return self.docker("run", "-d", "--init", "--network", "none", "--name", name, *self._volume_args(volumes), *args,
                           IMAGE, "sh", "-c", script)

    @staticmethod
    def _volume_args(volumes):
        return [word for volume in ([volumes] if isinstance(volumes, str) else volumes) for word in ("-v", volume)]

    def exec(self, container, script):
        return self.docker("exec", container, "sh", "-c", script)

    def remove_containers(self, *names):
        self.docker("rm", "-f", *names)

    def is_running(self, container):
        return self.docker("inspect", "-f", "{{.State.Running}}", container) == "true"
