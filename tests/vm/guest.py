"""One QEMU guest: its process, a shell in it, and the volume plugin of its mountd.

The guest's only network is a door to one TCP port of the host (slirp, restricted): the service's. Commands go over its second
serial port, so that they need no network at all. It has two QMP monitors: one is the service's, which must have it for itself,
and one is the test's.
"""
import base64
import ctypes
import json
import os
import pathlib
import select
import shlex
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from machine import PATIENCE, HarnessError, wait_for  # noqa: E402
from plugin_client import PluginError  # noqa: E402

QEMU = "/usr/bin/qemu-system-x86_64"
BOOT_TIME = 120.0
SERVICE_HOST = "10.0.2.100"  # what the guest calls the service
SERVICE_PORT = 1019
ROOT_PORTS = 4
PLUGIN_SOCKET = "/run/docker/plugins/vsphere.sock"
MOUNT_ROOT = "/mnt/vdvs"


def die_with_parent():
    """In the child: where the test is killed, so is this."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class GuestGone(HarnessError):
    """The guest, or its QEMU, has ended."""


class LineSocket:
    """Lines over a unix socket of QEMU's."""

    def __init__(self, path, patience=10.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._left = b""

        def connect():
            try:
                self._socket.connect(str(path))
                return True
            except OSError:
                return False
        wait_for(f"{path} is there", connect, patience)

    def send(self, line):
        self._socket.sendall(line + b"\n")

    def line(self, deadline):
        while b"\n" not in self._left:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise TimeoutError("no line in time")
            received = self._socket.recv(1 << 16)
            if not received:
                raise GuestGone("QEMU has closed the connection")
            self._left += received
        line, self._left = self._left.split(b"\n", 1)
        return line.strip()

    def close(self):
        self._socket.close()


class Qmp:
    """The test's own monitor."""

    def __init__(self, path):
        self._lines = LineSocket(path)
        self._lines.line(time.monotonic() + PATIENCE)
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        self._lines.send(json.dumps({"execute": command, "arguments": arguments}).encode())
        deadline = time.monotonic() + PATIENCE
        while True:
            message = json.loads(self._lines.line(deadline))
            if "error" in message:
                raise HarnessError(f"QMP {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def close(self):
        self._lines.close()


class Guest:
    """A VM that runs. `name`: its name, host name, and its certificate's."""

    def __init__(self, folder, name, uuid, kernel, initrd, service_port):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.uuid = uuid
        self.kernel = kernel
        self.initrd = initrd
        self.service_port = service_port
        self.process = None
        self.qmp = None
        self._agent = None
        self.qmp_path = self.folder / "service.qmp"
        self.console = self.folder / "console.log"

    def arguments(self):
        folder = self.folder
        arguments = [
            QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-name", self.name, "-uuid", self.uuid,
            "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-smp", "1",
            "-kernel", self.kernel / "vmlinuz", "-initrd", self.initrd,
            "-append", f"console=ttyS0 panic=-1 quiet net.ifnames=0 vm={self.name}",
            "-chardev", f"file,id=console,append=on,path={self.console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off", "-serial", "chardev:agent",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off", "-qmp", f"unix:{folder}/test.qmp,server=on,wait=off",
            "-netdev", f"user,id=net,restrict=on,guestfwd=tcp:{SERVICE_HOST}:{SERVICE_PORT}-cmd:{self.door()}",
            "-device", "virtio-net-pci,netdev=net"]
        for number in range(1, ROOT_PORTS + 1):
            arguments += ["-device", f"pcie-root-port,id=port{number},chassis={number},slot={number}"]
        return arguments

    def door(self):
        """What slirp starts for each connection of the guest's. What it says itself must not reach the guest."""
        return f"/bin/sh -c 'exec /usr/bin/busybox nc 127.0.0.1 {self.service_port} 2>/dev/null'"

    def start(self):
        """Returns at once; `await_boot` waits."""
        for name in ("agent", "service.qmp", "test.qmp"):
            (self.folder / name).unlink(missing_ok=True)
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen([str(word) for word in self.arguments()], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)
        self._agent = LineSocket(self.folder / "agent")
        self.qmp = Qmp(self.folder / "test.qmp")

    def await_boot(self):
        deadline = time.monotonic() + BOOT_TIME
        try:
            while self._agent.line(deadline) != b"@@READY":
                pass
        except TimeoutError:
            raise HarnessError(f"{self.name} does not boot; the end of its console:\n{self.console_end()}") from None

    def console_end(self):
        lines = self.console.read_text(errors="replace").splitlines() if self.console.exists() else []
        return "\n".join(lines[-30:])

    def kill(self):
        """The plug is pulled."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for channel in (self._agent, self.qmp):
            if channel is not None:
                channel.close()
        self._agent = self.qmp = None

    def reset(self):
        """The reset button; waits until it is up again."""
        self.qmp.run("system_reset")
        self.await_boot()

    # --- inside

    def try_shell(self, command, seconds=PATIENCE):
        """(status, output)"""
        self._agent.send(base64.b64encode(command.encode()))
        deadline = time.monotonic() + seconds
        output = []
        while True:
            try:
                line = self._agent.line(deadline).decode("ascii", "replace")
            except TimeoutError:
                raise HarnessError(f"{self.name}: no end within {seconds:.0f} s: {command}") from None
            if line.startswith("@@END"):
                return int(line.split()[1]), base64.b64decode("".join(output)).decode("utf-8", "replace")
            output.append(line)

    def shell(self, command, seconds=PATIENCE):
        status, output = self.try_shell(command, seconds)
        if status != 0:
            raise HarnessError(f"{self.name}: {command}: exit {status}: {output.strip()}")
        return output.strip()

    def write_file(self, path, text, mode="644"):
        self.shell(f"mkdir -p {os.path.dirname(path)} && printf %s {shlex.quote(text)} > {path} && chmod {mode} {path}")

    def insert_module(self, name):
        """One of guest_image.LATER_MODULES, after what it needs."""
        self.shell(f"while read -r module; do lsmod | grep -q \"^$(basename $module .ko) \" || insmod $module || exit; "
                   f"done < /lib/modules/{name}.order")

    # --- mountd

    def start_mountd(self, *arguments, certificates, linger="100ms", environment=""):
        """`certificates`: (authority, certificate, key), as texts."""
        for name, text in zip(("ca.crt", "guest.crt", "guest.key"), certificates):
            self.write_file(f"/etc/vdvs/{name}", text, "600")
        words = ["/usr/bin/mountd", "--control-plane", f"tcp:{SERVICE_HOST}:{SERVICE_PORT}", "--tls-authority", "/etc/vdvs/ca.crt",
                 "--tls-certificate", "/etc/vdvs/guest.crt", "--tls-key", "/etc/vdvs/guest.key", "--state-dir", "/var/lib/vdvs",
                 "--run-dir", "/run/vdvs", "--mount-root", MOUNT_ROOT, "--docker-socket", "/run/no-engine.sock", "--host-name", self.name,
                 "--detach-linger", linger, "--log-level", "debug", *arguments]
        self.shell(f"{environment} setsid {' '.join(map(shlex.quote, words))} >> /tmp/mountd.log 2>&1 & echo $! > /run/mountd.pid")

        def serves():
            if self.try_shell("kill -0 $(cat /run/mountd.pid)")[0] != 0:
                raise HarnessError(f"{self.name}: mountd has ended: {self.mountd_log()}")
            return self.try_shell(f"[ -S {PLUGIN_SOCKET} ]")[0] == 0
        wait_for(f"{self.name}: mountd serves", serves)

    def stop_mountd(self):
        self.shell("kill $(cat /run/mountd.pid)")
        wait_for(f"{self.name}: mountd has ended", lambda: self.try_shell("kill -0 $(cat /run/mountd.pid)")[0] != 0)

    def mountd_log(self):
        return self.try_shell("tail -n 120 /tmp/mountd.log")[1]

    def call(self, endpoint, **request):
        """One call of the plugin protocol; the decoded reply, or PluginError."""
        body = shlex.quote(json.dumps(request))
        reply = self.shell(f"curl -sS --max-time 60 --unix-socket {PLUGIN_SOCKET} -d {body} http://plugin/{endpoint}")
        decoded = json.loads(reply) if reply else {}
        if decoded.get("Err"):
            raise PluginError(decoded["Err"])
        return decoded

    def begin(self, job, endpoint, **request):
        """A call of the plugin protocol that goes on by itself; `ended` waits for its reply."""
        body = shlex.quote(json.dumps(request))
        self.shell(f"rm -f /tmp/{job}.status; (curl -sS --max-time 60 --unix-socket {PLUGIN_SOCKET} -d {body} http://plugin/{endpoint} "
                   f"> /tmp/{job}.reply 2>&1; echo $? > /tmp/{job}.status) > /dev/null 2>&1 &")

    def ended(self, job):
        wait_for(f"{self.name}: {job} ends", lambda: self.try_shell(f"[ -s /tmp/{job}.status ]")[0] == 0)
        decoded = json.loads(self.shell(f"cat /tmp/{job}.reply"))
        if decoded.get("Err"):
            raise PluginError(decoded["Err"])
        return decoded

    def create(self, volume, **options):
        self.call("VolumeDriver.Create", Name=volume, Opts={key.replace("_", "-"): text for key, text in options.items()})

    def remove(self, volume):
        self.call("VolumeDriver.Remove", Name=volume)

    def mount(self, volume, mount_id="m1"):
        return self.call("VolumeDriver.Mount", Name=volume, ID=mount_id)["Mountpoint"]

    def unmount(self, volume, mount_id="m1"):
        self.call("VolumeDriver.Unmount", Name=volume, ID=mount_id)

    def volumes(self):
        return sorted(volume["Name"] for volume in self.call("VolumeDriver.List")["Volumes"] or ())

    def status(self, volume):
        return self.call("VolumeDriver.Get", Name=volume)["Volume"].get("Status", {})

    def disks(self):
        """Names of its SCSI disks: sda, ..."""
        return self.shell("ls /sys/bus/scsi/drivers/sd/*/block 2>/dev/null | grep ^sd || true").split()
