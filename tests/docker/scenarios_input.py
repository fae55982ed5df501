"""Options and names, good and bad, as they come through a real engine and as they may come over the socket:
each refusal says why, and harms nothing."""
import http.client
import json
import os
import socket

from checks import (check, in_parallel, is_mounted, one_host, volume_names, wait_unmounted)
from harness import NoAnswer, PluginError


def volume_files(lab):
    """What volumes are made of: all files but mountd's lock of the folder."""
    return sorted(os.path.join(folder, name) for folder, _, found in os.walk(lab.datastore()) for name in found
                  if not name.startswith(".vdvs"))


def options(lab):
    """Each option shows in what a container sees."""
    host = one_host(lab)
    host.create_volume("owned", size="200mb", uid="1234", gid="5678", mode="2770")
    check.assertEqual(host.run("owned:/data", "stat -c '%u:%g %a' /data"), "1234:5678 2770")
    host.run("owned:/data", "id -u > /data/by-owner", "--user", "1234:5678")
    check.assertEqual(host.run("owned:/data", "cat /data/by-owner; ls -A /data"), "1234\nby-owner")
    # What a container changes stays: the options are for the first time only.
    host.run("owned:/data", "chown 0:0 /data; chmod 755 /data")
    check.assertEqual(host.run("owned:/data", "stat -c '%u:%g %a' /data"), "0:0 755")

    host.create_volume("small-blocks", size="200mb", mkfsopts="-b 1024 -N 4096")
    block_size, inodes = host.run("small-blocks:/data", "stat -f -c '%S %c' /data").split()
    check.assertEqual(block_size, "1024")
    check.assertLess(int(inodes), 5000)
    host.create_volume("noexec", size="200mb", mountopts="noexec,nodev")
    mounted_with = host.run("noexec:/data", "grep ' /data ' /proc/mounts").split()[3].split(",")
    check.assertLessEqual({"noexec", "nodev"}, set(mounted_with))

    for fstype, size in (("xfs", "512mb"), ("btrfs", "512mb"), ("ext2", "200mb"), ("ext3", "200mb"), ("ext4", "1GB")):
        host.create_volume("fs-" + fstype, size=size, fstype=fstype)
        seen = host.run(f"fs-{fstype}:/data", "echo kept > /data/file; sync; grep ' /data ' /proc/mounts").split()
        check.assertEqual(seen[2], fstype)
        check.assertEqual(host.run(f"fs-{fstype}:/data", "cat /data/file"), "kept", fstype)
    check.assertEqual(host.inspect_volume("fs-ext4")["Status"]["capacity"]["size"], "1GB")

    for diskformat in ("thin", "zeroedthick", "eagerzeroedthick"):
        host.create_volume(diskformat, size="64mb", diskformat=diskformat)
        status = host.inspect_volume(diskformat)["Status"]
        check.assertEqual(status["diskformat"], diskformat)
        check.assertEqual(status["capacity"]["allocated"] == "64MB", diskformat != "thin", status["capacity"])
        host.run(f"{diskformat}:/data", "echo x > /data/x")
    # One that is made where it is first used.
    host.docker("run", "--rm", "--network", "none", "--mount",
                "type=volume,src=on-the-fly,dst=/data,volume-driver=vsphere,volume-opt=size=150mb", "busybox:vdvs-test", "true")
    check.assertEqual(host.inspect_volume("on-the-fly")["Status"]["capacity"]["size"], "150MB")
    lab.assert_nothing_leaked()


BAD_OPTIONS = [
    ({"size": "0mb"}, "too small"),
    ({"size": "0"}, "Invalid format for size"),
    ({"size": "-1"}, "Invalid format for size"),
    ({"size": "1"}, "Invalid format for size"),
    ({"size": "10pb"}, "Valid sizes must be of form X[mMgGtT]b where X is an integer. Default = 100mb"),
    ({"size": "99999999999999999999tb"}, "more than a VMDK can hold"),
    ({"size": "1.5gb"}, "Invalid format for size"),
    ({"fstype": "nosuchfs"}, "Not found mkfs for nosuchfs"),
    ({"fstype": "../../bin/sh"}, "is not the name of a filesystem"),
    ({"diskformat": "thick"},
     "Disk Allocation Format 'thick' is not supported. Valid options are: ['thin', 'zeroedthick', 'eagerzeroedthick']."),
    ({"access": "rw"}, "Access type 'rw' is not supported. Valid options are: ['read-write', 'read-only']"),
    ({"attach-as": "x"}, "Attach type 'x' is not supported. Valid options are: ['independent_persistent', 'persistent']"),
    ({"clone-from": "no-such-volume"}, "Could not find volume for cloning no-such-volume"),
    ({"clone-from": "x", "size": "1gb"}, "Cannot define the size for a clone"),
    ({"clone-from": "x", "fstype": "xfs"}, "Cannot define the filesystem type for a clone"),
    ({"colour": "red"}, "Invalid options: ['colour']"),
    ({"Size": "1gb"}, "('size', '100mb')"),
    ({"uid": "-1"}, "Invalid value '-1' for uid"),
    ({"gid": "root"}, "Invalid value 'root' for gid"),
    ({"mode": "999"}, "Invalid value '999' for mode"),
    ({"format": "later"}, "['lazy', 'now']"),
]


def bad_options(lab):
    """Docker's error carries the reason; no volume comes of it."""
    host = one_host(lab)
    before = volume_files(lab)
    for given, reason in BAD_OPTIONS:
        words = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
        error = host.docker_fails("volume", "create", "-d", "vsphere", *words, "bad")
        check.assertIn(reason, error, given)
    # More than the datastore holds, all of it at once.
    error = host.docker_fails("volume", "create", "-d", "vsphere", "-o", "size=60tb", "-o", "diskformat=zeroedthick", "bad")
    check.assertIn("E_NO_SPACE", error)
    # mkfs itself objects, and its words are shown.
    error = host.docker_fails("volume", "create", "-d", "vsphere", "-o", "mkfsopts=--no-such-flag", "-o", "format=now", "bad")
    check.assertRegex(error, "(?i)mkfs.*(unrecognized|invalid) option")
    check.assertEqual(volume_names(host), [])
    check.assertEqual(volume_files(lab), before)

    # A volume that exists is not changed by a second create, and one with other wishes is told the difference.
    host.create_volume("exists", size="200mb", fstype="ext4")
    plugin = host.plugin()
    plugin.create("exists")
    plugin.create("exists", size="200mb")
    with check.assertRaisesRegex(PluginError, "already exists.*'size': it is 200mb, you asked for 300mb"):
        plugin.create("exists", size="300mb")
    with check.assertRaisesRegex(PluginError, "already exists.*'fstype': it is ext4, you asked for xfs"):
        plugin.create("exists", fstype="xfs")
    # Bad only when it is mounted: Docker says so, the container does not start, nothing stays.
    host.create_volume("bad-mount", size="200mb", mountopts="no_such_option")
    error = host.docker_fails("run", "--rm", "--network", "none", "-v", "bad-mount:/data", "busybox:vdvs-test", "true")
    check.assertIn("mount 'bad-mount", error)
    check.assertFalse(is_mounted(host, "bad-mount"))
    host.docker("volume", "rm", "-f", "bad-mount")
    check.assertEqual(volume_names(host), ["exists"])
    lab.assert_nothing_leaked()


GOOD_NAMES = ["plain", "UPPER.lower_1-2", "with space", "größe", "体积", "🐳", "a*b", "a?b[c]", "#hash", "100%", "-dash",
              "12345-12345", "a'b", "a;b", "$(touch x)", "…" * 70, "x" * 100]
BAD_NAMES = [("", "empty"), ("../x", "illegal characters: /"), ("a/b", "illegal characters: /"),
             ("a\\b", "illegal characters"), ('a"b', "illegal characters"), (".", "not supported"), ("..", "not supported"),
             ("x" * 300, "too long"), ("x" * 101, "too long"), ("é" * 101, "too long"), ("db-flat", "-flat"),
             ("db-delta", "-delta"), ("db-ctk", "-ctk"), ("db-000001", "-NNNNNN"), ("db.vmdk", ".vmdk"),
             ("a\0b", "control character"), ("a\nb", "control character"), ("a\x7fb", "control character"),
             ("db@", "Datastore name is empty"), ("@ds1", "empty"), ("db@nowhere", "Invalid datastore 'nowhere'"),
             ("db@../ds1", "nvalid datastore")]


def names(lab):
    """Names that mean something to a shell, a glob, a path or a file system are only names; those that cannot
    be files are refused."""
    host = one_host(lab)
    plugin = host.plugin()
    for number, name in enumerate(GOOD_NAMES):
        plugin.create(name, size="64mb")
        check.assertEqual(plugin.get(name)["Name"], name)
        path = plugin.mount(name, f"id{number}")
        check.assertEqual(path, str(host.mount_root / f"{name}@ds1"))
        check.assertTrue(host.inside(path).is_dir())
        host.inside(path + "/whose").write_text(name)
        plugin.unmount(name, f"id{number}")
    check.assertEqual(plugin.names(), sorted(GOOD_NAMES))
    lab.assert_nothing_leaked()
    for number, name in enumerate(GOOD_NAMES):
        path = plugin.mount(name, f"again{number}")
        check.assertEqual(host.inside(path + "/whose").read_text(), name)
        plugin.unmount(name, f"again{number}")
    for name in GOOD_NAMES:
        plugin.remove(name)
    check.assertEqual(plugin.names(), [])

    before = volume_files(lab)
    for name, reason in BAD_NAMES:
        with check.assertRaises(PluginError, msg=repr(name)) as refused:
            plugin.create(name, size="64mb")
        check.assertIn(reason, str(refused.exception), repr(name))
        with check.assertRaises(PluginError, msg=repr(name)):
            plugin.mount(name, "id")
        with check.assertRaises(PluginError, msg=repr(name)):
            plugin.get(name)
    check.assertEqual(volume_files(lab), before)

    # Through Docker: the refusals reach the user, a colon is Docker's own.
    for name, reason in (("../x", "illegal characters"), ("db-flat", "-flat"), ("x" * 300, "too long"),
                         ("db@nowhere", "Known datastores: ds1")):
        check.assertIn(reason, host.docker_fails("volume", "create", "-d", "vsphere", name))
    for name in ("größe", "with space", "a@b@ds1", "qualified@ds1"):
        host.create_volume(name, size="64mb")
        check.assertEqual(host.run(f"{name}:/data", "echo here > /data/file; cat /data/file"), "here")
        host.docker("volume", "rm", name)
    # Without a name Docker makes one up, and removes the volume with its container.
    host.docker("run", "--rm", "--network", "none", "--volume-driver", "vsphere", "-v", "/data", "busybox:vdvs-test", "true")
    check.assertEqual(volume_names(host), [])
    lab.assert_nothing_leaked()


def one_name(lab):
    """"db" and "db@ds1" are one volume, with one count."""
    host = one_host(lab)
    plugin = host.plugin()
    plugin.create("db", size="64mb")
    check.assertEqual(plugin.mount("db", "short"), plugin.mount("db@ds1", "long"))
    plugin.unmount("db@ds1", "long")
    check.assertTrue(is_mounted(host, "db"))
    with check.assertRaisesRegex(PluginError, "E_IN_USE"):
        plugin.remove("db@ds1")
    plugin.unmount("db@ds1", "short")
    wait_unmounted(host, "db")
    plugin.remove("db@DS1")
    check.assertEqual(plugin.names(), [])
    lab.assert_nothing_leaked()


def conformance(lab):
    """What dockerd may send, without dockerd: docker's traps of mount ids, empty bodies, and callers that
    misbehave."""
    host = lab.host()
    host.start_mountd()
    plugin = host.plugin()
    check.assertEqual(plugin.activate(), {"Implements": ["VolumeDriver"]})
    check.assertEqual(plugin.capabilities(), {"Scope": "global"})
    plugin.create_with("vol", None)  # Opts null
    plugin.create("vol")

    # cp: Mount, Mount, Unmount, Unmount with one id.
    plugin.mount("vol", "container")
    plugin.mount("vol", "container")
    plugin.unmount("vol", "container")
    check.assertTrue(is_mounted(host, "vol"))
    plugin.unmount("vol", "container")
    wait_unmounted(host, "vol")
    # Ids and volumes that nobody knows: older engines send an Unmount for what was never mounted.
    plugin.unmount("vol", "unknown")
    plugin.unmount("no-such-volume", "unknown")
    plugin.mount("vol", "holder")
    plugin.unmount("vol", "unknown")
    check.assertTrue(is_mounted(host, "vol"))
    plugin.unmount("vol", "holder")
    wait_unmounted(host, "vol")
    # A restart without Unmount, as under live-restore: only the Unmount comes, later.
    plugin.mount("vol", "survivor")
    host.kill_mountd()
    host.restart_mountd()
    check.assertTrue(is_mounted(host, "vol"))
    plugin.unmount("vol", "survivor")
    wait_unmounted(host, "vol")

    for endpoint in ("Create", "Remove", "Mount", "Unmount", "Get", "Path"):
        for body in (b"", b"{", b"[]", b"null", b'{"Name": 7}', b'{"Name": ' + b"[" * 5000):
            try:
                status, reply = plugin.send("VolumeDriver." + endpoint, body)
            except NoAnswer:
                # An error of Get makes the engine forget the volume, so what may be its bodiless retry gets none.
                check.assertEqual((endpoint, body), ("Get", b""))
                continue
            check.assertGreaterEqual(status, 400, (endpoint, body))
            check.assertTrue(json.loads(reply)["Err"], (endpoint, body))
    with check.assertRaisesRegex(PluginError, "no-such-volume"):
        plugin.get("no-such-volume")
    with check.assertRaises(PluginError):
        plugin.mount("no-such-volume", "id")
    plugin.remove("no-such-volume")

    # A slow caller holds up nobody; an idle connection stays open and serves again.
    slow = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    slow.connect(plugin.path)
    slow.send(b"POST /VolumeDriver.List HTTP/1.1\r\nHo")
    check.assertEqual([volume["Name"] for volume in plugin.list()], ["vol"])
    in_parallel(lambda number: plugin.get("vol") if number % 2 else plugin.list(), range(200), width=50)
    connection = http.client.HTTPConnection("plugin.moby.localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(plugin.path)
    for _ in range(3):
        connection.request("POST", "/VolumeDriver.List", body=b"{}")
        check.assertEqual(json.loads(connection.getresponse().read())["Volumes"][0]["Name"], "vol")
    connection.close()
    slow.close()
    with check.assertRaises((PluginError, NoAnswer)):
        plugin.create("x" * (2 << 20))
    plugin.remove("vol")
    lab.assert_nothing_leaked()


SCENARIOS = [options, bad_options, names, one_name, conformance]
