"""Real vmdkopsds on datastores and sockets of the test's own, and guests that speak the wire themselves.

    with Lab(vmdkopsd="build/dev/esx-vmci/service/vmdkopsd") as lab:
        service = lab.service()
        service.start()
        guest = service.guest("web")
        guest.call("create", "db", size="4mb")
        lab.assert_nothing_leaked()

A Lab is a folder on a real file system; what killed test runs have left there, the next one takes away. A
service's virtual machines are its sockets, one for each name; its hypervisor is this machine's loop devices.
"""
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from machine import PATIENCE, HarnessError, erase, is_alive, loop_devices, run, start_time, wait_for  # noqa: E402, F401

LABS = pathlib.Path("/var/tmp")  # loop devices with direct I/O want a real file system below them
PREFIX = "vdvs-service-"
MAGIC = 0x0BADBEEF
DEFAULT_GROUP = "11111111-1111-1111-1111-111111111111"
STOPPING = "Service is being stopped: operation declined!"


class Refused(Exception):
    """The service answered with an Error; str() is its text."""


class NoAnswer(Exception):
    """The connection ended without a reply."""


def frame(payload):
    payload = payload if isinstance(payload, bytes) else payload.encode()
    return struct.pack("<II", MAGIC, len(payload) + 1) + payload + b"\0"


def request(cmd, name="", request_id=None, **options):
    body = {"cmd": cmd, "details": {"Name": name}, "version": "2"}
    if options:
        body["details"]["Opts"] = {key.replace("_", "-"): value for key, value in options.items()}
    if request_id is not None:
        body["id"] = request_id
    return frame(json.dumps(body, separators=(",", ":")))


class Connection:
    """One connection to a service, byte by byte if need be."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError as error:
            self.socket.close()
            raise NoAnswer(f"connect to {path}: {error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise NoAnswer(f"send: {error}") from error

    def _take(self, count):
        data = b""
        while len(data) < count:
            try:
                some = self.socket.recv(count - len(data))
            except TimeoutError:
                raise
            except OSError as error:
                raise NoAnswer(f"receive: {error}") from error
            if not some:
                raise NoAnswer("the connection was closed")
            data += some
        return data

    def receive(self):
        """The next reply, decoded."""
        magic, length = struct.unpack("<II", self._take(8))
        assert magic == MAGIC, hex(magic)
        payload = self._take(length)
        assert payload[-1] == 0
        return json.loads(payload[:-1])

    def is_closed(self):
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            raise
        except OSError:
            return True


class Guest:
    """One virtual machine: each call is a connection of its own, as an original client's."""

    def __init__(self, path):
        self.path = path

    def connect(self):
        return Connection(self.path)

    def call(self, cmd, name="", **options):
        """The reply; Refused for an Error, NoAnswer where the service hangs up or is not there."""
        with self.connect() as connection:
            connection.send(request(cmd, name, **options))
            reply = connection.receive()
        if isinstance(reply, dict) and reply.get("Error") is not None:
            raise Refused(reply["Error"])
        return reply

    def names(self):
        return sorted(entry["Name"] for entry in self.call("list"))

    def refusal(self, cmd, name="", **options):
        try:
            answer = self.call(cmd, name, **options)
        except Refused as error:
            return str(error)
        raise AssertionError(f"not refused: {cmd} {name}: {answer}")

    def status(self, name):
        return self.call("get", name)["status"]


class Service:
    """One vmdkopsd: what an ESXi host has. Started, stopped and killed as the test wants."""

    def __init__(self, lab, name, vms, datastores, arguments):
        self.lab = lab
        self.name = name
        self.root = lab.root / "services" / name
        (self.root / "run").mkdir(parents=True)
        self.vms = vms
        self.datastores = datastores
        self.arguments = arguments
        self.database = self.root / "auth-db"
        self.log = self.root / "log"
        self.process = None

    def _command(self):
        command = [self.lab.vmdkopsd, "--database", self.database, "--state-dir", self.root / "state", "--audit-log", self.root / "audit.log",
                   "--admin-socket", self.root / "run/admin.sock", "--log-file", self.log, "--host-name", self.name, "--host-id", f"{self.name}-uuid"]
        for vm in self.vms:
            command += ["--listen", f"unix:{self.root}/run/{vm}.sock,vm={vm}"]
        for datastore in self.datastores:
            command += ["--datastore", f"{datastore.name}={datastore}"]
        return [str(word) for word in [*command, *self.arguments]]

    def start(self, faults="", **options):
        """Returns when it serves: it tells its supervisor, as systemd would hear it."""
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.root / "run/notify"
        path.unlink(missing_ok=True)
        notices.bind(str(path))
        notices.settimeout(1)
        environment = {**os.environ, "NOTIFY_SOCKET": str(path), "VDVS_FAULTS": faults}
        with open(self.root / "stderr", "a") as stderr:
            self.process = subprocess.Popen(self._command(), env=environment, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, **options)
        try:
            wait_for(f"{self.name} is ready", lambda: self._is_ready(notices))
        finally:
            notices.close()

    def _is_ready(self, notices):
        if self.process.poll() is not None:
            raise HarnessError(f"{self.name} ended with {self.process.returncode}: {(self.root / 'stderr').read_text()}{self.logged()}")
        try:
            return notices.recv(4096) == b"READY=1"
        except TimeoutError:
            return False

    def guest(self, vm):
        return Guest(self.root / f"run/{vm}.sock")

    def admin(self, verb, **flags):
        with Connection(self.root / "run/admin.sock") as connection:
            connection.send(frame(json.dumps({"cmd": "admin", "verb": verb, "flags": {key.replace("_", "-"): value for key, value in flags.items()}})))
            reply = connection.receive()
        if "Error" in reply:
            raise Refused(reply["Error"])
        return reply

    def counters(self):
        """What it has counted: its own, and by socket."""
        lines = self.admin("status", counters="")["lines"]
        found = dict(line.split(": ", 1) for line in lines[lines.index("=== Counters: ") + 1:])
        return {name: json.loads(value) for name, value in found.items()}

    def logged(self):
        return self.log.read_text() if self.log.exists() else ""

    def terminate(self):
        self.process.terminate()

    def stop(self):
        """As a supervisor does, and it must leave with 0."""
        self.terminate()
        status = self.process.wait(PATIENCE)
        if status != 0:
            raise HarnessError(f"{self.name} stopped with {status}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait_killed(self):
        """By a fault point of its own."""
        status = self.process.wait(PATIENCE)
        if status != -signal.SIGKILL:
            raise HarnessError(f"{self.name} ended with {status}, not by its fault point")

    def memory(self):
        """Resident, in bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise HarnessError("no VmRSS")


def sweep():
    for folder in LABS.glob(PREFIX + "*"):
        try:
            owner = json.loads((folder / "owner").read_text())
        except (OSError, ValueError):
            continue  # being made right now
        if not (is_alive(owner["pid"]) and start_time(owner["pid"]) == owner["started"]):
            erase(folder)


class Lab:
    """Datastores, and services that use them. Leaving the `with` ends and removes everything; after a failure
    the logs' ends are printed first."""

    def __init__(self, vmdkopsd):
        self.vmdkopsd = str(pathlib.Path(vmdkopsd).resolve())
        self.services = []

    def __enter__(self):
        if os.geteuid() != 0:
            raise HarnessError("these tests need root: they make loop devices")
        sweep()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand connections have two ends
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=LABS))
        (self.root / "owner").write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit("ended by a signal"))
        return self

    def __exit__(self, kind, error, trace):
        for service in self.services:
            if kind is not None:
                print(f"--- {service.name}\n{service.logged()[-4000:]}", file=sys.stderr)
            if service.process is not None and service.process.poll() is None:
                service.kill()
        erase(self.root)

    def datastore(self, name="ds1"):
        folder = self.root / "datastores" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def service(self, name="host1", vms=("web", "db"), datastores=None, arguments=()):
        service = Service(self, name, vms, datastores or [self.datastore()], arguments)
        self.services.append(service)
        return service

    def loop_devices(self):
        return loop_devices(self.root / "datastores")

    def files(self):
        """Of volumes, in all datastores: the services' own (locks, marks) are hidden."""
        return sorted(str(path.relative_to(self.root / "datastores")) for path in (self.root / "datastores").rglob("*")
                      if path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.name != "vmdkops_config.db")

    def assert_nothing_leaked(self):
        """Once every volume is removed."""
        assert not self.loop_devices(), self.loop_devices()
        assert not self.files(), self.files()
