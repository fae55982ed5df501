"""What disks do in VMs that run as they should."""
from guest import MOUNT_ROOT
from lab import ServiceError, fails_with, wait_for
from plugin_client import PluginError


def write_content(guest, mount_point, kibibytes=512):
    """Random bytes, in the file system and no longer only in the cache; their digest."""
    return guest.shell(f"dd if=/dev/urandom of={mount_point}/content bs=1k count={kibibytes} 2>/dev/null && sync -f {mount_point} "
                       f"&& sha256sum < {mount_point}/content").split()[0]


def read_digest(guest, mount_point):
    return guest.shell(f"sha256sum < {mount_point}/content").split()[0]


def await_detached(lab, guest, volume):
    """The linger is over and the hypervisor has the disk no more; the guest has seen it go."""
    wait_for(f"{volume} is detached", lambda: lab.wire(guest.name).request("get", volume)["status"] == "detached")


def remove(lab, guest, volume, mount_id="m1"):
    """Unmounted, detached and gone."""
    guest.unmount(volume, mount_id)
    await_detached(lab, guest, volume)
    guest.remove(volume)


def follows_its_container(lab, web1, web2):
    """A volume made, plugged, formatted, mounted and written in one VM is unplugged and read in the other; never in both."""
    web1.shell("setsid udevadm monitor --udev --subsystem-match=block --property > /tmp/events 2>&1 & sleep 1")
    web1.create("db", size="64mb", fstype="ext4")
    assert web2.volumes() == web1.volumes(), "both see one datastore"
    assert web1.disks() == [], "a volume that is not mounted is in no VM"

    mount_point = web1.mount("db")
    assert mount_point.startswith(MOUNT_ROOT)
    [disk] = web1.disks()
    device = web1.shell(f"readlink -f /sys/block/{disk}/device")
    pci = device.split("/host")[0]
    assert web1.shell(f"basename $(readlink {pci}/driver)") == "vmw_pvscsi", device
    assert f"/dev/{disk} {mount_point} ext4 rw" in web1.shell("cat /proc/mounts")
    events = web1.shell("cat /tmp/events")
    assert "ACTION=add" in events and f"DEVNAME=/dev/{disk}" in events, events
    uuid = lab.disk_uuid("db")
    assert f"ID_SCSI_SERIAL={uuid}" in events or f"ID_SERIAL_SHORT={uuid}" in events, f"udev does not know {uuid}:\n{events}"
    assert web1.status("db")["attached to VM"] == "web-1"

    digest = write_content(web1, mount_point)
    assert read_digest(web1, mount_point) == digest
    fails_with(PluginError, lambda: web2.mount("db"), "web-1")
    fails_with(PluginError, lambda: web2.remove("db"), "web-1")
    assert read_digest(web1, mount_point) == digest

    web1.unmount("db")
    assert read_digest(web2, web2.mount("db")) == digest  # at once: what lingers in web-1 is waited for
    wait_for("the guest has lost the disk", lambda: web1.disks() == [])
    assert "ACTION=remove" in web1.shell("cat /tmp/events")
    fails_with(PluginError, lambda: web1.mount("db", "m2"), "web-2")
    web2.unmount("db")
    await_detached(lab, web2, "db")
    read_only_copies(lab, web1, web2, digest)
    web1.remove("db")
    assert web2.volumes() == []
    assert list((lab.root / "ds1").rglob("*.vmdk")) == []


def read_only_copies(lab, web1, web2, digest):
    """What is to be read only cannot be written even by the kernel of the guest."""
    web2.create("copy", clone_from="db", access="read-only")
    mount_point = web2.mount("copy")
    assert read_digest(web2, mount_point) == digest
    [disk] = web2.disks()
    assert web2.shell(f"cat /sys/block/{disk}/ro") == "1"
    assert web2.try_shell(f"touch {mount_point}/new")[0] != 0
    web2.unmount("copy")
    await_detached(lab, web2, "copy")
    web1.remove("copy")


def sixteen_disks(lab, guest, _web2):
    """More disks than one controller has units: a second controller is plugged in, and every volume is the right one."""
    names = [f"v{number:02}" for number in range(16)]
    digests = {}
    for name in names:
        guest.create(name, size="8mb", fstype="ext4")
        digests[name] = write_content(guest, guest.mount(name), 64)
    assert len(guest.disks()) == 16
    assert len(guest.shell("ls -d /sys/bus/pci/drivers/vmw_pvscsi/0*").split()) == 2
    assert len(set(digests.values())) == 16
    for name in names:
        guest.unmount(name)
    for name in names:
        await_detached(lab, guest, name)
    wait_for("the guest has lost its disks", lambda: guest.disks() == [])
    # In another order they get other units, and are still who they were.
    for name in (names[15], names[7], names[0]):
        assert read_digest(guest, guest.mount(name)) == digests[name], name
    for name in (names[15], names[7], names[0]):
        guest.unmount(name)
        await_detached(lab, guest, name)
    for name in names:
        lab.wire("web-1").request("remove", name)


def unplugged_while_mounted(lab, web1, web2):
    """Another VM cannot unplug a mounted disk. An administrator can: the guest survives, and what was synced is kept."""
    web1.create("db", size="64mb", fstype="ext4")
    mount_point = web1.mount("db")
    digest = write_content(web1, mount_point)
    # A detach by whoever has it not changes nothing, as with the predecessor.
    try:
        lab.wire("web-2").request("detach", "db")
    except ServiceError as error:
        assert "web-1" in str(error)
    assert lab.wire("web-1").request("get", "db")["attached to VM"] == "web-1"
    assert read_digest(web1, mount_point) == digest

    lab.admin("volume", "detach", "--volume", "db@ds1", "--force")
    assert "volume detach" in (lab.root / "service/audit.log").read_text()
    wait_for("the guest has lost the disk", lambda: web1.disks() == [])
    assert web1.shell("echo alive") == "alive"
    web1.try_shell(f"dd if=/dev/zero of={mount_point}/more bs=64k count=4; sync -f {mount_point}")  # into the void
    assert read_digest(web2, web2.mount("db")) == digest

    # The first guest cleans up after the shock, and gets it back after the second.
    web1.unmount("db")
    assert "/db " not in web1.shell("cat /proc/mounts")
    web2.unmount("db")
    await_detached(lab, web2, "db")
    assert read_digest(web1, web1.mount("db", "m2")) == digest
    remove(lab, web1, "db", "m2")


def vsock_in_a_guest(lab, _web1, guest):
    """The vsock transport's whole contract on a kernel that has vsock, over its loopback."""
    guest.insert_module("vsock_loopback")
    status, output = guest.try_shell(f"ulimit -n 4096; /usr/bin/{lab.vsock_test.name}", 200)
    assert status == 0 and "[  PASSED  ]" in output and "[  FAILED  ]" not in output, output[-5000:]
    assert "SKIPPED" not in output, "vsock is there, so nothing has a reason to be left out"
    print(output[output.rindex("[==========]"):].splitlines()[0])


def strangers_are_refused(lab, web1, web2):
    """A certificate that names no VM of the service's, and one by another authority, get nothing."""
    lab.make_certificate("web-9")
    web2.stop_mountd()
    web2.start_mountd(certificates=lab.certificates("web-9"))
    fails_with(PluginError, lambda: web2.create("db", size="8mb"), "none of this service's VMs [E_DENIED]")
    assert "certificate 'web-9': it is none of this service's VMs" in lab.service_log()
    web2.stop_mountd()
    lab.make_authority("other")
    lab.make_certificate("web-2-by-other", common_name="web-2", authority="other")
    authority, certificate, key = lab.certificates("web-2-by-other")
    web2.start_mountd(certificates=(authority, certificate, key))
    fails_with(PluginError, lambda: web2.create("db", size="8mb"), "tcp:")
    web2.stop_mountd()
    lab.start_mountd(web2)
    assert web1.volumes() == web2.volumes() == []


SCENARIOS = (follows_its_container, unplugged_while_mounted, sixteen_disks, vsock_in_a_guest, strangers_are_refused)
