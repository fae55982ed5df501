#!/usr/bin/env python3
"""What bash makes of the completion script: keys are typed into a bash at a terminal, and what the command is then given counts.

    completion_test.py --vmdkops_admin PATH --vmdkopsd PATH --completion PATH
"""
import argparse
import os
import pty
import select
import subprocess
import sys
import unittest

from admin_rig import PATIENCE, Rig

PROMPT = "next> "
OPTIONS = None  # set by main


class Shell:
    """An interactive bash in which `vmdkops_admin` says what it was given, once the line is finished."""

    def __init__(self, rig):
        program = rig.folder / "bin/vmdkops_admin"
        program.write_text(
            "#!/bin/bash\n"
            f"if [[ $1 == __complete ]]; then exec {os.path.abspath(OPTIONS.vmdkops_admin)} \"$@\"; fi\n"
            "printf 'GIVEN'; printf '<%s>' \"$@\"; printf 'END\\n'\n", encoding="utf-8")
        program.chmod(0o755)
        self.master, slave = pty.openpty()
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-i"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={"PATH": f"{rig.folder}/bin:{os.environ['PATH']}", "TERM": "dumb", "PS1": PROMPT, "HISTFILE": "", "LC_ALL": "C.UTF-8",
                 "VDVS_CONFIG": str(rig.config), "HOME": str(rig.folder), "INPUTRC": "/dev/null"})
        os.close(slave)
        self.read_until(PROMPT)
        self.run(f"bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; source {OPTIONS.completion}\n")

    def close(self):
        self.bash.kill()
        self.bash.wait()
        os.close(self.master)

    def read_until(self, mark):
        text = ""
        while mark not in text:
            ready, _, _ = select.select([self.master], [], [], PATIENCE)
            assert ready, f"bash says only {text!r}"
            text += os.read(self.master, 65536).decode(errors="replace")
        return text

    def run(self, keys, last=""):
        """What is shown from these keys to the next prompt, behind `last` (a list of proposals is followed by the prompt, too). Only behind a prompt are keys bash's: before, the terminal itself would
        take some of them."""
        os.write(self.master, keys.encode())
        return self.read_until(last + "\r\n" + PROMPT)

    def given(self, keys):
        """The words that the command gets after these keys and Enter."""
        return self.run(keys + "\n", last="END").split("GIVEN<")[-1].split(">END")[0].split("><")

    def proposals(self, keys):
        """What two tabs list; the line is dropped (^U)."""
        lines = self.run(keys + "\t\t\x15echo DO''NE\n", last="DONE").split("\r\n")
        return [word for line in lines[1:] if PROMPT not in line for word in line.split() if word != "DONE"]


class Completion(unittest.TestCase):
    def setUp(self):
        programs = {"vmdkops_admin": OPTIONS.vmdkops_admin, "vmdkopsd": OPTIONS.vmdkopsd}
        self.rig = self.enterContext(Rig(programs))
        self.rig.works("config", "init", "--local")
        self.rig.works("vmgroup", "create", "--name=group-one", "--default-datastore=ds1", "--vm-list=web-1")
        with self.rig.guest() as guest:
            guest.works("create", "database", size="2mb")
        self.shell = Shell(self.rig)
        self.addCleanup(self.shell.close)

    def test_finishes_words_and_flags(self):
        self.assertEqual(self.shell.given("vmdkops_admin vmg\tup\t --na\t=x"), ["vmgroup", "update", "--name", "=x"])
        self.assertEqual(self.shell.given("vmdkops_admin conf\t sta\t"), ["config", "status"])

    def test_finishes_names_that_only_the_service_knows(self):
        for keys, words in (("vmgroup rm --name=g\t", ["vmgroup", "rm", "--name=group-one"]),
                            ("vmgroup rm --name g\t", ["vmgroup", "rm", "--name", "group-one"]),
                            ("vmgroup vm add --vm-list=web-1,d\t", ["vmgroup", "vm", "add", "--vm-list=web-1,db-1"]),
                            ("volume detach --volume=d\t", ["volume", "detach", "--volume=database@ds1"]),
                            ("volume detach --volume d\t", ["volume", "detach", "--volume", "database@ds1"]),
                            ("volume detach --volume=database@\t", ["volume", "detach", "--volume=database@ds1"]),
                            ("vmgroup access add --datastore=_V\t", ["vmgroup", "access", "add", "--datastore=_VM_DS"])):
            self.assertEqual(self.shell.given("vmdkops_admin " + keys), words)

    def test_goes_on_within_a_list(self):
        self.assertEqual(self.shell.given("vmdkops_admin volume ls -c vol\t,datas\t,fs\t"),
                         ["volume", "ls", "-c", "volume,datastore,fstype"])

    def test_lists_what_fits(self):
        self.assertEqual(self.shell.proposals("vmdkops_admin vmgroup vm r"), ["replace", "rm"])
        self.assertEqual(self.shell.proposals("vmdkops_admin vmgroup access add --datastore=ds"), ["ds1", "ds2"])
        self.assertEqual(self.shell.proposals("vmdkops_admin vmgroup rm --name="), ["_DEFAULT", "group-one"])

    def test_proposes_nothing_where_a_word_is_the_users_own(self):
        self.assertEqual(self.shell.given("vmdkops_admin vmgroup create --name=mi\tne"), ["vmgroup", "create", "--name=mine"])

    def test_works_without_a_service(self):
        self.rig.stop()
        self.assertEqual(self.shell.given("vmdkops_admin vmgroup rm --name=g\t"), ["vmgroup", "rm", "--name=group-one"])


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vmdkops_admin", "vmdkopsd", "completion"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("tests", nargs="*")
    OPTIONS = parser.parse_intermixed_args()
    unittest.main(argv=[sys.argv[0], *OPTIONS.tests])


if __name__ == "__main__":
    main()
