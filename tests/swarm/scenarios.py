#!/usr/bin/python3
"""What a Swarm does to volumes: scenarios.py SCENARIO --mountd PATH --service PATH --writer PATH. Needs root; cluster.py says what
is started, and how it ends.

The writer is a service of one replica, whose records are on the disk (fsync) before it tells of them. In each scenario it is moved
by something else, and afterwards everything that it was told is there, and no two of its lives have written at one time.
"""
import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from cluster import Cluster, bind_mount, volume_mount  # noqa: E402
from reports import INSIDE, Reports  # noqa: E402

from checks import check, volume_names, wait_for  # noqa: E402
from harness import IMAGE  # noqa: E402

VOLUME = "records"


class Writing:
    """A manager and two workers, on one of which the writer's service runs. Or three managers, which work too: the writer then
    begins at their leader."""

    def __init__(self, cluster, all_manage=False):
        self.cluster = cluster
        nodes = cluster.nodes("node1", "node2", "node3")
        self.manager = nodes[0]
        self.workers = nodes if all_manage else nodes[1:]
        cluster.form_swarm(managers=nodes if all_manage else nodes[:1], workers=[] if all_manage else nodes[1:])
        for node in nodes[1:] if all_manage else nodes[:1]:
            self.set_availability(node, "drain")
        self.reports = Reports(cluster.root / "reports")
        command = ["record_writer", "write", "--file", "/data/records", "--log", "/data/log", "--report", f"unix:{INSIDE}/socket"]
        self.manager.create_service("writer", command,
                                    mounts=[volume_mount(VOLUME, "/data", "vsphere", size="200mb"), self.reports.mount()])
        self.reports.await_more(sessions=1)
        self.home = self.node_of_writer()
        self.other = next(node for node in self.workers if node is not self.home)
        for node in self.workers:
            self.set_availability(node, "active")

    def set_availability(self, node, availability):
        self.manager.docker("node", "update", "--availability", availability, node.name)

    def node_of_writer(self):
        """The one node where Swarm takes the writer for running."""
        name, = wait_for("the writer runs on one node", self._one_home)
        return next(node for node in self.workers if node.name == name)

    def _one_home(self):
        names = self.manager.running_nodes("writer")
        return names if len(names) == 1 else None

    def holder(self):
        """The name of the VM that has the disk, as every node that is on says it."""
        on = [node for node in self.cluster.hosts if node.is_on]
        holders = {node.plugin().get(VOLUME)["Status"].get("attached to VM") for node in on}
        check.assertEqual(len(holders), 1, "the nodes disagree about who has the disk")
        return holders.pop()

    def errors(self):
        """What Swarm was told of tasks that failed."""
        return [task["Error"] for task in self.manager.tasks("writer") if task["Error"]]

    def finish(self):
        """Ends the writer, and looks for lost records from a node that has never had the volume."""
        self.manager.docker("service", "rm", "writer")
        wait_for("the writer's container has ended", lambda: not any(node.mounts() for node in self.workers))
        outcome = self.manager.run([f"{VOLUME}:/data", f"{self.reports.folder}:{INSIDE}"],
                                   f"record_writer verify --reports {INSIDE}/reports --file 1 /data/records --log /data/log")
        print(outcome)
        self.cluster.assert_nothing_leaked()


def node_crash(cluster):
    """The writer's node loses its power. Swarm starts the writer on the other one, where the volume is attached, its file system
    checked, and mounted; the node that comes back leaves the disk alone."""
    writing = Writing(cluster)
    home, other = writing.home, writing.other
    writing.reports.await_more(200)
    began = time.monotonic()
    home.crash()
    writing.reports.await_session(2)
    print(f"acknowledged again {time.monotonic() - began:.1f} s after the crash")
    check.assertEqual(writing.node_of_writer().name, other.name)
    check.assertEqual(writing.holder(), other.name)
    log = (other.root / "mountd.log").read_text()
    check.assertIn("step=check", log, "the file system was not clean, and was mounted unchecked")
    writing.reports.await_more(200, sessions=2)

    home.boot()
    writing.manager.await_swarm_node(home)
    check.assertEqual(home.mounts(), [])
    check.assertEqual(writing.holder(), other.name)
    writing.reports.await_more(200, sessions=2)
    check.assertEqual(writing.node_of_writer().name, other.name)
    check.assertEqual(home.docker("ps", "-q"), "")
    writing.finish()


def crash_unseen(cluster):
    """The writer's node and the service die in one moment. The next service finds out that the node is off, and nobody has to tell
    it; a node that is on keeps what it has."""
    writing = Writing(cluster)
    home, other = writing.home, writing.other
    writing.manager.create_volume("kept", size="100mb")
    other.start("keeper", "kept:/data", "while :; do date > /data/now || exit 1; sync; sleep 0.1; done")
    cluster.kill_service()
    home.crash()
    cluster.start_service()
    writing.reports.await_session(2)
    check.assertEqual(writing.holder(), other.name)
    check.assertTrue(other.is_running("keeper"))
    check.assertEqual(writing.manager.inspect_volume("kept")["Status"]["attached to VM"], other.name)
    writing.reports.await_more(50, sessions=2)
    other.remove_containers("keeper")
    home.boot()
    writing.finish()


def leader_crash(cluster):
    """Three nodes that all manage and all work, as most small clusters are. The leader, which has the writer too, loses its power:
    the others elect another one, which starts the writer where the volume then is."""
    writing = Writing(cluster, all_manage=True)
    leader = writing.home
    check.assertIs(leader, writing.manager)
    began = time.monotonic()
    leader.crash()
    writing.manager = next(node for node in writing.workers if node is not leader)
    writing.reports.await_session(2)
    print(f"acknowledged again {time.monotonic() - began:.1f} s after the leader's crash")
    writing.reports.await_more(100, sessions=2)
    check.assertNotEqual(writing.holder(), leader.name)
    leader.boot()
    writing.manager.await_swarm_node(leader)
    writing.reports.await_more(100, sessions=2)
    writing.finish()


def node_cut_off(cluster):
    """The writer's node loses the network, and nothing else: it writes on, and has the disk. Swarm takes it for dead and wants the
    writer elsewhere, which is refused each time with who has the disk; when the network is back, Swarm ends the old one, and the
    new one goes on. At no time do two write."""
    writing = Writing(cluster)
    home, other = writing.home, writing.other
    home.cut()
    writing.manager.await_swarm_node(home, "Down")
    refused = wait_for("the writer is refused elsewhere", lambda: [error for error in writing.errors() if "E_BUSY_ELSEWHERE" in error])
    check.assertIn(f"disk is attached to '{home.name}'", refused[0])
    check.assertEqual(writing.holder(), home.name)
    check.assertEqual(other.mounts(), [])
    writing.reports.await_more(200, sessions=1)  # whoever can reach it is served on

    home.heal()
    began = time.monotonic()
    writing.reports.await_session(2)
    print(f"the new one has acknowledged {time.monotonic() - began:.1f} s after the network was back")
    writing.reports.await_more(200)
    check.assertEqual(writing.holder(), writing.node_of_writer().name)
    writing.finish()


def node_freeze(cluster):
    """The writer's node stands still, as in a long pause of its hypervisor: it is on, so its disk stays its own. Thawed, it hears
    that it was given up, and the writer goes on elsewhere."""
    writing = Writing(cluster)
    home, other = writing.home, writing.other
    home.freeze()
    writing.manager.await_swarm_node(home, "Down")
    wait_for("the writer is refused elsewhere", lambda: [error for error in writing.errors() if "E_BUSY_ELSEWHERE" in error])
    check.assertEqual(other.mounts(), [])
    home.thaw()
    writing.reports.await_session(2)
    writing.reports.await_more(200)
    writing.finish()


def drain(cluster):
    """A node is drained: the writer moves, and back, without one task that failed."""
    writing = Writing(cluster)
    for life, (home, other) in enumerate(((writing.home, writing.other), (writing.other, writing.home)), start=2):
        writing.set_availability(other, "active")
        began = time.monotonic()
        writing.set_availability(home, "drain")
        writing.reports.await_session(life)
        print(f"acknowledged again {time.monotonic() - began:.1f} s after the drain")
        check.assertEqual(writing.node_of_writer().name, other.name)
        check.assertEqual(home.mounts(), [])
        check.assertEqual(writing.holder(), other.name)
        writing.reports.await_more(50, sessions=life)
    failed = [task for task in writing.manager.tasks("writer") if task["CurrentState"].split()[0] in ("Rejected", "Failed")]
    # A drained writer is ended by a signal, which Swarm may call a failure with its exit status; nothing else is.
    check.assertEqual([task for task in failed if "non-zero exit" not in task["Error"]], [])
    writing.finish()


def listing(cluster):
    """All nodes see the same volumes with the same properties, whoever made them, and whoever has one attached."""
    nodes = cluster.nodes("node1", "node2", "node3")
    cluster.form_swarm(managers=nodes[:1], workers=nodes[1:])
    for number, node in enumerate(nodes):
        node.create_volume(f"vol{number}", size=f"{100 + number}mb", fstype="ext4")
    names = ["vol0", "vol1", "vol2"]

    def look(node):
        """But for what is only of this engine, or of this host: its own options and labels, where it is mounted."""
        views = {}
        for name in names:
            volume = node.inspect_volume(name)
            status = {key: value for key, value in volume["Status"].items() if key not in ("device", "mounts")}
            views[name] = {"Driver": volume["Driver"], "Scope": volume["Scope"], "CreatedAt": volume["CreatedAt"], "Status": status}
        return views

    nodes[1].start("holder", "vol0:/data")
    seen = [look(node) for node in nodes]
    for node, view in zip(nodes, seen):
        check.assertEqual(volume_names(node), names, f"{node.name}: its mountd lists {node.plugin().names()}")
        check.assertEqual(view, seen[0], node.name)
        check.assertEqual(view["vol0"]["Status"]["attached to VM"], "node2")
        check.assertEqual(view["vol1"]["Status"]["status"], "detached")
    nodes[1].remove_containers("holder")
    wait_for("node2 has let it go", lambda: nodes[2].inspect_volume("vol0")["Status"]["status"] == "detached")
    nodes[2].docker("volume", "rm", "vol0")
    for node in nodes:
        check.assertEqual(volume_names(node), names[1:])
    cluster.assert_nothing_leaked()


class SharedWriting:
    """Five writers on three nodes, each with a file of its own and all with one log, on `data`, a mount for all of them."""

    REPLICAS = 5

    def __init__(self, cluster, data):
        self.cluster = cluster
        self.data = data
        self.nodes = cluster.nodes("node1", "node2", "node3")
        self.manager = self.nodes[0]
        cluster.form_swarm(managers=self.nodes[:1], workers=self.nodes[1:])
        self.reports = Reports(cluster.root / "reports")
        # Each life is a writer of its own: of a task that is cut off, Swarm runs a second one.
        command = ["record_writer", "write", "--writer", "0", "--folder", "/data/files", "--log", "/data/log", "--sync-every", "8",
                   "--report", f"unix:{INSIDE}/socket"]
        self.manager.create_service("writers", command, mounts=[data, self.reports.mount()], replicas=self.REPLICAS)
        self.await_all()

    def await_all(self):
        """All of them run, and are heard of."""
        wait_for(f"{self.REPLICAS} writers run", lambda: len(self.manager.running_nodes("writers")) == self.REPLICAS)
        self.reports.await_writers(self.REPLICAS)

    def finish(self, must):
        """`must`: "written" where nothing may be lost, "synced" where a host that wrote has died."""
        self.manager.docker("service", "rm", "writers")
        wait_for("all containers have ended", lambda: not any(node.docker("ps", "-q") for node in self.nodes if node.is_on))
        command = ["record_writer", "verify", "--must", must, "--reports", f"{INSIDE}/reports", "--folder", "/data/files", "--log", "/data/log"]
        print(self.manager.docker("run", "--rm", "--network", "none", "--mount", self.data, "--mount", self.reports.mount(), IMAGE, *command))


def shared_folder(cluster):
    """What a shared volume is compared with: the writers of all nodes on one folder of this machine, which no node's death touches.
    A node loses its power, another its network; nothing that was told, synced or not, is missing."""
    folder = cluster.root / "shared"
    (folder / "files").mkdir(parents=True)
    writing = SharedWriting(cluster, bind_mount(folder, "/data"))
    _, one, two = writing.nodes
    one.crash()
    writing.manager.await_swarm_node(one, "Down")
    writing.await_all()
    one.boot()
    writing.manager.await_swarm_node(one)
    two.cut()
    writing.manager.await_swarm_node(two, "Down")
    writing.await_all()
    two.heal()
    writing.manager.await_swarm_node(two)
    writing.await_all()
    writing.finish(must="written")


def long_way(cluster):
    """Nodes that are far from each other, and lose packets, are a Swarm all the same, and a volume moves between them."""
    delay_us = 5000
    manager, one, two = cluster.nodes("node1", "node2", "node3", delay_us=delay_us)
    told = one.execute("busybox", "ping", "-c", "3", two.address).stdout
    fastest_ms = float(told.rsplit("= ", 1)[1].split("/")[0])
    check.assertGreaterEqual(fastest_ms, 4 * delay_us / 1000)
    cluster.form_swarm(managers=[manager], workers=[one, two])
    for node in (manager, one, two):
        node.lose(2)
    for node in (one, two):
        manager.create_service(f"on-{node.name}", ["sh", "-c", "hostname >> /data/hosts; sync; exec sleep 1000000"], "--hostname", node.name,
                               "--constraint", f"node.hostname=={node.name}", mounts=[volume_mount("moved", "/data", "vsphere", size="100mb")])
        wait_for(f"a task runs on {node.name}", lambda: manager.running_nodes(f"on-{node.name}") == [node.name])
        manager.docker("service", "rm", f"on-{node.name}")
        wait_for("its container has ended", lambda: not node.mounts())
    check.assertEqual(manager.run("moved:/data", "cat /data/hosts").split(), ["node2", "node3"])
    cluster.assert_nothing_leaked()


SCENARIOS = {scenario.__name__: scenario
             for scenario in (node_crash, crash_unseen, leader_crash, node_cut_off, node_freeze, drain, listing, shared_folder, long_way)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="+", choices=[*SCENARIOS, "all"])
    parser.add_argument("--mountd", required=True)
    parser.add_argument("--service", required=True, help="vmdkopsd, of which every node is a VM")
    parser.add_argument("--writer", required=True, help="record_writer, linked statically")
    parser.add_argument("--packet-delay", required=True)
    arguments = parser.parse_args()
    for name in SCENARIOS if "all" in arguments.scenario else arguments.scenario:
        began = time.monotonic()
        with Cluster(mountd=arguments.mountd, service=arguments.service, writer=arguments.writer,
                     packet_delay=arguments.packet_delay) as cluster:
            SCENARIOS[name](cluster)
        print(f"{name}: passed in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
