#!/usr/bin/env python3
"""Kills a vmdkopsd at one fault point in the middle of a volume's life, starts it again, and sees the life go on to its end.

    crash.py attach.device.after --vmdkopsd build/dev/esx-vmci/service/vmdkopsd

The life: create, attach, write, detach, attach again, read back, clone, remove, all counted against a quota. The request that was not
answered is sent again, as a guest's plugin does. Whatever the point: no volume is lost or there twice, what was written is read back, the
quota says what the datastore has, and in the end nothing is left.
"""
import argparse
import faulthandler
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from service_lab import Lab, NoAnswer, Refused  # noqa: E402

CONTENT = os.urandom(1 << 20)
RESET = "reset.extent.after"


class Life:
    """One volume of one guest, with a service that dies once."""

    def __init__(self, lab, point):
        self.lab = lab
        self.point = point
        self.service = lab.service()
        self.guest = self.service.guest("web")
        self.deaths = 0

    def start(self):
        self.service.start()
        self.service.admin("config init", local="")
        self.service.admin("vmgroup create", name="webs", default_datastore="ds1", vm_list="web")
        self.service.kill()
        self.service.start(faults=f"{self.point}=kill")

    def call(self, cmd, name="", **options):
        """One request; where the service dies over it, it is started again, unarmed, and the request is sent again."""
        try:
            return self.guest.call(cmd, name, **options)
        except NoAnswer:
            self.service.wait_killed()
            self.deaths += 1
            self.service.start()
            self.check_settled()
        try:
            return self.guest.call(cmd, name, **options)
        except Refused as error:
            if cmd == "create" and "already exists" in str(error):
                return None
            raise

    def check_settled(self):
        """What the start has left: whole volumes, and a quota that counts just them."""
        volumes = self.guest.names()
        whole = [name for name in self.lab.files() if name.endswith(".vmdk") and not name.endswith("-flat.vmdk")]
        assert len(whole) == len(volumes), (volumes, self.lab.files())
        assert len(self.lab.files()) == 3 * len(volumes), f"{self.point}: leftovers: {self.lab.files()}"
        self.check_quota(volumes)

    def check_quota(self, volumes):
        import sqlite3
        with sqlite3.connect(f"file:{self.service.database}?mode=ro", uri=True) as database:
            rows = database.execute("select volume_name, volume_size from volumes order by 1").fetchall()
        assert rows == [(name.split("@")[0], 4) for name in volumes], f"{self.point}: the quota counts {rows}, there is {volumes}"

    def check(self, *volumes):
        found = self.guest.names()
        assert found == sorted(f"{name}@ds1" for name in volumes), f"{self.point}: {found}"
        self.check_quota(found)

    def check_content(self, device):
        with open(device, "rb") as disk:
            assert disk.read(len(CONTENT)) == CONTENT, f"{self.point}: what was written is not what is read"

    def live(self):
        self.call("create", "db", size="4mb")
        self.check("db")
        if self.point == RESET:
            self.call("set_init", "db", state="formatting")
            self.call("reset", "db")
        device = self.call("attach", "db")["Device"]
        with open(device, "r+b") as disk:
            disk.write(CONTENT)
            os.fsync(disk.fileno())
        self.call("set_init", "db", state="ready")
        self.call("detach", "db")
        assert not self.lab.loop_devices()
        self.check_content(self.call("attach", "db")["Device"])
        assert self.guest.status("db") == "attached"
        self.call("detach", "db")
        self.call("create", "copy", clone_from="db")
        self.check("copy", "db")
        self.check_content(self.call("attach", "copy")["Device"])
        self.call("detach", "copy")
        self.call("remove", "copy")
        self.check("db")
        self.call("remove", "db")
        self.check()

    def end(self):
        assert self.deaths == 1, f"the fault point {self.point} was never reached"
        self.lab.assert_nothing_leaked()
        self.service.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("point")
    parser.add_argument("--vmdkopsd", required=True)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(100)
    with Lab(arguments.vmdkopsd) as lab:
        life = Life(lab, arguments.point)
        life.start()
        life.live()
        life.end()
    print(f"{arguments.point}: died, and converged")


if __name__ == "__main__":
    sys.exit(main())
