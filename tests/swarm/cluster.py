"""Several Docker hosts on one machine, as if each were one: a network, mounts, processes, a host name, a /run and an engine of
its own, joined to a Docker Swarm over a bridge that no network of the machine's knows.

    with Cluster(mountd=..., service=..., writer=...) as cluster:
        manager, one, two = cluster.nodes("node1", "node2", "node3")
        cluster.form_swarm(managers=[manager], workers=[one, two])
        manager.docker("service", "create", ...)
        one.cut()                 # off the network, and `heal`
        one.freeze()              # every process of it stands still, and `thaw`
        one.crash()               # as by the power switch; `boot` turns it on again
        cluster.assert_nothing_leaked()

What a Cluster adds to the Lab of tests/docker: the bridge, nodes instead of hosts, and a service that knows the nodes for VMs
that can go off. Each node is a pid namespace, and its pid 1 is the VM's process (docs/service.md, --vm-pid-file).

A crash loses what a power failure loses: the file systems of volumes are shut down as they are (FS_IOC_SHUTDOWN without a
flush), then every process is killed, and with the last one the kernel drops the node's mounts, its /run and its network.
What the engine has on disk (its data root, the Swarm's state) stays, through the page cache of this machine.
"""
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docker"))

from harness import IMAGE, HarnessError, Host, Lab  # noqa: E402
from machine import end_all, processes_of, record_process, run, wait_for  # noqa: E402

NETWORK = "10.99.0"
NODE_NAMES = tuple(f"node{number}" for number in range(1, 6))
# Of linux/fs.h; the file systems that have it and are used here.
FS_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_WITHOUT_FLUSH = (2).to_bytes(4, sys.byteorder)
CAN_BE_SHUT_DOWN = ("ext4", "xfs")
# Swarm's own is 5 s; a node is down when it has missed three.
HEARTBEAT = "1s"


def volume_mount(volume, target, driver, **options):
    """Of Docker's --mount. Options with a dash are given as `clone_from=`."""
    words = [f"volume-opt={key.replace('_', '-')}={value}" for key, value in options.items()]
    return ",".join([f"type=volume,src={volume},dst={target},volume-driver={driver}", *words])


def bind_mount(source, target):
    return f"type=bind,src={source},dst={target}"


def only_child(pid):
    """Of a process that has just one: the pid, as seen from here."""
    return int(wait_for(f"process {pid} has a child", lambda: pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())[0])


class Cluster(Lab):
    """A service, nodes, and the switch between them."""

    host_names = NODE_NAMES

    def __init__(self, mountd, service, writer, packet_delay=None):
        super().__init__(mountd, service=service)
        self.writer = pathlib.Path(writer).resolve()
        self.packet_delay = packet_delay
        self._switch = None
        self._number_of_nodes = 0

    def _make_image(self):
        tree = super()._make_image()
        shutil.copy(self.writer, tree / "bin/record_writer")
        return tree

    def service_args(self):
        return [word for name in self.host_names for word in ("--vm-pid-file", f"{name}={self.pid_file(name)}")]

    def pid_file(self, name):
        return self._service_folder / f"{name}.pid"

    def _close(self):
        super()._close()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()

    # --- the network

    @property
    def switch_pid(self):
        """A process in the namespace of the bridge, which is made when it is first needed."""
        if self._switch is None:
            folder = self.root / "hosts/switch"
            folder.mkdir(parents=True)
            script = f"""set -e
                ip link set lo up; ip link add br0 type bridge; ip link set br0 up; ip addr add {NETWORK}.254/24 dev br0
                echo ready; exec sleep infinity"""
            self._switch = subprocess.Popen(["unshare", "--net", "--mount", "--", "/bin/sh", "-c", script], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, text=True)
            record_process(folder, self._switch.pid)
            if self._switch.stdout.readline() != "ready\n":
                raise HarnessError("no bridge")
        return self._switch.pid

    def in_switch(self, *argv):
        return run(["nsenter", "-t", self.switch_pid, "-n", "--", *argv])

    # --- nodes

    def nodes(self, *names, **options):
        """Booted, each with mountd and an engine that knows the image and the driver."""
        return [self.node(name, **options) for name in names]

    def node(self, name, delay_us=0):
        """`delay_us`: how long its cable takes for each frame, each way; a round trip of two such nodes is four times that."""
        if name not in self.host_names:
            raise HarnessError(f"the service knows {', '.join(self.host_names)} alone")
        self._number_of_nodes += 1
        node = self.add_host(Node(self, name, f"{NETWORK}.{self._number_of_nodes}", delay_us))
        node.start_mountd()
        node.start_engine()
        node.await_driver()
        return node

    def form_swarm(self, managers, workers=()):
        first = managers[0]
        first.docker("swarm", "init", "--advertise-addr", first.address, "--dispatcher-heartbeat", HEARTBEAT, "--task-history-limit", "20")
        for role, members in (("manager", managers[1:]), ("worker", workers)):
            token = first.docker("swarm", "join-token", "-q", role)
            for member in members:
                member.docker("swarm", "join", "--advertise-addr", member.address, "--token", token, f"{first.address}:2377")
        for member in (*managers, *workers):
            first.await_swarm_node(member)


class Node(Host):
    """A Docker host that can lose its network, stand still, go off, and come back."""

    network_args = ()  # its own: a bridge, firewall rules, forwarding

    def __init__(self, cluster, name, address, delay_us):
        super().__init__(cluster, name)
        self.address = address
        self.delay_us = delay_us
        self._cable = None
        self.port = f"sw-{name}"
        self.run_dir = pathlib.Path("/run/vdvs")
        self.exec_root = pathlib.Path("/run/docker-exec")
        self.is_on = False
        self._init = None

    def begin(self):
        for folder in ("state", "mnt", "data", "udev"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "daemon.json").write_text("{}")
        self._turn_on()

    def _turn_on(self):
        # /run and /etc/docker are its own; udevd is the machine's, since disks are the machine's.
        script = f"""set -e
            mount --bind /run/udev {self.root}/udev
            mount -t tmpfs -o mode=755 none /run
            mkdir -p /run/udev /run/docker/plugins /run/lock
            mount --bind {self.root}/udev /run/udev; umount {self.root}/udev
            mkdir -p /etc/docker; mount -t tmpfs -o mode=755 none /etc/docker
            mount --make-rshared /
            hostname {self.name}; echo 1 > /proc/sys/net/ipv4/ip_forward
            echo ready
            while :; do sleep 1000000 & wait; done"""  # a shell that waits reaps what is left to it, as a pid 1 must
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
             "--", "/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._keeper.stdout.readline() != "ready\n":
            raise HarnessError(f"{self.name} does not boot: {self._keeper.stderr.read()}")
        record_process(self.root, self._keeper.pid)
        self._init = only_child(self._keeper.pid)
        self._plug_in()
        self.lab.ask_service(self.name)
        pid_file = self.lab.pid_file(self.name)
        (pid_file.parent / f"{self.name}.new").write_text(f"{self._init}\n")
        (pid_file.parent / f"{self.name}.new").rename(pid_file)
        self.is_on = True

    def _plug_in(self):
        if self.delay_us:
            self._lay_slow_cable()
        else:
            run(["ip", "link", "add", self.port, "netns", self.lab.switch_pid, "type", "veth", "peer", "name", "eth0", "netns", self._init])
        self.lab.in_switch("ip", "link", "set", self.port, "master", "br0", "up")
        for words in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            self.execute("ip", *words.split())

    def _lay_slow_cable(self):
        """Of TAP devices, since this kernel's queues know no delay (netem is not in it)."""
        self._cable = subprocess.Popen([self.lab.packet_delay, "--delay-us", str(self.delay_us), "--end", f"{self._init}:eth0",
                                        "--end", f"{self.lab.switch_pid}:{self.port}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        record_process(self.root, self._cable.pid)
        if self._cable.stdout.readline() != b"ready\n":
            raise HarnessError(f"{self.name} has no cable")

    def _cut_cable(self):
        if self._cable is not None:
            self._cable.kill()
            self._cable.communicate()
            self._cable = None

    @property
    def keeper_pid(self):
        return self._init

    def enter(self):
        return ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-n", "-p", "--"]

    def execute(self, *argv, **options):
        """A command on this node."""
        return run([*self.enter(), *argv], **options)

    def inside(self, path):
        return pathlib.Path(f"/proc/{self._init}/root{path}")

    def mounts(self):
        if not self.is_on:
            return []
        return [point for point, _ in self._volume_mounts()]

    def _volume_mounts(self):
        """Mount point and type of file system, of all below the mount root."""
        found = []
        for line in pathlib.Path(f"/proc/{self._init}/mountinfo").read_text().splitlines():
            words = line.split()
            if words[4].startswith(f"{self.mount_root}/"):
                found.append((words[4], words[words.index("-") + 1]))
        return found

    def signal(self, process, number):
        """nsenter waits for what it has started, in the node's pid namespace."""
        os.kill(only_child(process.pid), number)

    def await_driver(self):
        """Once the engine has used the driver, Swarm counts the node in."""
        wait_for(f"the engine of {self.name} knows the driver",
                 lambda: "vsphere" in (json.loads(self.docker("info", "-f", "{{json .Plugins.Volume}}")) or []))

    # --- what can happen to it

    def cut(self):
        """Off the network: its port of the switch is down. The service's socket is not of the network."""
        self.lab.in_switch("ip", "link", "set", self.port, "down")

    def heal(self):
        self.lab.in_switch("ip", "link", "set", self.port, "up")

    def lose(self, percent):
        """That share of what comes in from the network is dropped; 0: none."""
        rule = ["-i", "eth0", "-m", "comment", "--comment", "vdvs-test", "-m", "statistic", "--mode", "random"]
        while (found := [line for line in self.execute("iptables", "-S", "INPUT").stdout.splitlines() if "vdvs-test" in line]):
            self.execute("iptables", *found[0].replace("-A", "-D", 1).replace('"', "").split())
        if percent:
            self.execute("iptables", "-I", "INPUT", *rule, "--probability", f"{percent / 100:.4f}", "-j", "DROP")

    def limit_rate(self, kbit):
        """Of what it sends; 0: none."""
        self.execute("tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        if kbit:
            self.execute("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", f"{kbit}kbit", "burst", "32kb", "latency", "400ms")

    def _processes(self):
        return processes_of({os.readlink(f"/proc/{self._init}/ns/mnt")}, self.cgroup)

    def freeze(self):
        """Every process stands still, also those that were begun meanwhile."""
        stopped = set()
        while (running := set(self._processes()) - stopped):
            for pid in running:
                self._send(pid, signal.SIGSTOP)
            stopped |= running

    def thaw(self):
        for pid in self._processes():
            self._send(pid, signal.SIGCONT)

    @staticmethod
    def _send(pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def crash(self):
        """Power off. On return nothing of it runs."""
        self.freeze()
        for point, kind in self._volume_mounts():
            if kind in CAN_BE_SHUT_DOWN:
                self._shut_down(point)
        self._kill()

    def _shut_down(self, point):
        folder = os.open(self.inside(point), os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, SHUTDOWN_WITHOUT_FLUSH)
        finally:
            os.close(folder)

    def _kill(self):
        # First what reaches into its namespaces from outside, so that nothing is left of them when its pid 1 ends: with that one
        # the kernel ends all others, and waits until each is reaped. Those whose parents were outside are ours now.
        adopted = [only_child(process.pid) for process in (self.mountd, self.engine)]
        for process in (self.mountd, self.engine, self._keeper):
            process.kill()
            process.wait()
        for pid in (*adopted, self._init):
            os.waitpid(pid, 0)
        self._keeper.stdout.close()
        self._keeper.stderr.close()
        self._cut_cable()
        self.is_on = False

    def boot(self):
        """Again, after a crash: its disk is as it was, its memory and /run are empty."""
        self._turn_on()
        self.restart_mountd()
        self.restart_engine()
        self.await_driver()

    def end(self):
        self._cut_cable()
        if self.is_on:
            super().end()
            self.is_on = False
        else:
            end_all([], self.cgroup)  # its containers' cgroups outlive a power failure

    # --- the Swarm, as this node (a manager) knows it

    def await_swarm_node(self, node, status="Ready"):
        wait_for(f"{node.name} is {status}", lambda: self.swarm_nodes().get(node.name) == status)

    def swarm_nodes(self):
        listed = self.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}")
        return dict(line.split() for line in listed.splitlines())

    def tasks(self, service):
        """Newest first: dictionaries with Name, Node, DesiredState, CurrentState, Error."""
        listed = self.docker("service", "ps", "--no-trunc", "--format", "{{json .}}", service)
        return [json.loads(line) for line in listed.splitlines()]

    def running_nodes(self, service):
        """The names of the nodes where Swarm takes a task for running."""
        return sorted(task["Node"] for task in self.tasks(service)
                      if task["DesiredState"] == "Running" and task["CurrentState"].startswith("Running"))

    def create_service(self, name, command, *args, mounts, replicas=1):
        """Tasks of the image; `mounts` as `volume_mount` and `bind_mount` give them."""
        words = [word for mount in mounts for word in ("--mount", mount)]
        self.docker("service", "create", "--detach", "--no-resolve-image", "--endpoint-mode", "dnsrr", "--init", "--restart-delay", "1s",
                    "--replicas", replicas, "--name", name, *words, *args, IMAGE, *command)
