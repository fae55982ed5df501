"""The Docker engine's side of the volume plugin protocol: HTTP/1.1 POST with JSON over a unix socket, sent as
the engine sends it.

For tests that need what an engine cannot be made to do: a bad name on the wire, the same mount id twice, an
empty body, a kill between two calls.
"""
import http.client
import json
import socket

# What the engine sends with each request.
ACCEPT = "application/vnd.docker.plugins.v1.2+json"
HOST = "plugin.moby.localhost"


class PluginError(Exception):
    """The plugin answered with an Err; str() is its text."""


class NoAnswer(Exception):
    """The connection ended without a reply."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__(HOST, timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Plugin:
    """One plugin socket. Each call uses a connection of its own, so that calls may run on several threads at
    once."""

    def __init__(self, path, timeout=60):
        self.path = str(path)
        self.timeout = timeout

    def send(self, endpoint, body):
        """Posts raw bytes; returns (HTTP status, reply bytes). NoAnswer where the peer hangs up or is not
        there."""
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request("POST", "/" + endpoint, body=body, headers={"Accept": ACCEPT})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (ConnectionError, FileNotFoundError, http.client.HTTPException) as error:
            raise NoAnswer(f"{endpoint}: {error!r}") from error
        finally:
            connection.close()

    def call(self, endpoint, request):
        """One call of the protocol; the decoded reply, or PluginError."""
        status, reply = self.send(endpoint, json.dumps(request).encode())
        decoded = json.loads(reply) if reply else {}
        if decoded.get("Err") or status != 200:
            raise PluginError(decoded.get("Err") or f"HTTP {status}: {reply!r}")
        return decoded

    def activate(self):
        status, reply = self.send("Plugin.Activate", b"")
        if status != 200:
            raise PluginError(f"HTTP {status}: {reply!r}")
        return json.loads(reply)

    def create(self, name, **options):
        """Options with a dash are given as `clone_from=`: the dash is put back."""
        return self.create_with(name, {key.replace("_", "-"): value for key, value in options.items()})

    def create_with(self, name, options):
        return self.call("VolumeDriver.Create", {"Name": name, "Opts": options})

    def remove(self, name):
        return self.call("VolumeDriver.Remove", {"Name": name})

    def mount(self, name, mount_id):
        return self.call("VolumeDriver.Mount", {"Name": name, "ID": mount_id})["Mountpoint"]

    def unmount(self, name, mount_id):
        return self.call("VolumeDriver.Unmount", {"Name": name, "ID": mount_id})

    def mount_point(self, name):
        return self.call("VolumeDriver.Path", {"Name": name})["Mountpoint"]

    def get(self, name):
        return self.call("VolumeDriver.Get", {"Name": name})["Volume"]

    def list(self):
        return self.call("VolumeDriver.List", {})["Volumes"] or []

    def capabilities(self):
        return self.call("VolumeDriver.Capabilities", {})["Capabilities"]

    def names(self):
        return sorted(volume["Name"] for volume in self.list())
