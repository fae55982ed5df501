#!/usr/bin/python3
"""How fast a real mountd takes volumes through their life, over its plugin socket, against the bare commands typed by hand in the same run.

The two sides take turns (and take turns in who goes first), because the machine's speed varies from minute to minute: only the ratios say something.

    sudo bench/lifecycle.py                             all figures
    sudo bench/lifecycle.py first-mount existing-mount  some of them
    sudo bench/lifecycle.py --json out.json --plot out.svg
"""
import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import sys
import time

import bare
import figures
import volume_io
from figures import Figure, compare
from rig import Engine, Rig, RigError, call_side_by_side, loop_devices, wait_for

HERE = pathlib.Path(__file__).resolve().parent
LINGER = ("--detach-linger", "0ms")
GIVEN_UP = "30s"  # a linger that no measurement outlives
PARALLEL = 64
MANY = 5000
MANY_MOUNTED = 100


def timed(action, *args, **options):
    """Milliseconds."""
    start = time.perf_counter()
    action(*args, **options)
    return (time.perf_counter() - start) * 1e3


def in_turns(rounds, ours, by_hand):
    """Runs the two in turns; each takes the number of its round and gives a measurement. The first round warms up and does not count."""
    results = {ours: [], by_hand: []}
    for number in range(rounds + 1):
        for side in (ours, by_hand) if number % 2 == 0 else (by_hand, ours):
            value = side(number)
            if number > 0:
                results[side].append(value)
    return results[ours], results[by_hand]


def put_away(rig, docker, name):
    docker.unmount(name)
    rig.wait_detached(name)
    rig.settle()


def first_mount(rig, rounds):
    """Create and first mount of a 10 GiB ext4 volume."""
    mountd = rig.mountd(*LINGER)
    docker = mountd.connect()
    steps = {"create": [], "mount": []}

    def ours(number):
        name = f"new{number}"
        create = timed(docker.create, name, size="10gb")
        mount = timed(docker.mount, name)
        put_away(rig, docker, name)
        docker.remove(name)
        if number > 0:
            steps["create"].append(create)
            steps["mount"].append(mount)
        return create + mount

    def by_hand(number):
        volume = bare.BareVolume(rig.bare, f"new{number}", "10G")
        total = sum(timed(step) for step in (volume.make, volume.attach, volume.format, volume.mount))
        volume.unmount()
        volume.detach()
        volume.remove()
        rig.settle()
        return total

    figure = compare("create and first mount, 10 GiB ext4", *in_turns(rounds, ours, by_hand), "ms", at_most=1.3)
    figure.detail += f"; create {statistics.median(steps['create']):.1f}, mount {statistics.median(steps['mount']):.1f} ms"
    mountd.stop()
    return [figure]


def existing_mount(rig, rounds):
    """Attach and mount of a volume that has its file system."""
    mountd = rig.mountd(*LINGER)
    docker = mountd.connect()
    docker.create("old", size="10gb")
    docker.mount("old")
    put_away(rig, docker, "old")
    volume = bare.BareVolume(rig.bare, "old", "10G")
    volume.make()
    volume.attach()
    volume.format()
    volume.detach()
    detach = {"mountd": [], "by hand": []}

    def ours(_):
        mount = timed(docker.mount, "old")
        detach["mountd"].append(timed(lambda: (docker.unmount("old"), rig.wait_detached("old"))))
        rig.settle()
        return mount

    def by_hand(_):
        mount = timed(lambda: (volume.attach(), volume.mount()))
        detach["by hand"].append(timed(lambda: (volume.unmount(), volume.detach(), wait_for("gone", lambda: not on_bare_file()))))
        rig.settle()
        return mount

    def on_bare_file():
        return str(volume.file) in loop_devices(rig.bare).values()

    found = [compare("mount of an existing volume", *in_turns(rounds, ours, by_hand), "ms", at_most=1.5),
             compare("unmount until detached", detach["mountd"], detach["by hand"], "ms")]
    docker.remove("old")
    mountd.stop()
    return found


def side_by_side(rig, rounds):
    """64 volumes mounted at once: Mount requests on 64 connections, against the commands in 64 sub-shells."""
    mountd = rig.mountd("--detach-linger", "100ms")
    connections = [mountd.connect() for _ in range(PARALLEL)]
    names = [f"par{number}" for number in range(PARALLEL)]
    volumes = [bare.BareVolume(rig.bare, name, "1G") for name in names]
    mounts = [{"Name": name, "ID": "bench"} for name in names]

    def nothing_attached():
        return not loop_devices(rig.datastore)

    def ours(_):
        rate = PARALLEL / call_side_by_side(connections, "VolumeDriver.Mount", mounts)
        call_side_by_side(connections, "VolumeDriver.Unmount", mounts)
        wait_for("all are detached", nothing_attached)
        rig.settle()
        return rate

    def by_hand(_):
        rate = PARALLEL / bare.run_side_by_side(map(bare.mount_script, volumes))
        bare.run_side_by_side(map(bare.unmount_script, volumes))
        rig.settle()
        return rate

    first_ours = ours_first_mount(connections, names)
    call_side_by_side(connections, "VolumeDriver.Unmount", mounts)
    wait_for("all are detached", nothing_attached)
    rig.settle()
    first_bare = PARALLEL / bare.run_side_by_side(map(bare.first_mount_script, volumes))
    bare.run_side_by_side(map(bare.unmount_script, volumes))
    rig.settle()
    found = [compare(f"{PARALLEL} volumes mounted side by side", *in_turns(rounds, ours, by_hand), "mounts/s", at_least=0.8),
             compare(f"{PARALLEL} created, formatted and mounted side by side", [first_ours], [first_bare], "volumes/s")]
    call_side_by_side(connections, "VolumeDriver.Remove", [{"Name": name} for name in names])
    for volume in volumes:
        volume.remove()
    mountd.stop()
    return found


def ours_first_mount(connections, names):
    seconds = call_side_by_side(connections, "VolumeDriver.Create", [{"Name": name, "Opts": {"size": "1gb"}} for name in names])
    seconds += call_side_by_side(connections, "VolumeDriver.Mount", [{"Name": name, "ID": "bench"} for name in names])
    return PARALLEL / seconds


def many_volumes(rig, rounds):
    """5,000 volumes: making them, List and Get, the memory they take, and a start with 100 of them mounted."""
    rig.fresh_folders()
    mountd = rig.mountd("--detach-linger", GIVEN_UP)
    connections = [mountd.connect() for _ in range(16)]
    names = [f"volume-{number:04}" for number in range(MANY)]
    found = [idle_memory(mountd, "resident, no volumes")]
    start = time.perf_counter()
    for at in range(0, MANY, len(connections)):
        some = names[at:at + len(connections)]
        call_side_by_side(connections[:len(some)], "VolumeDriver.Create", [{"Name": name, "Opts": {"size": "1gb"}} for name in some])
    found.append(Figure(f"create of {MANY} volumes", MANY / (time.perf_counter() - start), "/s", detail="on 16 connections; each is durable when answered"))
    docker = connections[0]
    found.append(list_after_change(rig, docker, rounds))
    found += query_times(docker, names, rounds, "")
    for at in range(0, MANY_MOUNTED, len(connections)):
        some = names[at:min(at + len(connections), MANY_MOUNTED)]
        call_side_by_side(connections[:len(some)], "VolumeDriver.Mount", [{"Name": name, "ID": "bench"} for name in some])
    found += query_times(docker, names, rounds, f", {MANY_MOUNTED} mounted")
    found.append(idle_memory(mountd, f"resident, {MANY} volumes, {MANY_MOUNTED} mounted"))
    found.append(idle_wake_ups(mountd))
    mountd.stop()
    found += start_times(rig, rounds)
    return found


def list_after_change(rig, docker, rounds):
    """The folder has to be read again then."""
    folder = next(path for path in (rig.datastore / "dockvols").iterdir() if path.is_dir())
    times = []
    for _ in range(2 * rounds):
        (folder / "a-file").touch()
        (folder / "a-file").unlink()
        times.append(timed(docker.call, "VolumeDriver.List", {}))
    time.sleep(0.2)  # from here on the folder is quiet, and what was read of it is kept
    docker.call("VolumeDriver.List", {})
    return Figure(f"List of {MANY} at once after a change, median", statistics.median(times), "ms", detail=f"worst {max(times):.3g} ms; {len(times)} requests",
                  samples={"ms": times})


def query_times(docker, names, rounds, when):
    """Between them, requests that ask for nothing: what those take at worst is the machine's doing."""
    found = []
    lists = [{} for _ in range(20 * rounds)]
    gets = [{"Name": name} for name in random.Random(1).choices(names, k=100 * rounds)]
    for what, requests in (("List", lists), ("Get", gets)):
        times, nothing = [], []
        for request in requests:
            times.append(timed(docker.call, f"VolumeDriver.{what}", request))
            nothing.append(timed(docker.call, "Plugin.Activate", None))
        found.append(Figure(f"{what} of {MANY}{when}, 99th percentile", figures.percentile(times, 99), "ms", at_most=5, samples={"ms": times, "nothing": nothing},
                            detail=f"median {statistics.median(times):.3g}, worst {max(times):.3g} ms; {len(times)} requests; at the same time a request for "
                                   f"nothing: median {statistics.median(nothing):.3g}, 99th {figures.percentile(nothing, 99):.3g}, worst {max(nothing):.3g} ms"))
    return found


def start_times(rig, rounds):
    """Killed and started again, with the mounts in place; at the end, all is unmounted."""
    samples = {"activate": [], "ready": [], "list": []}
    rounds = max(3, rounds // 3)
    for number in range(rounds):
        mountd = rig.mountd("--detach-linger", "100ms" if number == rounds - 1 else GIVEN_UP)
        docker = mountd.connect()
        docker.call("Plugin.Activate", None)
        activate = time.perf_counter()
        docker.call("VolumeDriver.List", {})
        listed = time.perf_counter()
        mountd.wait_recovered()
        ready = time.perf_counter()
        for key, at in (("activate", activate), ("list", listed), ("ready", max(ready, listed))):
            samples[key].append((at - mountd.started) * 1e3)
        if number < rounds - 1:
            mountd.stop(9)
    for number in range(MANY_MOUNTED):
        docker.unmount(f"volume-{number:04}")
    wait_for("all are detached", lambda: not loop_devices(rig.datastore))
    mountd.stop()
    text = f"with {MANY} volumes, {MANY_MOUNTED} mounted, after kill -9, from exec on; {rounds} starts"
    return [Figure("start: Activate answered", max(samples["activate"]), "ms", at_most=100, detail=f"worst, {text}", samples={"ms": samples["activate"]}),
            Figure("start: first List answered", max(samples["list"]), "ms", detail="worst", samples={"ms": samples["list"]}),
            Figure("start: ready", max(samples["ready"]), "ms", at_most=1000, detail=f"worst; recovered, and List answered; {text}",
                   samples={"ms": samples["ready"]})]


def idle_memory(mountd, name):
    mountd.wait_recovered()
    resident, anonymous = mountd.memory_kib()
    return Figure(name, resident / 1024, "MiB", at_most=30, detail=f"VmRSS; {anonymous / 1024:.1f} MiB of it not from files")


def with_engine(rig, _):
    """Idle beside a Docker engine that has nothing to tell."""
    with Engine(rig) as engine:
        mountd = rig.mountd("--docker-socket", engine.socket_path)
        mountd.connect().create("quiet", size="100mb")
        mountd.wait_recovered()
        figure = idle_wake_ups(mountd)
        figure.name += ", beside a Docker engine"
        mountd.connect().remove("quiet")
        mountd.stop()
    return [figure]


def idle_wake_ups(mountd, seconds=20):
    """Counts how often any thread is given the processor. What was asked for last has to be over first."""
    time.sleep(2)
    before = mountd.switches()
    time.sleep(seconds)
    after = mountd.switches()
    woken = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    return Figure("wake-ups while idle", sum(woken.values()), f"/{seconds}s", at_most=0,
                  detail=", ".join(f"{name}: {count}" for name, count in woken.items()) or f"context switches of all {len(after)} threads")


def data_path(rig, rounds):
    """fio on a mounted volume, against the same file system on the same loop device mounted by hand; the extent is in memory."""
    rig.fresh_folders(datastore_in_memory=True)
    mountd = rig.mountd("--detach-linger", "600s")
    docker = mountd.connect()
    docker.create("fio", size="4gb")
    docker.mount("fio")
    device = docker.get("fio")["Status"]["device"]
    docker.unmount("fio")
    found = volume_io.measure(rig, docker, "fio", device, rounds)
    mountd.stop()
    return found


CASES = {"first-mount": first_mount, "existing-mount": existing_mount, "side-by-side": side_by_side, "many-volumes": many_volumes, "engine": with_engine,
         "fio": data_path}


def flush_time(folder):
    """Milliseconds that the disk takes to make one write durable. mountd's promises cost such flushes, which the bare commands do without."""
    with open(folder / "flush", "wb", buffering=0) as file:
        def write():
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return statistics.median(timed(write) for _ in range(20))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--mountd", default=HERE.parent / "build/release/mountd/mountd")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each side")
    parser.add_argument("--json", metavar="FILE", help="write the figures with all samples")
    parser.add_argument("--plot", metavar="FILE", help="draw the figures against their targets (.svg, .png)")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    found = []
    with Rig(options.mountd) as rig:
        machine = {"kernel": platform.release(), "processors": os.cpu_count(), "load": os.getloadavg()[0], "flush_ms": flush_time(rig.root)}
        print(f"kernel {machine['kernel']}, {machine['processors']} processors, load {machine['load']:.1f}, a flush takes {machine['flush_ms']:.2f} ms")
        for name in options.cases or CASES:
            print(f"{name}: {CASES[name].__doc__.splitlines()[0]}", flush=True)
            found += CASES[name](rig, options.rounds)
        machine |= {"load_at_end": os.getloadavg()[0], "flush_ms_at_end": flush_time(rig.root)}
    figures.print_table(found)
    print(f"at the end: load {machine['load_at_end']:.1f}, a flush takes {machine['flush_ms_at_end']:.2f} ms")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"machine": machine, "figures": [figure.as_json() for figure in found]}, indent=1) + "\n")
    if options.plot:
        figures.draw(found, options.plot)
    return 1 if any(figure.verdict() == "MISSED" for figure in found) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"lifecycle: {error}")
