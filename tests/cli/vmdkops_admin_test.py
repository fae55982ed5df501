#!/usr/bin/env python3
"""Runs vmdkops_admin as an administrator does: every command, flag, column and exit status of the predecessor, in each format.

    vmdkops_admin_test.py service|alone --vmdkops_admin PATH --vmdkopsd PATH [TEST...]

`service`: a vmdkopsd runs, and carries the commands out. `alone`: none runs, so the command does. What is to be seen is the same; the
tests that are about the difference are skipped where there is none. Needs root (a disk that is attached is a loop device).
"""
import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ElementTree

from admin_rig import DEFAULT_GROUP, Rig, VsanRoot, median_ms

NAMESPACE = "{http://www.vmware.com/Products/ESX/6.0/esxcli/}"
INIT_NEEDED = "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'."
COLUMNS = ["Volume", "Datastore", "VMGroup", "Capacity", "Used", "Filesystem", "Policy", "Disk Format", "Attached-to", "Access",
           "Attach-as", "Created By", "Created Date"]
OPTIONS = None  # set by main


def only(mode):
    """For tests of what is different by its nature."""
    def mark(test):
        @functools.wraps(test)
        def run(self):
            if OPTIONS.mode == mode:
                test(self)
        return run
    return mark


class AdminTest(unittest.TestCase):
    def setUp(self):
        programs = {"vmdkops_admin": OPTIONS.vmdkops_admin, "vmdkopsd": OPTIONS.vmdkopsd}
        self.use(Rig(programs, runs_service=OPTIONS.mode == "service"))

    def use(self, rig):
        self.rig = self.enterContext(rig)
        for name in ("works", "says", "rows", "error", "misuse", "guest"):
            setattr(self, name, getattr(self.rig, name))

    def init(self):
        self.works("config", "init", "--local")

    def make_group(self, name="g1", datastore="ds1", vms="web-1"):
        self.works("vmgroup", "create", f"--name={name}", f"--default-datastore={datastore}", *([f"--vm-list={vms}"] if vms else []))

    def group(self, name="g1"):
        return next(row for row in self.rows("vmgroup", "ls") if row["Name"] == name)

    def names(self, *words, column="Volume"):
        return [row[column] for row in self.rows(*words)]


class CommandLine(AdminTest):
    def test_without_a_command_help_and_status_3(self):
        for words in ([], ["volume"], ["vmgroup", "vm"], ["vmgroup", "access"], ["policy"], ["config"]):
            done = self.rig.run(*words)
            self.assertEqual(done.returncode, 3, words)
            self.assertIn("usage: vmdkops_admin", done.stdout + done.stderr)

    def test_a_command_that_there_is_not_has_status_3(self):
        for words in (["destroy"], ["volume", "rm"], ["vmgroup", "vm", "explode"]):
            self.assertIn("invalid choice", self.misuse(*words, status=3))

    def test_a_flag_that_is_wrong_has_status_2(self):
        for words, why in ((["vmgroup", "vm", "ls"], "the following arguments are required: --name"),
                           (["vmgroup", "create", "--name=x"], "required: --default-datastore"),
                           (["volume", "set", "--volume=a@ds1"], "required: --vmgroup, --options"),
                           (["policy", "ls", "--name=yo"], "unrecognized arguments: --name=yo"),
                           (["volume", "ls", "-c", "personality"], "invalid choice: 'personality'"),
                           (["config", "mv", "--force"], "required: --to"),
                           (["status", "--all"], "unrecognized arguments: --all"),
                           (["vmgroup", "access", "add", "--name=g", "--rights=create"], "required: --datastore"),
                           (["--output-format=yaml", "status"], "invalid choice: 'yaml'")):
            self.assertIn(why, self.misuse(*words))

    def test_help_and_version_are_no_mistakes(self):
        for words in (["--help"], ["volume", "--help"], ["vmgroup", "access", "set", "-h"], ["--version"]):
            self.works(*words)

    def test_who_cannot_be_asked_has_status_1(self):
        self.assertIn("no service answers there", self.error("--socket", f"{self.rig.folder}/other.sock", "status", status=1))
        self.assertIn("hypervisor", self.unusable('hypervisor = "photon"\n'))

    def unusable(self, setting):
        """The error of a command with settings of which nothing can be made."""
        other = self.rig.folder / "other.toml"
        other.write_text(setting + f'admin-socket = "{self.rig.folder}/other.sock"\n', encoding="utf-8")
        done = self.rig.run("--config", str(other), "status")
        self.assertEqual(done.returncode, 1, done)
        return done.stdout

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([OPTIONS.vmdkops_admin, "--config", str(self.rig.config), "status"], stdout=full, check=False)
        self.assertEqual(done.returncode, 2)


class Status(AdminTest):
    @only("service")
    def test_has_twelve_lines_while_the_service_runs(self):
        lines = self.works("status").splitlines()
        self.assertEqual([line.split(":")[0] for line in lines],
                         ["=== Service", "Version", "Status", "Pid", "Port", "LogConfigFile", "LogFile", "LogLevel",
                          "=== Authorization Config DB", "DB_Mode", "DB_LocalPath", "DB_SharedLocation"])
        self.assertIn("Status: Running", lines)
        self.assertIn(f"Pid: {self.rig.daemon.pid}", lines)
        self.assertEqual(len(self.works("status", "--fast").splitlines()), 10)
        self.assertIn("requests: 0", self.works("status", "--counters"))

    @only("alone")
    def test_says_that_no_service_runs(self):
        lines = self.works("status").splitlines()
        self.assertEqual(len(lines), 10)
        self.assertIn("Status: Stopped", lines)
        self.assertFalse([line for line in lines if line.startswith(("Pid", "Port"))])


class Config(AdminTest):
    def database(self):
        return self.rig.folder / "etc/auth-db"

    def status(self):
        return self.works("config", "status").splitlines()

    def test_of_this_host_is_made_and_moved_aside(self):
        self.assertEqual(self.status(), ["DB_Mode: NotConfigured (no local DB, no symlink to shared DB)", "DB_LocalPath: N/A",
                                         "DB_SharedLocation: N/A"])
        self.assertEqual(self.works("config", "init", "--local").splitlines(),
                         ["Warning: this feature is EXPERIMENTAL", f"Creating new DB at {self.database()}",
                          "Warning: Local configuration will not survive ESXi reboot. See KB2043564 for details"])
        self.assertEqual(self.status(), ["DB_Mode: SingleNode (local DB exists)", f"DB_LocalPath: {self.database()}",
                                         "DB_SharedLocation: N/A"])
        self.assertIn("Init is already done", self.error("config", "init", "--local"))
        self.assertIn("use --local", self.error("config", "rm", "--unlink", "--confirm"))
        self.error("config", "rm", "--local")
        self.assertTrue(self.database().exists())
        said = self.says("config", "rm", "--local", "--confirm")
        self.assertRegex(said, rf"^Moved {self.database()} to backup file {self.database()}\.bak_\w{{3}}_\w{{3}}_+\d+_\d\d:\d\d:\d\d_\d{{4}}$")
        self.assertTrue(os.path.exists(said.split(" ")[-1]))
        self.assertFalse(self.database().exists())

    def test_without_a_backup_is_really_gone(self):
        self.init()
        self.works("config", "rm", "--local", "--no-backup", "--confirm")
        self.assertEqual(os.listdir(self.database().parent), [])

    def test_shared_is_a_link_that_can_be_taken_away(self):
        shared = self.rig.folder / "ds1/dockvols/vmdkops_config.db"
        self.assertEqual(self.works("config", "init", "--datastore=ds1").splitlines(),
                         ["Warning: this feature is EXPERIMENTAL", f"Creating new DB at {shared}",
                          f"Creating a symlink to {shared} at {self.database()}"])
        self.assertEqual(self.status(), ["DB_Mode: MultiNode (local symlink pointing to shared DB)", f"DB_LocalPath: {self.database()}",
                                         f"DB_SharedLocation: {shared}"])
        self.assertIn("use --unlink", self.error("config", "rm", "--local", "--confirm"))
        self.assertEqual(self.says("config", "rm", "--unlink", "--confirm"), f"Removed link {self.database()}")
        self.assertTrue(shared.exists())
        self.works("config", "init", "--datastore=DS1")  # joined, whatever the case
        self.works("config", "init", "--local", "--force")
        self.assertFalse(self.database().is_symlink())

    def test_needs_one_of_its_flags_and_a_datastore(self):
        for words in (["init"], ["init", "--local", "--datastore=ds1"], ["rm", "--confirm"], ["rm", "--local", "--unlink", "--confirm"]):
            self.assertIn("Exactly one of", self.error("config", *words))
        self.assertEqual(self.error("config", "init", "--datastore=none"), "No such datastore: none")
        self.assertEqual(self.error("config", "mv", "--to=ds2", "--force"),
                         "Sorry, configuration move ('config mv' command) is not supported yet")

    def test_that_is_broken_stops_everything_until_it_is_removed(self):
        self.works("config", "init", "--datastore=ds1")
        (self.rig.folder / "ds1/dockvols/vmdkops_config.db").unlink()
        self.assertEqual(self.status()[0], "DB_Mode: BrokenLink (Broken link or corrupted DB file)")
        self.assertEqual(self.error("vmgroup", "ls"),
                         f"DB access error at {self.database()}: BrokenLink (Broken link or corrupted DB file)")
        self.works("config", "rm", "--unlink", "--confirm")
        self.assertEqual(self.names("vmgroup", "ls", column="Name"), ["_DEFAULT"])

    def test_without_one_nothing_of_groups_can_be_changed(self):
        for words in (["create", "--name=g", "--default-datastore=ds1"], ["update", "--name=_DEFAULT", "--description=x"],
                      ["rm", "--name=_DEFAULT"], ["vm", "add", "--name=_DEFAULT", "--vm-list=web-1"],
                      ["vm", "rm", "--name=_DEFAULT", "--vm-list=web-1"], ["vm", "replace", "--name=_DEFAULT", "--vm-list=web-1"],
                      ["access", "add", "--name=_DEFAULT", "--datastore=ds1"],
                      ["access", "set", "--name=_DEFAULT", "--datastore=ds1", "--allow-create=True"],
                      ["access", "rm", "--name=_DEFAULT", "--datastore=ds1"]):
            self.assertEqual(self.error("vmgroup", *words), INIT_NEEDED, words)


class Groups(AdminTest):
    def setUp(self):
        super().setUp()
        self.init()

    def test_are_made_changed_listed_and_removed(self):
        self.assertEqual(self.says("vmgroup", "create", "--name=g1", "--default-datastore=ds1", "--description=the first",
                                   "--vm-list=web-1,web-2"),
                         "vmgroup 'g1' is created. Do not forget to run 'vmgroup vm add' to add vm to vmgroup.")
        row = self.group()
        self.assertEqual(list(row), ["Uuid", "Name", "Description", "Default_datastore", "VM_list"])
        self.assertEqual(list(row.values())[1:], ["g1", "the first", "ds1", "web-1,web-2"])
        self.assertEqual(self.says("vmgroup", "update", "--name=g1", "--new-name=g2", "--description=another",
                                   "--default-datastore=_VM_DS"), "vmgroup modify succeeded")
        self.assertEqual(list(self.group("g2").values())[1:], ["g2", "another", "_VM_DS", "web-1,web-2"])
        self.assertIn("Cannot delete non-empty vmgroup g2.", self.error("vmgroup", "rm", "--name=g2"))
        self.assertEqual(self.says("vmgroup", "rm", "--name=g2", "--force"), "vmgroup rm succeeded")
        self.assertEqual(self.names("vmgroup", "ls", column="Name"), ["_DEFAULT"])

    def test_are_refused_with_the_predecessors_texts(self):
        self.make_group()
        create = ["vmgroup", "create", "--default-datastore=ds1"]
        for words, text in (([*create, "--name=g1"], "Vmgroup g1 already exists"),
                            ([*create, "--name=a/b"], "Vmgroup name a/b is invalid, only [a-zA-Z0-9_][a-zA-Z0-9_.-]* is allowed"),
                            ([*create, "--name=g3", "--vm-list=none,nobody"], "Cannot find vm none,nobody"),
                            ([*create, "--name=g3", "--vm-list="], "VM list cannot be empty"),
                            ([*create, "--name=g3", "--vm-list=web-1"],
                             "VM 'web-1' has already been associated with tenant 'g1', can't add it"),
                            ([*create, "--name=_DEFAULT", "--vm-list=web-1"], "Invalid Argument(['web-1'])"),
                            (["vmgroup", "create", "--name=g3", "--default-datastore=none"], "Datastore none does not exist"),
                            (["vmgroup", "create", "--name=g3", "--default-datastore=_ALL_DS"],
                             "Cannot use _ALL_DS as default datastore. Please use specific datastore name or _VM_DS special datastore"),
                            (["vmgroup", "update", "--name=none", "--description=x"], "Vmgroup none does not exist"),
                            (["vmgroup", "update", "--name=_DEFAULT", "--new-name=x"],
                             "Vmgroup name _DEFAULT is invalid, only rename of vmgroups other than _DEFAULT is allowed"),
                            (["vmgroup", "rm", "--name=none"], "Vmgroup none does not exist")):
            self.assertEqual(self.error(*words), text)
        self.assertEqual(self.names("vmgroup", "ls", column="Name"), ["_DEFAULT", "g1"])

    def test_are_renamed_with_the_links_that_people_look_at(self):
        self.make_group()
        with self.guest() as guest:
            guest.works("create", "db", size="2mb")
        dockvols = self.rig.folder / "ds1/dockvols"
        self.assertEqual((dockvols / "g1").resolve().name, self.group()["Uuid"])
        self.works("vmgroup", "update", "--name=g1", "--new-name=g2")
        self.assertFalse((dockvols / "g1").is_symlink())
        self.assertTrue((dockvols / "g2/db.vmdk").exists())

    def test_with_volumes_go_only_where_that_is_said(self):
        self.make_group(vms="web-1")
        with self.guest() as guest:
            guest.works("create", "one", size="2mb")
            self.works("vmgroup", "access", "add", "--name=g1", "--datastore=ds2", "--allow-create")
            guest.works("create", "two@ds2", size="2mb")
        self.assertEqual(self.error("vmgroup", "rm", "--name=g1", "--force"),
                         "Internal Error(The vmgroup has volumes in it, these must be removed/migrated before deleting the vmgroup.)")
        self.assertEqual(self.names("volume", "ls"), ["one", "two"])
        self.assertEqual(self.says("vmgroup", "rm", "--name=g1", "--force", "--remove-volumes"),
                         "All Volumes will be removed. vmgroup rm succeeded")
        self.assertEqual(self.names("volume", "ls"), [])

    def test_the_default_one_goes_and_finds_its_volumes_again(self):
        with self.guest() as guest:
            guest.works("create", "db", size="2mb")
            self.works("vmgroup", "rm", "--name=_DEFAULT")
            self.assertEqual(guest.fails("create", "new"), "VM web-1 does not belong to any vmgroup")
            self.assertEqual(guest.works("list"), [])
            self.assertEqual(self.names("volume", "ls", column="VMGroup"), ["N/A"])
            self.assertEqual(self.says("vmgroup", "create", "--name=_DEFAULT", "--default-datastore=_VM_DS"),
                             "vmgroup '_DEFAULT' is created.")
            self.works("vmgroup", "access", "add", "--name=_DEFAULT", "--datastore=_ALL_DS", "--allow-create")
            self.assertEqual([volume["Name"] for volume in guest.works("list")], ["db@ds1"])
        self.assertEqual(self.group("_DEFAULT")["Uuid"], DEFAULT_GROUP)

    def test_take_vms_in_and_give_them_back(self):
        self.make_group(vms="")
        self.make_group("g2", vms="db-1")
        vm = ["vmgroup", "vm"]
        self.assertEqual(self.says(*vm, "add", "--name=g1", "--vm-list=web-1, web-2"), "vmgroup vm add succeeded")
        self.assertEqual([list(row.items()) for row in self.rows(*vm, "ls", "--name=g1")],
                         [[("Uuid", "web-1"), ("Name", "web-1")], [("Uuid", "web-2"), ("Name", "web-2")]])
        for words, text in ((["add", "--name=g1", "--vm-list=web-1"],
                             "VM 'web-1' has already been associated with tenant 'g1', cannot add it again"),
                            (["add", "--name=g1", "--vm-list=db-1"],
                             "VM 'db-1' has already been associated with tenant 'g2', can't add it"),
                            (["add", "--name=g1", "--vm-list=host-1,host-1"],
                             "VMs host-1 contain duplicates, they should be unique"),
                            (["rm", "--name=g1", "--vm-list=db-1"],
                             "VM 'db-1' has not been associated with tenant 'g1', cannot remove it"),
                            (["replace", "--name=g1", "--vm-list="], "Replace VM cannot be empty"),
                            (["replace", "--name=g1", "--vm-list=db-1"],
                             "VM 'db-1' has already been associated with tenant 'g2', can't add it"),
                            (["ls", "--name=_DEFAULT"], "_DEFAULT tenant contains all VMs which were not added to other tenants"),
                            *[([verb, "--name=_DEFAULT", "--vm-list=web-1"], "This feature is not supported for vmgroup _DEFAULT.")
                              for verb in ("add", "rm", "replace")]):
            self.assertEqual(self.error(*vm, *words), text)
        self.assertEqual(self.says(*vm, "rm", "--name=g1", "--vm-list=web-2"), "vmgroup vm rm succeeded")
        self.assertEqual(self.says(*vm, "replace", "--name=g1", "--vm-list=web-2,host-1"), "vmgroup vm replace succeeded")
        self.assertEqual(self.names(*vm, "ls", "--name=g1", column="Name"), ["host-1", "web-2"])

    def test_do_not_change_for_a_vm_that_has_disks(self):
        self.make_group(vms="")
        self.make_group("g2", vms="web-2")
        with self.guest("web-1") as first, self.guest("web-2") as second:
            for guest in (first, second):
                guest.works("create", "db", size="2mb")
                guest.works("attach", "db")
            self.assertEqual(self.error("vmgroup", "vm", "add", "--name=g1", "--vm-list=web-1"),
                             "Cannot add VM to vmgroup VM 'web-1' has volumes mounted.")
            self.assertEqual(self.error("vmgroup", "vm", "rm", "--name=g2", "--vm-list=web-2"),
                             "Cannot complete vmgroup vm rm. VM 'web-2' has volumes mounted.")
            self.assertEqual(self.error("vmgroup", "vm", "replace", "--name=g2", "--vm-list=db-1"),
                             "Cannot complete vmgroup vm replace. VM 'web-2' has volumes mounted.")
            self.assertEqual(self.error("vmgroup", "create", "--name=g3", "--default-datastore=ds1", "--vm-list=web-1"),
                             "Cannot add VM to vmgroup VM 'web-1' has volumes mounted.")
            first.works("detach", "db")
            self.works("vmgroup", "vm", "add", "--name=g1", "--vm-list=web-1")
            second.works("detach", "db")
            self.works("vmgroup", "vm", "rm", "--name=g2", "--vm-list=web-2")

    def test_have_rights_by_datastore(self):
        self.make_group()
        access = ["vmgroup", "access"]
        row = ["--name=g1", "--datastore=ds2"]
        self.assertEqual(self.says(*access, "add", *row, "--volume-maxsize=600MB", "--volume-totalsize=1GB"),
                         "vmgroup access add succeeded")
        self.assertEqual([list(each.values()) for each in self.rows(*access, "ls", "--name=g1")],
                         [["ds1", "True", "Unset", "Unset"], ["ds2", "False", "600.00MB", "1.00GB"]])
        self.assertEqual(list(self.rows(*access, "ls", "--name=g1")[0]), ["Datastore", "Allow_create", "Max_volume_size", "Total_size"])
        for value in ("True", "false", "TRUE"):
            self.assertEqual(self.says(*access, "set", *row, f"--allow-create={value}"), "vmgroup access set succeeded")
            self.assertEqual(self.rows(*access, "ls", "--name=g1")[1]["Allow_create"], value.capitalize())
        self.works(*access, "set", *row, "--volume-maxsize=0MB", "--volume-totalsize=2TB")
        self.assertEqual(list(self.rows(*access, "ls", "--name=g1")[1].values()), ["ds2", "True", "Unset", "2.00TB"])
        for words, text in ((["add", *row], "Access privilege for (g1, ds2) already exists"),
                            (["add", "--name=g1", "--datastore=none"], "Datastore none does not exist"),
                            (["add", "--name=none", "--datastore=ds2"], "Vmgroup none does not exist"),
                            (["set", *row, "--allow-create=maybe"], "Invalid value maybe for allow-create option"),
                            (["set", *row, "--volume-maxsize=many"], "Invalid volume size specified."),
                            (["set", *row, "--volume-maxsize=3TB"], "Volume max size 3145728MB exceeds the total size 2097152MB"),
                            (["set", "--name=g1", "--datastore=_ALL_DS", "--allow-create=True"],
                             "No access privilege exists for (g1, _ALL_DS)"),
                            (["rm", "--name=g1", "--datastore=ds1"],
                             "Removing of access privilege to 'default_datastore' is not supported")):
            self.assertEqual(self.error(*access, *words), text)
        self.assertEqual(self.says(*access, "rm", *row), "vmgroup access rm succeeded")
        self.assertEqual(self.error(*access, "rm", *row), "No access privilege exists for (g1, ds2)")
        for special in ("_VM_DS", "_ALL_DS"):
            self.works(*access, "add", "--name=g1", f"--datastore={special}", "--allow-create")
        self.assertEqual(sorted(self.names(*access, "ls", "--name=g1", column="Datastore")), ["_ALL_DS", "_VM_DS", "ds1"])

    def test_hold_what_was_allowed_while_the_service_runs(self):
        self.make_group()
        with self.guest() as guest:
            self.works("vmgroup", "access", "set", "--name=g1", "--datastore=ds1", "--volume-maxsize=3MB", "--volume-totalsize=4MB")
            guest.works("create", "a", size="2mb")
            self.assertEqual(guest.fails("create", "b", size="4mb"), "Volume size exceeds the max volume size limit")
            self.assertEqual(guest.fails("create", "b", size="3mb"), "The total volume size exceeds the usage quota")
            self.works("vmgroup", "access", "set", "--name=g1", "--datastore=ds1", "--allow-create=False")
            self.assertEqual(guest.fails("create", "b", size="2mb"), "No create privilege")
            self.assertEqual(guest.fails("remove", "a"), "No delete privilege")
            self.works("vmgroup", "access", "set", "--name=g1", "--datastore=ds1", "--allow-create=True", "--volume-maxsize=0MB",
                       "--volume-totalsize=0MB")
            guest.works("create", "b", size="64mb")


class Volumes(AdminTest):
    def test_are_listed_with_thirteen_columns(self):
        with self.guest() as guest:
            guest.works("create", "db", size="2mb", fstype="xfs", diskformat="zeroedthick", access="read-only", attach_as="persistent")
            guest.works("create", "web@ds2", size="1gb")
            guest.works("attach", "web@ds2")
            first, second = self.rows("volume", "ls")
        self.assertEqual(list(first), COLUMNS)
        self.assertEqual(list(first.values())[:-1], ["db", "ds1", "_DEFAULT", "2MB", "2MB", "xfs", "N/A", "zeroedthick", "detached",
                                                     "read-only", "persistent", "web-1"])
        self.assertRegex(first["Created Date"], r"^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$")
        self.assertEqual([second[column] for column in ("Volume", "Datastore", "Capacity", "Filesystem", "Disk Format", "Attached-to")],
                         ["web", "ds2", "1GB", "ext4", "thin", "web-1"])

    def test_are_listed_by_the_columns_and_groups_that_are_asked_for(self):
        self.init()
        self.make_group(vms="web-1")
        with self.guest("web-1") as first, self.guest("web-2") as second:
            first.works("create", "a", size="2mb")
            second.works("create", "b", size="2mb")
        self.assertEqual(self.rows("volume", "ls", "-c", "created-by,volume"),
                         [{"Volume": "b", "Created By": "web-2"}, {"Volume": "a", "Created By": "web-1"}]
                         if DEFAULT_GROUP < self.group()["Uuid"] else
                         [{"Volume": "a", "Created By": "web-1"}, {"Volume": "b", "Created By": "web-2"}])
        self.assertEqual(self.names("volume", "ls", "--vmgroup=g*"), ["a"])
        self.assertEqual(self.names("volume", "ls", "--vmgroup=none"), [])
        self.assertEqual(self.rows("volume", "shortls", "--vmgroup=_DEFAULT"),
                         [{"Volume": "b", "Capacity": "2MB", "Disk Format": "thin", "Attached-to": "detached"}])

    def test_are_four_fields_for_scripts_that_split_at_blanks(self):
        with self.guest() as guest:
            guest.works("create", "db", size="100mb")
            guest.works("attach", "db")
            header, dashes, row, *rest = self.works("volume", "shortls").split("\n")
        self.assertEqual(row.split(), ["db", "100MB", "thin", "web-1"])
        self.assertEqual((set(dashes), rest), ({"-", " "}, ["", ""]))
        self.assertTrue(header.startswith("Volume  Capacity  Disk Format  Attached-to"))

    def test_keep_the_settings_that_are_set(self):
        with self.guest() as guest:
            guest.works("create", "db", size="2mb")
            change = ["volume", "set", "--volume=db@ds1", "--vmgroup=_DEFAULT"]
            self.assertEqual(self.says(*change, "--options=access=read-only,attach-as=persistent"),
                             "Successfully updated settings for db@ds1")
            self.assertEqual(self.rows("volume", "ls", "-c", "access,attach-as"), [{"Access": "read-only", "Attach-as": "persistent"}])
            self.assertEqual(guest.works("get", "db")["access"], "read-only")
        for options in ("access=everything", "size=5gb", "access", "access=read-only,size=1gb", ""):
            self.assertEqual(self.error(*change, f"--options={options}"), f"Failed to update {options} for db@ds1.")
        self.assertEqual(self.error("volume", "set", "--volume=none@ds1", "--vmgroup=_DEFAULT", "--options=access=read-only"),
                         "Failed to update access=read-only for none@ds1.")

    def test_that_cannot_be_read_are_shown_and_explained(self):
        with self.guest() as guest:
            guest.works("create", "good", size="2mb")
            guest.works("create", "bad", size="2mb")
        os.truncate(self.rig.vmdk("bad-flat"), 5)
        done = self.rig.run("volume", "ls")
        self.assertEqual(done.returncode, 0)
        self.assertIn("bad@ds1 of vmgroup _DEFAULT: ", done.stderr)
        self.assertIn("is short", done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 5)

    def test_need_no_service_to_show_who_has_them(self):
        with self.guest() as guest:
            guest.works("create", "db", size="2mb")
            guest.works("attach", "db")
        self.assertEqual(self.names("volume", "ls", column="Attached-to"), ["web-1"])

    def test_policies_need_a_datastore_that_knows_them(self):
        for words in (["ls"], ["create", "--name=p", "--content=x"], ["rm", "--name=p"], ["update", "--name=p", "--content=x"]):
            self.assertEqual(self.error("policy", *words), "Error: VSAN datastore does not exist")

    def test_datastores_and_vms_can_be_listed_too(self):
        self.assertEqual(self.rows("datastore", "ls")[0], {"Datastore": "ds1", "Type": "folder", "Url": f"file://{self.rig.folder}/ds1",
                                                           "State": "available"})
        self.assertEqual(self.names("vm", "ls", column="Name"), ["host-1", "web-1", "web-2", "db-1"])

    def test_five_hundred_are_listed(self):
        with self.guest() as guest:
            for number in range(500):
                guest.works("create", f"volume-{number:05}", size="1gb")
            guest.works("attach", "volume-00007")
            rows = self.rows("volume", "ls")
            self.assertEqual(len(rows), 500)
            self.assertEqual([row["Attached-to"] for row in rows if row["Attached-to"] != "detached"], ["web-1"])
            print(f"\n{OPTIONS.mode}: volume ls of 500 {median_ms(lambda: self.works('volume', 'ls')):.1f} ms, "
                  f"shortls {median_ms(lambda: self.works('volume', 'shortls')):.1f} ms, "
                  f"status {median_ms(lambda: self.works('status')):.1f} ms, "
                  f"vmgroup ls {median_ms(lambda: self.works('vmgroup', 'ls')):.1f} ms (whole processes)")


class Policies(AdminTest):
    CONTENT = '(("proportionalCapacity" i0)("hostFailuresToTolerate" i1))'

    def setUp(self):
        programs = self.enterContext(VsanRoot({"vmdkops_admin": OPTIONS.vmdkops_admin, "vmdkopsd": OPTIONS.vmdkopsd}))
        self.use(Rig(programs, OPTIONS.mode == "service", [f"vsan={VsanRoot.DATASTORE}"]))

    def test_are_made_listed_changed_and_removed(self):
        self.assertEqual(self.rows("policy", "ls"), [])
        self.assertEqual(self.says("policy", "create", "--name=gold", f"--content={self.CONTENT}"), "Successfully created policy: gold")
        self.assertEqual(self.error("policy", "create", "--name=gold", f"--content={self.CONTENT}"), "Error: Policy already exists")
        self.assertEqual(self.rows("policy", "ls"), [{"Policy Name": "gold", "Policy Content": self.CONTENT, "Active": "Unused"}])
        self.assertIn("identical to old policy", self.error("policy", "update", "--name=gold", f"--content={self.CONTENT}"))
        self.assertEqual(self.says("policy", "update", "--name=gold", '--content=(("stripeWidth" i2))'), "Successfully updated policy gold")
        self.assertEqual(self.rows("policy", "ls")[0]["Policy Content"], '(("stripeWidth" i2))')
        self.assertEqual(self.says("policy", "rm", "--name=gold"), "Successfully removed policy: gold")
        for words in (["rm", "--name=gold"], ["update", "--name=gold", f"--content={self.CONTENT}"]):
            self.assertIn("Policy gold does not exist", self.error("policy", *words))

    def test_that_are_in_use_stay(self):
        self.works("policy", "create", "--name=gold", f"--content={self.CONTENT}")
        with self.guest() as guest:
            self.assertEqual(guest.fails("create", "db@ds1", vsan_policy_name="gold"), "Cannot use a VSAN policy on a non-VSAN datastore")
            self.assertIn("Policy none does not exist. Available policies are: ['gold']",
                          guest.fails("create", "db@vsan", vsan_policy_name="none"))
            guest.works("create", "db@vsan", size="2mb", vsan_policy_name="gold")
        self.assertEqual(self.rows("policy", "ls")[0]["Active"], "In use by 1 volumes")
        self.assertEqual(self.rows("volume", "ls", "-c", "policy"), [{"Policy": "gold"}])
        self.assertIn("Cannot remove. Policy is in use by {'volume': 'db', 'policy': 'gold', 'path': '",
                      self.error("policy", "rm", "--name=gold"))
        lines = self.works("policy", "update", "--name=gold", '--content=(("stripeWidth" i2))').splitlines()
        self.assertEqual(lines[0], "Successfully updated policy gold")
        self.assertIn("1 volumes that use it keep what they have", lines[1])
        with self.guest() as guest:
            guest.works("remove", "db@vsan")
        self.works("policy", "rm", "--name=gold")

    def test_are_checked_and_never_near_a_shell_or_a_path(self):
        for content in ("", "hostFailuresToTolerate", '(("hostFailuresToTolerate" i1)', '(("unknown" i1))', '(("stripeWidth" i1))\'; touch x; \''):
            self.error("policy", "create", "--name=bad", f"--content={content}")
        for name in ("../bad", "a/b", ".bad", "bad.tmp", "bad.old", ""):
            self.error("policy", "create", f"--name={name}", f"--content={self.CONTENT}")
        self.assertEqual(self.rows("policy", "ls"), [])


class Formats(AdminTest):
    def setUp(self):
        super().setUp()
        self.init()
        self.make_group()

    def test_plain_tables_can_be_cut_by_lines_and_columns(self):
        lines = self.works("vmgroup", "vm", "ls", "--name=g1").split("\n")
        self.assertEqual(lines, ["Uuid   Name   ", "-----  -----  ", "web-1  web-1  ", "", ""])
        self.assertEqual(lines[2].split(" ")[2], "web-1")  # cut -d ' ' -f3

    def test_plain_tables_fit_80_columns_where_there_is_no_terminal(self):
        for line in self.works("vmgroup", "ls").split("\n"):
            self.assertLessEqual(len(line), 82)  # the last column's gap is not counted, as it never was

    def test_xml_is_what_esxcli_reads(self):
        for words in (["--output-format", "xml", "vmgroup", "vm", "ls", "--name=g1"],
                      ["vmgroup", "vm", "ls", "--name=g1", "--output-format=xml"]):
            root = ElementTree.fromstring(self.works(*words))
            self.assertEqual(root.tag, NAMESPACE + "output")
            self.assertEqual(root.find(NAMESPACE + "list").get("type"), "structure")
            self.assertEqual([each.get("typeName") for each in root.iter(NAMESPACE + "structure")], ["vdvs"])
            self.assertEqual([(field.get("name"), field.findtext(NAMESPACE + "string")) for field in root.iter(NAMESPACE + "field")],
                             [("Uuid", "web-1"), ("Name", "web-1")])
        root = ElementTree.fromstring(self.works("config", "status", "--output-format=xml"))
        self.assertTrue(root.findtext(NAMESPACE + "string").startswith("DB_Mode: SingleNode"))

    def test_xml_of_an_empty_table_has_one_structure_of_empty_fields(self):
        root = ElementTree.fromstring(self.works("--output-format=xml", "volume", "shortls"))
        self.assertEqual([(field.get("name"), field.findtext(NAMESPACE + "string") or "") for field in root.iter(NAMESPACE + "field")],
                         [(name, "") for name in ("Volume", "Capacity", "Disk Format", "Attached-to")])

    def test_xml_of_an_error_is_its_text(self):
        self.assertEqual(self.rig.run("--output-format=xml", "vmgroup", "rm", "--name=none").stdout,
                         "ERROR:Vmgroup none does not exist\n")

    def test_json_has_rows_by_column_and_errors_with_codes(self):
        answer = json.loads(self.works("--json", "vmgroup", "access", "ls", "--name=g1"))
        self.assertEqual((answer["columns"][0], answer["rows"][0]["Datastore"], answer["lines"]), ("Datastore", "ds1", []))
        done = self.rig.run("--output-format=json", "vmgroup", "rm", "--name=none")
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]["text"]), (2, "Vmgroup none does not exist"))
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "E_NOT_FOUND")


class Audit(AdminTest):
    def test_has_each_change_with_who_asked(self):
        self.init()
        self.make_group()
        self.error("vmgroup", "rm", "--name=none")
        self.works("vmgroup", "ls")
        entries = self.rig.audit()
        self.assertEqual([(entry["verb"], entry["result"]) for entry in entries],
                         [("config init", "ok"), ("vmgroup create", "ok"), ("vmgroup rm", "failed")])
        self.assertEqual(entries[1]["flags"], {"name": "g1", "default-datastore": "ds1", "vm-list": "web-1"})
        self.assertEqual(entries[2]["error"], "Vmgroup none does not exist")
        for entry in entries:
            self.assertRegex(entry["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertRegex(entry["who"], r"^uid 0 \(root\), pid \d+ \(vmdkops_admin\)")
        self.assertEqual((self.rig.folder / "log/audit.log").stat().st_mode & 0o777, 0o600)

    @only("service")
    def test_only_root_may_ask_the_service(self):
        self.rig.folder.chmod(0o755)
        self.rig.programs["copy"] = shutil.copy(OPTIONS.vmdkops_admin, self.rig.folder / "copy")
        os.chmod(self.rig.folder / "admin.sock", 0o666)  # as if somebody had opened it wide
        done = self.rig.run("--socket", f"{self.rig.folder}/admin.sock", "status", uid=65534, program="copy")
        self.assertEqual((done.returncode, done.stdout[:6]), (2, "ERROR:"), done)
        self.assertTrue(self.rig.log_lines("refused an administrator who is not root"))

    @only("service")
    def test_a_service_that_ends_in_between_is_not_taken_for_none(self):
        self.rig.stop()
        self.assertIn("Status: Stopped", self.works("status"))


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("service", "alone"))
    parser.add_argument("--vmdkops_admin", required=True)
    parser.add_argument("--vmdkopsd", required=True)
    parser.add_argument("tests", nargs="*")
    OPTIONS = parser.parse_intermixed_args()
    unittest.main(argv=[sys.argv[0], *OPTIONS.tests])


if __name__ == "__main__":
    main()
