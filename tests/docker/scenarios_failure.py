"""Engines and mountds that stop, restart and die under running containers: containers that can go on do,
counts are right afterwards, and nothing is left."""
import os
import signal

from checks import (assert_gapless, assert_mounted, assert_still_counts, check, is_mounted, last_count, one_host, start_counter,
                    volume_names, wait_for, wait_unmounted)


def assert_usable(host, volume):
    """A container still gets the volume, and gives it back."""
    host.run(f"{volume}:/data", "echo usable > /data/usable && cat /data/count > /dev/null")
    wait_unmounted(host, volume)


def dockerd_restart(lab):
    """A clean stop of the engine stops its containers and gives their volumes back."""
    host = one_host(lab)
    host.create_volume("vol", size="300mb", fstype="ext4", mode="0711")
    start_counter(host, "web", "vol")
    host.stop_engine()
    lab.assert_nothing_leaked()
    host.restart_engine()
    check.assertFalse(host.is_running("web"))
    check.assertEqual(host.inspect_volume("vol")["Options"], {"size": "300mb", "fstype": "ext4", "mode": "0711"},
                      "the engine still knows what it was asked for")
    counted = len(host.run("vol:/data", "cat /data/count").split())
    check.assertGreater(counted, 0)
    host.docker("start", "web")
    assert_mounted(host, "vol")
    host.remove_containers("web")
    lab.assert_nothing_leaked()


def live_restore(lab):
    """The engine, then mountd, then both are restarted under running containers: no Mount comes for those,
    only their Unmount at the end."""
    host = one_host(lab, engine_args=["--live-restore"])
    for volume in ("one", "two"):
        host.create_volume(volume, size="200mb")
        start_counter(host, f"count-{volume}", volume)
    host.start("sharer", "one:/data")

    def all_go_on():
        for volume in ("one", "two"):
            assert_mounted(host, volume)
            assert_still_counts(host, f"count-{volume}")
        check.assertTrue(host.is_running("sharer"))

    host.stop_engine()
    host.restart_engine()
    all_go_on()
    host.stop_mountd()
    host.restart_mountd()
    all_go_on()
    host.kill_engine()
    host.kill_mountd()
    host.restart_mountd()
    host.restart_engine()
    all_go_on()
    host.remove_containers("count-one")
    assert_mounted(host, "one")
    host.exec("sharer", "cat /data/count > /dev/null")
    host.remove_containers("sharer", "count-two")
    lab.assert_nothing_leaked()
    assert_gapless(host, "one")
    assert_gapless(host, "two")
    lab.assert_nothing_leaked()


def lost_counts(lab):
    """mountd comes back without its counts (a fresh /run) while containers run: what it finds running counts,
    and comes down with the last one."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "first", "vol")
    host.start("second", "vol:/data")
    host.kill_mountd()
    for path in (host.root / "run").iterdir():
        path.unlink()
    host.restart_mountd()
    assert_still_counts(host, "first")
    host.remove_containers("second")
    assert_mounted(host, "vol")
    assert_still_counts(host, "first")
    host.remove_containers("first")
    lab.assert_nothing_leaked()
    assert_gapless(host, "vol")
    lab.assert_nothing_leaked()


def dockerd_kill(lab):
    """kill -9 of the engine: no Unmount is ever sent for what its successor ends. Counts are right
    afterwards, and what no container holds comes down."""
    host = one_host(lab)
    for volume in ("one", "two"):
        host.create_volume(volume, size="200mb")
    start_counter(host, "web", "one")
    host.start("shares", "one:/data")
    start_counter(host, "db", "two")
    host.kill_engine()
    assert_mounted(host, "one")
    assert_mounted(host, "two")
    host.restart_engine()  # ends the containers that the old one has left
    for name in ("web", "shares", "db"):
        wait_for(f"{name} has ended", lambda: not host.is_running(name))
    lab.assert_nothing_leaked()
    # The same mount ids come again.
    host.docker("start", "web", "shares")
    assert_mounted(host, "one")
    host.docker("stop", "-t", "1", "web")
    assert_mounted(host, "one")
    host.docker("stop", "-t", "1", "shares")
    wait_unmounted(host, "one")
    host.remove_containers("web", "shares", "db")
    lab.assert_nothing_leaked()
    assert_usable(host, "two")
    lab.assert_nothing_leaked()


def mountd_kill(lab):
    """kill -9 of mountd under running containers: they go on, and the next mountd has the right counts."""
    host = one_host(lab)
    for volume in ("one", "two"):
        host.create_volume(volume, size="200mb")
    start_counter(host, "web", "one")
    host.start("shares", "one:/data")
    start_counter(host, "db", "two")
    for _ in range(3):
        host.kill_mountd()
        assert_still_counts(host, "web")
        host.restart_mountd()
        assert_still_counts(host, "db")
    # Also one that is killed again before it has recovered.
    for _ in range(5):
        host.kill_mountd()
        host.restart_mountd(wait=False)
        os.kill(host.mountd.pid, signal.SIGKILL)
        host.mountd.wait()
    host.restart_mountd()
    check.assertEqual(volume_names(host), ["one", "two"])
    assert_mounted(host, "one")
    assert_mounted(host, "two")
    host.remove_containers("shares")
    assert_mounted(host, "one")
    assert_still_counts(host, "web")
    host.remove_containers("web")
    wait_unmounted(host, "one")
    assert_still_counts(host, "db")
    host.remove_containers("db")
    lab.assert_nothing_leaked()
    assert_gapless(host, "one")
    assert_gapless(host, "two")
    lab.assert_nothing_leaked()


def restart_policy(lab):
    """Containers with --restart=always after both daemons were killed, whichever comes back first."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "web", "vol", "--restart=always")
    host.start("shares", "vol:/data", "sleep 1000000", "--restart=always")

    def both_run_again():
        for name in ("web", "shares"):
            wait_for(f"{name} runs again", lambda: host.is_running(name))
        assert_mounted(host, "vol")
        assert_still_counts(host, "web")

    for mountd_comes_first in (True, False):
        host.kill_engine()
        host.kill_mountd()
        if mountd_comes_first:
            host.restart_mountd()
            host.restart_engine()
        else:
            host.restart_engine(wait=False)
            wait_for("the engine misses the plugin", lambda: "retrying in 2s" in host.engine_log())
            host.restart_mountd()
            host.wait_for_engine()
        both_run_again()
    # A container that keeps dying is restarted by the engine, each time with the same mount id.
    for _ in range(3):
        count = last_count(host, "web")
        host.docker("exec", "shares", "sh", "-c", "kill -9 1", check=False)
        host.docker("kill", "-s", "KILL", "web", check=False)
        host.docker("start", "web")
        both_run_again()
        check.assertGreaterEqual(last_count(host, "web"), 1 if count else 0)
    host.remove_containers("shares")
    assert_mounted(host, "vol")
    host.remove_containers("web")
    lab.assert_nothing_leaked()
    assert_usable(host, "vol")
    lab.assert_nothing_leaked()


def mountd_stop(lab):
    """A clean stop leaves mounts in place, and takes the sockets away, since a dead one stalls every volume
    command of the host."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "web", "vol")
    host.stop_mountd()
    check.assertEqual(list(host.inside("/run/docker/plugins").iterdir()), [])
    check.assertTrue(is_mounted(host, "vol"))
    assert_still_counts(host, "web")
    host.restart_mountd()
    host.remove_containers("web")
    lab.assert_nothing_leaked()


def lost_unmount(lab):
    """A container is removed while no mountd is there to hear of it. The engine gives its Unmount up; the next
    mountd finds out by itself."""
    host = one_host(lab)
    host.create_volume("vol", size="200mb")
    start_counter(host, "web", "vol")
    host.kill_mountd()
    host.remove_containers("web")
    assert_mounted(host, "vol")
    host.restart_mountd()
    lab.assert_nothing_leaked()
    assert_gapless(host, "vol")
    lab.assert_nothing_leaked()


SCENARIOS = [dockerd_restart, live_restore, lost_counts, dockerd_kill, mountd_kill, restart_policy, mountd_stop, lost_unmount]
