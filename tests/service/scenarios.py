#!/usr/bin/env python3
"""What guests, good and bad, do to a real vmdkopsd: scenarios.py CASE --vmdkopsd PATH. Needs root."""
import argparse
import faulthandler
import os
import pathlib
import resource
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from service_lab import MAGIC, PATIENCE, STOPPING, Connection, Lab, NoAnswer, Refused, frame, request, run, wait_for  # noqa: E402

MALFORMED = [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, struct.pack("<II", MAGIC, 0), struct.pack("<II", MAGIC, 0xFFFFFFFF),
             struct.pack("<II", MAGIC, 5) + b"a\0bc\0", struct.pack("<II", MAGIC, 4) + b"null", struct.pack("<II", ~MAGIC & 0xFFFFFFFF, 5) + b"null\0"]


def started(lab, **options):
    service = lab.service(**options)
    service.start()
    return service


def serves_others(service, vm="db"):
    """A guest with nothing to hide gets what it asks for."""
    guest = service.guest(vm)
    guest.call("create", "other", size="1mb")
    assert guest.names() == ["other@ds1"]
    guest.call("remove", "other")


class InBackground(threading.Thread):
    """A call that waits, and its outcome."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.outcome = None
        self.start()

    def run(self):
        try:
            self.outcome = self.work()
        except (NoAnswer, Refused) as error:
            self.outcome = error

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "it still waits"
        return self.outcome


def malformed_frames(lab):
    service = started(lab)
    path = service.guest("web").path
    for number in range(10_000):
        with Connection(path) as connection:
            try:
                connection.send(MALFORMED[number % len(MALFORMED)])
            except NoAnswer:
                pass
            connection.socket.shutdown(1) if number % 3 else None
            if number % 100 == 0:
                assert connection.is_closed()
    serves_others(service)
    serves_others(service, "web")  # even its sender, once it speaks
    counted = service.counters()["malformed_frames"]
    assert counted >= 5_000, f"{counted} were counted"
    logged = service.logged().count("does not speak our frames")
    assert 0 < logged < 1_000, f"{logged} lines about it: a stranger must not fill the disk"
    service.stop()


def thousand_connections(lab):
    service = started(lab)
    held = [Connection(service.guest("web").path) for _ in range(1_000)]
    wait_for("all are held", lambda: service.counters()["connections"] >= 1_000)
    serves_others(service)
    serves_others(service, "web")
    # Those that were held are not forgotten either.
    for connection in held[::100]:
        connection.send(request("list"))
        assert connection.receive() == []
    for connection in held:
        connection.close()
    wait_for("all are gone", lambda: service.counters()["connections"] == 0)
    service.stop()


def few_descriptors(lab):
    """Started with the usual soft limit of open files, it raises it as far as it may, and keeps enough of them from connections to work with."""
    service = lab.service(arguments=("--threads", "4"))
    service.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512)))
    held = [Connection(service.guest("web").path) for _ in range(600)]
    held[0].send(request("list"))
    assert held[0].receive() == []
    assert held[-1].is_closed(), "a connection beyond the limit was left waiting"
    serves_others(service)
    for connection in held:
        connection.close()
    wait_for("all are gone", lambda: service.counters()["connections"] == 0)
    serves_others(service, "web")
    assert "leaves fewer connections than usual" in service.logged()
    service.stop()


def stalled_guest(lab):
    """In the middle of a frame, before one, and with answers that it does not take."""
    service = started(lab)
    path = service.guest("web").path
    middle, silent, deaf = Connection(path), Connection(path), Connection(path)
    middle.send(request("create", "db", size="1mb")[:20])
    deaf.socket.setblocking(False)
    sent = 0
    try:
        while True:
            deaf.socket.send(request("list", request_id=sent))
            sent += 1
    except BlockingIOError:
        pass
    assert sent > 64
    for _ in range(5):
        serves_others(service)
    with Connection(path) as own:  # nor does it hold up other connections of its own
        own.send(request("list"))
        assert own.receive() == []
    for connection in (middle, silent, deaf):
        connection.close()
    service.stop()


def slow_guest(lab):
    """Creates that hang on a slow disk take that guest's share of the threads and no more."""
    gate = lab.root / "gate"
    service = lab.service(arguments=("--threads", "6"))
    service.start(faults=f"create.extent.after=block:{gate}")
    waiting = [InBackground(lambda name=f"db{i}": service.guest("web").call("create", name, size="1mb")) for i in range(20)]
    wait_for("the first ones hang", lambda: len([name for name in lab.files() if name.endswith(".creating")]) == 3)
    guest = service.guest("db")
    for _ in range(20):
        assert guest.names() == []
        assert "not found" in guest.refusal("get", "db0")
    gate.touch()
    assert [each.result() for each in waiting] == [None] * 20
    assert len(guest.names()) == 20
    service.stop()


def graceful_stop(lab):
    """What runs is finished and answered, what has not begun is declined, and then it leaves."""
    gate = lab.root / "gate"
    service = lab.service()
    service.start(faults=f"create.extent.after=block:{gate}")
    running = InBackground(lambda: service.guest("web").call("create", "db", size="1mb"))
    wait_for("the create runs", lambda: any(name.endswith("-flat.vmdk") for name in lab.files()))
    late = Connection(service.guest("db").path)
    service.terminate()
    wait_for("the stop has begun", lambda: "stopping" in service.logged())
    late.send(request("list"))
    assert late.receive() == {"Error": STOPPING}
    assert STOPPING in service.guest("db").refusal("list")
    gate.touch()
    assert running.result() is None
    assert service.process.wait(PATIENCE) == 0
    assert not service.guest("web").path.exists(), "a socket file that nobody listens on makes clients wait"
    service.start()
    assert service.guest("web").names() == ["db@ds1"]
    service.stop()


def attached_disks_outlive_the_service(lab):
    """Containers are on them."""
    service = started(lab)
    guest = service.guest("web")
    guest.call("create", "db", size="4mb")
    device = guest.call("attach", "db")["Device"]
    service.stop()
    assert list(lab.loop_devices()) == [device]
    service.start()
    assert guest.status("db") == "attached" and guest.call("attach", "db")["Device"] == device
    assert "in use by VM = web" in service.guest("db").refusal("remove", "db")
    service.kill()
    service.start()
    guest.call("detach", "db")
    guest.call("remove", "db")
    lab.assert_nothing_leaked()


def second_service_on_one_socket(lab):
    """A second start with the same settings must not take the first one's place."""
    service = started(lab)
    twin = run(service._command(), check=False)
    assert twin.returncode == 1, twin
    serves_others(service)
    service.stop()


def strangers(lab):
    """A process that is neither root nor of the socket's group: closed without a reply, logged, counted."""
    service = started(lab)
    path = service.guest("web").path
    for folder in [lab.root, *(parent for parent in path.parents if lab.root in parent.parents)]:
        folder.chmod(0o755)
    path.chmod(0o666)  # even where somebody opened it wide
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            with Connection(path) as connection:
                connection.send(request("list"))
                connection.receive()
        except NoAnswer:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "a stranger was answered"
    counters = service.counters()
    socket_counters = next(value for name, value in counters.items() if name.endswith("web"))
    assert socket_counters["refused_credentials"] == 1, counters
    assert "connection refused" in service.logged() and "neither root nor" in service.logged()
    serves_others(service)
    service.stop()


def half_a_service(lab):
    """One datastore of two is away: what is on the other is served, lists are errors, and it comes back by itself."""
    ds1, ds2 = lab.datastore("ds1"), lab.datastore("ds2")
    service = started(lab, datastores=[ds1, ds2])
    guest = service.guest("web")
    guest.call("create", "here", size="1mb")
    guest.call("create", "there@ds2", size="1mb")
    service.stop()
    ds2.rename(lab.root / "away")
    ds2.mkdir()  # where it is mounted otherwise
    service.start()
    assert guest.status("here") == "detached"
    assert "datastore 'ds2' is away" in guest.refusal("list")
    assert "datastore 'ds2' is away" in guest.refusal("create", "new@ds2", size="1mb")
    ds2.rmdir()
    (lab.root / "away").rename(ds2)
    assert guest.names() == ["here@ds1", "there@ds2"]
    service.stop()


def hostile_requests(lab):
    """JSON of every wrong kind: an answer or a close, and never an end."""
    service = started(lab)
    path = service.guest("web").path
    bodies = ["", "null", "[]", "{}", "7", '"x"', "{", '{"cmd":7}', '{"cmd":"get"}', '{"cmd":"get","details":null}', '{"cmd":"get","details":{"Name":7}}',
              '{"cmd":"get","details":{"Name":"x","Opts":[]},"version":"2"}', '{"cmd":"get","details":{"Name":"x"},"version":"two"}',
              '{"cmd":"get","cmd":"remove","details":{"Name":"x"}}', "[" * 4000, '{"a":' * 1000, '{"cmd":"get","details":{"Name":"\\ud800"},"version":"2"}',
              '{"cmd":"create","details":{"Name":"x","Opts":{"size":1}},"version":"2"}', '{"cmd":"list","details":{"Name":""},"version":"2","id":-1}',
              '{"cmd":"list","details":{"Name":""},"version":"2","id":1e400}', '{"cmd":"get","details":{"Name":"\\u0000"},"version":"2"}', "\xff\xfe"]
    for body in bodies:
        with Connection(path) as connection:
            connection.send(frame(body.encode("latin-1")))
            try:
                reply = connection.receive()
                assert isinstance(reply, dict) and isinstance(reply.get("Error", reply.get("reply", {}).get("Error")), str), (body[:80], reply)
            except NoAnswer:
                pass
    serves_others(service)
    service.stop()


CASES = [malformed_frames, thousand_connections, few_descriptors, stalled_guest, slow_guest, graceful_stop, attached_disks_outlive_the_service,
         second_service_on_one_socket, strangers, half_a_service, hostile_requests]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=[case.__name__ for case in CASES])
    parser.add_argument("--vmdkopsd", required=True)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(100)
    with Lab(arguments.vmdkopsd) as lab:
        next(case for case in CASES if case.__name__ == arguments.case)(lab)
    print(f"{arguments.case}: ok")


if __name__ == "__main__":
    sys.exit(main())
