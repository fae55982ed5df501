"""fio on a mounted volume and on the same file system, on the same loop device, mounted by hand. mountd is not on the data path: what could differ is how
the volume is mounted, so this measures exactly that.
"""
import json
import os

from figures import Figure, compare
from rig import RigError, run

FILE_MIB = 1024
TIMED = ["--runtime=1", "--time_based", "--direct=1"]
# Name and what fio is told. Past the page cache it runs for a second. Through it, it does a fixed amount of work, from a cold cache (fio drops the
# file's pages first) or until all is written (fsync): a time would cover a share of cached work that differs from run to run. How fast one such run is
# depends on which processors the scheduler gives to fio and to the loop device's worker (a factor of 3 on two processors), so fio is kept on one, and
# several runs make one sample.
BUFFERED = ["--ioengine=psync", "--cpus_allowed=0"]
BUFFERED_RUNS = 3
WORKLOADS = (
    ("sequential read, direct", ["--rw=read", "--bs=1M", "--iodepth=8", *TIMED]),
    ("sequential write, direct", ["--rw=write", "--bs=1M", "--iodepth=8", *TIMED]),
    ("random read, direct", ["--rw=randread", "--bs=4k", "--iodepth=16", *TIMED]),
    ("random write, direct", ["--rw=randwrite", "--bs=4k", "--iodepth=16", *TIMED]),
    ("sequential read, buffered", ["--rw=read", "--bs=1M", *BUFFERED]),
    ("sequential write, buffered", ["--rw=write", "--bs=1M", *BUFFERED, "--end_fsync=1"]),
    ("random read, buffered", ["--rw=randread", "--bs=4k", *BUFFERED, "--io_size=192M"]),
    ("random write, buffered", ["--rw=randwrite", "--bs=4k", *BUFFERED, "--io_size=512M", "--end_fsync=1"]),
)


def run_fio(folder, words):
    """MiB a second."""
    argv = ["fio", "--name=bench", f"--filename={folder}/data", f"--size={FILE_MIB}M", "--ioengine=libaio", "--norandommap",
            "--randseed=1", "--output-format=json", *words]
    moved = milliseconds = 0
    for _ in range(1 if "--direct=1" in words else BUFFERED_RUNS):
        job = json.loads(run(*argv))["jobs"][0]
        moved += (job["read"] if "read" in words[0] else job["write"])["io_bytes"]
        milliseconds += job["job_runtime"]  # with the fsync, which fio's own rate leaves out
    return moved / (milliseconds / 1e3) / (1 << 20)


def lay_out(folder):
    """All blocks written once, so that neither side pays for allocating them."""
    run("fio", "--name=lay-out", f"--filename={folder}/data", f"--size={FILE_MIB}M", "--rw=write", "--bs=1M", "--direct=1", "--end_fsync=1")


def options_of(mount_point):
    """The options of the mount and of its file system, as the kernel shows them."""
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        if words[4] == str(mount_point):
            return words[5] + " " + words[-1]
    raise RigError(f"nothing is mounted at {mount_point}")


def compare_options(docker, name, device, by_hand):
    ours = options_of(docker.mount(name))
    docker.unmount(name)
    run("mount", device, by_hand)
    hand = options_of(by_hand)
    run("umount", by_hand)
    return Figure("mounted with the same options", float(ours == hand), at_least=1, detail=f"mountd: {ours}; by hand: {hand}")


def measure(rig, docker, name, device, rounds):
    by_hand = rig.bare / "fio.mnt"
    by_hand.mkdir()
    lay_out(docker.mount(name))
    docker.unmount(name)

    def ours(words):
        rate = run_fio(docker.mount(name), words)
        docker.unmount(name)
        return rate

    def hand(words):
        run("mount", device, by_hand)
        rate = run_fio(by_hand, words)
        run("umount", by_hand)
        return rate

    found = [compare_options(docker, name, device, by_hand)]
    for workload, words in WORKLOADS:
        rates = {ours: [], hand: []}
        for number in range(rounds):
            for side in (ours, hand) if number % 2 == 0 else (hand, ours):
                rates[side].append(side(words))
        found.append(compare(f"fio {workload}", rates[ours], rates[hand], "MiB/s", at_least=0.98))
    os.rmdir(by_hand)
    return found
