#!/usr/bin/env python3
"""Replays, without an engine, what engines do to a volume plugin: conformance.py CASE --mountd PATH. Needs root."""
import argparse
import faulthandler
import os
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from harness import Lab, run, wait_for  # noqa: E402
from plugin_client import NoAnswer, PluginError  # noqa: E402


def started(lab, **options):
    host = lab.host()
    host.start_mountd(**options)
    plugin = host.plugin()
    plugin.names()  # answered once the datastore is open
    return host, plugin


def refused(call, *words, **options):
    """The text of the refusal."""
    try:
        answer = call(*words, **options)
    except PluginError as error:
        return str(error)
    raise AssertionError(f"not refused: {words}: {answer}")


def is_mounted(host, name="db"):
    return any(pathlib.Path(point).name.startswith(f"{name}@") for point in host.mounts())


def empty_bodies(lab):
    """The engine's retry of a request whose connection broke carries no body."""
    host, plugin = started(lab)
    for endpoint in ("Create", "Remove", "Mount", "Unmount"):
        status, reply = plugin.send(f"VolumeDriver.{endpoint}", b"")
        assert status == 400 and b'"Err"' in reply, (endpoint, status, reply)
    try:
        answer = plugin.send("VolumeDriver.Get", b"")
        raise AssertionError(f"any error of Get makes the engine forget a volume, so there must be no answer: {answer}")
    except NoAnswer:
        pass
    assert plugin.names() == []
    for endpoint in ("Plugin.Activate", "VolumeDriver.List", "VolumeDriver.Capabilities"):
        status, reply = plugin.send(endpoint, b"")
        assert status == 200, (endpoint, status, reply)
    host.stop_mountd()


def create_and_mount_twice(lab):
    """A retry may find the first try done."""
    host, plugin = started(lab)
    for _ in range(2):
        plugin.create("db", size="64mb", fstype="ext4")
    assert "already exists" in refused(plugin.create, "db", size="65mb")
    assert plugin.mount("db", "a") == plugin.mount("db", "b")
    plugin.unmount("db", "a")
    assert is_mounted(host)
    plugin.unmount("db", "b")
    assert not is_mounted(host)
    lab.assert_nothing_leaked()


def docker_cp(lab):
    """`docker cp` on a running container: the same id again, and its unmount, while the container goes on."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    plugin.mount("db", "a")
    plugin.mount("db", "a")
    plugin.unmount("db", "a")
    assert is_mounted(host), "the unmount of docker cp took the container's mount away"
    plugin.unmount("db", "a")
    assert not is_mounted(host)
    lab.assert_nothing_leaked()


def reboot(lab):
    """A host that crashed: no Unmount was sent, /run, mounts and devices are gone, and the next start has the same id."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    point = plugin.mount("db", "a")
    (host.inside(point) / "file").write_text("before")
    host.kill_mountd()
    run(["nsenter", "-t", str(host.keeper_pid), "-m", "umount", point])
    for device in lab.loop_devices():
        run(["losetup", "-d", device])
    run(["rm", "-rf", host.root / "run"])
    host.restart_mountd()
    point = plugin.mount("db", "a")
    assert (host.inside(point) / "file").read_text() == "before"
    plugin.unmount("db", "a")
    assert not is_mounted(host), "a count of before the reboot has survived it"
    lab.assert_nothing_leaked()


def live_restore(lab):
    """Containers outlive the daemons: the plugin restarts, gets no Mount, and later an Unmount."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    plugin.mount("db", "a")
    host.kill_mountd()
    host.restart_mountd()
    assert is_mounted(host)
    plugin.unmount("db", "a")
    assert not is_mounted(host)
    lab.assert_nothing_leaked()


def one_name_on_two_datastores(lab):
    """"db" of one datastore and "db" of another are two volumes: each with its data and its count, across restarts."""
    stores = [argument for name in ("ds1", "ds2") for argument in ("--datastore", f"{name}={lab.datastore(name)}")]
    host = lab.host()
    host.start_mountd(*stores)
    plugin = host.plugin()
    for name in ("db", "db@ds2"):
        plugin.create(name, size="64mb")
    points = {name: plugin.mount(name, "a") for name in ("db", "db@ds2")}
    assert plugin.mount("db@ds1", "b") == points["db"]
    for name, point in points.items():
        (host.inside(point) / "name").write_text(name)
    host.kill_mountd()
    host.restart_mountd()
    assert sorted(plugin.names()) == ["db", "db@ds2"]
    plugin.unmount("db@ds2", "a")
    assert is_mounted(host, "db") and len(host.mounts()) == 1, host.mounts()
    plugin.unmount("db", "a")
    assert (host.inside(points["db"]) / "name").read_text() == "db", "the second container still has it"
    plugin.unmount("db@ds1", "b")
    assert not host.mounts()
    assert (host.inside(plugin.mount("db@ds2", "c")) / "name").read_text() == "db@ds2"
    plugin.unmount("db@ds2", "c")
    lab.assert_nothing_leaked()


def unknown_mount_ids(lab):
    """Older engines unmount what was never mounted."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    plugin.unmount("db", "never")
    plugin.mount("db", "a")
    plugin.unmount("db", "never")
    assert is_mounted(host)
    plugin.unmount("db", "a")
    plugin.unmount("no-such-volume", "a")
    lab.assert_nothing_leaked()


def remove_while_mounted(lab):
    host, plugin = started(lab)
    other = lab.host("host2")
    other.start_mountd()
    plugin.create("db", size="64mb")
    plugin.mount("db", "a")
    assert "E_IN_USE" in refused(plugin.remove, "db")
    text = refused(other.plugin().remove, "db")
    assert "E_BUSY_ELSEWHERE" in text and "host1" in text, text
    text = refused(other.plugin().mount, "db", "b")
    assert "E_BUSY_ELSEWHERE" in text and "host1" in text, text
    plugin.unmount("db", "a")
    wait_for("the disk is detached", lambda: not lab.loop_devices())
    other.plugin().remove("db")
    assert plugin.names() == []
    lab.assert_nothing_leaked()


def sigterm_during_a_mount(lab):
    """What runs is finished and answered; then the daemon ends, and the mount stays."""
    host = lab.host()
    gate = host.root / "gate"
    host.start_mountd(environment={"VDVS_FAULTS": f"walk.attach.before=block:{gate}"})
    plugin = host.plugin()
    plugin.create("db", size="64mb")
    answers = []
    mounting = threading.Thread(target=lambda: answers.append(plugin.mount("db", "a")))
    mounting.start()
    wait_for("the mount has begun", lambda: "step=attach" in (host.root / "mountd.log").read_text())
    host.mountd.terminate()
    wait_for("the stop has begun", lambda: "stopping" in (host.root / "mountd.log").read_text())
    gate.touch()
    mounting.join()
    assert host.mountd.wait(30) == 0
    assert answers and is_mounted(host), answers
    assert not host.inside("/run/docker/plugins/vsphere.sock").exists(), "a socket file that nobody listens on stalls the engine"
    host.restart_mountd()
    plugin.unmount("db", "a")
    lab.assert_nothing_leaked()


def _adopt(lab, name, prepare):
    """A VMDK that qemu-img made, with whatever `prepare` puts into its extent."""
    folder = lab.datastore() / "dockvols/11111111-1111-1111-1111-111111111111"
    folder.mkdir(parents=True, exist_ok=True)
    run(["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", folder / f"{name}.vmdk", "64M"])
    prepare(folder / f"{name}-flat.vmdk")


def adopted_disks_are_data(lab):
    host, plugin = started(lab)
    _adopt(lab, "ready", lambda extent: run(["mkfs.ext4", "-q", "-F", extent]))
    _adopt(lab, "blank", lambda extent: None)
    assert plugin.names() == ["blank", "ready"]
    point = plugin.mount("ready", "a")
    assert os.listdir(host.inside(point)) == ["lost+found"], "an adopted file system is left as it is"
    plugin.unmount("ready", "a")
    text = refused(plugin.mount, "blank", "a")
    assert "E_FOREIGN_DATA" in text and "blank" in text, text
    lab.assert_nothing_leaked()


def foreign_disks_are_never_formatted(lab):
    """Not even on a volume that the service has made and nobody has mounted."""
    host, plugin = started(lab)
    folder = lab.datastore() / "dockvols/11111111-1111-1111-1111-111111111111"

    def garbage(extent):
        with open(extent, "r+b") as file:
            file.seek(4096)
            file.write(b"somebody's data")

    def gpt(extent):
        subprocess.run(["sfdisk", "-q", extent], input="label: gpt\n,\n", text=True, check=True)

    def mbr(extent):
        subprocess.run(["sfdisk", "-q", extent], input="label: dos\n,\n", text=True, check=True)

    disks = {"swap": lambda extent: run(["mkswap", extent]), "gpt": gpt, "mbr": mbr, "garbage": garbage}
    for name, prepare in disks.items():
        plugin.create(name, size="64mb")
        extent = folder / f"{name}-flat.vmdk"
        prepare(extent)
        before = extent.read_bytes()
        text = refused(plugin.mount, name, "a")
        assert "E_FOREIGN_DATA" in text, text
        assert extent.read_bytes() == before, f"{name}: the disk was changed"
    lab.assert_nothing_leaked()
    host.stop_mountd()


def a_mounted_namespace_keeps_its_disk(lab):
    """A mount that lives on in another mount namespace: the disk is not taken away under it."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    point = plugin.mount("db", "a")
    keeper = subprocess.Popen(["nsenter", "-t", str(host.keeper_pid), "-m", "unshare", "-m", "--propagation", "private", "sh", "-c",
                               f"mount --bind {point} /mnt && echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    keeper.stdout.readline()
    try:
        plugin.unmount("db", "a")
        wait_for("the detach was refused", lambda: "not detached yet" in (host.root / "mountd.log").read_text())
        assert lab.loop_devices(), "the disk was detached under a mounted file system"
        text = refused(plugin.remove, "db")
        assert "E_IN_USE" in text and str(keeper.pid) in text, text
        (host.inside(plugin.mount("db", "b")) / "file").write_text("still one file system")
        assert pathlib.Path(f"/proc/{keeper.pid}/root/mnt/file").read_text() == "still one file system"
        plugin.unmount("db", "b")
    finally:
        keeper.communicate("end\n")
    wait_for("the disk is detached by itself", lambda: not lab.loop_devices())
    plugin.remove("db")
    lab.assert_nothing_leaked()


def a_missing_datastore_is_not_an_empty_one(lab):
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    host.stop_mountd()
    away = lab.datastore().rename(lab.datastore().with_name("away"))
    lab.datastore()
    host.restart_mountd(wait=False)
    assert host.mountd.wait(30) == 1
    assert "mount its file system" in (host.root / "mountd.log").read_text()
    lab.datastore().rmdir()
    away.rename(away.with_name("ds1"))
    host.restart_mountd()
    assert plugin.names() == ["db"]


def control_plane_words_for_a_broken_disk(lab):
    """A volume that cannot be read is there, and says why; it is not "no such volume", for which the engine would forget it."""
    host, plugin = started(lab)
    _adopt(lab, "broken", lambda extent: extent.unlink())
    view = plugin.get("broken")
    assert "E_" in view["Status"]["backend"], view
    text = refused(plugin.mount, "broken", "a")
    assert "broken-flat.vmdk" in text, text
    refused(plugin.remove, "broken")
    assert plugin.names() == ["broken"]
    host.stop_mountd()


def the_service_comes_and_goes(lab):
    """Needs --service. What is mounted does not notice that its service has died; what needs the service says so, and is right again by
    itself when it is back."""
    host, plugin = started(lab)
    plugin.create("db", size="64mb")
    plugin.create("idle", size="64mb")
    mount_point = host.inside(plugin.mount("db", "a"))
    lab.kill_service()
    (mount_point / "file").write_text("written while the service was away")
    assert plugin.names() == ["db", "idle"]
    assert plugin.get("idle")["Name"] == "idle"
    for call in (lambda: plugin.mount("idle", "b"), lambda: plugin.create("new", size="64mb"), lambda: plugin.remove("idle")):
        text = refused(call)
        assert "E_UNAVAILABLE" in text and "vmdkopsd" in text, text
    plugin.unmount("db", "a")
    assert not is_mounted(host), "the last unmount waits for the service"
    host.stop_mountd()
    host.restart_mountd()
    assert plugin.names() == ["db", "idle"], "a mountd that starts while the service is away forgets its volumes"
    lab.start_service()
    wait_for("the disk is detached by itself", lambda: not lab.loop_devices())
    assert (host.inside(plugin.mount("db", "c")) / "file").read_text() == "written while the service was away"
    assert plugin.names() == ["db", "idle"]
    plugin.unmount("db", "c")
    plugin.remove("db")
    plugin.remove("idle")
    assert plugin.names() == []
    lab.assert_nothing_leaked()
    lab.stop_service()


CASES = {case.__name__: case for case in (
    empty_bodies, create_and_mount_twice, docker_cp, reboot, live_restore, unknown_mount_ids, remove_while_mounted,
    sigterm_during_a_mount, adopted_disks_are_data, foreign_disks_are_never_formatted, a_mounted_namespace_keeps_its_disk,
    a_missing_datastore_is_not_an_empty_one, one_name_on_two_datastores, control_plane_words_for_a_broken_disk, the_service_comes_and_goes)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--mountd", required=True)
    parser.add_argument("--service", help="vmdkopsd: the disks are its, and mountd is a guest of it")
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(100)  # where a test hangs, it says where, before ctest ends it
    with Lab(mountd=arguments.mountd, service=arguments.service) as lab:
        CASES[arguments.case](lab)
    print(f"{arguments.case}: passed")


if __name__ == "__main__":
    sys.exit(main())
