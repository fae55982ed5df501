#!/usr/bin/env python3
"""Kills mountd at one fault point in the middle of a volume's life, starts it again, and sees the life go on to its end.

    crash.py walk.attach.after --mountd build/dev/mountd/mountd

The life: create, first mount, write, unmount, detach, mount again, read back, clone, remove. At the kill, the call that was not answered is made
again, as a user of Docker would. Whatever the point: no volume is lost or there twice, what was written is read back, and in the
end nothing is left on the host.
"""
import argparse
import faulthandler
import hashlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from harness import Lab, wait_for  # noqa: E402
from plugin_client import NoAnswer  # noqa: E402

VOLUME = "db"
CLONE = "copy"
CONTENT = os.urandom(1 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Life:
    """One volume on one host, with a mountd that dies once."""

    def __init__(self, lab, point):
        self.host = lab.host()
        self.lab = lab
        self.point = point
        self.deaths = 0
        self.repeats_mount = False

    def start(self, point):
        self.host.start_mountd(environment={"VDVS_FAULTS": f"{point}=kill"})

    def call(self, what, *words, **options):
        """One call; where mountd dies over it, mountd is started again, unarmed, and the call made again."""
        try:
            return getattr(self.host.plugin(), what)(*words, **options)
        except NoAnswer:
            self.resurrect()
            # Counted, but not answered: to the engine this mount has failed, and its count stays until the engine is asked what runs.
            self.repeats_mount |= what == "mount" and self.point == "hold.after"
            return getattr(self.host.plugin(), what)(*words, **options)

    def resurrect(self, environment=None):
        status = self.host.mountd.wait(60)
        if status != -9:
            raise AssertionError(f"mountd ended with {status}, not by its fault point")
        self.deaths += 1
        self.host.restart_mountd(environment)

    def file(self, mount_point):
        return self.host.inside(mount_point) / "content"

    def write(self, mount_point):
        with open(self.file(mount_point), "wb") as file:
            file.write(CONTENT)
            file.flush()
            os.fsync(file.fileno())

    def check_content(self, mount_point):
        found = hashlib.sha256(self.file(mount_point).read_bytes()).hexdigest()
        assert found == DIGEST, f"{self.point}: what was written is not what is read"

    def check_listed(self, *names):
        found = self.call("names")  # a death over the detach, which nobody waits for, may show only now
        assert found == sorted(names), f"{self.point}: {found}"

    def unmount(self, name, mount_id):
        self.call("unmount", name, mount_id)
        if self.repeats_mount:
            self.repeats_mount = False
            self.call("unmount", name, mount_id)

    def wait_detached(self):
        """The detach comes by itself, after a linger; a mountd that died over it must be started by somebody."""
        def is_detached():
            if self.host.mountd.poll() is not None:
                self.resurrect()
            return not self.lab.loop_devices()
        wait_for("the volume is detached", is_detached)

    def make_unclean(self, mount_point):
        """As after a power cut: the extent as it was while the file system was mounted."""
        extent = next(self.lab.datastore().rglob(f"{VOLUME}-flat.vmdk"))
        os.sync()
        copy = extent.read_bytes()
        self.unmount(VOLUME, "id-unclean")
        self.wait_detached()
        extent.write_bytes(copy)

    def live(self):
        self.call("create", VOLUME, size="64mb")
        self.check_listed(VOLUME)
        mount_point = self.call("mount", VOLUME, "id-1")
        self.write(mount_point)
        self.unmount(VOLUME, "id-1")
        self.wait_detached()
        self.check_listed(VOLUME)
        self.check_content(self.call("mount", VOLUME, "id-2"))
        self.unmount(VOLUME, "id-2")
        self.wait_detached()
        if self.point.startswith("walk.check"):
            self.make_unclean(self.call("mount", VOLUME, "id-unclean"))
            self.check_content(self.call("mount", VOLUME, "id-3"))
            self.unmount(VOLUME, "id-3")
            self.wait_detached()
        self.call("create", CLONE, clone_from=VOLUME)
        self.check_listed(VOLUME, CLONE)
        self.check_content(self.call("mount", CLONE, "id-4"))
        self.unmount(CLONE, "id-4")
        self.wait_detached()
        self.call("remove", CLONE)
        self.check_listed(VOLUME)
        self.call("remove", VOLUME)
        self.check_listed()

    def end(self):
        assert self.deaths > 0, f"the fault point {self.point} was never reached"
        self.lab.assert_nothing_leaked()
        left = [str(path) for path in self.lab.datastore().rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert not left, f"{self.point}: left in the datastore: {left}"
        self.host.stop_mountd()


def live_with_an_interrupted_formatting(life):
    """The first formatting dies, and the reset that repairs it dies too."""
    life.start("format.mkfs.after")
    life.host.plugin().create(VOLUME, size="64mb")
    try:
        life.host.plugin().mount(VOLUME, "id-0")
    except NoAnswer:
        life.resurrect({"VDVS_FAULTS": f"{life.point}=kill"})
    deaths = life.deaths
    mount_point = life.call("mount", VOLUME, "id-0")
    assert life.deaths == deaths + 1, f"the fault point {life.point} was never reached"
    assert os.listdir(life.host.inside(mount_point)) == [], "a new volume is not empty"
    life.unmount(VOLUME, "id-0")
    life.wait_detached()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("point")
    parser.add_argument("--mountd", required=True)
    parser.add_argument("--service", help="vmdkopsd: the disks are its, and mountd is a guest of it")
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(100)  # where a test hangs, it says where, before ctest ends it
    with Lab(mountd=arguments.mountd, service=arguments.service) as lab:
        life = Life(lab, arguments.point)
        if "reset" in arguments.point:
            live_with_an_interrupted_formatting(life)
        else:
            life.start(arguments.point)
        life.live()
        life.end()
    print(f"{arguments.point}: died {life.deaths} times, and converged")


if __name__ == "__main__":
    sys.exit(main())
