#!/usr/bin/env python3
"""Checks this tree by the rules of rules.py.

    check.py                       all rules
    check.py --list                their names
    check.py --rule NAME           one of them
    check.py --flags PATH/mountd   the one that needs a program (mountd, vmdkopsd): every flag is documented
"""
import argparse
import pathlib
import sys

import rules

ROOT = pathlib.Path(__file__).resolve().parents[2]


def report(name, complaints):
    for complaint in complaints:
        print(f"{name}: {complaint}")
    return not complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rule")
    parser.add_argument("--flags", metavar="PROGRAM")
    options = parser.parse_args()
    by_name = {rule.__name__: rule for rule in rules.RULES}
    if options.list:
        print("\n".join(by_name))
        return 0
    if options.flags:
        return 0 if report("every_flag_is_documented", rules.every_flag_is_documented(ROOT, options.flags)) else 1
    if options.rule and options.rule not in by_name:
        parser.error(f"no rule '{options.rule}'; --list names them")
    chosen = [options.rule] if options.rule else list(by_name)
    results = [report(name, by_name[name](ROOT)) for name in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
