"""What the kernel knows of processes, mounts, loop devices and cgroups, and how the tests end what is theirs:
by pid, found by what nothing else shares."""
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import time

PATIENCE = 60.0


class HarnessError(Exception):
    pass


def wait_for(what, predicate, seconds=PATIENCE):
    """Looks until `predicate` gives something true, and returns it. Other processes offer no event to wait
    for."""
    deadline = time.monotonic() + seconds
    while True:
        found = predicate()
        if found:
            return found
        if time.monotonic() > deadline:
            raise HarnessError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.02)


def run(argv, check=True, **options):
    outcome = subprocess.run([str(word) for word in argv], capture_output=True, text=True, **options)
    if check and outcome.returncode != 0:
        raise HarnessError(f"{' '.join(map(str, argv))}: exit {outcome.returncode}: {outcome.stderr.strip()}")
    return outcome


def is_alive(pid):
    """Running, not a zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def adopt_orphans():
    """A containerd whose engine was killed becomes a child of this process, so that it can be reaped even
    where the machine's pid 1 does not reap: an engine takes the zombie for its running containerd, and
    refuses to start."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise HarnessError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap_orphans():
    for pid in pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
            if "(containerd" in stat and stat.rsplit(")", 1)[1].split()[0] == "Z":
                os.waitpid(int(pid), 0)
        except (OSError, ChildProcessError):
            pass


def start_time(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def loop_devices(folder):
    """Device to backing file, of all loop devices over files below `folder` (deleted ones too)."""
    found = {}
    for device in pathlib.Path("/sys/block").glob("loop*"):
        try:
            backing = (device / "loop/backing_file").read_text().rstrip("\n")
        except OSError:
            continue
        if backing.startswith(str(folder) + "/"):
            found[f"/dev/{device.name}"] = backing
    return found


def mounts_of(pid, folder):
    """Mount points below `folder` in the mount namespace of `pid`."""
    points = []
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode()
        if point.startswith(str(folder) + "/"):
            points.append(point)
    return points


def processes_in_mount_namespace(namespace):
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/ns/mnt") == namespace:
                    yield int(entry)
            except OSError:
                pass


def cgroup_folders(name):
    """Deepest first."""
    roots = [*pathlib.Path("/sys/fs/cgroup").glob(f"*/{name}"), *pathlib.Path("/sys/fs/cgroup").glob(name)]
    found = [folder for root in roots for folder in [root, *root.rglob("*")] if folder.is_dir()]
    return sorted(found, key=lambda folder: len(folder.parts), reverse=True)


def processes_in_cgroup(name):
    for folder in cgroup_folders(name):
        try:
            yield from map(int, (folder / "cgroup.procs").read_text().split())
        except OSError:
            pass


def processes_of(namespaces, cgroup):
    """All that are alive of one host: in one of its mount namespaces (as readlink of ns/mnt gives them), or in its cgroup."""
    found = {pid for namespace in namespaces for pid in processes_in_mount_namespace(namespace)}
    found = {*found, *processes_in_cgroup(cgroup)} - {os.getpid()}
    return [pid for pid in found if is_alive(pid)]


def remove_cgroups(name):
    """False while one of them is not empty: a process that was killed leaves its cgroup a little later."""
    for folder in cgroup_folders(name):
        try:
            folder.rmdir()
        except OSError:
            pass
    return not cgroup_folders(name)


def write_if_there(path, text):
    try:
        path.write_text(text)
    except OSError:
        pass  # gone meanwhile, or the root cgroup's


def end_all(pids, cgroup):
    """Kills every process of one host (its containers, the engine, mountd, the namespace's keeper), by pid:
    `pids`, all that are in the mount namespace of one of them, and in the cgroup. The namespaces are held open
    meanwhile, since the kernel gives a dead one's number to the next."""
    pids = set(pids)
    held = [os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY) for pid in pids if is_alive(pid)]
    namespaces = {os.readlink(f"/proc/self/fd/{fd}") for fd in held} - {os.readlink("/proc/self/ns/mnt")}

    def kill_them():
        for folder in cgroup_folders(cgroup):  # what is frozen (a paused container) does not die
            for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / name).exists() and (folder / name).read_text().strip() != thawed:
                    write_if_there(folder / name, thawed)
        left = {*processes_of(namespaces, cgroup), *filter(is_alive, pids)}
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not left

    try:
        wait_for(f"the processes in {cgroup} have ended", kill_them)
    finally:
        for fd in held:
            os.close(fd)
    wait_for(f"the cgroups {cgroup} are removed", lambda: remove_cgroups(cgroup))


def erase(folder):
    """Detaches the loop devices over the folder's files, and removes it, immutable folders too."""
    for device in loop_devices(folder):
        run(["losetup", "-d", device], check=False)
    run(["chattr", "-R", "-f", "-i", folder], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def record_process(host, pid):
    with open(host / "processes", "a") as file:
        file.write(f"{pid} {start_time(pid)}\n")


def recorded_processes(host):
    """Those that still are the ones that were started: a pid may be somebody else's by now."""
    try:
        lines = (host / "processes").read_text().splitlines()
    except OSError:
        return
    for pid, started in map(str.split, lines):
        if is_alive(int(pid)) and start_time(int(pid)) == started:
            yield int(pid)
