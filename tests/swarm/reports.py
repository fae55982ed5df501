"""Hears what record_writers in containers tell, over a unix socket that is mounted into them, and asks the verifier afterwards
whether all of it is there."""
import os
import pathlib
import socket
import threading

from cluster import bind_mount

from machine import HarnessError, wait_for

# As a container sees the folder.
INSIDE = "/reports"


class Reports:
    """A folder with the socket and, in `reports`, all that was told. Lines are kept in the order in which they came."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.path = self.folder / "reports"
        self._mutex = threading.Lock()
        self._sessions = {}  # session: how many of its reports have come, in the order of their first
        self._file = open(self.path, "w")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / "socket"))
        self._listener.listen()
        os.chmod(self.folder / "socket", 0o666)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection):
        with connection, connection.makefile("r") as lines:
            for line in lines:
                if line.endswith("\n"):
                    self._keep(line)

    def _keep(self, line):
        session = line.split()[3]
        with self._mutex:
            self._file.write(line)
            self._file.flush()
            self._sessions[session] = self._sessions.get(session, 0) + 1

    def mount(self):
        """For Node.create_service."""
        return bind_mount(self.folder, INSIDE)

    def sessions(self):
        """Lives of writers, in their order, and how many reports each has made."""
        with self._mutex:
            return dict(self._sessions)

    def total(self):
        return sum(self.sessions().values())

    def await_more(self, count=50, sessions=None):
        """That many more reports; with `sessions`, also that so many lives have been heard of."""
        wanted = self.total() + count
        wait_for(f"{count} more records are acknowledged", lambda: self.total() >= wanted)
        if sessions is not None and len(self.sessions()) != sessions:
            raise HarnessError(f"{len(self.sessions())} lives of writers were heard of, and not {sessions}")

    def await_writers(self, count, records=20):
        """So many lives of writers each have that many more records acknowledged from now on."""
        before = self.sessions()

        def busy():
            return [name for name, told in self.sessions().items() if told >= before.get(name, 0) + records]

        wait_for(f"{count} writers go on", lambda: len(busy()) >= count)

    def await_session(self, number):
        """Another life, the `number`th, has acknowledged something; its name."""
        wait_for(f"life {number} of the writer acknowledges", lambda: len(self.sessions()) >= number)
        return list(self.sessions())[number - 1]
