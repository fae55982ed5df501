"""What the scenarios share: assertions, and containers whose work can be checked."""
import concurrent.futures
import unittest

from harness import HarnessError, wait_for

check = unittest.TestCase()
check.maxDiff = None

# Writes a growing counter, each line on disk before the next.
COUNT_FOR_EVER = "i=0; while :; do i=$((i+1)); echo $i >> /data/count || exit 1; sync; sleep 0.05; done"
LAST_COUNT = "tail -n 1 /data/count"


def start_counter(host, name, volume, *args):
    host.start(name, f"{volume}:/data", COUNT_FOR_EVER, *args)
    wait_for(f"{name} counts", lambda: last_count(host, name) > 0)


def last_count(host, container):
    outcome = host.docker("exec", container, "sh", "-c", LAST_COUNT, check=False)
    return int(outcome.stdout.strip() or 0) if outcome.returncode == 0 else 0


def assert_still_counts(host, container):
    """The container's writes reach its volume: the count grows, without a gap since its start."""
    before = last_count(host, container)
    check.assertTrue(host.is_running(container), f"{container} has ended")
    wait_for(f"{container} counts beyond {before}", lambda: last_count(host, container) > before + 3)


def assert_gapless(host, volume):
    """All that a counter has ever said it wrote is there."""
    counted = list(map(int, host.run(f"{volume}:/data", "cat /data/count").split()))
    check.assertEqual(counted, list(range(1, len(counted) + 1)))


def is_mounted(host, volume):
    return any(point == str(host.mount_root / volume) or point.startswith(str(host.mount_root / volume) + "@")
               for point in host.mounts())


def assert_mounted(host, volume):
    check.assertTrue(is_mounted(host, volume), f"'{volume}' is not mounted; mounted are {host.mounts()}")


def wait_unmounted(host, volume):
    wait_for(f"'{volume}' is unmounted", lambda: not is_mounted(host, volume))


def in_parallel(work, items, width=20):
    """Runs work(item) side by side; the results in order, or the first error."""
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        return list(pool.map(work, items))


def one_host(lab, *mountd_args, engine_args=(), **mountd_options):
    """A host with a mountd and an engine that run."""
    host = lab.host()
    host.start_mountd(*mountd_args, **mountd_options)
    host.start_engine(*engine_args)
    return host


def volume_names(host, driver="vsphere"):
    listed = host.docker("volume", "ls", "--filter", f"driver={driver}", "--format", "{{.Name}}")
    return sorted(listed.split("\n")) if listed else []


__all__ = ["HarnessError", "wait_for", "check", "start_counter", "last_count", "assert_still_counts", "assert_gapless",
           "is_mounted", "assert_mounted", "wait_unmounted", "in_parallel", "one_host", "volume_names"]
