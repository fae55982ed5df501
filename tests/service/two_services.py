#!/usr/bin/env python3
"""Two vmdkopsds over one datastore folder, as two ESXi hosts have it: two_services.py CASE [POINT] --vmdkopsd PATH. Needs root.

Each has VMs of its own. What they share is the folder: its lock file, its records, and the database in it. (Both see this kernel's loop
devices, as two hosts would not; the records' rules for what cannot be seen are tested in tests/esx-vmci/service/takeover_test.cc.)
"""
import argparse
import faulthandler
import pathlib
import sqlite3
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from service_lab import Lab, NoAnswer, Refused, wait_for  # noqa: E402


def two(lab, faults=""):
    """Both started, over one datastore; `faults` are the first one's."""
    datastore = lab.datastore()
    one = lab.service("host1", vms=("web", "log"), datastores=[datastore], arguments=("--shared", "true"))
    other = lab.service("host2", vms=("db",), datastores=[datastore], arguments=("--shared", "true"))
    one.start(faults)
    other.start()
    return one, other


def share_a_database(lab, one, other):
    """As `config init --datastore` on each host."""
    for service in (one, other):
        service.admin("config init", datastore="ds1")
    return lab.datastore() / "dockvols/vmdkops_config.db"


def at_once(*works):
    """The outcomes of calls that begin at one moment."""
    outcomes = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(number):
        barrier.wait()
        try:
            outcomes[number] = ("done", works[number]())
        except Refused as error:
            outcomes[number] = ("refused", str(error))
        except NoAnswer as error:
            outcomes[number] = ("no answer", str(error))
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def one_of_two(outcomes, text):
    """Exactly one was done, and the other heard `text`."""
    assert sorted(kind for kind, _ in outcomes) == ["done", "refused"], outcomes
    refusal = next(words for kind, words in outcomes if kind == "refused")
    assert text in refusal, refusal


def nothing_twice(lab):
    one, other = two(lab)
    web, db = one.guest("web"), other.guest("db")
    for number in range(20):
        name = f"vol{number}"
        one_of_two(at_once(lambda: web.call("create", name, size="1mb"), lambda: db.call("create", name, size="1mb")), "already exists")
        assert web.names() == db.names() == [f"{name}@ds1"]
        outcomes = at_once(lambda: web.call("attach", name), lambda: db.call("attach", name))
        one_of_two(outcomes, "disk is attached to vm '")
        assert len(lab.loop_devices()) == 1
        holder, loser = (web, db) if outcomes[0][0] == "done" else (db, web)
        assert "in use by VM" in loser.refusal("remove", name)
        loser.call("detach", name)  # somebody else's: nothing happens
        assert holder.status(name) == "attached" and len(lab.loop_devices()) == 1
        holder.call("detach", name)
        assert {kind for kind, _ in at_once(lambda: web.call("remove", name), lambda: db.call("remove", name))} == {"done"}
        assert web.names() == db.names() == []
        lab.assert_nothing_leaked()
    for service in (one, other):
        service.stop()


def attach_against_remove(lab):
    """Whichever is first wins, and the other hears why; never a disk without its files."""
    one, other = two(lab)
    web, db = one.guest("web"), other.guest("db")
    for number in range(20):
        name = f"vol{number}"
        web.call("create", name, size="1mb")
        attached, removed = at_once(lambda: web.call("attach", name), lambda: db.call("remove", name))
        if attached[0] == "done":
            assert removed[0] == "refused" and "in use by VM = web" in removed[1], removed
            web.call("detach", name)
            db.call("remove", name)
        else:
            assert removed[0] == "done" and "not found" in attached[1], (attached, removed)
        lab.assert_nothing_leaked()
    for service in (one, other):
        service.stop()


def listing_follows(lab):
    """What one makes, the other lists at once: Docker would otherwise forget, or invent, a volume."""
    one, other = two(lab)
    web, db = one.guest("web"), other.guest("db")
    for number in range(50):
        web.call("create", f"vol{number}", size="1mb")
        assert len(db.names()) == number + 1
    for number in range(50):
        db.call("remove", f"vol{number}")
        assert len(web.names()) == 49 - number
    for service in (one, other):
        service.stop()


def shared_database(lab):
    """Groups, rights and quotas are one for both; room that is reserved by one is not there for the other."""
    one, other = two(lab)
    share_a_database(lab, one, other)
    one.admin("vmgroup create", name="all", default_datastore="ds1", vm_list="web")
    other.admin("vmgroup vm add", name="all", vm_list="db")
    other.admin("vmgroup access set", name="all", datastore="ds1", volume_totalsize="10MB")
    web, db = one.guest("web"), other.guest("db")
    works = [lambda guest=guest, name=f"{kind}{number}": guest.call("create", name, size="3mb")
             for number in range(6) for kind, guest in (("w", web), ("d", db))]
    outcomes = at_once(*works)
    assert [kind for kind, _ in outcomes].count("done") == 3, outcomes
    assert all("usage quota" in words for kind, words in outcomes if kind == "refused"), outcomes
    assert len(web.names()) == 3 and web.names() == db.names()
    for name in web.names():
        db.call("remove", name.split("@")[0])
    web.call("create", "large", size="10mb")
    # Who is in no group of its own is in _DEFAULT, on either host.
    one.admin("vmgroup rm", name="_DEFAULT")
    assert "does not belong to any vmgroup" in one.guest("log").refusal("get", "large")
    assert db.names() == ["large@ds1"]
    for service in (one, other):
        service.stop()


class Interrupted:
    """A life on the first host, which dies at one point of it; what it left is the second one's to go on with, without any restart of its own."""

    def __init__(self, lab, point):
        self.lab = lab
        self.point = point
        self.one, self.other = two(lab)
        self.database = share_a_database(lab, self.one, self.other)
        for service, vm in ((self.one, "web"), (self.other, "db")):
            if service is self.one:
                service.admin("vmgroup create", name="all", default_datastore="ds1", vm_list=vm)
            else:
                service.admin("vmgroup vm add", name="all", vm_list=vm)
        self.one.kill()
        self.one.start(faults=f"{point}=kill")
        self.web, self.db = self.one.guest("web"), self.other.guest("db")
        self.is_dead = False

    def call(self, cmd, name, **options):
        try:
            return self.web.call(cmd, name, **options)
        except NoAnswer:
            self.one.wait_killed()
            self.is_dead = True
            return None

    def until_it_dies(self):
        steps = [("create", "db", {"size": "4mb"}), ("set_init", "db", {"state": "formatting"}), ("reset", "db", {}), ("set_init", "db", {"state": "ready"}),
                 ("attach", "db", {}), ("detach", "db", {}), ("create", "copy", {"clone_from": "db"}), ("remove", "db", {})]
        for cmd, name, options in steps:
            self.call(cmd, name, **options)
            if self.is_dead:
                return
        raise AssertionError(f"the fault point {self.point} was never reached")

    def go_on_elsewhere(self):
        """The second host: a volume is there as a whole, or not at all, and its name can be used."""
        for name in ("db", "copy"):
            try:
                made = self.db.call("create", name, size="4mb")
                assert made is None
            except Refused as error:
                assert "already exists" in str(error), error
            if self.db.status(name) == "attached":
                # The first host's VM runs on, and its disk is its own: only its own host, or an administrator, takes it away.
                assert "disk is attached to vm 'web'" in self.db.refusal("attach", name)
                assert "in use by VM = web" in self.db.refusal("remove", name)
                continue
            device = self.db.call("attach", name)["Device"]
            with open(device, "rb") as disk:
                assert len(disk.read()) == 4 << 20
            self.db.call("detach", name)

    def come_back(self):
        self.one.start()
        assert self.web.names() == self.db.names() == ["copy@ds1", "db@ds1"]
        self.web.call("attach", "db")
        self.web.call("detach", "db")
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            rows = database.execute("select volume_name, volume_size from volumes order by 1").fetchall()
        assert rows == [("copy", 4), ("db", 4)], rows
        for name, guest in (("db", self.db), ("copy", self.web)):
            guest.call("remove", name)
        assert self.web.names() == self.db.names() == []
        self.lab.assert_nothing_leaked()
        for service in (self.one, self.other):
            service.stop()


def interrupted(lab, point):
    life = Interrupted(lab, point)
    life.until_it_dies()
    life.go_on_elsewhere()
    life.come_back()


def paused_in_the_middle(lab, point):
    """The first host is slow, not dead: nobody takes its half-made or half-removed volume for leftovers, and the second waits for it."""
    gate = lab.root / "gate"
    one, other = two(lab, f"{point}=block:{gate}")
    web, db = one.guest("web"), other.guest("db")
    done = []
    if point.startswith("remove"):
        web.call("create", "vol", size="1mb")
        working = threading.Thread(target=lambda: done.append(web.call("remove", "vol")))
    else:
        working = threading.Thread(target=lambda: done.append(web.call("create", "vol", size="1mb")))
    working.start()
    ending = ".removing" if point.startswith("remove") else ".creating"
    wait_for("it is in the middle", lambda: any(name.endswith(ending) for name in lab.files()))
    other.kill()
    other.start()  # its start looks for leftovers
    assert db.names() == []
    waiting = threading.Thread(target=lambda: done.append(db_create(db)))
    waiting.start()
    assert db.names() == []
    gate.touch()
    working.join()
    waiting.join()
    assert None in done and len(done) == 2, done
    assert db.names() == web.names() == ["vol@ds1"]
    db.call("remove", "vol")
    lab.assert_nothing_leaked()
    for service in (one, other):
        service.stop()


def db_create(guest):
    try:
        return guest.call("create", "vol", size="1mb")
    except Refused as error:
        assert "already exists" in str(error), error
        return "it was there"


CASES = [nothing_twice, attach_against_remove, listing_follows, shared_database, interrupted, paused_in_the_middle]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=[case.__name__ for case in CASES])
    parser.add_argument("point", nargs="*")
    parser.add_argument("--vmdkopsd", required=True)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(100)
    with Lab(arguments.vmdkopsd) as lab:
        next(case for case in CASES if case.__name__ == arguments.case)(lab, *arguments.point)
    print(f"{arguments.case} {' '.join(arguments.point)}: ok")


if __name__ == "__main__":
    sys.exit(main())
