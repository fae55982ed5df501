"""A vmdkopsd with QEMU guests, and nothing of them left afterwards.

    with Lab(vmdkopsd=..., mountd=..., vmdkops_admin=..., vsock_test=...) as lab:
        lab.guest("web-1")
        lab.start_service()
        [web1] = lab.boot("web-1")
        lab.start_mountd(web1)
        web1.create("db", size="64mb")

A Lab is a folder with a datastore, certificates, one service and the guests' files. Everything that it starts is a child of the
test and is killed by its pid. Where a test fails, the ends of all logs are printed.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from machine import PATIENCE, HarnessError, run, wait_for  # noqa: E402
from guest import SERVICE_HOST, Guest, die_with_parent  # noqa: E402
from guest_image import kernel_folder, make_image  # noqa: E402

FOLDERS = pathlib.Path("/var/tmp")
PREFIX = "vdvs-vm-"
MAGIC = 0x0BADBEEF
LOG_LINES = 150


class ServiceError(Exception):
    """The service answered with an error; str() is its text."""


class WireClient:
    """The protocol itself, for what no client of ours would do, or does not show: one request over one connection."""

    def __init__(self, path):
        self.path = path

    def request(self, command, name="", options=None, seconds=PATIENCE):
        details = {"Name": name} | ({"Opts": options} if options else {})
        body = json.dumps({"cmd": command, "details": details, "version": "2"}).encode() + b"\0"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(seconds)
            peer.connect(str(self.path))
            peer.sendall(struct.pack("<II", MAGIC, len(body)) + body)
            _, length = struct.unpack("<II", self._read(peer, 8))
            reply = json.loads(self._read(peer, length).rstrip(b"\0"))
        if isinstance(reply, dict) and "Error" in reply:
            raise ServiceError(reply["Error"])
        return reply

    @staticmethod
    def _read(peer, length):
        read = b""
        while len(read) < length:
            part = peer.recv(length - len(read))
            if not part:
                raise ConnectionError("the service has closed the connection")
            read += part
        return read


class Lab:
    def __init__(self, vmdkopsd, mountd, vmdkops_admin, vsock_test=None):
        self.vmdkopsd = pathlib.Path(vmdkopsd)
        self.mountd = pathlib.Path(mountd)
        self.vmdkops_admin = pathlib.Path(vmdkops_admin)
        self.vsock_test = pathlib.Path(vsock_test) if vsock_test else None
        self.root = None
        self.guests = {}
        self.service = None
        self._service_arguments = []
        self._port = None

    def __enter__(self):
        self._sweep()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDERS))
        (self.root / "owner").write_text(str(os.getpid()))
        try:
            for name in ("ds1", "service", "tls"):
                (self.root / name).mkdir()
            self._port = free_port()
            self.kernel = kernel_folder()
            self.initrd = make_image(self.root, self.kernel, [self.mountd, *filter(None, [self.vsock_test])])
            self.make_authority()
            self.make_certificate("service", f"subjectAltName=IP:{SERVICE_HOST},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.print_logs()
        self._close()

    @staticmethod
    def _sweep():
        """What killed runs have left on disk. Their processes have ended with them."""
        for folder in FOLDERS.glob(PREFIX + "*"):
            try:
                owner = int((folder / "owner").read_text())
            except (OSError, ValueError):
                continue
            if not pathlib.Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _close(self):
        for guest in self.guests.values():
            guest.kill()
        if self.service is not None and self.service.poll() is None:
            self.service.kill()
            self.service.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def print_logs(self):
        def show(title, text):
            print(f"---- the end of {title}", *text.splitlines()[-LOG_LINES:], sep="\n", file=sys.stderr)
        log = self.root / "service/log"
        if log.exists():
            show("the service's log", log.read_text(errors="replace"))
        for guest in self.guests.values():
            try:
                show(f"{guest.name}'s mountd", guest.mountd_log())
            except (HarnessError, OSError, AttributeError) as error:
                show(f"{guest.name}'s mountd", f"not readable: {error}")
            show(f"{guest.name}'s console", guest.console_end())

    # --- certificates

    def _openssl(self, *words):
        run(["openssl", *words], cwd=self.root / "tls")

    def make_authority(self, name="ca"):
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                      f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")

    def make_certificate(self, name, extensions="extendedKeyUsage=clientAuth\n", common_name=None, authority="ca"):
        """<name>.crt and .key, by one of the lab's authorities."""
        folder = self.root / "tls"
        (folder / f"{name}.ext").write_text(extensions)
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={common_name or name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
                      "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")

    def certificates(self, name):
        return [(self.root / "tls" / file).read_text() for file in ("ca.crt", f"{name}.crt", f"{name}.key")]

    # --- the service

    def guest(self, name):
        """Made known; the service reads its list of VMs at its start, so all are made before."""
        number = len(self.guests) + 1
        folder = self.root / name
        folder.mkdir()
        self.make_certificate(name)
        self.guests[name] = Guest(folder, name, f"4c4c4544-0000-4000-8000-{number:012d}", self.kernel, self.initrd, self._port)
        return self.guests[name]

    def _write_vms(self):
        vms = [{"name": guest.name, "uuid": guest.uuid, "qmp": str(guest.qmp_path)} for guest in self.guests.values()]
        (self.root / "vms.json").write_text(json.dumps({"vms": vms}))

    def start_service(self, *arguments, faults="", wait=True):
        self._write_vms()
        service = self.root / "service"
        self._service_arguments = [
            self.vmdkopsd, "--hypervisor", f"qemu:{self.root}/vms.json", "--datastore", f"ds1={self.root}/ds1", "--listen",
            f"tcp:127.0.0.1:{self._port}", "--tls-authority", self.root / "tls/ca.crt", "--tls-certificate",
            self.root / "tls/service.crt", "--tls-key", self.root / "tls/service.key", "--database", service / "auth-db",
            "--admin-socket", service / "admin.sock", "--state-dir", service / "state", "--audit-log", service / "audit.log",
            "--log-level", "debug", *arguments]
        for name in self.guests:
            self._service_arguments += ["--listen", f"unix:{service}/{name}.sock,vm={name}"]
        self.restart_service(faults, wait)

    def restart_service(self, faults="", wait=True):
        """With the same arguments, after a stop or a kill."""
        with open(self.root / "service/log", "ab") as log:
            self.service = subprocess.Popen([str(word) for word in self._service_arguments], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=os.environ | ({"VDVS_FAULTS": faults} if faults else {}),
                                            preexec_fn=die_with_parent)
        if wait:
            self.await_service()

    def await_service(self):
        def serves():
            if self.service.poll() is not None:
                raise HarnessError(f"vmdkopsd has ended with {self.service.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return True
            except OSError:
                return False
        wait_for("vmdkopsd serves", serves)

    def stop_service(self):
        self.service.send_signal(signal.SIGTERM)
        if (status := self.service.wait(PATIENCE)) != 0:
            raise HarnessError(f"vmdkopsd has ended with {status}")

    def kill_service(self):
        self.service.kill()
        self.service.wait()

    def wire(self, name):
        """Requests in the name of a guest, without the guest."""
        return WireClient(self.root / "service" / f"{name}.sock")

    def service_log(self):
        return (self.root / "service/log").read_text(errors="replace")

    # --- guests

    def boot(self, *names):
        """Side by side; with mountd, where there is a service."""
        started = [self.guests[name] for name in names]
        for guest in started:
            guest.start()
        for guest in started:
            guest.await_boot()
        return started

    def start_mountd(self, *guests, **options):
        for guest in guests:
            guest.start_mountd(certificates=self.certificates(guest.name), **options)

    # --- what is

    def admin(self, *words):
        """The administrator's command, against the service."""
        environment = os.environ | {"VDVS_ADMIN_SOCKET": str(self.root / "service/admin.sock")}
        return run([self.vmdkops_admin, *words], env=environment).stdout

    def extent(self, volume):
        return next((self.root / "ds1").rglob(f"{volume}-flat.vmdk"))

    def disk_uuid(self, volume):
        """32 hex digits, from the descriptor."""
        text = next((self.root / "ds1").rglob(f"{volume}.vmdk")).read_text()
        return re.sub("[^0-9a-f]", "", re.search(r'ddb.uuid = "(.*)"', text).group(1).lower())

    @staticmethod
    def open_images(guest):
        """The extents that its QEMU has open."""
        nodes = guest.qmp.run("query-named-block-nodes", flat=True)
        return sorted(node["file"] for node in nodes if node["drv"] == "file")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fails_with(kind, action, *texts):
    """`action` must fail, and say all of `texts`."""
    try:
        action()
    except kind as error:
        for text in texts:
            assert text in str(error), f"'{text}' is not in: {error}"
        return
    raise AssertionError("that must not work")
