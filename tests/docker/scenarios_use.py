"""What users do with volumes, with a real engine: the main job, sharing, copying, many at once."""
import io
import os
import tarfile
import tempfile

from checks import (assert_gapless, assert_mounted, assert_still_counts, check, in_parallel, one_host, start_counter, volume_names,
                    wait_unmounted)
from harness import PluginError


def session(lab):
    """The main job as a user sees it, with mountd's default times."""
    host = one_host(lab, linger="3s")
    check.assertEqual(host.create_volume("MyVolume", size="10gb"), "MyVolume")
    check.assertIn("vsphere MyVolume", host.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}").split("\n"))

    seen = host.inspect_volume("MyVolume")
    check.assertEqual((seen["Name"], seen["Driver"], seen["Scope"]), ("MyVolume", "vsphere", "global"))
    status = seen["Status"]
    expected = {"status": "detached", "datastore": "ds1", "fstype": "ext4", "diskformat": "thin", "access": "read-write",
                "attach-as": "independent_persistent", "clone-from": "None", "created by VM": "host1"}
    check.assertEqual({key: status.get(key) for key in expected}, expected)
    check.assertEqual(status["capacity"]["size"], "10GB")
    check.assertNotIn("attached to VM", status)

    start_counter(host, "writer", "MyVolume")
    check.assertIn(str(host.mount_root / "MyVolume@ds1"), host.mounts())
    status = host.inspect_volume("MyVolume")["Status"]
    check.assertEqual((status["status"], status["attached to VM"]), ("attached", "host1"))

    # A second container shares it at the same time.
    host.start("sharer", "MyVolume:/data")
    host.exec("sharer", "echo 'from the second' > /data/second")
    check.assertEqual(host.exec("writer", "cat /data/second"), "from the second")
    check.assertEqual(len(lab.loop_devices()), 1)

    # Docker refuses on its own; so does the plugin, whom another client may ask.
    check.assertIn("volume is in use", host.docker_fails("volume", "rm", "MyVolume"))
    with check.assertRaisesRegex(PluginError, "MyVolume.*E_IN_USE"):
        host.plugin().remove("MyVolume")
    assert_still_counts(host, "writer")

    host.remove_containers("writer", "sharer")
    wait_unmounted(host, "MyVolume")
    lab.assert_nothing_leaked()
    check.assertEqual(host.run("MyVolume:/data", "cat /data/second"), "from the second")
    assert_gapless(host, "MyVolume")
    host.docker("volume", "rm", "MyVolume")
    check.assertEqual(volume_names(host), [])
    lab.assert_nothing_leaked()
    left = [name for _, _, files in os.walk(lab.datastore()) for name in files if name.startswith("MyVolume")]
    check.assertEqual(left, [])


def two_containers(lab):
    """The volume stays while any container holds it, in whatever order they end."""
    host = one_host(lab)
    host.create_volume("shared", size="200mb")
    for first, second in (("one", "two"), ("two", "one")):
        host.run("shared:/data", "rm -f /data/count")
        start_counter(host, "one", "shared")
        host.start("two", "shared:/data")
        host.remove_containers(first)
        assert_mounted(host, "shared")
        if second == "one":
            assert_still_counts(host, "one")
        host.exec(second, "ls /data/count")
        host.remove_containers(second)
        wait_unmounted(host, "shared")
        assert_gapless(host, "shared")
    lab.assert_nothing_leaked()


def cp(lab):
    """`docker cp` sends Mount and Unmount with the running container's own mount id."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "web", "vol")
    source = lab.root / "to-copy"
    source.write_text("copied in")
    for _ in range(3):
        host.docker("cp", str(source), "web:/data/copied")
        assert_mounted(host, "vol")
        assert_still_counts(host, "web")
        target = lab.root / "copied-out"
        host.docker("cp", "web:/data/copied", str(target))
        check.assertEqual(target.read_text(), "copied in")
        assert_still_counts(host, "web")
    host.docker("stop", "-t", "1", "web")
    wait_unmounted(host, "vol")
    # On a stopped container it mounts and unmounts for itself.
    host.docker("cp", "web:/data/count", str(lab.root / "count"))
    check.assertTrue((lab.root / "count").read_text().startswith("1\n2\n3\n"))
    source.write_text("copied in while stopped")
    host.docker("cp", str(source), "web:/data/copied")
    lab.assert_nothing_leaked()
    check.assertEqual(host.run("vol:/data", "cat /data/copied"), "copied in while stopped")
    assert_gapless(host, "vol")
    host.remove_containers("web")
    lab.assert_nothing_leaked()


def import_seeded_image(lab, host, tag):
    """The image with files at /data, as a database's image has them."""
    archive = tempfile.TemporaryFile()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(lab.image, arcname=".")
        for name, text, owner in (("data/seed", b"seeded", 0), ("data/sub/deep", b"deep", 1234)):
            entry = tarfile.TarInfo("./" + name)
            entry.size, entry.uid, entry.gid, entry.mode = len(text), owner, owner, 0o640
            tar.addfile(entry, io.BytesIO(text))
    archive.seek(0)
    host.docker("import", "-c", 'CMD ["/bin/sh"]', "-", tag, stdin=archive)


def copy_up(lab):
    """A new volume takes over what the image has at its place: Docker mounts it at create, copies, unmounts,
    and mounts again at start."""
    host = one_host(lab)
    import_seeded_image(lab, host, "seeded:test")
    run = ["run", "--rm", "--network", "none"]
    for fstype, size in (("ext4", "200mb"), ("xfs", "512mb")):
        volume = "fresh-" + fstype
        host.create_volume(volume, size=size, fstype=fstype)
        seen = host.docker(*run, "-v", f"{volume}:/data", "seeded:test", "sh", "-c",
                           "cat /data/seed /data/sub/deep; stat -c ' %u %a' /data/sub/deep")
        check.assertEqual(seen, "seededdeep 1234 640", fstype)
        # The next container finds the volume's data, not the image's again.
        host.docker(*run, "-v", f"{volume}:/data", "seeded:test", "sh", "-c", "echo changed > /data/seed; rm -r /data/sub")
        check.assertEqual(host.docker(*run, "-v", f"{volume}:/data", "seeded:test", "sh", "-c", "cat /data/seed; ls /data"),
                          "changed\nseed", fstype)
    host.create_volume("nocopy", size="200mb")
    check.assertEqual(host.docker(*run, "-v", "nocopy:/data:nocopy", "seeded:test", "ls", "-A", "/data"), "",
                      "a new volume is empty")
    # Created and never started: nothing stays mounted for it.
    host.create_volume("unused", size="200mb")
    host.docker("create", "--name", "idle", "-v", "unused:/data", "seeded:test")
    lab.assert_nothing_leaked()
    host.remove_containers("idle")
    check.assertEqual(host.run("unused:/data", "cat /data/seed"), "seeded")
    lab.assert_nothing_leaked()


def parallel(lab):
    """40 containers, 20 at a time, over 8 volumes: started and removed side by side; each one's data is what
    it wrote."""
    containers, width, volumes = 40, 20, 8
    host = one_host(lab)
    in_parallel(lambda number: host.create_volume(f"vol{number}", size="200mb"), range(volumes))
    check.assertEqual(volume_names(host), [f"vol{number}" for number in range(volumes)])

    def live(number):
        name, volume = f"c{number}", f"vol{number % volumes}"
        host.start(name, f"{volume}:/data",
                   f"head -c 200000 /dev/urandom > /data/.{name} && sync && mv /data/.{name} /data/{name}; sleep 1000000")
        digest = host.exec(name, f"while [ ! -e /data/{name} ]; do sleep 0.05; done; sha256sum < /data/{name}").split()[0]
        host.remove_containers(name)
        return volume, name, digest

    written = in_parallel(live, range(containers), width)
    lab.assert_nothing_leaked()
    for volume in {volume for volume, _, _ in written}:
        expected = {name: digest for on, name, digest in written if on == volume}
        lines = host.run(f"{volume}:/data", "cd /data && sha256sum *").split("\n")
        check.assertEqual({line.split()[1]: line.split()[0] for line in lines}, expected, volume)
    in_parallel(lambda number: host.docker("volume", "rm", f"vol{number}"), range(volumes))
    check.assertEqual(volume_names(host), [])
    lab.assert_nothing_leaked()


SCENARIOS = [session, two_containers, cp, copy_up, parallel]
