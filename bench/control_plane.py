#!/usr/bin/python3
"""How fast a real vmdkopsd answers its guests: one that has very many volumes, very many that ask at once, and one that asks too much.

The guests speak the wire themselves, over unix sockets; the disks are files of the loop hypervisor, thin. Root is needed.

    bench/control_plane.py                    all figures
    bench/control_plane.py many-guests        some of them
    bench/control_plane.py --json out.json
"""
import argparse
import json
import os
import pathlib
import platform
import select
import statistics
import struct
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/service"))

import figures  # noqa: E402
import service_lab  # noqa: E402
from figures import Figure, percentile  # noqa: E402
from service_lab import Lab, Refused, request  # noqa: E402

VOLUMES = 500
GUESTS = 300
IN_FLIGHT = 10
FLOOD = 60  # below the bound of a connection's requests in flight, so that the service reads them all


def timed(action, *args):
    start = time.perf_counter()
    action(*args)
    return time.perf_counter() - start


class Kept:
    """A guest of ours: one connection, a request after the other."""

    def __init__(self, guest):
        self.connection = guest.connect()
        self.next_id = 0

    def call(self, cmd, name="", **options):
        self.next_id += 1
        self.connection.send(request(cmd, name, request_id=self.next_id, **options))
        reply = self.connection.receive()
        assert reply["id"] == self.next_id
        if isinstance(reply["reply"], dict) and "Error" in reply["reply"]:
            raise Refused(reply["reply"]["Error"])
        return reply["reply"]


def create_by_hand(folder, name):
    """What no durable disk can do without: three new files, each flushed, a name given in the end, the folder flushed before and after."""
    def write(path, data):
        with open(path, "xb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    write(folder / f"{name}.creating", bytes(500))
    os.fsync(descriptor)
    write(folder / f"{name}.vmfd", bytes(4096))
    with open(folder / f"{name}-flat", "xb", buffering=0) as file:
        file.truncate(1 << 30)
        os.fsync(file.fileno())
    os.rename(folder / f"{name}.creating", folder / f"{name}.vmdk")
    os.fsync(descriptor)
    os.close(descriptor)


def many_volumes(lab, with_groups=False):
    """500 volumes created, listed and removed by one guest, one request after the other."""
    kind = "with vmgroups and quota" if with_groups else "without a database"
    service = lab.service(f"volumes-{len(lab.services)}", vms=("web",), datastores=[lab.datastore(f"ds{len(lab.services)}")])
    service.start()
    if with_groups:
        service.admin("config init", local="")
        service.admin("vmgroup create", name="webs", default_datastore=service.datastores[0].name, vm_list="web")
        service.admin("vmgroup access set", name="webs", datastore=service.datastores[0].name, volume_totalsize="100TB")
    web = Kept(service.guest("web"))
    by_hand = lab.root / f"by-hand-{len(lab.services)}"
    by_hand.mkdir()
    ours, bare, lists, gets = [], [], [], []
    names = [f"volume-{number:03}" for number in range(VOLUMES)]
    for name in names:  # in turns, since the disk's speed changes from minute to minute
        ours.append(timed(lambda: web.call("create", name, size="1gb")))
        bare.append(timed(create_by_hand, by_hand, name))
    for _ in range(50):
        lists.append(timed(lambda: web.call("list")))
    after_a_change = []
    for number in range(20):
        web.call("create", f"late-{number}", size="1gb")
        after_a_change.append(timed(lambda: web.call("list")))
        web.call("remove", f"late-{number}")
    original = [timed(lambda: service.guest("web").call("list")) for _ in range(20)]
    for name in names:
        gets.append(timed(lambda: web.call("get", name)))
    assert len(web.call("list")) == VOLUMES
    removes = [timed(lambda name=name: web.call("remove", name)) for name in names]
    assert web.call("list") == []
    service.stop()
    ratio = figures.compare(f"create against its files by hand, {kind}", ours, bare, "s")
    ratio.detail = ratio.detail.replace("mountd", "vmdkopsd")
    return [Figure(f"creates a second, {kind}", VOLUMES / sum(ours), "/s", at_least=100, detail=f"one after the other, durable; median {statistics.median(ours) * 1e3:.2f} ms",
                   samples={"s": ours}),
            ratio,
            Figure(f"list of {VOLUMES}, {kind}", percentile(lists, 99) * 1e3, "ms", at_most=20, detail=f"99th percentile; median {statistics.median(lists) * 1e3:.2f} ms",
                   samples={"s": lists}),
            Figure(f"list right after a change, {kind}", percentile(after_a_change, 99) * 1e3, "ms", at_most=20,
                   detail=f"99th percentile; median {statistics.median(after_a_change) * 1e3:.2f} ms", samples={"s": after_a_change}),
            Figure(f"list by an original client, {kind}", percentile(original, 99) * 1e3, "ms", at_most=20, detail="a connection each", samples={"s": original}),
            Figure(f"get, {kind}", percentile(gets, 99) * 1e3, "ms", detail=f"99th percentile; median {statistics.median(gets) * 1e3:.2f} ms", samples={"s": gets}),
            Figure(f"removes a second, {kind}", VOLUMES / sum(removes), "/s", detail=f"median {statistics.median(removes) * 1e3:.2f} ms", samples={"s": removes})]


class Load:
    """Guests that each keep a number of requests in flight, driven by one thread."""

    def __init__(self, guests, make_request, in_flight):
        self.poll = select.epoll()
        self.lanes = {}
        for number, guest in enumerate(guests):
            lane = Lane(guest, lambda request_id, number=number: make_request(number, request_id), in_flight)
            self.lanes[lane.socket.fileno()] = lane
            self.poll.register(lane.socket.fileno(), select.EPOLLIN)

    def run(self, seconds):
        """Keeps asking for that long, then takes what is still to come. (latencies, requests per second)"""
        start = time.perf_counter()
        end = start + seconds
        for lane in self.lanes.values():
            lane.fill()
        while any(lane.asked for lane in self.lanes.values()):
            for descriptor, _ in self.poll.poll(60):
                lane = self.lanes[descriptor]
                lane.take()
                if time.perf_counter() < end:
                    lane.fill()
        duration = time.perf_counter() - start
        latencies = [latency for lane in self.lanes.values() for latency in lane.latencies]
        return latencies, len(latencies) / duration

    def close(self):
        self.poll.close()
        for lane in self.lanes.values():
            lane.socket.close()


class Lane:
    def __init__(self, guest, make_request, in_flight):
        self.socket = guest.connect().socket
        self.make_request = make_request
        self.in_flight = in_flight
        self.asked = {}
        self.latencies = []
        self.next_id = 0
        self.buffer = b""

    def fill(self):
        batch = []
        while len(self.asked) < self.in_flight:
            self.next_id += 1
            batch.append(self.make_request(self.next_id))
            self.asked[self.next_id] = time.perf_counter()
        if batch:
            self.socket.sendall(b"".join(batch))

    def take(self):
        self.buffer += self.socket.recv(1 << 20)
        while len(self.buffer) >= 8:
            length = struct.unpack_from("<I", self.buffer, 4)[0]
            if len(self.buffer) < 8 + length:
                return
            reply = json.loads(self.buffer[8:7 + length])
            self.buffer = self.buffer[8 + length:]
            self.latencies.append(time.perf_counter() - self.asked.pop(reply["id"]))
            if isinstance(reply["reply"], dict) and "Error" in reply["reply"]:
                raise Refused(reply["reply"]["Error"])


def spread_of(latencies):
    return percentile(latencies, 99) / statistics.median(latencies)


def many_guests(lab):
    """10 requests in flight from each of 300 guests."""
    names = [f"vm{number:03}" for number in range(GUESTS)]
    service = lab.service("guests", vms=names, datastores=[lab.datastore("guests")])
    service.start()
    first = Kept(service.guest(names[0]))
    for number in range(GUESTS):
        first.call("create", f"volume-{number:03}", size="1gb")
    guests = [service.guest(name) for name in names]
    found = []
    for what, make, seconds in (("get", lambda number, request_id: request("get", f"volume-{number:03}", request_id), 6),
                                ("list", lambda number, request_id: request("list", "", request_id), 4),
                                ("get, and one create in ten", lambda number, request_id: request("get", f"volume-{number:03}", request_id) if request_id % 10
                                 else request("create", f"new-{number}-{request_id}", request_id, size="1mb"), 6)):
        load = Load(guests, make, IN_FLIGHT)
        latencies, rate = load.run(seconds)
        load.close()
        found.append(Figure(f"{GUESTS} guests, {IN_FLIGHT} in flight: {what}", spread_of(latencies), "x", at_most=5,
                            detail=f"99th percentile over median; {percentile(latencies, 99) * 1e3:.0f} over {statistics.median(latencies) * 1e3:.0f} ms, {len(latencies)} requests, "
                            f"{rate:.0f}/s, worst {max(latencies) * 1e3:.0f} ms"))
    found.append(Figure("resident, with all of them connected and after their load", service.memory() / 1e6, "MB", at_most=60, detail="VmRSS"))
    service.stop()
    return found


def greedy_guest(lab):
    """What one guest waits for while another keeps 60 slow requests in flight, against when it is alone."""
    service = lab.service("greedy", vms=("web", "db"), datastores=[lab.datastore("greedy")])
    service.start()
    web = Kept(service.guest("web"))
    web.call("create", "mine", size="1gb")
    alone, beside = [], []
    serial = iter(range(1_000_000))
    for _ in range(15):
        alone.append(statistics.median(timed(lambda: web.call("get", "mine")) for _ in range(20)))
        load = Load([service.guest("db")], lambda number, request_id: request("create", f"new-{next(serial)}", request_id, size="1mb"), FLOOD)
        for lane in load.lanes.values():
            lane.fill()
        beside.append(statistics.median(timed(lambda: web.call("get", "mine")) for _ in range(20)))
        while any(lane.asked for lane in load.lanes.values()):
            for lane in load.lanes.values():
                lane.take()
        load.close()
    service.stop()
    ratio = figures.compare("a get beside a guest with 60 creates in flight", beside, alone, "s")
    ratio.detail = ratio.detail.replace("mountd", "beside").replace("by hand", "alone")
    return [ratio]


CASES = {"many-volumes": many_volumes, "many-volumes-groups": lambda lab: many_volumes(lab, with_groups=True), "many-guests": many_guests, "greedy-guest": greedy_guest}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--vmdkopsd", default=HERE.parent / "build/release/esx-vmci/service/vmdkopsd")
    parser.add_argument("--folder", default=service_lab.LABS, type=pathlib.Path, help="where the datastores are; one in memory (/dev/shm) has no disk's flushes")
    parser.add_argument("--json", metavar="FILE", help="write the figures with all samples")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    found = []
    service_lab.LABS = options.folder
    with Lab(options.vmdkopsd) as lab:
        print(f"kernel {platform.release()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        for name in options.cases or CASES:
            print(f"{name}: {(CASES[name].__doc__ or 'the same, with a database').splitlines()[0]}", flush=True)
            found += CASES[name](lab)
    figures.print_table(found)
    print(f"at the end: load {os.getloadavg()[0]:.1f}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"figures": [figure.as_json() for figure in found]}, indent=1) + "\n")
    return 1 if any(figure.verdict() == "MISSED" for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
