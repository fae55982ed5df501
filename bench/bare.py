"""What an administrator would type instead: the same files, loop devices, file systems and mounts, without a service."""
import os
import shlex
import subprocess
import time

from rig import MKFS_EXT4, run


class BareVolume:
    """One file, attached and mounted by hand."""

    def __init__(self, folder, name, size):
        self.file = folder / f"{name}.img"
        self.mount_point = folder / f"{name}.mnt"
        self.size = size
        self.device = None

    def make(self):
        run("truncate", "-s", self.size, self.file)

    def attach(self):
        self.device = run("losetup", "--direct-io=on", "-f", "--show", self.file)

    def format(self):
        run(*MKFS_EXT4, self.device)

    def mount(self):
        os.mkdir(self.mount_point)
        run("mount", self.device, self.mount_point)

    def unmount(self):
        run("umount", self.mount_point)
        os.rmdir(self.mount_point)

    def detach(self):
        run("losetup", "-d", self.device)
        self.device = None

    def remove(self):
        os.unlink(self.file)


def run_side_by_side(scripts):
    """Shell scripts, all at the same time, started by one shell; the time until the last has ended."""
    text = "set -e\n" + "".join(f"( set -e; {script} ) & pids=\"$pids $!\"\n" for script in scripts) + "for pid in $pids; do wait $pid; done\n"
    start = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", text], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def mount_script(volume):
    file, point = shlex.quote(str(volume.file)), shlex.quote(str(volume.mount_point))
    return f"d=$(losetup --direct-io=on -f --show {file}); mkdir {point}; mount $d {point}"


def first_mount_script(volume):
    file, point = shlex.quote(str(volume.file)), shlex.quote(str(volume.mount_point))
    mkfs = shlex.join(MKFS_EXT4)
    return f"truncate -s {volume.size} {file}; d=$(losetup --direct-io=on -f --show {file}); {mkfs} $d; mkdir {point}; mount $d {point}"


def unmount_script(volume):
    point = shlex.quote(str(volume.mount_point))
    return f"d=$(findmnt -n -o SOURCE {point}); umount {point}; rmdir {point}; losetup -d $d"
