#!/usr/bin/env python3
"""Who gets a disk that somebody has: a real vmdkopsd, real loop devices, three VMs that are sockets of this machine.

    fencing_test.py --vmdkops_admin PATH --vmdkopsd PATH --vdvs PATH [TEST...]

What needs a VM that is switched off is in esx-vmci/admin/fencing_test.cc and, with real virtual machines, in tests/vm.
"""
import argparse
import os
import signal
import subprocess
import sys
import unittest

from admin_rig import Rig

OPTIONS = None  # set by main


class Fencing(unittest.TestCase):
    def setUp(self):
        programs = {"vmdkops_admin": OPTIONS.vmdkops_admin, "vmdkopsd": OPTIONS.vmdkopsd, "vdvs": OPTIONS.vdvs}
        self.rig = self.enterContext(Rig(programs))
        self.web1 = self.guest("web-1")
        self.web2 = self.guest("web-2")
        self.web1.works("create", "db", size="2mb")
        self.web1.works("attach", "db")

    def guest(self, vm):
        return self.enterContext(self.rig.guest(vm))

    def holder(self):
        return self.rig.rows("volume", "ls", "-c", "attached-to")[0]["Attached-to"]

    def force(self, *words):
        """By the command that the error proposes."""
        return self.rig.run("volume", "detach", "--force", "--config", str(self.rig.config), "db@ds1", *words, program="vdvs")

    def test_a_disk_of_a_vm_that_runs_stays_and_the_error_says_whose_it_is(self):
        error = self.web2.fails("attach", "db")
        self.assertRegex(error, r"disk is attached to vm 'web-1' since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
        self.assertIn("stop its container on 'web-1'", error)
        self.assertIn("vdvs volume detach --force db@ds1", error)
        self.assertEqual(self.holder(), "web-1")
        self.assertIn("in use by VM = web-1", self.web2.fails("remove", "db"))

    def test_a_disk_that_was_detached_is_anothers_at_once(self):
        self.web1.works("detach", "db")
        self.web2.works("attach", "db")
        self.assertEqual(self.holder(), "web-2")

    def test_a_detach_of_somebody_elses_disk_changes_nothing(self):
        self.web2.works("detach", "db")
        self.assertEqual(self.holder(), "web-1")

    def test_without_force_the_administrator_is_told_and_nothing_is_done(self):
        done = self.rig.run("volume", "detach", "--volume=db@ds1")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stdout, r"^ERROR:detach 'db@ds1': disk is attached to vm 'web-1' since \d{4}-")
        self.assertIn("add --force", done.stdout)
        self.assertEqual(self.holder(), "web-1")

    def test_by_force_it_is_free_at_once_and_the_audit_log_says_who_did_it(self):
        done = self.force()
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        self.assertRegex(done.stdout, r"^Volume db@ds1 was detached from vm 'web-1', which had it since \d{4}-\S+Z\n$")
        self.assertEqual(self.holder(), "detached")
        self.web2.works("attach", "db")
        entry = self.rig.audit()[-1]
        self.assertEqual((entry["verb"], entry["result"]), ("volume detach", "ok"))
        self.assertRegex(entry["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertRegex(entry["who"], r"^uid 0 \(root\), pid \d+ \(vdvs\)")
        self.assertEqual(entry["output"], done.stdout.strip())
        self.assertTrue(self.rig.log_lines('verb="volume detach"'))

    def test_by_force_of_a_volume_that_nobody_has_nothing_happens(self):
        self.web1.works("detach", "db")
        self.assertEqual(self.force().stdout, "Volume db@ds1 is attached to no VM\n")

    def test_by_force_also_where_no_service_runs(self):
        self.rig.stop()
        self.assertEqual(self.force().returncode, 0)
        self.rig.start()
        self.web2.works("attach", "db")

    def test_a_disk_that_somebody_works_on_without_us_is_not_forced(self):
        self.web1.works("detach", "db")
        device = subprocess.run(["losetup", "--find", "--show", str(self.rig.vmdk("db-flat"))], capture_output=True, text=True,
                                check=True).stdout.strip()
        done = self.force()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("attached by hand", done.stdout + done.stderr)
        self.assertTrue(os.path.exists(f"/sys/block/{os.path.basename(device)}/loop"))
        self.assertIn("Failed", self.web2.fails("remove", "db"))

    def test_a_service_that_was_killed_still_knows_whose_a_disk_is(self):
        self.assertEqual(self.rig.stop(signal.SIGKILL), -signal.SIGKILL)
        self.rig.start()
        self.assertIn("attached to vm 'web-1'", self.web2.fails("attach", "db"))
        self.web1.works("attach", "db")  # the same again
        self.web1.works("detach", "db")
        self.web2.works("attach", "db")


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmdkops_admin", required=True)
    parser.add_argument("--vmdkopsd", required=True)
    parser.add_argument("--vdvs", required=True)
    parser.add_argument("tests", nargs="*")
    OPTIONS = parser.parse_intermixed_args()
    unittest.main(argv=[sys.argv[0], *OPTIONS.tests])


if __name__ == "__main__":
    main()
