#!/usr/bin/env python3
"""From the request to the mounted volume in a QEMU guest, by phase, beside the same by hand.

    bench/vm_attach.py [--rounds 15] [--build build/release] [--json out.json]

Ours: one Mount call to mountd in the guest, for a volume that has a file system and is attached nowhere. By hand: the same nodes and
device by QMP, `udevadm wait` for the link that udev makes, and mount(8). Both sides are one command in the guest and take turns; the
figure is the median of the ratios of pairs. What ours adds is at most a quarter of the whole where that ratio is at most 4/3.

The phases are those of ours, on the guest's clock: mountd's log says when it asked, when it was answered, when the device was there
and when it was mounted; `udevadm monitor` says how long the event was with udevd. QEMU's own part is timed by hand, on the host's.
"""
import argparse
import datetime
import json
import pathlib
import re
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/vm"))
sys.path.insert(0, str(ROOT / "tests/docker"))

from figures import Figure, compare, print_table, spread  # noqa: E402
from guest import PLUGIN_SOCKET  # noqa: E402
from lab import Lab, wait_for  # noqa: E402

VOLUME = "db"
MAX_RATIO = 4 / 3
STAMP = r"(\d{4}-\d\d-\d\dT[\d:.]+)\S* \[.\] "


class Rounds:
    """Both sides over one disk in one guest."""

    def __init__(self, lab, guest):
        self.lab = lab
        self.guest = guest
        self.extent = lab.extent(VOLUME)
        self.uuid = lab.disk_uuid(VOLUME)
        self.ours = []
        self.by_hand = []
        self.phases = []
        self.plugs = []

    def await_free(self):
        wait_for("the guest has lost the disk", lambda: self.guest.disks() == [])
        wait_for("the image is closed", lambda: self.lab.open_images(self.guest) == [])

    def run_ours(self):
        guest = self.guest
        guest.shell(": > /tmp/mountd.log; : > /tmp/events")
        body = json.dumps({"Name": VOLUME, "ID": "bench"})
        began = time.monotonic()
        reply = guest.shell(f"curl -sS --unix-socket {PLUGIN_SOCKET} -d '{body}' http://plugin/VolumeDriver.Mount")
        self.ours.append(1000 * (time.monotonic() - began))
        assert not json.loads(reply)["Err"], reply
        self.phases.append(phases_of(guest.shell("cat /tmp/mountd.log"), guest.shell("cat /tmp/events")))
        guest.unmount(VOLUME, "bench")
        self.await_free()

    def run_by_hand(self):
        guest, qmp = self.guest, self.guest.qmp
        began = time.monotonic()
        qmp.run("blockdev-add", driver="raw", cache={"direct": True}, discard="unmap",
                file={"driver": "file", "filename": str(self.extent), "locking": "on"}, **{"node-name": "hand"})
        qmp.run("device_add", driver="scsi-hd", id="hand", drive="hand", bus="vdvs-scsi0.0", serial=self.uuid)
        self.plugs.append(1000 * (time.monotonic() - began))
        link = f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{self.uuid[:20]}"  # as much of the serial as QEMU puts into page 0x83
        guest.shell(f"udevadm wait --timeout=30 {link} && mkdir -p /mnt/hand && mount -t ext4 {link} /mnt/hand")
        self.by_hand.append(1000 * (time.monotonic() - began))
        guest.shell("umount /mnt/hand; for disk in /sys/block/sd*; do echo 1 > $disk/device/delete; done")
        qmp.run("device_del", id="hand")
        wait_for("the device is gone", lambda: not any(block.get("qdev") == "hand" for block in qmp.run("query-block")))
        qmp.run("blockdev-del", **{"node-name": "hand"})
        self.await_free()


def phases_of(log, events):
    """Milliseconds by phase, of one Mount."""
    def stamp(words):
        found = re.search(STAMP + ".*" + words, log)
        return datetime.datetime.fromisoformat(found.group(1)) if found else None

    asked, mount, mounted = stamp("step=attach"), stamp("step=mount"), stamp("mounted volume")
    assert asked and mount and mounted, log
    # Where the disk is seen while the answer is still on its way, there is nothing to wait for.
    answered = stamp("step=await-device") or mount
    there = stamp("device is there") or answered

    def between(first, last):
        return (last - first).total_seconds() * 1000

    # "KERNEL[12.345678] add /devices/.../block/sda (block)"
    times = {source: float(at) for source, at in re.findall(r"(KERNEL|UDEV) *\[([\d.]+)\] add +\S+/block/sd[a-z]+ ", events)}
    udev = 1000 * (times["UDEV"] - times["KERNEL"])
    return {"request": between(asked, answered), "device": between(answered, there), "udev": udev, "mount": between(mount, mounted)}


def measure(lab, count):
    lab.guest("web-1")
    lab.start_service()
    [guest] = lab.boot("web-1")
    lab.start_mountd(guest)
    guest.create(VOLUME, size="256mb", fstype="ext4")
    guest.mount(VOLUME)  # formats it, and the controller is plugged in
    guest.unmount(VOLUME)
    guest.shell("setsid udevadm monitor --kernel --udev --subsystem-match=block > /tmp/events 2>&1 & sleep 1")
    rounds = Rounds(lab, guest)
    rounds.await_free()
    for number in range(count):
        for side in (rounds.run_ours, rounds.run_by_hand)[:: 1 if number % 2 else -1]:
            side()
    return rounds


def figures_of(rounds):
    plug = statistics.median(rounds.plugs)
    samples = {name: [phase[name] for phase in rounds.phases] for name in rounds.phases[0]}
    named = {
        "request, without QEMU's part": [request - plug for request in samples["request"]],
        "hot-plug, in QEMU": rounds.plugs,
        "hot-plug in the guest, and udev": samples["device"],
        "mount": samples["mount"],
    }
    whole = [sum(phase) for phase in zip(*named.values())]
    figures = [compare("request to mounted", rounds.ours, rounds.by_hand, "ms", at_most=MAX_RATIO)]
    figures[0].detail += f"; adds {max(0.0, 100 * (1 - 1 / figures[0].value)):.0f} % of the whole"
    for name, values in named.items():
        share = 100 * statistics.median(values) / statistics.median(whole)
        figures.append(Figure(f"  {name}", statistics.median(values), "ms", detail=f"{share:.0f} % of the phases' sum; {spread(values)} ms",
                              samples={name: values}))
    figures.append(Figure("  udevd: from the kernel's event to its own", statistics.median(samples["udev"]), "ms", samples={"udev": samples["udev"]},
                          detail=f"begins while the answer to the request is under way; {spread(samples['udev'])} ms"))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with Lab(vmdkopsd=arguments.build / "esx-vmci/service/vmdkopsd", mountd=arguments.build / "mountd/mountd",
             vmdkops_admin=arguments.build / "cli/vmdkops_admin") as lab:
        figures = figures_of(measure(lab, arguments.rounds))
    print_table(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))
    return 1 if any(figure.verdict() == "MISSED" for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
