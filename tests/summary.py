#!/usr/bin/env python3
"""Reads ctest's JUnit report: counts, and says which tests did not run and why.

A skipped test is a failure, unless its output names a limit of the machine ("limit of the machine: ...").
Leaves "passed failed limits" in tests.count beside the report. Exit status 1 where something failed.
"""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

LIMIT = "limit of the machine:"


def main() -> int:
    report = pathlib.Path(sys.argv[1])
    passed = failed = limits = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        output = "".join(case.itertext())
        skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif not skipped:
            passed += 1
        elif LIMIT in output:
            limits += 1
            reason = output[output.index(LIMIT):].splitlines()[0]
            print(f"not run: {case.get('name')}: {reason}")
        else:
            failed += 1
            print(f"NOT RUN, which counts as a failure: {case.get('name')}: {output.strip()[:300]}")
    report.with_name("tests.count").write_text(f"{passed} {failed} {limits}\n")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
