#!/usr/bin/env python3
"""The rules themselves, on small trees made for the purpose: each must see what it is for, and leave good code alone."""
import pathlib
import tempfile
import unittest

import rules


class Rules(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="vdvs-rules.")
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def assert_complains(self, rule, part):
        complaints = rule(self.root)
        self.assertEqual(len(complaints), 1, complaints)
        self.assertIn(part, complaints[0])

    def test_a_middle_folder_may_include_base_but_not_its_neighbour(self):
        self.write("base/error.h", "// Errors.\n#pragma once\n")
        self.write("blockdev/watcher.h", '// Watches.\n#pragma once\n#include "base/error.h"\n')
        self.assertEqual(rules.includes_follow_the_layers(self.root), [])
        self.write("fs-format/prober.cc", '#include "blockdev/watcher.h"\n')
        self.assert_complains(rules.includes_follow_the_layers, "'fs-format' must not include 'blockdev/watcher.h'")

    def test_base_may_include_nobody(self):
        self.write("mountd/config.h", "// Flags.\n#pragma once\n")
        self.write("base/log.cc", '#include "mountd/config.h"\n')
        self.assert_complains(rules.includes_follow_the_layers, "'base' must not include")

    def test_mountd_may_include_every_middle_folder(self):
        self.write("esx-vmci/volume_name.h", "// Names.\n#pragma once\n")
        self.write("mountd/keeper.cc", '#include "esx-vmci/volume_name.h"\n')
        self.assertEqual(rules.includes_follow_the_layers(self.root), [])

    def test_an_include_that_is_not_from_the_root_is_reported(self):
        self.write("base/error.h", "// Errors.\n#pragma once\n")
        self.write("base/error.cc", '#include "error.h"\n')
        self.assert_complains(rules.includes_follow_the_layers, "not a path from the root")

    def test_a_link_to_a_neighbour_is_reported(self):
        self.write("fs-format/CMakeLists.txt", "vdvs_library(vdvs_fsformat PUBLIC vdvs_base vdvs_blockdev)\n")
        self.assert_complains(rules.links_follow_the_layers, "must not link vdvs_blockdev")

    def test_an_outside_header_elsewhere_is_reported(self):
        self.write("fs-format/prober_blkid.cc", "#include <blkid/blkid.h>\n")
        self.assertEqual(rules.outside_headers_stay_in_the_file_that_wraps_them(self.root), [])
        self.write("mountd/volume_walk.cc", "#include <blkid/blkid.h>\n")
        self.assert_complains(rules.outside_headers_stay_in_the_file_that_wraps_them, "mountd/volume_walk.cc")

    def test_a_source_that_is_not_listed_is_reported(self):
        self.write("base/CMakeLists.txt", "vdvs_library(vdvs_base SOURCES error.cc)\n")
        self.write("base/error.cc", "\n")
        self.assertEqual(rules.every_source_is_listed(self.root), [])
        self.write("base/terror.cc", "\n")
        self.assert_complains(rules.every_source_is_listed, "does not list terror.cc")

    def test_a_file_of_one_line_too_many_is_reported(self):
        self.write("base/a.cc", "\n" * rules.MAX_CODE_LINES)
        self.assertEqual(rules.no_file_is_too_long(self.root), [])
        self.write("base/a.cc", "\n" * (rules.MAX_CODE_LINES + 1))
        self.assert_complains(rules.no_file_is_too_long, "501 lines")

    def test_a_function_of_one_line_too_many_is_reported(self):
        for count, expected in ((rules.MAX_FUNCTION_LINES, 0), (rules.MAX_FUNCTION_LINES + 1, 1)):
            self.write("base/a.cc", "namespace a {\nint f(int b) {\n" + "  b += 1;\n" * count + "}\n}\n")
            self.assertEqual(len(rules.no_function_is_too_long(self.root)), expected)

    def test_a_brace_in_a_string_does_not_end_a_function(self):
        body = '  g("}");\n' * (rules.MAX_FUNCTION_LINES + 1)
        self.write("base/a.cc", "int f(int b) {\n" + body + "}\n")
        self.assertEqual(len(rules.no_function_is_too_long(self.root)), 1)

    def test_a_sleep_is_reported(self):
        self.write("base/a.cc", "std::this_thread::sleep_for(1s);\n")
        self.assert_complains(rules.nothing_sleeps_and_nothing_is_left_for_later, "base/a.cc:1")

    def test_a_path_of_a_workplace_is_reported_and_a_relative_one_is_not(self):
        self.write("docs/a.md", "see " + "net" + "/work" + "/a and https://example.org" + "/work" + "/a\n")
        self.assertEqual(rules.no_path_of_a_workplace(self.root), [])
        self.write("docs/a.md", "see /" + "work/a\n")
        self.assert_complains(rules.no_path_of_a_workplace, "docs/a.md:1")

    def test_a_skip_must_name_a_limit(self):
        self.write("tests/a.cc", 'if (x) GTEST_SKIP() << "limit of the machine: no btrfs";\n')
        self.assertEqual(rules.a_skipped_test_names_a_limit_of_the_machine(self.root), [])
        self.write("tests/a.cc", 'if (x) GTEST_SKIP() << "later";\n')
        self.assert_complains(rules.a_skipped_test_names_a_limit_of_the_machine, "tests/a.cc:1")

    def test_error_codes_are_compared_both_ways(self):
        self.write("base/error.cc", 'return "E_IO";\nreturn "E_LIMIT";\n')
        self.write("docs/errors.md", "## E_IO\n## E_GONE\n")
        complaints = rules.every_error_code_is_explained(self.root)
        self.assertEqual([c.split("'")[1] for c in complaints], ["E_LIMIT", "E_GONE"])

    def test_a_mutex_that_is_not_listed_is_reported(self):
        self.write("base/a.cc", "Mutex names_mutex;\nvoid f(Mutex& mutex);\n  MutexLock lock(names_mutex);\n")
        self.write("docs/threading.md", "| file | name |\n|---|---|\n")
        self.assert_complains(rules.every_mutex_is_listed, "base/a.cc names_mutex")
        self.write("docs/threading.md", "| file | name |\n|---|---|\n| `base/a.cc` | `names_mutex` |\n")
        self.assertEqual(rules.every_mutex_is_listed(self.root), [])

    def test_fault_points_are_compared(self):
        self.write("mountd/a.cc", 'base::fault_point("hold.before");\nbase::fault_point(fmt::format("walk.{}.after", x));\n')
        self.write("docs/testing.md", "| point |\n|---|\n| `hold.before`, `walk.<step>.after` |\n")
        self.assertEqual(rules.every_fault_point_is_listed(self.root), [])
        self.write("esx-vmci/fault_points.h", 'inline constexpr std::string_view kFaultAttachRecord = "attach.record.after";\n')
        self.assert_complains(rules.every_fault_point_is_listed, "attach.record.after")

    def test_a_cell_of_the_table_that_differs_is_reported(self):
        code = "/* absent       */ {{kCreate, kCreate, kRefuseAbsent, kDone, kDone, kDone}},\n"
        self.write("mountd/volume_plan.cc", code)
        good = "| absent | **create** | **create** | refuse | done | done | done |\n"
        self.write("docs/architecture.md", good)
        self.assertEqual(rules.the_table_is_the_one_in_the_code(self.root), [])
        self.write("docs/architecture.md", good.replace("refuse", "done"))
        self.assert_complains(rules.the_table_is_the_one_in_the_code, "row 'absent'")

    def test_an_option_with_another_default_is_reported(self):
        self.write("esx-vmci/volume_options.cc", 'OptionRow{"uid", "None", set_uid},\nOptionRow{"size", "100mb", set_size},\n')
        page = "| option | values | default |\n|---|---|---|\n| `uid` | a number | none |\n| `size` | text | `{}` |\n"
        self.write("docs/options.md", page.format("100mb"))
        self.assertEqual(rules.every_volume_option_is_documented(self.root), [])
        self.write("docs/options.md", page.format("1gb"))
        self.assertEqual(len(rules.every_volume_option_is_documented(self.root)), 2)

    def test_flags_are_compared_both_ways(self):
        help_text = "Options:\n  -h,--help  Print\n  --state-dir PATH  Folder [VDVS_STATE_DIR]\n  --new TEXT\n"
        page = "| flag |\n|---|\n| `--state-dir PATH` |\n| `--old` |\n"
        complaints = rules.compare_flags(help_text, page)
        self.assertEqual([c.split("'")[1] for c in complaints], ["--new", "--old"])

    def test_a_decision_that_is_not_listed_is_reported(self):
        self.write("docs/decisions/0001-a.md", "# A\n\n## Context\n\n## Decision\n\n## Consequences\n")
        self.write("docs/decisions/README.md", "- nothing\n")
        self.assert_complains(rules.every_decision_is_listed, "0001-a.md")

    def test_a_test_that_took_the_place_of_the_predecessors_must_be_there(self):
        self.write("tests/a/a_test.cc", "TEST_F(Suite, Does) {}\n")
        self.write("tests/a/CMakeLists.txt", "foreach(case IN ITEMS one two)\n")
        self.write("tests/a/scenes.py", "import sys\n\ndef scene(lab):\n    pass\n")
        self.write("tests/b.py", "class Group(Base):\n    def test_does(self):\n        pass\n\n\nclass Other:\n    pass\n")
        self.write("docs/predecessor-tests.md", "| theirs | ours |\n|---|---|\n| x | `Suite.Does`, `Group.test_does`, `a.two`, `a.scene` |\n")
        self.assertEqual(rules.the_predecessors_tests_have_ours(self.root), [])
        self.write("docs/predecessor-tests.md", "| x | `Suite.Did`, `Other.test_does`, `a.three` |\n")
        complaints = rules.the_predecessors_tests_have_ours(self.root)
        self.assertEqual([complaint.split("'")[1] for complaint in complaints], ["Suite.Did", "Other.test_does", "a.three"])

    def test_links_to_files_and_headings_are_followed(self):
        self.write("README.md", "# One `thing`\n[a](#one-thing) [b](docs/b.md#part-2) [c](https://example.org)\n")
        self.write("docs/b.md", "## Part 2\n[back](../README.md)\n```\n[not](a-link.md)\n```\n")
        self.assertEqual(rules.links_between_pages_resolve(self.root), [])
        self.write("docs/b.md", "## Part 3\n")
        self.assert_complains(rules.links_between_pages_resolve, "no such heading")

    def test_a_page_that_nobody_links_is_reported(self):
        self.write("README.md", "[a](docs/a.md)\n")
        self.write("docs/a.md", "text\n")
        self.write("docs/b.md", "text\n")
        self.assert_complains(rules.every_page_is_reachable, "docs/b.md")


if __name__ == "__main__":
    unittest.main()
