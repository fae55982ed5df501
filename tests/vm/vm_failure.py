"""What becomes of disks when a VM or the service fails."""
import time

from lab import ServiceError, fails_with, wait_for
from plugin_client import PluginError
from vm_disks import await_detached, read_digest, remove, write_content

# A guest that was killed: its disks are free for others within this (issue 3).
FREE_WITHIN_SECONDS = 2.0
# Between two steps of an attach or a detach, where the service dies. The first two are the hypervisor's own.
ATTACH_POINTS = ("attach.record.after", "qemu.node.after", "attach.device.after")
DETACH_POINTS = ("qemu.unplug.after", "detach.device.after")


def is_attached_now(lab, vm, volume):
    try:
        return lab.wire(vm).request("attach", volume)
    except ServiceError as error:
        assert "web-1" in str(error), error
        return False


def guest_is_killed(lab, web1, web2):
    """Its disks are free at once, and what it had synced is there in the other VM; it comes back as a VM like any other."""
    web1.create("db", size="64mb", fstype="ext4")
    digest = write_content(web1, web1.mount("db"))
    fails_with(PluginError, lambda: web2.mount("db"), "web-1")

    web1.kill()
    began = time.monotonic()
    wait_for("the killed guest's disk is free", lambda: is_attached_now(lab, "web-2", "db"), FREE_WITHIN_SECONDS)
    print(f"free {1000 * (time.monotonic() - began):.0f} ms after the kill")
    mount_point = web2.mount("db")
    assert read_digest(web2, mount_point) == digest

    lab.boot("web-1")
    lab.start_mountd(web1)
    fails_with(PluginError, lambda: web1.mount("db"), "web-2")
    web1.create("own", size="8mb", fstype="ext4")
    own = write_content(web1, web1.mount("own"), 64)
    web1.unmount("own")
    await_detached(lab, web1, "own")
    assert read_digest(web2, web2.mount("own", "m2")) == own
    assert read_digest(web2, mount_point) == digest
    remove(lab, web2, "own", "m2")
    remove(lab, web2, "db")


def guest_is_reset_paused_and_shut_down(lab, web1, web2):
    """A reset and a pause keep the disks where they are; a shutdown frees them."""
    web1.create("db", size="64mb", fstype="ext4")
    digest = write_content(web1, web1.mount("db"))

    web1.qmp.run("stop")
    fails_with(PluginError, lambda: web2.mount("db"), "web-1")
    web1.qmp.run("cont")
    web1.reset()
    assert len(web1.disks()) == 1, "the disk is in the machine still"
    fails_with(PluginError, lambda: web2.mount("db"), "web-1")
    lab.start_mountd(web1)  # its root is in memory: it has forgotten everything
    assert read_digest(web1, web1.mount("db", "m2")) == digest

    web1.shell("sync")
    web1.shell("(sleep 0.2; poweroff -f) > /dev/null 2>&1 &")
    assert web1.process.wait(60) == 0
    assert read_digest(web2, web2.mount("db")) == digest


def service_is_killed_between_two_steps(lab, guest, _web2):
    """The mount or unmount that was under way goes on by itself when the service is back, and nothing is left half done."""
    guest.create("db", size="64mb", fstype="ext4")
    digest = write_content(guest, guest.mount("db"))
    guest.unmount("db")
    await_detached(lab, guest, "db")
    for point in ATTACH_POINTS:
        lab.kill_service()
        lab.restart_service(faults=f"{point}=kill")
        guest.begin("mount", "VolumeDriver.Mount", Name="db", ID=point)
        assert lab.service.wait(60) == -9, f"{point} was not reached"
        lab.restart_service()
        mount_point = guest.ended("mount")["Mountpoint"]
        assert read_digest(guest, mount_point) == digest, point
        assert len(guest.disks()) == 1, point
        guest.unmount("db", point)
        await_detached(lab, guest, "db")
    for point in DETACH_POINTS:
        guest.mount("db", point)
        lab.kill_service()
        lab.restart_service(faults=f"{point}=kill")
        guest.unmount("db", point)
        assert lab.service.wait(60) == -9, f"{point} was not reached"
        lab.restart_service()
        await_detached(lab, guest, "db")
        wait_for(f"{point}: the image is closed", lambda: lab.open_images(guest) == [])
    assert read_digest(guest, guest.mount("db")) == digest
    remove(lab, guest, "db")


def service_is_stopped_in_the_middle_of_an_attach(lab, guest, _web2):
    """A graceful stop finishes what runs; mounted volumes do not notice that the service is away."""
    guest.create("db", size="64mb", fstype="ext4")
    guest.create("other", size="64mb", fstype="ext4")
    mount_point = guest.mount("other")
    digest = write_content(guest, mount_point)

    lab.stop_service()
    gate = lab.root / "gate"
    lab.restart_service(faults=f"qemu.node.after=block:{gate}")
    guest.begin("mount", "VolumeDriver.Mount", Name="db", ID="m1")
    wait_for("the image is open", lambda: len(lab.open_images(guest)) == 2)
    lab.service.terminate()
    gate.touch()
    assert lab.service.wait(60) == 0
    wait_for("the attach, which was carried out before the end, is seen", lambda: len(guest.disks()) == 2)
    assert read_digest(guest, mount_point) == digest
    assert write_content(guest, mount_point) != digest
    assert guest.volumes() == ["db", "other"], "answered by the catalogue"
    # The attach was answered, but what comes after it had nobody to ask. The engine says so to its user, who tries again.
    fails_with(PluginError, lambda: guest.ended("mount"), "connect to 'tcp:", "E_UNAVAILABLE")

    lab.restart_service()
    guest.mount("db")
    assert len(guest.disks()) == 2
    remove(lab, guest, "db")
    remove(lab, guest, "other")


SCENARIOS = (service_is_killed_between_two_steps, service_is_stopped_in_the_middle_of_an_attach, guest_is_killed,
             guest_is_reset_paused_and_shut_down)
