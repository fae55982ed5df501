#!/usr/bin/env python3
"""Reads ctest's JUnit report: counts, and says which tests did not run and why.

A skipped test is a failure, unless its output names a limit of the machine ("limit of the machine: ...").
Leaves "passed failed limits" in tests.count beside the report, and what failed, with the end of its output, in tests.failures. Exit status 1 where something failed.
"""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

LIMIT = "limit of the machine:"
TAIL_LINES = 25


def tail_of(output):
    return "\n".join("    " + line[:300] for line in output.splitlines()[-TAIL_LINES:])


def main() -> int:
    report = pathlib.Path(sys.argv[1])
    passed = failed = limits = 0
    failures = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        output = "".join(case.itertext())
        skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            failures.append((case.get("name"), output.strip()))
        elif not skipped:
            passed += 1
        elif LIMIT in output:
            limits += 1
            reason = output[output.index(LIMIT):].splitlines()[0]
            print(f"not run: {case.get('name')}: {reason}")
        else:
            failed += 1
            failures.append((case.get("name"), "NOT RUN, which counts as a failure: " + output.strip()))
    # Told again by the caller at its end, where it is found: what a run prints in between is long.
    report.with_name("tests.failures").write_text("".join(f"FAILED: {name}\n{tail_of(output)}\n" for name, output in failures))
    report.with_name("tests.count").write_text(f"{passed} {failed} {limits}\n")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
