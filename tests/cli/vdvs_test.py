#!/usr/bin/env python3
"""Runs vdvs as an operator does: makes certificates, which openssl then verifies, and reads its errors.

    vdvs_test.py PATH/vdvs
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv[1]


class Vdvs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vdvs-cert-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name, "tls")

    def run_vdvs(self, *words):
        return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)

    def cert(self, *words):
        return self.run_vdvs("cert", *words, "--folder", self.folder)

    def works(self, done):
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def fails(self, done):
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def is_good_for(self, purpose, certificate):
        return subprocess.run(["openssl", "verify", "-CAfile", self.folder / "ca.crt", "-purpose", purpose,
                               self.folder / certificate], capture_output=True, check=False).returncode == 0

    def test_an_authority_a_service_and_a_guest(self):
        self.assertIn("ca.key", self.works(self.cert("authority")))
        told = self.works(self.cert("service", "--host", "esx-1", "--host", "10.0.0.1"))
        self.assertIn(f"--tls-certificate {self.folder}/service.crt", told)
        self.assertIn("Copy all three to the VM 'web-1'", self.works(self.cert("guest", "web-1")))
        self.assertTrue(self.is_good_for("sslserver", "service.crt"))
        self.assertTrue(self.is_good_for("sslclient", "guest-web-1.crt"))
        self.assertFalse(self.is_good_for("sslserver", "guest-web-1.crt"))
        self.assertEqual({path.name: path.stat().st_mode & 0o777 for path in self.folder.iterdir()},
                         {"ca.crt": 0o644, "ca.key": 0o600, "service.crt": 0o644, "service.key": 0o600,
                          "guest-web-1.crt": 0o644, "guest-web-1.key": 0o600})

    def test_what_is_there_is_not_overwritten(self):
        self.works(self.cert("authority"))
        before = (self.folder / "ca.key").read_bytes()
        told = self.fails(self.cert("authority"))
        self.assertIn("[E_EXISTS]; move it away, or choose another folder or name", told)
        self.assertEqual((self.folder / "ca.key").read_bytes(), before)

    def test_errors_say_what_to_do(self):
        self.assertIn("'vdvs cert authority'", self.fails(self.cert("guest", "web-1")))
        self.works(self.cert("authority", "--days", "1"))
        self.assertIn("ask for fewer days, or make a new authority", self.fails(self.cert("guest", "web-1")))
        self.assertIn("[E_INVALID]", self.fails(self.cert("guest", "../web-1")))
        self.assertEqual(sorted(os.listdir(self.folder)), ["ca.crt", "ca.key"])

    def test_a_wrong_command_line_is_2(self):
        for words in ((), ("cert",), ("cert", "service"), ("volume", "detach", "db"), ("volumes",)):
            done = self.run_vdvs(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertIn("--help", done.stderr)

    def test_a_detach_without_a_service_says_so(self):
        told = self.fails(self.run_vdvs("volume", "detach", "--force", "db", "--socket", self.folder / "no.sock"))
        self.assertIn("[E_UNAVAILABLE]", told)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
