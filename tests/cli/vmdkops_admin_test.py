#!/usr/bin/env python3
"""Runs vmdkops_admin as an administrator does, on a machine where no service runs: exit statuses, formats, and
what bash completes.

    vmdkops_admin_test.py PATH/vmdkops_admin PATH/completion-script
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

PROGRAM, COMPLETION = sys.argv[1:3]
NAMESPACE = "{http://www.vmware.com/Products/ESX/6.0/esxcli/}"


class VmdkopsAdmin(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vdvs-admin-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("ds1", "ds2"):
            (self.folder / name).mkdir()
        self.config = self.folder / "service.toml"
        self.config.write_text(
            f'datastore = ["ds1={self.folder}/ds1", "ds2={self.folder}/ds2"]\n'
            f'database = "{self.folder}/etc/auth-db"\nadmin-socket = "{self.folder}/admin.sock"\n'
            f'audit-log = "{self.folder}/audit.log"\nstate-dir = "{self.folder}/state"\nhost-name = "host-1"\n',
            encoding="utf-8")

    def run_admin(self, *words):
        return subprocess.run([PROGRAM, "--config", self.config, *words], capture_output=True, text=True, timeout=60,
                              check=False, stdin=subprocess.DEVNULL)

    def works(self, *words):
        done = self.run_admin(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), (words, done.stdout, done.stderr))
        return done.stdout

    def fails(self, *words):
        done = self.run_admin(*words)
        self.assertEqual((done.returncode, done.stderr), (2, ""), (words, done.stdout, done.stderr))
        return done.stdout

    def make_group(self):
        self.works("config", "init", "--local")
        self.works("vmgroup", "create", "--name=g1", "--default-datastore=ds1", "--vm-list=host-1")

    def test_plain_tables_can_be_cut_by_lines_and_columns(self):
        self.make_group()
        lines = self.works("vmgroup", "vm", "ls", "--name=g1").split("\n")
        self.assertEqual(lines[0].split(), ["Uuid", "Name"])
        self.assertEqual(set(lines[1]), {"-", " "})
        self.assertEqual(lines[2].split(" ")[2], "host-1")
        self.assertEqual(lines[3:], ["", ""])

    def test_xml_is_what_esxcli_reads(self):
        self.make_group()
        for words in (["--output-format", "xml", "vmgroup", "vm", "ls", "--name=g1"],
                      ["vmgroup", "vm", "ls", "--name=g1", "--output-format=xml"]):
            root = ElementTree.fromstring(self.works(*words))
            fields = [(field.get("name"), field.findtext(NAMESPACE + "string"))
                      for field in root.iter(NAMESPACE + "field")]
            self.assertEqual([name for name, _ in fields], ["Uuid", "Name"])
            self.assertEqual(fields[1], ("Name", "host-1"))
        root = ElementTree.fromstring(self.works("config", "status", "--output-format=xml"))
        self.assertTrue(root.findtext(NAMESPACE + "string").startswith("DB_Mode: SingleNode"))

    def test_json_has_rows_by_column(self):
        self.make_group()
        answer = json.loads(self.works("--json", "vmgroup", "access", "ls", "--name=g1"))
        self.assertEqual(answer["rows"][0]["Datastore"], "ds1")
        error = json.loads(self.fails("--json", "vmgroup", "rm", "--name=none"))
        self.assertEqual(error["error"]["text"], "Vmgroup none does not exist")

    def test_exit_statuses(self):
        self.assertEqual(self.run_admin().returncode, 3)
        self.assertEqual(self.run_admin("vmgroup").returncode, 3)
        self.assertEqual(self.run_admin("vmgroup", "destroy").returncode, 3)
        wrong = self.run_admin("vmgroup", "vm", "ls")
        self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
        self.assertIn("error: the following arguments are required: --name", wrong.stderr)
        self.assertEqual(self.fails("vmgroup", "vm", "add", "--name=_DEFAULT", "--vm-list=x"),
                         "ERROR:Configuration not found. Please init configuration with "
                         "'esxcli storage guestvol config init'.\n")
        self.assertEqual(self.run_admin("--help").returncode, 0)

    def test_status_without_a_service(self):
        lines = self.works("status").splitlines()
        self.assertEqual(len(lines), 10)
        self.assertEqual(lines[2], "Status: Stopped")

    def test_a_socket_that_is_named_is_meant(self):
        done = self.run_admin("--socket", str(self.folder / "other.sock"), "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no service answers there", done.stdout)

    def test_every_change_is_in_the_audit_log(self):
        self.make_group()
        self.fails("vmgroup", "rm", "--name=none")
        entries = [json.loads(line) for line in (self.folder / "audit.log").read_text(encoding="utf-8").splitlines()]
        self.assertEqual([(entry["verb"], entry["result"]) for entry in entries],
                         [("config init", "ok"), ("vmgroup create", "ok"), ("vmgroup rm", "failed")])
        self.assertTrue(entries[0]["who"].startswith(f"uid {os.getuid()} (pid "))

    def complete(self, line):
        """What bash would put in the place of the word at the end of `line`."""
        wrapper = self.folder / "vmdkops_admin"
        wrapper.write_text(f"#!/bin/sh\nVDVS_CONFIG={self.config} exec {PROGRAM} \"$@\"\n", encoding="utf-8")
        wrapper.chmod(0o755)
        # bash's own splitting, as COMP_WORDBREAKS has it by default.
        words, word = [], ""
        for char in line:
            if char.isspace():
                words, word = words + ([word] if word else []), ""
            elif char in "=@:":
                words, word = words + ([word] if word else []) + [char], ""
            else:
                word += char
        words.append(word)
        if not word and len(words) > 1 and words[-2] in "=@:" and not line[-1].isspace():
            words.pop()
        script = (f'source {COMPLETION}; COMP_LINE=$1; COMP_POINT=${{#1}}; shift; COMP_WORDS=("$@"); '
                  'COMP_CWORD=$(($# - 1)); _vmdkops_admin 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", line, *words], capture_output=True, text=True, timeout=60,
                              check=True, env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"})
        return done.stdout.split()

    def test_bash_completes_words_flags_and_names(self):
        self.make_group()
        self.assertEqual(self.complete("vmdkops_admin vmgroup vm r"), ["rm", "replace"])
        self.assertEqual(self.complete("vmdkops_admin vmgroup rm --re"), ["--remove-volumes"])
        self.assertEqual(self.complete("vmdkops_admin vmgroup rm --name="), ["_DEFAULT", "g1"])
        self.assertEqual(self.complete("vmdkops_admin vmgroup rm --name g"), ["g1"])
        self.assertEqual(self.complete("vmdkops_admin vmgroup access rm --name=g1 --datastore=d"), ["ds1", "ds2"])
        self.assertEqual(self.complete("vmdkops_admin volume ls -c volume,da"), ["volume,datastore"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
