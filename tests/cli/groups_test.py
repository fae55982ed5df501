#!/usr/bin/env python3
"""What an administrator's commands mean to guests: the predecessor's end-to-end suites about vmgroups, access and properties, with a
real vmdkopsd and the real vmdkops_admin.

    groups_test.py --vmdkops_admin PATH --vmdkopsd PATH [TEST...]
"""
import argparse
import concurrent.futures
import subprocess
import sys
import unittest

from admin_rig import Rig

OPTIONS = None  # set by main
TOO_LARGE = "Volume size exceeds the max volume size limit"
TOO_MUCH = "The total volume size exceeds the usage quota"


class GroupsTest(unittest.TestCase):
    def setUp(self):
        self.rig = self.new_rig()
        self.works, self.error, self.rows = self.rig.works, self.rig.error, self.rig.rows
        self.web1, self.web2, self.db1 = (self.enterContext(self.rig.guest(vm)) for vm in ("web-1", "web-2", "db-1"))

    def new_rig(self):
        programs = {"vmdkops_admin": OPTIONS.vmdkops_admin, "vmdkopsd": OPTIONS.vmdkopsd}
        return self.enterContext(Rig(programs))

    def make_group(self, name="g1", datastore="ds1", vms="web-1"):
        self.works("vmgroup", "create", f"--name={name}", f"--default-datastore={datastore}", f"--vm-list={vms}")

    def access(self, verb, datastore, *flags, group="g1"):
        self.works("vmgroup", "access", verb, f"--name={group}", f"--datastore={datastore}", *flags)

    @staticmethod
    def names(guest):
        return [volume["Name"] for volume in guest.works("list")]

    def lives_and_dies(self, guest, name):
        guest.works("create", name, size="2mb")
        guest.works("attach", name)
        self.assertEqual(guest.works("get", name)["status"], "attached")
        self.assertIn("in use by VM", guest.fails("remove", name))
        guest.works("detach", name)
        guest.works("remove", name)
        self.assertIn("not found", guest.fails("get", name))


class Isolation(GroupsTest):
    def test_of_services_that_share_no_datastore(self):
        other = self.new_rig()
        with other.guest("web-1") as elsewhere:
            self.web1.works("create", "db", size="2mb")
            self.assertEqual((self.names(self.web2), self.names(elsewhere)), (["db@ds1"], []))
            self.assertIn("not found", elsewhere.fails("get", "db"))

    def test_of_groups_among_each_other(self):
        self.works("config", "init", "--local")
        self.web1.works("create", "before", size="2mb")
        self.make_group()
        self.assertEqual((self.names(self.web1), self.names(self.web2)), ([], ["before@ds1"]))
        self.web1.works("create", "mine", size="2mb")
        self.web2.works("create", "mine", size="3mb")
        self.assertEqual((self.names(self.web1), self.names(self.web2)), (["mine@ds1"], ["before@ds1", "mine@ds1"]))
        self.assertEqual([guest.works("get", "mine")["capacity"]["size"] for guest in (self.web1, self.web2)], ["2MB", "3MB"])

    def test_a_vm_that_moved_leaves_its_volumes_to_its_old_group(self):
        self.works("config", "init", "--local")
        self.web1.works("create", "db", size="2mb")
        self.make_group()
        for command in ("attach", "get"):
            self.assertIn("not found", self.web1.fails(command, "db"))
        self.web1.works("remove", "db")  # not there is success, and touches nothing of the others
        self.web2.works("attach", "db")


class Lifecycle(GroupsTest):
    def setUp(self):
        super().setUp()
        self.works("config", "init", "--local")

    def test_in_the_default_group_and_in_another_and_after_its_rename(self):
        self.make_group()
        for guest in (self.web1, self.web2):
            self.lives_and_dies(guest, "db")
        self.works("vmgroup", "update", "--name=g1", "--new-name=renamed")
        self.lives_and_dies(self.web1, "db")
        self.works("vmgroup", "vm", "add", "--name=renamed", "--vm-list=web-2")
        self.web1.works("create", "shared", size="2mb")
        self.assertEqual(self.names(self.web2), ["shared@ds1"])

    def test_of_clones_within_a_group(self):
        self.make_group()
        self.web1.works("create", "first", size="2mb")
        self.web1.works("create", "second", clone_from="first")
        self.web1.works("remove", "first")
        self.lives_and_dies(self.web1, "third")
        self.assertEqual(self.names(self.web1), ["second@ds1"])
        self.assertIn("Could not find volume for cloning", self.web2.fails("create", "mine", clone_from="second"))

    def test_a_group_is_not_made_with_a_vm_that_there_is_not(self):
        for vms in ("none", "web-1,none", ""):
            self.error("vmgroup", "create", "--name=g1", "--default-datastore=ds1", f"--vm-list={vms}")
        self.assertEqual([row["Name"] for row in self.rows("vmgroup", "ls")], ["_DEFAULT"])

    def test_a_group_with_a_volume_in_use_keeps_all_its_volumes(self):
        self.make_group()
        self.web1.works("create", "idle", size="2mb")
        self.web1.works("create", "busy", size="2mb")
        self.web1.works("attach", "busy")
        self.assertIn("in use by VM = web-1", self.error("vmgroup", "rm", "--name=g1", "--force", "--remove-volumes"))
        self.assertEqual(self.names(self.web1), ["busy@ds1", "idle@ds1"])


class Rights(GroupsTest):
    def setUp(self):
        super().setUp()
        self.works("config", "init", "--local")

    def test_to_create_are_switched_off_and_on(self):
        self.make_group()
        self.access("add", "ds2")
        self.assertEqual(self.web1.fails("create", "a@ds2", size="2mb"), "No create privilege")
        self.access("set", "ds2", "--allow-create=True")
        self.web1.works("create", "a@ds2", size="2mb")
        self.access("set", "ds2", "--allow-create=False")
        self.assertEqual(self.web1.fails("create", "b@ds2", size="2mb"), "No create privilege")
        self.assertEqual(self.web1.fails("remove", "a@ds2"), "No delete privilege")
        self.web1.works("attach", "a@ds2")
        self.web2.works("create", "b@ds2", size="2mb")

    def test_limit_one_volume_and_all_of_them(self):
        self.make_group()
        self.access("set", "ds1", "--volume-maxsize=1GB", "--volume-totalsize=1GB")
        self.assertEqual(self.web1.fails("create", "huge", size="1025mb"), TOO_LARGE)
        self.web1.works("create", "first", size="1gb")
        self.assertEqual(self.web1.fails("create", "second", size="1gb"), TOO_MUCH)
        self.access("set", "ds1", "--volume-totalsize=2GB")
        self.web1.works("create", "second", size="1024mb")

    def test_on_the_vms_datastore_count_for_short_and_long_names(self):
        self.make_group(datastore="_VM_DS")
        self.access("set", "_VM_DS", "--volume-maxsize=500MB", "--volume-totalsize=1GB")
        self.web1.works("create", "short", size="500mb")
        self.web1.works("create", "long@ds1", size="500mb")
        self.assertEqual(self.web1.fails("create", "third", size="500mb"), TOO_MUCH)
        self.assertEqual(self.web1.fails("create", "large", size="501mb"), TOO_LARGE)
        self.access("set", "_VM_DS", "--volume-maxsize=1GB", "--volume-totalsize=3GB")
        self.web1.works("create", "large", size="1024mb")
        self.assertEqual(self.web1.fails("create", "x@ds2", size="2mb"), "No access privilege exists")

    def test_on_all_datastores_count_where_there_are_no_others(self):
        self.make_group()
        self.access("set", "ds1", "--volume-maxsize=1GB", "--volume-totalsize=1GB")
        self.access("add", "_ALL_DS", "--allow-create", "--volume-maxsize=500MB", "--volume-totalsize=1GB")
        self.web1.works("create", "default", size="1gb")
        self.assertEqual(self.web1.fails("create", "other@ds2", size="501mb"), TOO_LARGE)
        for name in ("a@ds2", "b@ds2"):
            self.web1.works("create", name, size="500mb")
        self.assertEqual(self.web1.fails("create", "c@ds2", size="500mb"), TOO_MUCH)

    def test_follow_the_default_datastore(self):
        self.make_group()
        self.web1.works("create", "first", size="2mb")
        self.works("vmgroup", "update", "--name=g1", "--default-datastore=ds2")
        self.web1.works("create", "second", size="2mb")
        self.assertEqual(self.names(self.web1), ["first@ds1", "second@ds2"])
        self.access("set", "ds2", "--allow-create=False")
        self.assertEqual(self.web1.fails("create", "third", size="2mb"), "No create privilege")

    def test_of_the_default_group_without_all_datastores_are_the_vms_own(self):
        self.access("rm", "_ALL_DS", group="_DEFAULT")
        self.web1.works("create", "here", size="2mb")
        self.assertEqual(self.web1.fails("create", "there@ds2", size="2mb"), "No access privilege exists")


class Predecessor(GroupsTest):
    """A database that the predecessor has made, by its own statements."""

    SCHEMA = (
        "create table tenants(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, description TEXT, default_datastore_url TEXT);"
        "create table vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL{vm_name}, FOREIGN KEY(tenant_id) REFERENCES tenants(id));"
        "create table privileges(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, allow_create INTEGER, max_volume_size INTEGER,"
        " usage_quota INTEGER, PRIMARY KEY(tenant_id, datastore_url), FOREIGN KEY(tenant_id) REFERENCES tenants(id));"
        "create table volumes(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, volume_name TEXT, volume_size INTEGER,"
        " PRIMARY KEY(tenant_id, datastore_url, volume_name), FOREIGN KEY(tenant_id) REFERENCES tenants(id));"
        "create table versions(id INTEGER PRIMARY KEY NOT NULL, major_ver INTEGER NOT NULL, minor_ver INTEGER NOT NULL,"
        " vmodl_major_ver INTEGER NOT NULL, vmodl_minor_ver INTEGER NOT NULL);"
        "insert into versions values(0, 1, {minor}, 1, 0);")
    GROUP = "6b6ff1c7-0000-4000-8000-000000000001"

    def sql(self, statements):
        done = subprocess.run(["sqlite3", str(self.rig.folder / "etc/auth-db"), statements], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def begin_with(self, minor, rows):
        """The service starts with that database."""
        self.assertEqual(self.rig.stop(), 0)
        (self.rig.folder / "etc").mkdir(exist_ok=True)
        self.sql(self.SCHEMA.format(minor=minor, vm_name=", vm_name TEXT" if minor > 1 else "") + rows)
        self.rig.start()

    def test_of_version_1_2_is_used_as_it_is(self):
        url = f"file://{self.rig.folder}/ds1"
        self.begin_with(2, f"insert into tenants values('{self.GROUP}', 'g1', 'theirs', '{url}');"
                           f"insert into vms values('web-1', '{self.GROUP}', 'web-1');"
                           f"insert into privileges values('{self.GROUP}', '{url}', 1, 500, 600);")
        self.web1.works("create", "a", size="500mb")
        self.assertEqual(self.web1.fails("create", "b", size="101mb"), TOO_MUCH)
        self.assertEqual(self.web2.fails("create", "c", size="2mb"), "VM web-2 does not belong to any vmgroup")
        self.assertEqual([list(row.values())[1:] for row in self.rows("vmgroup", "ls")], [["g1", "theirs", "ds1", "web-1"]])
        # What it would do next, positionally, still fits.
        self.sql(f"insert into volumes values('{self.GROUP}', '{url}', 'theirs', 100)")
        self.assertEqual(self.sql("select * from volumes order by volume_name"), [f"{self.GROUP}|{url}|a|500", f"{self.GROUP}|{url}|theirs|100"])
        self.assertEqual(self.web1.fails("create", "b", size="2mb"), TOO_MUCH)

    def test_of_version_1_1_is_upgraded_and_gets_the_names_of_its_vms(self):
        self.begin_with(1, f"insert into tenants values('{self.GROUP}', 'g1', '', '');"
                           f"insert into vms values('WEB-1', '{self.GROUP}');"
                           f"insert into vms values('gone', '{self.GROUP}');")
        self.assertEqual(self.sql("select vm_id, vm_name from vms order by vm_id"), ["WEB-1|web-1", "gone|"])
        self.assertEqual(self.sql("select major_ver, minor_ver from versions"), ["1|2"])
        self.assertEqual(self.rows("vmgroup", "ls")[0]["VM_list"].split(",")[::-1], ["web-1", "N/A"])
        self.web1.works("create", "db", size="2mb")
        self.assertEqual(self.names(self.web1), ["db@ds1"])

    def test_of_another_version_is_refused_and_left_alone(self):
        self.begin_with(3, "")
        text = "Upgrade is not supported for auth-db schema version 1.3 to 1.2. Refer to VDVS release versions"
        self.assertEqual(self.error("vmgroup", "ls"), text)
        self.assertEqual(self.web1.fails("create", "db", size="2mb"), text)
        self.assertEqual(self.sql("select minor_ver from versions"), ["3"])


class Properties(GroupsTest):
    def short_row(self, name):
        return next(row for row in self.rows("volume", "shortls") if row["Volume"] == name)

    def test_agree_between_what_a_guest_and_what_the_administrator_sees(self):
        for disk_format in ("thin", "zeroedthick", "eagerzeroedthick"):
            name = f"v-{disk_format}"
            self.web1.works("create", name, size="3mb", diskformat=disk_format)
            status = self.web1.works("get", name)
            self.assertEqual((status["capacity"]["size"], status["diskformat"], status["status"]), ("3MB", disk_format, "detached"))
            self.assertEqual(list(self.short_row(name).values()), [name, "3MB", disk_format, "detached"])
            self.web1.works("attach", name)
            self.assertEqual(self.web2.works("get", name)["attached to VM"], "web-1")
            self.assertEqual(self.short_row(name)["Attached-to"], "web-1")

    def test_of_access_count_at_the_next_attach(self):
        self.web1.works("create", "db", size="2mb")
        self.web1.works("attach", "db")
        self.web1.works("detach", "db")
        self.ready()
        for access, is_read_only in (("read-only", "1"), ("read-write", "0")):
            self.works("volume", "set", "--volume=db@ds1", "--vmgroup=_DEFAULT", f"--options=access={access}")
            for guest in (self.web1, self.web2):
                guest.works("attach", "db")
                self.assertEqual(self.loop_device("RO"), is_read_only)
                guest.works("detach", "db")

    def ready(self):
        """A disk that nobody has formatted yet is attached to be written whatever its access."""
        for state in ("formatting", "formatted", "ready"):
            self.web1.works("set_init", "db", state=state, fs_uuid="c2d9c7ae-8a63-4c30-94ad-3b7a2ee6b1f7")

    def loop_device(self, column):
        listing = subprocess.run(["losetup", "--noheadings", "--output", column, "--associated", str(self.rig.vmdk("db-flat"))],
                                 capture_output=True, text=True, check=True)
        return listing.stdout.strip()

    def test_of_many_volumes_made_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda number: self.web1.works("create", f"v{number}", size="2mb"), range(40)))
        self.assertEqual(len(self.names(self.web1)), 40)
        self.assertEqual(len(self.rows("volume", "ls")), 40)


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmdkops_admin", required=True)
    parser.add_argument("--vmdkopsd", required=True)
    parser.add_argument("tests", nargs="*")
    OPTIONS = parser.parse_intermixed_args()
    unittest.main(argv=[sys.argv[0], *OPTIONS.tests])


if __name__ == "__main__":
    main()
