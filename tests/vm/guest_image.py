"""What a guest boots: Debian's kernel, and a root of this machine's own files in an initramfs.

The kernel's package is downloaded once into a cache (VDVS_TEST_CACHE, by default /var/cache/vdvs-test) and never
installed. The root has busybox, systemd's udevd with all its rules, e2fsprogs, curl, and whatever programs the test
wants to run in the guest, each with the libraries that ldd names. Nothing in it is mounted from the host, so a guest
can be killed at any moment and boots again as if new.

    guest_image.py --fetch      only fills the cache
"""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from machine import HarnessError, run  # noqa: E402

CACHE = pathlib.Path(os.environ.get("VDVS_TEST_CACHE", "/var/cache/vdvs-test"))
META_PACKAGE = "linux-image-amd64"
LIMIT = "limit of the machine: "

# Loaded at boot, each after what it needs.
MODULES = ("virtio_pci", "virtio_net", "sd_mod", "vmw_pvscsi", "crc32c_generic", "ext4")
# Brought along, for a test to load (Guest.insert_module).
LATER_MODULES = ("vsock_loopback",)

PROGRAMS = ("/usr/bin/busybox", "/usr/bin/udevadm", "/usr/lib/udev/scsi_id", "/usr/sbin/mkfs.ext4",
            "/usr/sbin/e2fsck", "/usr/bin/curl")
# As they are on the host: links stay links.
FILES = ("/usr/lib/systemd/systemd-udevd", "/usr/lib/udev/rules.d", "/etc/mke2fs.conf", "/etc/nsswitch.conf")
BUSYBOX_APPLETS = 'for applet in $(/usr/bin/busybox --list); do [ -e "/usr/bin/$applet" ] || ln -s busybox "/usr/bin/$applet"; done'

INIT = """#!/usr/bin/busybox sh
export PATH=/usr/sbin:/usr/bin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for folder in run tmp mnt var/lib root; do busybox mkdir -p /$folder; done
busybox mount -t tmpfs -o mode=755 run /run
busybox mount -t tmpfs tmp /tmp
{applets}
insmod_all() {{ while read -r module; do insmod "$module"; done < "/lib/modules/$1.order"; }}
insmod_all boot
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
hostname "$(sed 's/.*vm=//; s/ .*//' /proc/cmdline)"
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add && udevadm settle
# The agent: a command comes in as one line of base64; its output goes out as lines of base64, and its status.
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo @@READY >&3
while read -r line <&3; do
  printf %s "$line" | base64 -d > /tmp/command
  sh /tmp/command > /tmp/output 2>&1 < /dev/null 3>&-; status=$?
  base64 /tmp/output >&3
  echo "@@END $status" >&3
done
"""


class NoKernel(HarnessError):
    """The guests' kernel is not here and cannot be had."""


def _package_name():
    depends = run(["apt-cache", "depends", "--important", META_PACKAGE], check=False).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        raise NoKernel(f"{LIMIT}apt knows no {META_PACKAGE} (apt-get update)")
    return found.group(1)


def _download(folder):
    """The package's file. apt gets it from the same Debian as everything else here."""
    got = run(["apt-get", "download", "-q", _package_name()], check=False, cwd=folder)
    packages = list(folder.glob("*.deb"))
    if got.returncode != 0 or not packages:
        raise NoKernel(f"{LIMIT}the guests' kernel cannot be downloaded: {got.stderr.strip().splitlines()[-1:]}")
    return packages[0]


def _fill(cache):
    """Unpacks beside, and is there at once or not at all."""
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="kernel-") as scratch:
        scratch = pathlib.Path(scratch)
        package = _download(scratch)
        tree = scratch / "tree"
        run(["dpkg-deb", "-x", package, tree])
        kept = scratch / "kept"
        (kept / "modules").mkdir(parents=True)
        shutil.copy(next(tree.glob("boot/vmlinuz-*")), kept / "vmlinuz")
        shutil.copy(next(tree.glob("lib/modules/*/modules.builtin")), kept / "modules.builtin")
        for module in ModuleTree(tree).order((*MODULES, *LATER_MODULES)):
            shutil.copy(module, kept / "modules")
        (kept / "package").write_text(package.name + "\n")
        os.rename(kept, cache)


def kernel_folder():
    """With `vmlinuz`, `modules.builtin` and `modules/*.ko`. NoKernel where it cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # A kernel for another list of modules is another kernel.
    wanted = "-".join(sorted((*MODULES, *LATER_MODULES)))
    cache = CACHE / f"guest-kernel-{zlib.crc32(wanted.encode()):08x}"
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            _fill(cache)
    return cache


class ModuleTree:
    """Kernel modules below a folder, and which needs which: each says so itself, in its section .modinfo."""

    def __init__(self, folder):
        self.by_name = {path.name.removesuffix(".ko").replace("-", "_"): path for path in pathlib.Path(folder).rglob("*.ko")}
        listing = next(iter(pathlib.Path(folder).rglob("modules.builtin"))).read_text()
        self.builtin = {line.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_") for line in listing.split()}

    def order(self, names):
        """All that these need and they themselves, each after what it needs."""
        ordered = []

        def visit(name):
            if name in self.builtin:
                return
            if name not in self.by_name:
                raise HarnessError(f"the guests' kernel has no module {name}")
            path = self.by_name[name]
            if path in ordered:
                return
            depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
            for need in filter(None, depends.group(1).decode().split(",") if depends else ()):
                visit(need.replace("-", "_"))
            ordered.append(path)

        for name in names:
            visit(name)
        return ordered


def libraries_of(program):
    """By their paths, the loader too."""
    listing = run(["ldd", program], check=False).stdout
    return {found for found in re.findall(r"(/\S+) \(0x", listing)}


class Root:
    """A folder that becomes the guest's root. Laid out as a merged /usr."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.folder / "usr" / name).mkdir(parents=True)
            (self.folder / name).symlink_to(f"usr/{name}")
        for name in ("proc", "sys", "dev", "etc"):
            (self.folder / name).mkdir()

    def _place(self, path):
        """Where a file of the host's goes: never through the host's own links from /bin and /lib."""
        path = str(path)
        if re.match(r"/(bin|sbin|lib|lib64)/", path):
            path = "/usr" + path
        place = self.folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def add_program(self, program, place=None):
        program = pathlib.Path(program)
        target = self._place(place or program)
        shutil.copy(program, target)
        run(["strip", "--strip-debug", target], check=False)
        for library in libraries_of(program):
            if not self._place(library).exists():
                shutil.copy(library, self._place(library))

    def add(self, path):
        if path.is_dir():
            shutil.copytree(path, self._place(path), symlinks=True)
        else:
            shutil.copy(path, self._place(path), follow_symlinks=False)

    def add_text(self, path, text, mode=0o644):
        place = self._place(path)
        place.write_text(text)
        place.chmod(mode)

    def add_modules(self, kernel, order_name, names):
        order = ModuleTree(kernel).order(names)
        for module in order:
            place = self._place(f"/lib/modules/{module.name}")
            if not place.exists():
                shutil.copy(module, place)
        self.add_text(f"/lib/modules/{order_name}.order", "".join(f"/lib/modules/{module.name}\n" for module in order))

    def pack(self, archive):
        names = subprocess.run(["find", ".", "-print0"], cwd=self.folder, stdout=subprocess.PIPE, check=True).stdout
        with open(archive, "wb") as output:
            subprocess.run(["cpio", "--null", "--create", "--format=newc", "--quiet"], cwd=self.folder, input=names,
                           stdout=output, check=True)


def make_image(folder, kernel, programs):
    """Writes `folder`/initrd with `programs` in /usr/bin; returns its path."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="root-") as scratch:
        root = Root(scratch)
        for program in PROGRAMS:
            root.add_program(pathlib.Path(program).resolve(), program)
        for path in FILES:
            root.add(pathlib.Path(path))
        for program in programs:
            root.add_program(program, f"/usr/bin/{pathlib.Path(program).name}")
        root.add_modules(kernel, "boot", MODULES)
        for name in LATER_MODULES:
            root.add_modules(kernel, name, (name,))
        root.add_text("/init", INIT.format(applets=BUSYBOX_APPLETS), 0o755)
        archive = pathlib.Path(folder) / "initrd"
        root.pack(archive)
        return archive


if __name__ == "__main__":
    try:
        print(kernel_folder())
    except NoKernel as error:
        print(error)
        sys.exit(77)
