"""A vmdkopsd with two datastores and three VMs in a folder of its own, and vmdkops_admin beside it. With a service that runs all the
time, or with none: then one is started only while a guest has something to do. Needs root: attached disks are loop devices."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

PATIENCE = 60  # seconds: only so that a broken service ends the test
MAGIC = 0x0BADBEEF
VMS = ("web-1", "web-2", "db-1")
DEFAULT_GROUP = "11111111-1111-1111-1111-111111111111"


class Guest:
    """A VM's end of the wire: the predecessor's frames, one request a connection."""

    def __init__(self, path):
        self.path = str(path)

    def ask(self, command, name="", **options):
        if command != "set_init":  # whose option is ours, and has an underscore
            options = {key.replace("_", "-"): value for key, value in options.items()}
        details = {"Name": name} | ({"Opts": options} if options else {})
        payload = json.dumps({"cmd": command, "details": details, "version": "2"}).encode() + b"\0"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(self.path)
            connection.sendall(struct.pack("<II", MAGIC, len(payload)) + payload)
            magic, length = struct.unpack("<II", self._receive(connection, 8))
            assert magic == MAGIC, hex(magic)
            return json.loads(self._receive(connection, length).rstrip(b"\0"))

    @staticmethod
    def _receive(connection, count):
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            assert piece, "the service has closed the connection"
            data += piece
        return data

    def works(self, command, name="", **options):
        reply = self.ask(command, name, **options)
        assert not isinstance(reply, dict) or "Error" not in reply, (command, name, reply)
        return reply

    def fails(self, command, name="", **options):
        reply = self.ask(command, name, **options)
        assert isinstance(reply, dict) and "Error" in reply, (command, name, reply)
        return reply["Error"]


class Rig:
    """`runs_service`: all the time, or only for guests."""

    def __init__(self, programs, runs_service=True, more_datastores=()):
        self.programs = programs
        self.more_datastores = more_datastores
        self.runs_service = runs_service
        self.daemon = None

    def __enter__(self):
        # Loop devices with direct I/O need a real file system.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vdvs-admin-", dir="/var/tmp"))
        (self.folder / "bin").mkdir()
        for name in ("ds1", "ds2"):
            (self.folder / name).mkdir()
        self.config = self.folder / "vmdkopsd.toml"
        listens = ", ".join(f'"unix:{self.folder}/{vm}.sock,vm={vm}"' for vm in VMS)
        datastores = ", ".join(f'"{each}"' for each in (f"ds1={self.folder}/ds1", f"ds2={self.folder}/ds2", *self.more_datastores))
        self.config.write_text(
            f'listen = [{listens}]\ndatastore = [{datastores}]\n'
            f'database = "{self.folder}/etc/auth-db"\nadmin-socket = "{self.folder}/admin.sock"\n'
            f'audit-log = "{self.folder}/log/audit.log"\nstate-dir = "{self.folder}/state"\nhost-name = "host-1"\n'
            f'log-file = "{self.folder}/service.log"\n', encoding="utf-8")
        if self.runs_service:
            self.start()
        return self

    def __exit__(self, kind, error, trace):
        try:
            if self.daemon is not None:
                self.stop(signal.SIGKILL)
            if kind is not None and (self.folder / "service.log").exists():
                print((self.folder / "service.log").read_text(encoding="utf-8")[-4000:])
        finally:
            self._detach_all()
            shutil.rmtree(self.folder)

    def _detach_all(self):
        listing = subprocess.run(["losetup", "--list", "--json", "--output", "NAME,BACK-FILE"], capture_output=True, text=True,
                                 check=True).stdout
        for device in json.loads(listing or '{"loopdevices": []}')["loopdevices"]:
            if device["back-file"].startswith(f"{self.folder}/"):
                subprocess.run(["losetup", "--detach", device["name"]], check=True)

    # ---- the service ----

    def start(self):
        """Returns when it serves, which it tells as it would tell systemd."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = f"{self.folder}/notify.sock"
            ready.bind(address)
            ready.settimeout(PATIENCE)
            self.daemon = subprocess.Popen([self.programs["vmdkopsd"], "--config", self.config], stdin=subprocess.DEVNULL,
                                           env={**os.environ, "NOTIFY_SOCKET": address})
            try:
                assert b"READY=1" in ready.recv(4096)
            except TimeoutError:
                raise AssertionError("vmdkopsd does not serve") from None
            finally:
                os.unlink(address)

    def stop(self, how=signal.SIGTERM):
        daemon, self.daemon = self.daemon, None
        daemon.send_signal(how)
        return daemon.wait(PATIENCE)

    @contextlib.contextmanager
    def guest(self, vm="web-1"):
        is_borrowed = self.daemon is None
        if is_borrowed:
            self.start()
        try:
            yield Guest(self.folder / f"{vm}.sock")
        finally:
            if is_borrowed:
                assert self.stop() == 0

    # ---- the administrator ----

    def run(self, *words, program="vmdkops_admin", columns=1000, uid=None):
        """Without a terminal; the width comes from stty, which has none either: a table is cut at 80 columns unless it is wider."""
        command = [self.programs[program], "--config", str(self.config)] if program == "vmdkops_admin" else [self.programs[program]]
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=PATIENCE, check=False, user=uid,
                              stdin=subprocess.DEVNULL, env={**os.environ, "COLUMNS": str(columns)})

    def works(self, *words):
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, ""), (words, done)
        return done.stdout

    def says(self, *words):
        """The one line of a command that has nothing to show."""
        return self.works(*words).rstrip("\n")

    def rows(self, *words):
        """A table's rows, by the names of its columns."""
        return json.loads(self.works("--json", *words))["rows"]

    def error(self, *words, status=2):
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (status, ""), (words, done)
        assert done.stdout.startswith("ERROR:"), (words, done)
        return done.stdout.removeprefix("ERROR:").split("\n")[0]

    def misuse(self, *words, status=2):
        """A command line that is wrong: nothing on standard output."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (status, ""), (words, done)
        return done.stderr

    def audit(self):
        lines = (self.folder / "log/audit.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def log_lines(self, text):
        lines = (self.folder / "service.log").read_text(encoding="utf-8").splitlines()
        return [line for line in lines if text in line]

    def vmdk(self, volume, datastore="ds1", group=DEFAULT_GROUP):
        return self.folder / datastore / "dockvols" / group / f"{volume}.vmdk"


class VsanRoot:
    """A root folder that is this machine's with a vSAN's place in it (/vmfs/volumes/vsan:...), where each program of `programs` is run.
    What is mounted is mounted in a namespace of that program's own, so nothing of it is ever seen, or to be unmounted, outside."""

    DATASTORE = "/vmfs/volumes/vsan:52d8eb4842dbf493-41523be9cd4ff7b7"

    def __init__(self, programs):
        self.programs = programs

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vdvs-vsan-", dir="/var/tmp"))
        self.root = self.folder / "root"
        self.backing = self.folder / "backing"
        self.backing.mkdir()
        (self.root / self.DATASTORE.lstrip("/")).mkdir(parents=True)
        mounts = [f"mount --bind {self.backing} '{self.root}{self.DATASTORE}'"]
        for entry in pathlib.Path("/").iterdir():
            place = self.root / entry.name
            if entry.is_symlink():
                place.symlink_to(os.readlink(entry))
            elif entry.is_dir() and entry.name != "vmfs":
                place.mkdir()
                mounts.append(f"mount --rbind /{entry.name} {place}")
        (self.folder / "enter").write_text("\n".join(["#!/bin/sh", "set -e", *mounts, f'exec chroot {self.root} "$@"', ""]), encoding="utf-8")
        return {name: self._wrap(name, path) for name, path in self.programs.items()}

    def _wrap(self, name, path):
        script = self.folder / name
        script.write_text(f'#!/bin/sh\nexec unshare --mount --propagation private sh {self.folder}/enter {os.path.abspath(path)} "$@"\n',
                          encoding="utf-8")
        script.chmod(0o755)
        return str(script)

    def __exit__(self, kind, error, trace):
        shutil.rmtree(self.backing)
        for script in ("enter", *self.programs):
            (self.folder / script).unlink()
        # Folder by folder and only empty ones: this tree has had the whole machine in it.
        for folder, _, names in os.walk(self.root, topdown=False):
            for name in [*names, *(each for each in os.listdir(folder) if os.path.islink(f"{folder}/{each}"))]:
                if os.path.islink(f"{folder}/{name}"):
                    os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
        self.folder.rmdir()


def median_ms(work, rounds=11):
    """For printing; no test asserts how long something takes."""
    times = []
    for _ in range(rounds):
        start = time.monotonic()
        work()
        times.append((time.monotonic() - start) * 1000)
    return sorted(times)[rounds // 2]
