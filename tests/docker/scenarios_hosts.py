"""Several hosts on one datastore, several daemons on one host, clones, and read-only volumes."""
import json
import subprocess

from checks import assert_gapless, check, one_host, start_counter, volume_names, wait_for, wait_unmounted
from harness import PluginError


def two_hosts(lab):
    """Both hosts see the volume; one at a time has it, and the other is told who. It moves with its data as soon as
    the first has no container of it."""
    first, second = lab.host("alpha"), lab.host("beta")
    for host in (first, second):
        host.start_mountd(linger="1s")
        host.start_engine()
    first.create_volume("db", size="200mb")
    check.assertEqual(volume_names(second), ["db"])
    start_counter(first, "web", "db")
    error = second.docker_fails("run", "--rm", "--network", "none", "-v", "db:/data", "busybox:vdvs-test", "true")
    check.assertIn("alpha", error)
    check.assertIn("E_BUSY_ELSEWHERE", error)
    second.docker("rm", "-f", *second.docker("ps", "-aq").split(), check=False)
    check.assertEqual(second.inspect_volume("db")["Status"]["attached to VM"], "alpha")
    with check.assertRaisesRegex(PluginError, "alpha"):
        second.plugin().remove("db")
    # Nor does a crash of the holder's mountd let the other in.
    first.kill_mountd()
    with check.assertRaisesRegex(PluginError, "alpha"):
        second.plugin().mount("db", "id")
    first.restart_mountd()
    check.assertTrue(first.is_running("web"))

    first.remove_containers("web")
    assert_gapless(second, "db")  # at once: what lingers at alpha is waited for
    start_counter(second, "web", "db")
    with check.assertRaisesRegex(PluginError, "beta"):
        first.plugin().mount("db", "id")
    second.remove_containers("web")
    lab.assert_nothing_leaked()
    # Removed by one, it is gone for the other.
    first.docker("volume", "rm", "db")
    check.assertEqual(volume_names(second), [])
    check.assertIn("no such volume", second.docker_fails("volume", "inspect", "db").lower())


def second_mountd(lab):
    """A second mountd on the same state, or the same socket, is refused and says who is there; the first goes
    on."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "web", "vol")

    def start_another(**changed):
        words = list(map(str, host.mountd_args))
        for flag, value in changed.items():
            words[words.index("--" + flag.replace("_", "-")) + 1] = str(value)
        outcome = subprocess.run(["nsenter", "-t", str(host.keeper_pid), "-m", "--", lab.mountd, *words], capture_output=True,
                                 text=True, timeout=30)
        check.assertNotEqual(outcome.returncode, 0)
        return outcome.stdout + outcome.stderr

    check.assertIn(str(host.mountd.pid), start_another())
    other = lab.root / "other"
    check.assertIn(str(host.mountd.pid), start_another(state_dir=other, run_dir=other))
    check.assertEqual(volume_names(host), ["vol"])
    host.remove_containers("web")
    lab.assert_nothing_leaked()


def old_driver_name(lab):
    """Volumes made under the predecessor's first name, `vmdk`, and mountd with another choice of names."""
    host = one_host(lab)
    host.create_volume("old", driver="vmdk", size="200mb")
    check.assertEqual(host.inspect_volume("old")["Driver"], "vmdk")
    check.assertEqual(host.run("old:/data", "echo kept > /data/file; cat /data/file"), "kept")
    host.docker("volume", "rm", "old")
    lab.assert_nothing_leaked()
    host.stop_mountd()
    host.start_mountd("--driver", "storage")
    host.create_volume("vol", driver="storage", size="200mb")
    check.assertEqual(host.run("vol:/data", "echo kept > /data/file; cat /data/file"), "kept")
    check.assertIn("not found", host.docker("volume", "create", "-d", "nosuch", "other", check=False).stderr)
    lab.assert_nothing_leaked()


def clone(lab):
    """A clone begins with its source's data and goes its own way; both can be mounted at once, xfs too."""
    host = one_host(lab)
    for fstype, size in (("ext4", "200mb"), ("xfs", "512mb"), ("btrfs", "512mb")):
        source, copy = f"src-{fstype}", f"copy-{fstype}"
        host.create_volume(source, size=size, fstype=fstype)
        digest = host.run(f"{source}:/data", "head -c 3000000 /dev/urandom > /data/blob; sync; sha256sum < /data/blob")
        wait_for("the source is detached", lambda: host.inspect_volume(source)["Status"]["status"] == "detached")
        host.create_volume(copy, clone_from=source)
        status = host.inspect_volume(copy)["Status"]
        check.assertEqual((status["clone-from"], status["capacity"]["size"]),
                          (source, host.inspect_volume(source)["Status"]["capacity"]["size"]))
        both = [f"{source}:/src", f"{copy}:/copy"]
        check.assertEqual(host.run(both, "sha256sum < /copy/blob; echo new > /copy/new; ls /src"), f"{digest}\nblob", fstype)
        host.docker("volume", "rm", source)
        check.assertEqual(host.run(f"{copy}:/data", "cat /data/new; sha256sum < /data/blob"), f"new\n{digest}", fstype)
    # A source in use is not cloned half-written.
    host.create_volume("busy", size="200mb")
    start_counter(host, "web", "busy")
    check.assertIn("busy", host.docker_fails("volume", "create", "-d", "vsphere", "-o", "clone-from=busy", "never"))
    host.remove_containers("web")
    lab.assert_nothing_leaked()


def read_only(lab):
    """access=read-only holds for the file system and for the disk below it."""
    host = one_host(lab)
    host.create_volume("source", size="200mb")
    host.run("source:/data", "echo original > /data/file")
    wait_for("the source is detached", lambda: host.inspect_volume("source")["Status"]["status"] == "detached")
    host.create_volume("frozen", clone_from="source", access="read-only")
    check.assertEqual(host.inspect_volume("frozen")["Status"]["access"], "read-only")
    host.start("reader", "frozen:/data")
    check.assertEqual(host.exec("reader", "cat /data/file"), "original")
    refused = host.docker("exec", "reader", "sh", "-c", "echo changed > /data/file", check=False)
    check.assertIn("Read-only file system", refused.stderr)
    device, = lab.loop_devices()
    check.assertEqual(subprocess.check_output(["blockdev", "--getro", device], text=True).strip(), "1")
    host.remove_containers("reader")
    wait_unmounted(host, "frozen")
    # A new one is made, empty, and never changes.
    host.create_volume("blank", size="200mb", access="read-only")
    check.assertEqual(host.run("blank:/data", "ls -A /data; touch /data/x 2>&1 || echo refused").split("\n")[-1], "refused")
    # Docker's own :ro on a volume that can be written.
    check.assertIn("Read-only", host.run("source:/data:ro", "touch /data/x 2>&1 || true"))
    lab.assert_nothing_leaked()


def engine_client(lab):
    """mountd's client of the engine against a real one: what runs, what ends, and an engine that goes and
    comes."""
    host = lab.host()

    def probe(*args, **options):
        return subprocess.Popen([lab.engine_probe, str(host.docker_socket), *args], stdout=subprocess.PIPE, text=True, **options)

    watch = probe("watch")
    try:
        host.start_engine()
        check.assertEqual(watch.stdout.readline(), "connected\n")
        host.docker("volume", "create", "named")
        host.start("web", ["named:/data", "/etc/hostname:/bound"])
        host.start("paused", "named:/data")
        host.docker("pause", "paused")
        host.docker("create", "--name", "created", "-v", "named:/data", "busybox:vdvs-test")

        def mounts():
            return sorted(json.loads(line)["container"] for line in probe("mounts").communicate(timeout=60)[0].splitlines())

        check.assertEqual(mounts(), ["paused", "web"])
        shown = json.loads(probe("mounts").communicate(timeout=60)[0].splitlines()[0])
        check.assertEqual((shown["volume"], shown["driver"]), ("named", "local"))
        check.assertTrue(shown["source"].endswith("/volumes/named/_data"), shown)
        host.docker("kill", "web")
        check.assertEqual(watch.stdout.readline(), "container ended\n")
        check.assertEqual(mounts(), ["paused"])
        host.docker("unpause", "paused")
        host.remove_containers("paused")
        check.assertEqual(watch.stdout.readline(), "container ended\n")
        host.kill_engine()
        check.assertIn("E_UNAVAILABLE", probe("mounts", stderr=subprocess.STDOUT).communicate(timeout=60)[0])
        host.restart_engine()
        check.assertEqual(watch.stdout.readline(), "connected\n")
        host.stop_engine()
        host.restart_engine()
        check.assertEqual(watch.stdout.readline(), "connected\n")
    finally:
        watch.kill()
        watch.communicate()


def slow_start(lab):
    """The engine starts, with volumes that it knows, while no mountd serves them: it comes up, and finds them
    when mountd does."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    host.run("vol:/data", "echo kept > /data/file")
    wait_unmounted(host, "vol")
    host.stop_engine()
    host.stop_mountd()
    host.restart_engine()
    host.restart_mountd()
    check.assertEqual(host.run("vol:/data", "cat /data/file"), "kept")
    lab.assert_nothing_leaked()
    # The engine uses the plugin without being asked to, so that Swarm counts this node in.
    host.stop_engine()
    host.restart_engine()
    wait_for("the engine knows the driver", lambda: "vsphere" in json.loads(host.docker("info", "-f", "{{json .Plugins.Volume}}")))


SCENARIOS = [two_hosts, second_mountd, old_driver_name, clone, read_only, engine_client, slow_start]
